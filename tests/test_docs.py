"""What the documents say is true: their code runs, what they name exists, and links work."""

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from poseaug_plugin import BatchFormat, Camera, PoseAugConfig, PoseAugmenter
from poseaug_plugin.cli import parser
from poseaug_plugin.config import RENAMED
from poseaug_plugin.data import synthetic
from poseaug_plugin.lifters import SimpleBaseline

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = [README, *sorted(ROOT.glob("docs/*.md"))]
SITE = [*GUIDE, *sorted(ROOT.glob("docs/api/*.md"))]
DOCUMENTS = [*SITE, ROOT / "examples/README.md", *sorted(ROOT.glob("benchmarks/*.md"))]
OPTIONS = {field.name for field in dataclasses.fields(PoseAugConfig)}
FENCE = r"(?m)^```(\w+)\n(.*?)^```|<!-- (setup)\n(.*?)-->"


def path_of(document):
    return str(document.relative_to(ROOT))


each = pytest.mark.parametrize("document", DOCUMENTS, ids=path_of)


def blocks(document, *languages):
    """Code blocks in order; of a diff, the text after the change.

    A comment `<!-- setup ... -->` is Python that the reader does not see.
    """
    found = []
    for language, text, setup, hidden in re.findall(FENCE, document.read_text(), flags=re.DOTALL):
        if language == "diff":
            text = re.sub(r"^[+ ]", "", text, flags=re.MULTILINE)
        if (language or setup) in languages:
            found.append(text or hidden)
    return found


def prose(document):
    return re.sub(FENCE, "", document.read_text(), flags=re.DOTALL)


def table(document, first_line):
    """The first column of a table, and all of its text."""
    rows = document.read_text().split(first_line)[1].split("\n\n")[0]
    return re.findall(r"^\| `?(\w+)", rows, flags=re.MULTILINE), rows


@pytest.fixture(scope="module")
def train():
    return synthetic.make(0)[0]


@pytest.fixture
def names(train):
    """What a reader has before the first block: SemGCN's loader, model and criterion."""
    model = SimpleBaseline(width=32)
    chosen = train[torch.arange(0, len(train), 50)]
    rows = list(zip(chosen.root_relative, chosen.pose_2d, chosen.action))
    return {
        "torch": torch,
        "nn": nn,
        "PoseAugmenter": PoseAugmenter,
        "SimpleBaseline": SimpleBaseline,
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters()),
        "GraphLifter": lambda: model,
        "train_loader": torch.utils.data.DataLoader(rows, batch_size=64),
        "criterion": nn.MSELoss(),
        "epochs": 2,
        "device": torch.device("cpu"),
    }


def test_the_readme_is_short():
    assert len(README.read_text().split()) <= 900


@pytest.mark.filterwarnings("ignore:Starting from v1.9.0:UserWarning")  # Lightning's, of loggers
@pytest.mark.parametrize("document", SITE, ids=path_of)
def test_code_blocks_run_in_order(document, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = names["model"]
    before = [p.clone() for p in model.parameters()]
    whole_diffs = ["diff"] * (document.name in ("README.md", "index.md"))
    for block in blocks(document, "python", "setup", *whole_diffs):
        augmenter = names.get("augmenter")
        if augmenter and "PoseAugmenter(" in block:
            augmenter.detach()  # blocks are alternatives, and an optimizer has one augmenter
        exec(compile(block, path_of(document), "exec"), names)
    if document == README:
        assert any((p != b).any() for p, b in zip(model.parameters(), before))


def test_the_readme_sets_up_runs_and_tests():
    main_job, tests = blocks(README, "bash")
    assert main_job.rstrip().endswith("poseaug-plugin demo")
    assert re.search(r" && python -m pytest( -n \d --dist loadfile)?$", tests.rstrip())
    for name in ("constraints.txt", "examples/quickstart.png"):
        assert name in README.read_text()
        assert (ROOT / name).exists()


def test_named_functions_exist():
    found = re.findall(
        r"`((?!examples/|tests/|benchmarks/)[\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?",
        (ROOT / "docs/how-it-works.md").read_text(),
    )
    assert len(found) >= 15
    for module, functions in found:
        source = (ROOT / "poseaug_plugin" / module).read_text()
        for function in re.findall(r"`(\w+)`", functions):
            assert re.search(rf"\b(def|class) {function}\b", source), f"{module}: no {function}"


@each
def test_named_files_and_packages_exist(document):
    text = document.read_text()
    for path in re.findall(r"`((?:docs|examples|tests|benchmarks)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"(?m)`(?=poseaug_plugin\.)([\w.]+)`|^::: ([\w.]+)$", text):
        assert exists("".join(name))


def exists(name):
    """Whether there is a module, or a name in a module. A module itself is not imported."""
    package = name.rpartition(".")[0]
    if hasattr(importlib.import_module(package), "__path__") and importlib.util.find_spec(name):
        return True
    return pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize("document", GUIDE, ids=path_of)
def test_named_options_exist(document):
    arguments = {*inspect.signature(PoseAugmenter).parameters, *OPTIONS} | {
        field.name for described in (BatchFormat, Camera) for field in dataclasses.fields(described)
    }
    spans = re.findall(r"`([^`]+)`", prose(document))
    used = {name for span in spans for name in re.findall(r"\b(\w+)=", span)}
    assert not used - arguments - {"preset", "parents", "left", "right", "weights_only"}


def test_listed_options_exist():
    _, rows = table(ROOT / "docs/options.md", "| to change | options |")
    cells = [row.split("|")[2] for row in rows.splitlines()[2:]]
    listed = {name for cell in cells for name in re.findall(r"`(\w+)(?:=[^`]*)?`", cell)}
    assert {"ba", "yaw", "joint_offset", "adv2d"} <= listed
    assert not listed - OPTIONS


def test_listed_presets_exist():
    presets, _ = table(ROOT / "docs/options.md", "| preset | content |")
    assert {"default", "random"} <= {*presets}
    for name in presets:
        assert isinstance(getattr(PoseAugConfig, name)(), PoseAugConfig)


def test_every_section_of_options_is_in_the_documents():
    sections = re.findall(r"\| \*\*(.+?)\*\* \|", PoseAugConfig.table())
    assert len(sections) >= 6
    shown = re.findall(r"<!-- table: options (.+?) -->", (ROOT / "docs/options.md").read_text())
    assert shown == sections


def test_the_tables_that_are_made_from_the_code_are_those_of_the_code():
    """If not, run `python docs/tables.py`."""
    tables = runpy.run_path(str(ROOT / "docs/tables.py"))
    pages = {page: page.read_text(encoding="utf-8") for page in tables["PAGES"]}
    assert sum(page.count("<!-- table: ") for page in pages.values()) == 8
    for page, text in pages.items():
        assert tables["with_tables"](text) == text, page
        assert text.count("<!-- table: ") == text.count("<!-- end of table -->"), page


def test_the_readme_has_the_numbers_of_the_results():
    """README, first screen of the results and target section repeat means of the full table."""
    results = (ROOT / "benchmarks/RESULTS.md").read_text()
    full = results.split("### Exact 2D, all")[1].split("\n### ")[0]
    means = {
        (estimator, method): (source, cross)
        for estimator, method, source, cross in re.findall(
            r"(?m)^\| (.+?) \| `?(\w+)`? \| ([\d.]+) ± [\d.]+ \| ([\d.]+) ±", full
        )
    }
    for document in (README, ROOT / "benchmarks/RESULTS.md"):
        first = "| in-domain: plain | `random` | `default` |"
        _, rows = table(document, first)
        test, columns = 0, []
        for cell in (first + rows.splitlines()[0]).strip(" |").split("|"):
            test = 1 if "cross-dataset" in cell else test
            columns.append((cell.split(":")[-1].strip(" `*"), test))
        for row in rows.splitlines()[2:6]:
            estimator, *cells = (cell.strip() for cell in row.strip("|").split("|"))
            for (method, test), cell in zip(columns, cells, strict=True):
                assert cell.split(" ")[0] == means[estimator, method][test]
    section = results.split("## Unlabelled 2D of the target")[1].split("With **four times")[0]
    estimator, names = "", {name for name, _ in means}
    for label, source, cross in re.findall(
        r"(?m)^\| (.+?) \| ([\d.]+) ± [\d.]+ \| ([\d.]+) ±", section
    ):
        estimator = next((name for name in names if label.startswith(name)), estimator)
        if label == "**`target_2d`**":
            assert (source, cross) == means[estimator, "target_2d"]


@pytest.mark.parametrize(
    "document", ["README.md", "docs/learned-networks.md", "benchmarks/RESULTS.md"]
)
def test_documents_have_the_numbers_beside_the_published_code(document):
    """They repeat the start and the end of the runs of the table."""
    _, rows = table(ROOT / "benchmarks/REPRODUCTION.md", "| epochs of 25 |")
    known, method = {}, ""
    for row in rows.splitlines()[2:]:
        label, epochs, source, _, cross, *_ = (cell.strip() for cell in row.split("|")[1:])
        method = label or method
        if epochs in ("0", "25"):
            known[method.replace("*", "").replace(", as long", "")] = source, cross
    text = " ".join((ROOT / document).read_text().split())
    told = set(re.findall(r"(\d+\.\d) ?(?:/|and) ?(\d+\.\d)", text))
    told |= set(re.findall(r"(\d+\.\d) mm in-domain(?: and|,) (\d+\.\d) across", text))
    repeated = {"pre-trained", "published code", "plain", "`random`", "`default`"}
    if document != "README.md":
        repeated.add("`released` in the published order")
    assert {method for method, pair in known.items() if pair in told} >= repeated


def test_the_changelog_lists_the_renamed_options():
    rows = re.findall(
        r"^ *\| `(\w+)` \| `(\w+)` \|$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == RENAMED


@each
def test_named_commands_exist(document):
    text = document.read_text()
    for module in set(re.findall(r"python -m (benchmarks(?:\.[a-z_]+)+)", text)):
        spec = importlib.util.find_spec(module)
        assert spec, module
        if spec.submodule_search_locations:
            assert importlib.util.find_spec(f"{module}.__main__"), module
        else:
            assert '__name__ == "__main__"' in Path(spec.origin).read_text(), module
    for script in set(re.findall(r"python (examples/\w+\.py)", text)):
        assert (ROOT / script).exists(), script


@each
def test_command_lines_are_understood(document):
    for line in "".join(blocks(document, "bash")).splitlines():
        command = re.search(r"(?:^|&& )poseaug-plugin (.+)$", line)
        if command:
            assert parser().parse_args(shlex.split(command[1])).run


@each
def test_links_lead_to_files_and_headings(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if link.startswith("http"):
            continue
        path, _, heading = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if heading:
            titles = re.findall(r"(?m)^#+ (.+)$", target.read_text())
            anchors = {re.sub(r"[^\w\s-]", "", title).lower().replace(" ", "-") for title in titles}
            assert heading in anchors, link


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert built.returncode == 0, built.stderr
    options = (tmp_path / "options.html").read_text()
    assert all(f"<code>{name}</code>" in options for name in OPTIONS)
