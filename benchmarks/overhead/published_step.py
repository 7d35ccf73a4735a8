"""The published code's own step of augmentor and discriminators, run from a checkout of it.

Nothing of it is here: its modules are imported from the folder given, and its function is called.
They expect a GPU, TensorBoard and a progress bar; stand-ins do without.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from poseaug_plugin.geometry.operators import axis_angle_to_matrix

__all__ = ["Published"]

_TOPS = {
    *("common", "utils", "progress", "models_baseline", "models_poseaug"),
    *("function_baseline", "function_poseaug", "tensorboardX", "torchgeometry"),
}


class Published:
    """Networks, optimizers and pools as the published script makes them, after its warm-up.

    Args:
        folder: the checkout.
        model: its estimator, mlp or videopose, of this `width`.
        batches: (3D absolute (B, 16, 3), 2D (B, 16, 2), camera (B, 9)), used in turn.

    Raises:
        FileNotFoundError: the folder is no checkout of it.
    """

    def __init__(
        self, folder: Path, model: str, width: int, batches: list[tuple[Tensor, ...]], device: str
    ) -> None:
        if not (folder / "function_poseaug" / "model_gan_train.py").exists():
            raise FileNotFoundError(f"{folder} holds no function_poseaug/model_gan_train.py")
        with _imports_from(folder), _quiet():
            self._train = importlib.import_module("function_poseaug.model_gan_train")
            prepare = importlib.import_module("function_poseaug.model_gan_preparation")
            settings = importlib.import_module("function_poseaug.config")
            helpers = importlib.import_module("utils.gan_utils")
            self.estimator = _ESTIMATORS[model](width).to(device)
        self._train.torch = prepare.torch = _TorchOn(device)  # type: ignore[attr-defined]
        # What follows its loop, once an epoch, is not the step.
        self._train.PoseDataSet = self._train.DataLoader = _nothing  # type: ignore[attr-defined]
        dataset = SimpleNamespace(skeleton=lambda: SimpleNamespace(num_joints=lambda: 16))
        with _quiet():
            self._args = _defaults(settings)
            self._networks = prepare.get_poseaug_model(self._args, dataset)
        self._pools = helpers.Sample_from_Pool(), helpers.Sample_from_Pool()
        self._summary = SimpleNamespace(epoch=self._args.warmup + 1, train_iter_num=0)
        self._summary.summary_train_iter_num_update = self._count
        self._batches = batches
        self._criterion = nn.MSELoss()
        self._fill_pools()

    def _count(self) -> None:
        self._summary.train_iter_num += 1

    def _fill_pools(self) -> None:
        """While a pool fills up it costs less."""
        for pool, field in zip(self._pools, (0, 1)):
            while pool.cur_elements < pool.max_elements:
                pool(self._batches[0][field].cpu().numpy())

    def run(self, steps: int) -> None:
        """So many rounds of its loop; its discriminators learn in every second."""
        chosen = [self._batches[i % len(self._batches)] for i in range(steps)]
        loaders = {
            "train_gt2d3d_loader": [(pose_3d, None, None, lens) for pose_3d, _, lens in chosen],
            "target_2d_loader": [pose_2d for _, pose_2d, _ in chosen],
            "target_3d_loader": [pose_3d for pose_3d, _, _ in chosen],
        }
        writer = SimpleNamespace(add_scalar=_nothing)
        rest = (self._criterion, *self._pools, self._summary, writer)
        with _quiet():
            self._train.train_gan(self._args, self._networks, loaders, self.estimator, *rest)


def _mlp(width: int) -> nn.Module:
    found = importlib.import_module("models_baseline.mlp.linear_model")
    made: nn.Module = found.LinearModel(32, 45, linear_size=width, num_stage=2, p_dropout=0.25)
    return made


def _videopose(width: int) -> nn.Module:
    found = importlib.import_module("models_baseline.videopose.model_VideoPose3D")
    made: nn.Module = found.TemporalModelOptimized1f(16, 2, 15, [1] * 5, False, 0.25, width)
    return made


_ESTIMATORS: dict[str, Callable[[int], nn.Module]] = {"mlp": _mlp, "videopose": _videopose}


def _nothing(*_: Any, **__: Any) -> None:
    pass


class _TorchOn:
    """torch, but every device is the one given."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def device(self, *_: Any) -> torch.device:
        return self._device

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class _Bar:
    """A progress bar that shows nothing."""

    elapsed_td = eta_td = ""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.next = self.finish = _nothing


def _rotation(axis_angle: Tensor) -> Tensor:
    """(B, 4, 4), for want of torchgeometry."""
    return nn.functional.pad(axis_angle_to_matrix(axis_angle), (0, 1, 0, 1))


def _stand_ins() -> dict[str, ModuleType]:
    """Modules that are not needed, or may not be installed."""
    holding: dict[str, dict[str, Any]] = {
        "function_poseaug.poseaug_viz": {"plot_poseaug": _nothing},
        "progress.bar": {"Bar": _Bar},
        "tensorboardX": {"SummaryWriter": _nothing},
    }
    if importlib.util.find_spec("torchgeometry") is None:
        holding["torchgeometry"] = {"angle_axis_to_rotation_matrix": _rotation}
    made = {}
    for name, members in holding.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(members)
    return made


@contextlib.contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """Its modules come from the folder; ours of the same names come back afterwards."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _its(name)}
    path, written = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    sys.modules.update(_stand_ins())
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _its(name)]:
            del sys.modules[name]
        sys.modules.update(kept)
        sys.path[:], sys.dont_write_bytecode = path, written


def _its(name: str) -> bool:
    return name.split(".")[0] in _TOPS


def _defaults(settings: ModuleType) -> Any:
    """Its command line's defaults."""
    given = sys.argv
    sys.argv = given[:1]
    try:
        return settings.get_parse_args()
    finally:
        sys.argv = given


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
