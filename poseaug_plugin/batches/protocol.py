"""What a batch format has to offer: the protocols, and what follows where a method is missing."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ..errors import ConfigError
from ..geometry.camera import Camera
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton

__all__ = [
    "EstimatorFormat",
    "Format",
    "check_learnable",
    "guess_skeleton",
    "prediction_and_target",
]


@runtime_checkable
class Format(Protocol):
    """A batch format of your own, for batches that no `BatchFormat` describes.

    `batch=` of `PoseAugmenter` takes any object with these two methods. Feedback,
    `widen_views`, `target_2d` and reports call the estimator as well, and need the two of
    `EstimatorFormat`.

    A third method is optional: `guess_skeleton(batch) -> Skeleton`. Without it, pass `skeleton=`.
    """

    def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> PoseBatch:
        """Convert a batch to the plugin's form.

        Args:
            batch: what the loader yields. It must not be changed, and the result must not share
                memory with it.
            skeleton: the joints of the poses.
            camera: the camera to assume where the batch has none.

        Raises:
            BatchError: the batch cannot be read.
        """
        ...

    def write(self, batch: Any, poses: PoseBatch, rows: Tensor, skeleton: Skeleton) -> Any:
        """Return a copy of the batch with some of its rows replaced.

        Args:
            batch: the batch that was read. With `mix="append"` each of its rows is there twice.
            poses: the new poses of all rows, on the estimator's device.
            rows: (B,) bool, the rows to be replaced. All others must stay as they are.
        """
        ...


@runtime_checkable
class EstimatorFormat(Format, Protocol):
    """A format that also knows how the training loop calls the estimator.

    The plugin calls `outputs(model(inputs(poses, poses.pose_2d)), poses, skeleton)` and compares
    the result with `poses.pose_3d`.

    Example: batches `(2D, 3D)` of single frames, in screen units and absolute millimetres, and a
    model that predicts millimetres.

    >>> import torch
    >>> from poseaug_plugin import Camera, PoseBatch, Skeleton
    >>> class Millimetres:
    ...     def read(self, batch, skeleton, camera):
    ...         pose_2d, pose_3d = (field[:, None].float() for field in batch)  # T = 1
    ...         pose_3d = pose_3d / 1000
    ...         root = pose_3d[:, :, skeleton.root]
    ...         intrinsics = camera.intrinsics.to(pose_2d).repeat(len(pose_2d), 1)
    ...         return PoseBatch(pose_2d.clone(), pose_3d - root[:, :, None], root, intrinsics)
    ...
    ...     def write(self, batch, poses, rows, skeleton):
    ...         fields = poses.pose_2d[:, 0], poses.absolute[:, 0] * 1000
    ...         return tuple(
    ...             torch.where(rows.to(old.device)[:, None, None], new.to(old), old)
    ...             for old, new in zip(batch, fields)
    ...         )
    ...
    ...     def inputs(self, poses, pose_2d):
    ...         return pose_2d[:, 0]
    ...
    ...     def outputs(self, predicted, poses, skeleton):
    ...         pose_3d = predicted[:, None] / 1000
    ...         return pose_3d - pose_3d[:, :, skeleton.root, None]
    >>> fmt, skeleton = Millimetres(), Skeleton.of("h36m_16")
    >>> isinstance(fmt, EstimatorFormat)
    True
    >>> batch = torch.rand(8, 16, 2), 1000 * torch.rand(8, 16, 3)
    >>> poses = fmt.read(batch, skeleton, Camera())
    >>> written = fmt.write(batch, poses, torch.arange(8) < 4, skeleton)
    >>> all(torch.allclose(new, old, atol=1e-3) for new, old in zip(written, batch))
    True
    """

    def inputs(self, poses: PoseBatch, pose_2d: Tensor) -> Tensor:
        """2D as the training loop passes it to the estimator; must be differentiable.

        Args:
            poses: the rows that the estimator is called with.
            pose_2d: (B, T, J, 2), screen units.
        """
        ...

    def outputs(self, predicted: Tensor, poses: PoseBatch, skeleton: Skeleton) -> Tensor:
        """The estimator's prediction in root-relative metres; must be differentiable.

        Returns:
            (B, T, J, 3), or (B, 1, J, 3) from an estimator that predicts only the centre frame.

        Raises:
            BatchError: the prediction has an unexpected shape.
        """
        ...


def prediction_and_target(
    output: Tensor, poses: PoseBatch, fmt: EstimatorFormat, skeleton: Skeleton
) -> tuple[Tensor, Tensor]:
    """Return what an output of the estimator predicts, and what it should be.

    Both are (B, T, J, 3), or (B, 1, J, 3) if the estimator predicts the centre frame only, in
    root-relative metres.

    Raises:
        BatchError: the output has an unexpected shape.
    """
    predicted, target = fmt.outputs(output, poses, skeleton), poses.pose_3d
    if predicted.shape[1] != target.shape[1]:
        target = target[:, poses.middle, None]
    return predicted, target


def check_learnable(fmt: Format) -> None:
    """Check that a format can call the estimator.

    Raises:
        ConfigError: it lacks `inputs` or `outputs`.
    """
    names = ("inputs", "outputs")
    missing = [name for name in names if not callable(getattr(fmt, name, None))]
    if missing:
        raise ConfigError(
            f"batch={type(fmt).__name__} has no method {' and no method '.join(missing)}, but the "
            "plugin has to call the model (for feedback, widen_views, target_2d or a report), and "
            "only the format knows the layout and unit of its answers. Add inputs(poses, pose_2d) "
            "and outputs(predicted, poses, skeleton) as in "
            "poseaug_plugin.batches.protocol.EstimatorFormat, or do without: learned=False or "
            "feedback='off', widen_views=None, lifted_poses=0, report=False."
        )


def guess_skeleton(fmt: Format, batch: Any) -> Skeleton:
    """The skeleton of a batch, from a format that can tell it.

    Raises:
        ConfigError: the format has no method `guess_skeleton`.
        SkeletonError: no preset fits.
    """
    guess = getattr(fmt, "guess_skeleton", None)
    if not callable(guess):
        raise ConfigError(
            f"no skeleton= was passed, and batch={type(fmt).__name__} has no method "
            "guess_skeleton(batch); pass skeleton=."
        )
    found: Skeleton = guess(batch)
    return found
