"""Custom formats: the methods they need, the errors without them, and how they are called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loop_helpers import attached, batch, changed_rows, seed_all, small
from poseaug_plugin import (
    BatchError,
    BatchFormat,
    Camera,
    ConfigError,
    EstimatorError,
    PoseAugConfig,
    PoseAugmenter,
    PoseBatch,
    Skeleton,
)
from poseaug_plugin.batches.presets import resolve_format
from poseaug_plugin.batches.protocol import EstimatorFormat, Format

H36M = Skeleton.of("h36m_16")
MILLIMETRES = BatchFormat(pose_2d=1, pose_3d=0, camera=3, root="absolute", unit=0.001)


class ReadAndWrite:
    """Reads and writes millimetres."""

    def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> PoseBatch:
        return MILLIMETRES.read(batch, skeleton, camera)

    def write(self, batch: Any, poses: PoseBatch, rows: Tensor, skeleton: Skeleton) -> Any:
        return MILLIMETRES.write(batch, poses, rows, skeleton)


class WithInputs(ReadAndWrite):
    def inputs(self, poses: PoseBatch, pose_2d: Tensor) -> Tensor:
        return pose_2d[:, 0]


class Whole(WithInputs):
    def outputs(self, predicted: Tensor, poses: PoseBatch, skeleton: Skeleton) -> Tensor:
        pose_3d = predicted[:, None] * 0.001
        return pose_3d - pose_3d[:, :, skeleton.root, None]


class OfFourArrays(Whole):
    """Builds its PoseBatch from nothing but the four arrays."""

    def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> PoseBatch:
        pose_3d = batch[0][:, None] * 0.001
        root = pose_3d[:, :, skeleton.root].clone()
        return PoseBatch(batch[1][:, None].clone(), pose_3d - root[:, :, None], root, batch[3])

    def write(self, batch: Any, poses: PoseBatch, rows: Tensor, skeleton: Skeleton) -> Any:
        made = (poses.absolute[:, 0] * 1000, poses.pose_2d[:, 0], None, poses.camera)
        return tuple(
            old if new is None else torch.where(rows.view(-1, *[1] * (old.ndim - 1)), new, old)
            for old, new in zip(batch, made)
        )


class Oracle(nn.Module):
    """Predicts the true poses in millimetres, with a constant error of 30 mm."""

    def __init__(self) -> None:
        super().__init__()
        self.off = nn.Parameter(30 * torch.randn(16, 3))
        self.poses: PoseBatch | None = None

    def shown_by(self, fmt: Any) -> Any:
        """The format, whose `inputs` shows this model the true poses."""
        inputs = fmt.inputs

        def shown(poses: PoseBatch, pose_2d: Tensor) -> Tensor:
            self.poses = poses
            return inputs(poses, pose_2d)

        object.__setattr__(fmt, "inputs", shown)  # BatchFormat is frozen
        return fmt

    def forward(self, pose_2d: Tensor) -> Tensor:
        assert self.poses is not None
        assert pose_2d.shape == (len(self.poses), 16, 2)
        # A prediction that does not depend on the 2D at all is refused: it has no gradient.
        return self.poses.absolute[:, 0] * 1000 + self.off + 0 * pose_2d.sum()


def millimetres(rows: int = 8) -> tuple[Any, ...]:
    pose_3d, *rest = batch(rows=rows)
    return (pose_3d * 1000, *rest)


# What must be there


def test_formats_are_told_by_their_methods() -> None:
    assert isinstance(MILLIMETRES, EstimatorFormat)
    assert isinstance(Whole(), EstimatorFormat)
    assert isinstance(WithInputs(), Format)
    assert not isinstance(WithInputs(), EstimatorFormat)
    own = ReadAndWrite()
    assert resolve_format(own) is own
    with pytest.raises(ConfigError, match="nor an object with the methods read and write"):
        resolve_format(ReadAndWrite)


@pytest.mark.parametrize(
    ("fmt", "words"),
    [
        (ReadAndWrite(), "batch=ReadAndWrite has no method inputs and no method outputs"),
        (WithInputs(), "batch=WithInputs has no method outputs, but"),
        (type("Refuses", (Whole,), {"inputs": None})(), "batch=Refuses has no method inputs, but"),
    ],
    ids=["neither", "no outputs", "no inputs"],
)
@pytest.mark.parametrize("preset", ["paper", "released", "residual"])
def test_feedback_needs_a_format_that_can_call_the_estimator(
    preset: str, fmt: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        attached(small(preset), fmt, skeleton="h36m_16")
    assert "inputs(poses, pose_2d) and outputs(predicted, poses, skeleton)" in str(error.value)
    assert "learned=False" in str(error.value)


@pytest.mark.parametrize(
    "config",
    [small("random"), small("residual", feedback="off"), PoseAugConfig()],
    ids=["random", "learned without feedback", "default"],
)
def test_without_feedback_read_and_write_are_enough(config: PoseAugConfig) -> None:
    augmenter, _, optimizer = attached(config, ReadAndWrite(), skeleton="h36m_16")
    given = millimetres()
    made = augmenter(given)
    optimizer.step()
    assert len(changed_rows(given[0], made[0])) >= 1
    assert made[0].abs().max() > 2000
    assert augmenter.stats()["bad_batches"] == 0


def test_a_refused_format_leaves_the_optimizer_free() -> None:
    seed_all()
    model = nn.Linear(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="no method"):
        PoseAugmenter(model, optimizer, ReadAndWrite(), config="paper")
    PoseAugmenter(model, optimizer, "poseaug", config="paper").detach()


# The estimator's predictions are read in the format's unit


@pytest.mark.parametrize(
    "fmt", [MILLIMETRES, Whole(), OfFourArrays()], ids=lambda f: type(f).__name__
)
def test_a_model_that_is_as_good_on_augmented_poses_finds_them_no_harder(fmt: Any) -> None:
    seed_all()
    model = Oracle()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fmt = model.shown_by(copy.copy(fmt))
    config = PoseAugConfig.paper(prior=True, warmup=0)  # with pairs in frame from the start
    augmenter = PoseAugmenter(model, optimizer, fmt, config=config, skeleton="h36m_16")
    augmenter(millimetres())
    optimizer.step()
    assert augmenter.stats()["updates"] == 1
    assert augmenter.stats()["hardness"] == pytest.approx(1, abs=0.01)


def test_outputs_of_another_shape_are_an_error() -> None:
    class Flat(Whole):
        def outputs(self, predicted: Tensor, poses: PoseBatch, skeleton: Skeleton) -> Tensor:
            return super().outputs(predicted, poses, skeleton)[:, 0]

    augmenter, _, _ = attached(small(), Flat(), skeleton="h36m_16")
    with pytest.raises(
        EstimatorError, match=r"outputs of batch=Flat .*\(2, 16, 3\).*\(2, 1, 16, 3\)"
    ):
        augmenter(millimetres())


# Reading


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p: None, "read of batch=Odd returned NoneType, expected a PoseBatch"),
        (
            lambda p: PoseBatch(p.pose_2d[:, 0], p.pose_3d, p.root, p.camera),
            r"PoseBatch.pose_2d is a torch.float32 tensor of shape \(8, 16, 2\), expected .*"
            r"\(B, T, 16, 2\), that is \(B, T, J, 2\)",
        ),
        (
            lambda p: PoseBatch(p.pose_2d, p.pose_3d, p.root[:, 0], p.camera),
            r"PoseBatch.root .*\(8, 3\), expected .*\(8, 1, 3\)",
        ),
    ],
    ids=["nothing", "no frames", "no frames of the root"],
)
def test_what_read_returns_is_checked_on_the_first_batch(answer: Any, words: str) -> None:
    class Odd(ReadAndWrite):
        def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> Any:
            return answer(super().read(batch, skeleton, camera))

    for first in (lambda a: a(millimetres()), lambda a: a.check([millimetres()])):
        augmenter, _, _ = attached(small("random"), Odd(), skeleton="h36m_16")
        with pytest.raises(BatchError, match=words):
            first(augmenter)


def test_a_format_may_guess_the_skeleton() -> None:
    class Guesses(Whole):
        def guess_skeleton(self, batch: Any) -> Skeleton:
            return Skeleton.for_joints(batch[0].shape[1])

    augmenter, _, _ = attached(small("random"), Guesses())
    augmenter(millimetres())
    assert augmenter.stats()["augmented"] > 0
    with pytest.raises(ConfigError, match=r"no method guess_skeleton\(batch\); pass skeleton="):
        attached(small("random"), Whole())[0](millimetres())


# check


def test_check_measures_a_format_of_ones_own() -> None:
    fmt = Whole()
    augmenter, _, _ = attached(small(), fmt, skeleton="h36m_16")
    (report,) = augmenter.check([millimetres(16)])
    assert report.ok
    assert report.format is fmt
    assert (report.rows, report.joints) == (16, 16)
    pose_3d, pose_2d, *rest = millimetres(16)
    (report,) = augmenter.check([(pose_3d, pose_2d * torch.tensor([1, -1]), *rest)])
    assert "y flipped" in str(report)


def test_check_says_that_read_must_return_metres() -> None:
    augmenter, _, _ = attached(small(), Whole(), skeleton="h36m_16")
    pose_3d, *rest = millimetres(16)
    (report,) = augmenter.check([(pose_3d * 1000, *rest)])
    assert "read must return metres; its 3D looks 1000 times too large" in str(report)
    assert "unit=" not in str(report)


# What a BatchFormat remembers of its batch


@pytest.mark.parametrize("frames", [1, 3])
def test_inputs_of_poses_that_the_format_did_not_read(frames: int) -> None:
    fmt = BatchFormat(pose_2d=0, pose_3d=1, screen=(1000, 800), joints_2d=(3, 1, 2))
    pose_3d = torch.rand(4, frames, 16, 3)
    poses = PoseBatch(pose_3d[..., :2], pose_3d, pose_3d[:, :, 0], torch.zeros(4, 9))
    made = fmt.inputs(poses, poses.pose_2d)
    assert made.shape == ((4, 3, 2) if frames == 1 else (4, 3, 3, 2))
    pixels = (poses.pose_2d + torch.tensor([1, 0.8])) * 500
    assert torch.allclose(made.view(4, frames, 3, 2), pixels[:, :, [3, 1, 2]], atol=1e-3)


@pytest.mark.parametrize("flat", [False, True])
def test_poses_that_the_format_did_not_read_are_written_in_the_batchs_own_shape(flat: bool) -> None:
    fmt = BatchFormat(pose_2d=1, pose_3d=0, camera=3, root="absolute")
    pose_3d, pose_2d, action, camera = batch()
    given = (pose_3d, pose_2d.flatten(1) if flat else pose_2d, action, camera)
    read = fmt.read(given, H36M, Camera())
    own = PoseBatch(read.pose_2d + 1, read.pose_3d, read.root, read.camera)
    made = fmt.write(given, own, torch.arange(8) < 4, H36M)
    assert torch.equal(made[1][:4], given[1][:4] + 1)
    assert torch.equal(made[1][4:], given[1][4:])


@pytest.mark.parametrize(
    "fmt",
    [MILLIMETRES, BatchFormat("x", "y", screen=(1000, 800), joints_3d=(1, 2), skeleton="h36m_17")],
)
def test_a_format_is_shown_as_the_call_that_makes_it(fmt: BatchFormat) -> None:
    assert eval(repr(fmt)) == fmt
    assert "None" not in repr(fmt)
    assert "space" not in repr(fmt)
