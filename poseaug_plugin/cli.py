"""The command line: `poseaug-plugin COMMAND`, or `python -m poseaug_plugin COMMAND`.

Each command is a thin shell over a public function. Exit status: 0 for success, 1 if `check` found
a problem, 2 for wrong arguments or files.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import einops
import numpy as np
import torch

from . import __version__
from .batches.presets import FORMATS
from .config import PRESETS
from .data import Pairs
from .demo import BATCH_SIZE, METHODS, UPDATES, compare
from .errors import BatchError, DataError, PoseAugError
from .files import CHECKED, augment_file, check, preview_file, read_poses
from .geometry.skeleton import SKELETONS
from .plugin import PoseAugmenter
from .progress import Progress
from .report import ErrorReport

__all__ = ["console", "info", "main", "parser"]

#: The extras, each with the package that it installs.
EXTRAS = {
    "plots": "matplotlib",
    "tensorboard": "tensorboard",
    "lightning": "lightning",
    "mmengine": "mmengine",
}
FILE_HELP = (
    "an .npz file with arrays of 2D (N, J, 2) and 3D (N, J, 3); VideoPose3D's data_3d_h36m.npz or "
    "its folder; SPIN's mpi_inf_3dhp_valid.npz"
)


def demo(args: argparse.Namespace) -> int:
    """Train a small lifter without and with the plugin, and compare the errors."""
    torch.set_num_threads(1)  # the network is too small to benefit from more threads
    with Progress(1) as progress:
        result = compare(
            args.data,
            methods=args.methods,
            seeds=args.seeds,
            updates=args.updates,
            batch_size=args.batch_size,
            device=args.device,
            progress=progress,
        )
    print(result)
    if args.json:
        runs = [dataclasses.asdict(run) for run in result.runs]
        args.json.write_text(json.dumps({"data": result.data, "runs": runs}, indent=2))
    if result.augmenter is not None:
        print(f"\n{_demo_picture(result.augmenter, result.some, args.picture)}")
    print(
        "\nNext: check your own data with `poseaug-plugin check FILE`, then add the plugin's three "
        "lines\nto your training script; help(poseaug_plugin) shows them."
    )
    return 0


def _demo_picture(augmenter: PoseAugmenter, some: Pairs, path: Path) -> str:
    batch = (some.pose_3d, some.pose_2d, some.action, some.camera)
    if importlib.util.find_spec("matplotlib"):
        from .plots import plot_augmented

        plot_augmented(augmenter, batch, path)
        return f"Augmented poses: {path}"
    from .plots.page import augmented_page

    path = path.with_suffix(".html")
    augmented_page(augmenter, batch, path)
    return f"Augmented poses, to turn round in a browser: {path} (pictures need matplotlib)"


def check_command(args: argparse.Namespace) -> int:
    """Check data: fields, units, and whether the 3D projects onto its 2D."""
    batch = _settings(args.batch)
    if ":" in args.file and not Path(args.file).exists():
        reports = check(
            _load_object(args.file), batch, skeleton=args.skeleton, batches=args.batches
        )
    else:
        file = read_poses(args.file, batch, args.skeleton)
        print(f"{args.file}: {file.layout}, {len(file)} rows")
        reports = check(file, batches=args.batches)
    good = sum(report.ok for report in reports)
    print(next((report for report in reports if not report.ok), reports[0]))
    print(f"{good} of {len(reports)} batches without a problem")
    return 0 if good == len(reports) else 1


def augment_command(args: argparse.Namespace) -> int:
    """Write a file with augmented copies of its rows, for loops that cannot be changed."""
    torch.set_num_threads(1)  # small operations do not benefit from more threads
    with Progress(1) as progress:
        counts = augment_file(
            args.file,
            args.out,
            args.copies,
            config=_settings(args.config, "preset"),
            batch=_settings(args.batch),
            skeleton=args.skeleton,
            progress=progress,
        )
    print(
        f"{args.out}: {counts['rows']:.0f} rows, of which {counts['augmented']:.0f} are new "
        f"({counts['accepted']:.1%} of the copies; the others were not usable and are as they were)"
    )
    return 0


def preview_command(args: argparse.Namespace) -> int:
    """Draw what the augmentation makes of a pose file: a picture, or a page to turn poses on."""
    if not (args.out or args.html):
        raise ValueError("nothing to write; pass --out PICTURE or --html PAGE")
    preview_file(
        args.file,
        args.out,
        args.html,
        config=_settings(args.config, "preset"),
        batch=_settings(args.batch),
        skeleton=args.skeleton,
        seed=args.seed,
    )
    print(" and ".join(str(path) for path in (args.out, args.html) if path))
    return 0


def report_command(args: argparse.Namespace) -> int:
    """Show where a model fails, from a file that `augmenter.report(loader).save(FILE)` wrote."""
    found = ErrorReport.load(args.file)
    print(found)
    if args.out:
        from .plots import plot_report

        plot_report(found, args.out)
        print(f"\n{args.out}")
    return 0


def info() -> dict[str, str]:
    """Versions and what is installed, for a bug report."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    extras = [name for name, package in EXTRAS.items() if importlib.util.find_spec(package)]
    return {
        "poseaug-plugin": f"{__version__}, {Path(__file__).parent}",
        "Python": f"{platform.python_version()}, {platform.platform()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, GPU: {gpu}",
        "numpy": np.__version__,
        "einops": einops.__version__,
        "extras": ", ".join(extras) or "none",
        "presets of config=": ", ".join(PRESETS),
        "names for batch=": ", ".join(FORMATS),
        "names for skeleton=": ", ".join(SKELETONS),
    }


def info_command(args: argparse.Namespace) -> int:
    """Print versions and what is installed, for a bug report."""
    found = info()
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}}  {value}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="poseaug-plugin",
        description="PoseAug as a plugin for 2D-to-3D human pose lifters.",
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        about = (run.__doc__ or "").rstrip(".")
        added = commands.add_parser(name, help=about, description=f"{about}.")
        added.set_defaults(run=run, parser=added)
        return added

    it = command("demo", demo)
    it.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="folder with Human3.6M's files as in VideoPose3D and a cross-dataset test set "
        "(default: synthetic motion)",
    )
    it.add_argument("--methods", nargs="+", choices=["plain", *PRESETS], default=list(METHODS))
    it.add_argument("--seeds", nargs="+", type=int, default=[0])
    it.add_argument(
        "--updates", type=int, default=UPDATES, help="steps of each run (default: %(default)s)"
    )
    it.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    it.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    it.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    it.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        default=Path("poseaug-demo.png"),
        help="write a picture of augmented poses (default: %(default)s)",
    )

    it = command("check", check_command)
    _add_data(it, f"{FILE_HELP}; or module:function, which gives a loader")
    it.add_argument(
        "--batches", type=int, default=CHECKED, help="how many to check (default: %(default)s)"
    )

    it = command("preview", preview_command)
    _add_data(it, FILE_HELP)
    it.add_argument("--out", metavar="PICTURE", type=Path, help="the image file to write")
    it.add_argument("--html", metavar="PAGE", type=Path, help="the HTML file to write")
    it.add_argument("--seed", type=int, default=0, help="which rows are shown")
    _add_config(it)

    it = command("augment", augment_command)
    _add_data(it, FILE_HELP)
    it.add_argument("out", metavar="OUT", type=Path, help="the .npz file to write")
    it.add_argument("--copies", type=int, default=1, help="of each row (default: %(default)s)")
    _add_config(it)

    it = command("report", report_command)
    it.add_argument("file", metavar="FILE", type=Path, help="a JSON file")
    it.add_argument("--out", metavar="PICTURE", type=Path, help="write a picture as well")

    command("info", info_command)
    return top


def _add_data(it: argparse.ArgumentParser, about: str) -> None:
    it.add_argument("file", metavar="FILE", help=about)
    it.add_argument(
        "--batch",
        nargs="+",
        metavar="SETTING",
        help="what a message says about batch=, e.g. pose_2d=kp unit=0.001 screen=1000,1002; for a "
        "loader also the name of a format",
    )
    it.add_argument("--skeleton", metavar="NAME", help=f"one of {', '.join(SKELETONS)}")


def _add_config(it: argparse.ArgumentParser) -> None:
    it.add_argument(
        "--config",
        nargs="+",
        metavar="SETTING",
        help="a preset and changes to it, e.g. random distance=2,8 (default: default)",
    )


def _settings(words: Sequence[str] | None, name: str = "") -> Any:
    """Settings `name=value` as a mapping; a single word without "=" is itself or goes to `name`.

    Raises:
        ValueError: two words without "=".
    """
    if words is None:
        return None
    plain = [word for word in words if "=" not in word]
    if len(plain) > 1 or (plain and not name and len(words) > 1):
        raise ValueError(f"{' '.join(words)}: expected settings as name=value")
    if plain and not name:
        return plain[0]
    pairs = (word.split("=", 1) for word in words if "=" in word)
    settings = {key: _value(text) for key, text in pairs}
    return {name: plain[0], **settings} if plain else settings


def _load_object(name: str) -> Any:
    """Import `module:attribute`, and call it if it can be called; with the current folder first.

    Raises:
        ValueError: it is not of this form, or the module has no such attribute.
        ImportError: the module cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"{name!r} is not module:function")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    finally:
        sys.path.pop(0)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{module} has no {attribute}")
        found = getattr(found, part)
    return found() if callable(found) else found


def _value(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status.

    Args:
        argv: the arguments; None for those of the process.
    """
    args = parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()  # here, and not at exit, a closed pipe can be noticed
    except BrokenPipeError:  # as in `poseaug-plugin report FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + 13  # as of a command that SIGPIPE has ended
    except (PoseAugError, OSError, ValueError, ImportError) as error:
        text = " ".join(str(error).split())
        if "batch=" in text and hasattr(args, "batch"):
            text += " (On the command line, batch=dict(name=value) is --batch name=value.)"
        if isinstance(error, ModuleNotFoundError):
            package = (error.name or "").partition(".")[0]
            text += f"; pip install {package}" * (package in EXTRAS.values())
        print(f"{args.parser.prog}: error: {text}", file=sys.stderr)
        of_the_data = isinstance(error, (BatchError, DataError))
        status = 1 if args.run is check_command and of_the_data else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    return status


def console() -> None:
    """Run the command of the process, and exit with its status."""
    sys.exit(main())
