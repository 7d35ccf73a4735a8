"""The overhead benchmark: interleaved timing in steady state, operation counts and tables."""

import dataclasses
import itertools
import json
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from benchmarks import environment, timing
from benchmarks.overhead import (
    cli,
    loops,
    operations,
    published_step,
    scaling,
    sections,
    windows,
)
from benchmarks.tables import format_value
from poseaug_plugin.augment.pose_statistics import YOUNG
from poseaug_plugin.data.synthetic import make
from poseaug_plugin.geometry.skeleton import SKELETONS
from poseaug_plugin.lifters import TemporalLifter

SMALL = ["--models", "mlp256", "--batches", "16", "--device", "cpu", "--rounds", "2"]
PRESETS = ["random", "residual"]


@pytest.fixture(scope="module")
def pairs():
    return make(0)[0][:512]


@pytest.fixture(autouse=True)
def _small(monkeypatch, pairs):
    monkeypatch.setattr(sections, "data", lambda folder, seed: pairs)
    monkeypatch.setattr(sections, "choose_repeats", lambda work: 1)
    for module in (loops, sections):
        monkeypatch.setattr(module, "YOUNG", 2)  # batches before what is measured


def test_functions_are_interleaved_and_the_warm_up_is_not_counted():
    order = []
    functions = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = timing.time_interleaved(functions, 3)
    rounds = [order[i : i + 3] for i in range(0, 12, 3)]
    assert rounds == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_statistics():
    assert timing.quartiles([3.0, 1.0, 2.0, 5.0, 4.0]) == (2.0, 3.0, 4.0)
    assert timing.quartiles([7.0]) == (7.0, 7.0, 7.0)
    assert timing.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert timing.growth_exponent([1, 10, 100], [5, 50 * 10, 500 * 100]) == pytest.approx(2)


def test_operations_of_a_layer():
    layer, x = nn.Linear(7, 5), torch.randn(11, 7)
    assert timing.count_flops(lambda: layer(x)) == 2 * 11 * 7 * 5
    # The backward pass only computes the gradient of the weights.
    assert timing.count_flops(lambda: layer(x).sum().backward()) == 2 * 2 * 11 * 7 * 5


def test_memory_is_the_peak():
    floats = torch.empty
    assert timing.peak_bytes(lambda: floats(1 << 20), "cpu") == 4 << 20
    one_by_one = timing.peak_bytes(lambda: [floats(1 << 20).numel() for _ in range(3)], "cpu")
    together = timing.peak_bytes(lambda: [floats(1 << 20) for _ in range(3)], "cpu")
    assert (one_by_one, together) == (4 << 20, 12 << 20)


def test_a_block_is_whole_cycles():
    assert loops.block(["random"]) == 1
    assert loops.block(["residual"]) == 8  # every 4th batch, discriminators every 2nd update
    assert loops.block(["random", "paper"]) == 2
    assert loops.block(["random", "released"]) == 4
    assert loops.block(["residual", "released"]) == 8


@pytest.mark.parametrize(("preset", "updates"), [("random", 0), ("residual", 2), ("released", 4)])
def test_a_loop_is_in_steady_state(pairs, preset, updates):
    config = loops.steady(preset)
    loop = loops.Loop(pairs, 32, loops.MODELS["mlp256"](), "cpu", config)
    trainer = loop.augmenter._trainer
    pools = trainer.pools.values() if trainer else ()
    assert all(pool.filled == pool.size for pool in pools)
    loop.run(8)
    stats = loop.augmenter.stats()
    assert stats["updates"] == updates
    assert ("hardness" in stats) == (updates > 0)  # feedback is active from the first update


def test_loading_alone_makes_no_update(pairs):
    for make_loader in loops.LOADERS.values():
        model, config = loops.MODELS["mlp256"](), loops.steady("residual")
        loop = loops.Loop(pairs, 32, model, "cpu", config, make_loader)
        loop.load(9)
        assert loop.augmenter.stats()["updates"] == 0
        assert loop.augmenter.stats()["augmented"] > 0


def test_the_file_holds_all_results_and_the_tables_agree(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sections, "run_python", lambda code: "0.1")
    file, page = tmp_path / "o.json", tmp_path / "o.md"
    options = ["--seed", "3", "--methods", ",".join(PRESETS)]
    cli.main([*SMALL, *options, "--json", str(file), "--markdown", str(page)])
    found = json.loads(file.read_text())
    assert found["arguments"]["seed"] == "3"
    assert set(found["environment"]) == set(environment.environment_info())
    assert set(found) == {"arguments", "environment", *sections.BASIC}
    for section in ("loops", "memory"):
        assert [row["method"] for row in found[section]] == ["plain", *PRESETS]
    assert [(row["loader"], row["method"]) for row in found["loaders"]] == list(
        itertools.product(["sliced", "collated"], ["plain", *PRESETS])
    )
    for row in found["loops"] + found["loaders"]:
        assert len(row["rounds"]) == 2
        low, middle, high = row["ms"]
        assert 0 < low <= middle <= high
    plain, random, default = found["loops"]
    assert plain["ratio"] == [1, 1, 1]
    assert 1 <= random["of arithmetic"] < default["of arithmetic"]
    assert found["memory"][0]["over plain"] == 0 < found["memory"][2]["over plain"]
    assert len(found["imports"]) == 4
    for text in (capsys.readouterr().out, page.read_text()):
        assert all(section in text for section in sections.BASIC)
    assert f"{format_value(plain['MFLOP'])} |" in page.read_text()


def test_the_cost_of_a_report_is_told_beside_its_method():
    found = cli.main([*SMALL, "--loops", "--report", "--methods", "random"])["loops"]
    assert [row["method"] for row in found] == ["plain", "random", "random, report=True"]
    assert found[1]["MFLOP"] == pytest.approx(found[2]["MFLOP"], rel=0.05)


def test_components_and_their_operations():
    found = cli.main([*SMALL, "--components", "--methods", "random,released"])["components"]
    rows = {(row["method"], row["component"]): row for row in found}
    assert ("random", "one sample") in rows
    assert ("random", "one update") not in rows
    for row in found:
        assert row["ms"].lower > 0
    parts, width = SKELETONS["h36m_16"].parts, 256
    cosines = sum(len(part) ** 2 for part in parts)
    paths = len(parts) * (2 * width**2 + width * 100 + 100)
    discriminated = rows["released", "d3d forward"]["MFLOP"] * 1e6
    assert discriminated == 2 * 16 * (cosines * width + paths + 3 * cosines)
    estimated = rows["released", "estimator forward"]["MFLOP"] * 1e6
    assert estimated == 2 * 16 * (32 * 256 + 4 * 256**2 + 256 * 45)
    # Feedback: original pairs forward, two augmented sets of pairs forward and backward.
    feedback = rows["released", "feedback"]["MFLOP"] * 1e6
    assert feedback == pytest.approx(5 * estimated, rel=0.01)


def test_operators_of_an_update():
    rows = cli.main([*SMALL, "--profile", "--methods", "random,residual"])["profile"]
    assert {row["method"] for row in rows} == {"residual"}
    assert any("baddbmm" in row["operator"] for row in rows)
    assert 50 < sum(row["share %"] for row in rows) <= 100.001


def test_scaling_is_relative_to_the_smallest_size(monkeypatch):
    axes = {
        "rows": dataclasses.replace(scaling.AXES["rows"], sizes=(8, 16, 32)),
        "frames": dataclasses.replace(scaling.AXES["frames"], sizes=(1, 3)),
    }
    monkeypatch.setattr(sections, "AXES", axes)
    rows = cli.main([*SMALL, "--scaling", "--methods", "residual", "--sizes", "2"])["scaling"]
    assert [(row["axis"], row["size"]) for row in rows] == [
        *(("rows", 8), ("rows", 16), ("frames", 1), ("frames", 3))
    ]
    for row, smallest in zip(rows, (8, 8, 1, 1)):
        assert row["of linear"] == pytest.approx(row["ratio"].median * smallest / row["size"])


@pytest.mark.parametrize("name", scaling.AXES)
def test_axes_have_the_given_size(name):
    axis = scaling.AXES[name]
    rows, frames, skeleton = axis.shape(axis.sizes[-1])
    assert axis.sizes[-1] in (rows, frames, skeleton.num_joints)
    pose_2d, pose_3d, camera = scaling.random_clips(3, frames, skeleton)
    joints = skeleton.num_joints
    assert pose_2d.shape == (3, frames, joints, 2)
    assert pose_3d.shape == (3, frames, joints, 3)
    assert camera.shape == (3, 9)


def test_the_scaling_loop_makes_updates():
    loop = scaling.FixedBatchLoop(16, 3, scaling.face(32), loops.steady("residual"), "cpu")
    loop.run(8)
    assert loop.augmenter.stats()["updates"] == 2
    assert loop.augmenter.stats()["bad_batches"] == 0


# A stub of the published checkout: the same names without their function.
CHECKOUT = {
    "function_poseaug/config.py": """
        import argparse
        def get_parse_args():
            parser = argparse.ArgumentParser()
            parser.add_argument("--warmup", type=int, default=2)
            return parser.parse_args()
        """,
    "function_poseaug/model_gan_preparation.py": """
        import torch
        def get_poseaug_model(args, dataset):
            print("made")
            return torch.zeros(dataset.skeleton().num_joints(), device=torch.device("cuda"))
        """,
    "function_poseaug/model_gan_train.py": """
        import torch
        from common.where import place
        from progress.bar import Bar
        from function_poseaug.poseaug_viz import plot_poseaug
        seen = []
        def train_gan(args, net, data, model, criterion, pool_3d, pool_2d, summary, writer):
            assert summary.epoch > args.warmup
            for (pose_3d, _, _, lens), d2d, d3d in zip(*data.values()):
                seen.append((tuple(d2d.shape), tuple(d3d.shape), tuple(lens.shape)))
                model(d2d.to(torch.device("cuda")))
                summary.summary_train_iter_num_update()
            assert pool_3d.cur_elements == pool_2d.cur_elements == 100
        """,
    "common/__init__.py": "",
    "common/where.py": "place = 'theirs'",
    "utils/gan_utils.py": """
        class Sample_from_Pool:
            max_elements, cur_elements = 100, 0
            def __call__(self, rows):
                self.cur_elements = min(self.max_elements, self.cur_elements + len(rows))
        """,
    "models_baseline/mlp/linear_model.py": """
        import torch
        class LinearModel(torch.nn.Module):
            def __init__(self, inputs, outputs, linear_size, num_stage, p_dropout):
                super().__init__()
                self.layer = torch.nn.Linear(inputs, outputs)
            def forward(self, x):
                pose = self.layer(x.flatten(1))
                return torch.cat([torch.zeros_like(pose[:, :3]), pose], 1).view(-1, 16, 3)
        """,
}


@pytest.fixture
def checkout(tmp_path):
    for name, text in CHECKOUT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


def test_a_checkout_is_run_and_its_modules_are_removed(checkout, capsys):
    before, path = dict(sys.modules), list(sys.path)
    argv = [*SMALL, "--published", str(checkout)]
    rows = cli.main(argv)["published"]
    timed = ["plain", "published", "update", "sample"]
    timed += ["update, our lifter", "update and sample"]
    assert [row["measured"] for row in rows] == timed
    assert {name: sys.modules.get(name) for name in before} == before
    assert sys.path == path
    assert not any(name.startswith(("function_poseaug", "progress")) for name in sys.modules)
    assert not list(checkout.rglob("*.pyc"))
    assert "made" not in capsys.readouterr().out


def test_the_published_loop_gets_its_batches(checkout, pairs):
    batch = pairs.pose_3d[:8], pairs.pose_2d[:8], pairs.camera[:8]
    theirs = published_step.PublishedStep(checkout, "mlp", 256, [batch], "cpu")
    theirs.run(3)
    assert theirs._train.seen == [((8, 16, 2), (8, 16, 3), (8, 9))] * 3
    assert theirs._train.place == "theirs"


def test_a_folder_that_is_not_a_checkout_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="model_gan_train"):
        published_step.PublishedStep(tmp_path, "mlp", 256, [], "cpu")


@pytest.mark.parametrize("rows", [8, 64])
@pytest.mark.parametrize(
    ("preset", "after", "most", "profiled"),
    [("default", 3, 203, 810), ("default", YOUNG, 182, 720), ("random", 3, 114, 430)],
)
def test_a_batch_costs_a_bounded_number_of_operations(pairs, preset, after, most, profiled, rows):
    """On a GPU each costs a launch: 5 to 10 microseconds, however few the rows."""
    inside = loops.Inside.of(pairs, rows, loops.MODELS["mlp256"](), "cpu", loops.steady(preset))
    for _ in range(after):
        inside.augmenter(inside.batch)
    with operations.OperationCounter() as counter:
        inside.augmenter(inside.batch)
    assert most / 2 < counter.total <= most
    assert set(counter.by_module) > {"augment/prior", "geometry/camera", "batches/format"}
    count = operations.profiled_operations(lambda: inside.augmenter(inside.batch))
    assert count <= profiled


def test_the_operations_are_told_by_folder():
    rows = cli.main([*SMALL, "--operations", "--methods", "default,random"])["operations"]
    assert [row["method"] for row in rows] == ["default", "random"]
    for row in rows:
        folders = [
            row[name] for name in ("batches", "geometry", "augment", "adversarial", "plugin")
        ]
        assert sum(folders) == row["no views"] < row["all, by the profiler"]
        assert row["adversarial"] == 0


def test_windows_are_augmented_in_the_loop(monkeypatch):
    small = {
        "tcn": (lambda: TemporalLifter(width=8), 8, 27),
        "transformer": (lambda: windows.SpaceTimeTransformer(8, 1, 2, frames=9), 4, 9),
    }
    monkeypatch.setattr(sections, "WINDOWS", small)
    rows = cli.main([*SMALL, "--windows", "--methods", "random"])["windows"]
    assert [(row["model"], row["method"]) for row in rows] == list(
        itertools.product(small, ["plain", "random"])
    )
    for build, count, frames in small.values():
        loop = windows.WindowLoop(build(), count, frames, "cpu", loops.steady("random"))
        loop.run(2)
        assert loop.augmenter.stats()["augmented"] > 0


def test_processor_time_does_not_count_sleep():
    clock = timing.processor_clock("cpu")
    times = timing.time_interleaved({"sleep": lambda: time.sleep(0.05)}, 1, clock=clock)
    assert times["sleep"][0] < 0.04
