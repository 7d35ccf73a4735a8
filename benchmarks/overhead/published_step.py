"""The published code's training step of augmentor and discriminators, run from a checkout.

No published code is included here: its modules are imported from the given folder. They expect a
GPU, TensorBoard and a progress bar, which are replaced by stubs.
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

__all__ = ["PublishedStep"]

_TOP_LEVEL_MODULES = {
    *("common", "utils", "progress", "models_baseline", "models_poseaug"),
    *("function_baseline", "function_poseaug", "tensorboardX", "torchgeometry"),
}


class PublishedStep:
    """Networks, optimizers and pools as created by the published script, past its warm-up.

    Args:
        folder: A checkout of github.com/jfzhang95/PoseAug.
        model: Its estimator, "mlp" or "videopose".
        width: Width of the estimator.
        batches: (absolute 3D (B, 16, 3), 2D (B, 16, 2), camera (B, 9)), used cyclically.
        device: Device of the networks.

    Raises:
        FileNotFoundError: The folder is not a checkout.
    """

    def __init__(
        self, folder: Path, model: str, width: int, batches: list[tuple[Tensor, ...]], device: str
    ) -> None:
        if not (folder / "function_poseaug" / "model_gan_train.py").exists():
            raise FileNotFoundError(
                f"{folder} is not a checkout of PoseAug: no function_poseaug/model_gan_train.py"
            )
        with _imports_from(folder), _quiet():
            self._train = importlib.import_module("function_poseaug.model_gan_train")
            prepare = importlib.import_module("function_poseaug.model_gan_preparation")
            settings = importlib.import_module("function_poseaug.config")
            helpers = importlib.import_module("utils.gan_utils")
            self.estimator = _ESTIMATORS[model](width).to(device)
        self._train.torch = prepare.torch = _TorchOn(device)  # type: ignore[attr-defined]
        # The code after the loop runs once per epoch and is not part of the step.
        self._train.PoseDataSet = self._train.DataLoader = _do_nothing  # type: ignore[attr-defined]
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
        """A pool costs less until it is full."""
        for pool, field in zip(self._pools, (0, 1)):
            while pool.cur_elements < pool.max_elements:
                pool(self._batches[0][field].cpu().numpy())

    def run(self, steps: int) -> None:
        """Run iterations of the published loop. Every second one updates the discriminators."""
        chosen = [self._batches[i % len(self._batches)] for i in range(steps)]
        loaders = {
            "train_gt2d3d_loader": [(pose_3d, None, None, camera) for pose_3d, _, camera in chosen],
            "target_2d_loader": [pose_2d for _, pose_2d, _ in chosen],
            "target_3d_loader": [pose_3d for pose_3d, _, _ in chosen],
        }
        writer = SimpleNamespace(add_scalar=_do_nothing)
        rest = (self._criterion, *self._pools, self._summary, writer)
        with _quiet():
            self._train.train_gan(self._args, self._networks, loaders, self.estimator, *rest)


def _mlp(width: int) -> nn.Module:
    module = importlib.import_module("models_baseline.mlp.linear_model")
    model: nn.Module = module.LinearModel(32, 45, linear_size=width, num_stage=2, p_dropout=0.25)
    return model


def _videopose(width: int) -> nn.Module:
    module = importlib.import_module("models_baseline.videopose.model_VideoPose3D")
    model: nn.Module = module.TemporalModelOptimized1f(16, 2, 15, [1] * 5, False, 0.25, width)
    return model


_ESTIMATORS: dict[str, Callable[[int], nn.Module]] = {"mlp": _mlp, "videopose": _videopose}


def _do_nothing(*_: Any, **__: Any) -> None:
    pass


class _TorchOn:
    """The torch module with `torch.device` replaced by the given device."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def device(self, *_: Any) -> torch.device:
        return self._device

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class _Bar:
    """A progress bar that prints nothing."""

    elapsed_td = eta_td = ""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.next = self.finish = _do_nothing


def _rotation(axis_angle: Tensor) -> Tensor:
    """(B, 4, 4), a replacement of torchgeometry's function."""
    return nn.functional.pad(axis_angle_to_matrix(axis_angle), (0, 1, 0, 1))


def _stub_modules() -> dict[str, ModuleType]:
    """Stubs of modules that are not needed or may not be installed."""
    members: dict[str, dict[str, Any]] = {
        "function_poseaug.poseaug_viz": {"plot_poseaug": _do_nothing},
        "progress.bar": {"Bar": _Bar},
        "tensorboardX": {"SummaryWriter": _do_nothing},
    }
    if importlib.util.find_spec("torchgeometry") is None:
        members["torchgeometry"] = {"angle_axis_to_rotation_matrix": _rotation}
    stubs = {}
    for name, attributes in members.items():
        stubs[name] = ModuleType(name)
        vars(stubs[name]).update(attributes)
    return stubs


@contextlib.contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """Import the published modules from the folder. Modules of the same names are restored."""
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_published(name)}
    path, dont_write = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    sys.modules.update(_stub_modules())
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _is_published(name)]:
            del sys.modules[name]
        sys.modules.update(saved)
        sys.path[:], sys.dont_write_bytecode = path, dont_write


def _is_published(name: str) -> bool:
    return name.split(".")[0] in _TOP_LEVEL_MODULES


def _defaults(settings: ModuleType) -> Any:
    """Default values of the published command line."""
    argv = sys.argv
    sys.argv = argv[:1]
    try:
        return settings.get_parse_args()
    finally:
        sys.argv = argv


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
