"""The caller's batch comes back unchanged except for the augmented rows."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from loop_helpers import (
    attached,
    batch,
    changed_rows,
    people,
    reproject,
    same,
    small,
    snapshot,
    trained,
)
from poseaug_plugin import BatchFormat, Camera, PoseAugmenter, Skeleton
from poseaug_plugin.batches.containers import describe, keys_of, overwrite, repeat_rows
from poseaug_plugin.batches.presets import FORMATS, resolve_format

H36M = Skeleton.of("h36m_16")
ROWS = 8


class Tuple(NamedTuple):
    target: Any
    keypoints: Any
    action: Any
    intrinsics: Any
    box: Any
    subset: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    target: Any
    keypoints: Any
    action: Any
    intrinsics: Any
    box: Any
    subset: Any


class Bag(dict):
    """A custom mapping."""


CONTAINERS: dict[str, Any] = {
    "tuple": lambda **f: tuple(f.values()),
    "list": lambda **f: list(f.values()),
    "dict": dict,
    "own mapping": Bag,
    "named tuple": Tuple,
    "dataclass": Frozen,
}
KINDS: dict[str, Any] = {
    "float32 tensor": torch.from_numpy,
    "float64 tensor": lambda a: torch.from_numpy(a.astype(np.float64) * (1 + 1e-13)),
    "float32 array": np.copy,
    # the last digits do not survive a detour over float32
    "float64 array": lambda a: a.astype(np.float64) * (1 + 1e-13),
}
BY_NAME = dict(pose_3d="target", pose_2d="keypoints", camera="intrinsics")
BY_PLACE = dict(pose_3d=0, pose_2d=1, camera=3)


def shaped(x: np.ndarray, layout: str) -> np.ndarray:
    """(B, T, J, C) in a codebase's own shape."""
    if layout == "flat":
        return x.reshape(len(x), -1)
    if layout == "frame":
        return x[:, 0]
    if layout == "graph":
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)[..., None])
    return x


def canonical(x: Any, layout: str, channels: int) -> np.ndarray:
    """The inverse of `shaped`."""
    x = np.asarray(x)
    if layout == "graph":
        return x[..., 0].transpose(0, 2, 3, 1)
    return x.reshape(len(x), -1, 16, channels)


def build(
    container: str = "tuple",
    kind: str = "float32 tensor",
    layout: str = "frame",
    root: str = "absolute",
    unit: float = 1.0,
    confidence: bool = False,
) -> tuple[Any, BatchFormat]:
    """A batch of eight rows, and its format."""
    who = people(ROWS, frames=5 if layout in ("clip", "graph") else 1)
    pose_3d, pose_2d = who.relative.copy(), who.pose_2d
    if root == "absolute":
        pose_3d = who.pose_3d
    elif root == "slot":
        pose_3d[:, :, 0] = who.pose_3d[:, :, 0]
    if confidence:
        sure = np.random.RandomState(1).rand(*pose_2d.shape[:3], 1).astype(np.float32)
        pose_2d = np.concatenate([pose_2d, sure], -1)
    to = KINDS[kind]
    batch = CONTAINERS[container](
        target=to(shaped(pose_3d / np.float32(unit), layout)),
        keypoints=to(shaped(pose_2d, layout)),
        action=[f"action {i}" for i in range(ROWS)],
        intrinsics=to(who.camera),
        box=np.arange(ROWS * 4).reshape(ROWS, 4),
        subset="S1",
    )
    keys: dict[str, Any] = BY_PLACE if container in ("tuple", "list") else BY_NAME
    return batch, BatchFormat(**keys, root=root, unit=unit)  # type: ignore[arg-type]


def fields(batch: Any) -> list[Any]:
    if isinstance(batch, dict):
        return list(batch.values())
    return list(vars(batch).values()) if dataclasses.is_dataclass(batch) else list(batch)


def augmented(batch: Any, fmt: Any, **config: Any) -> Any:
    augmenter, _, _ = attached(small("random", **config), fmt)
    made = augmenter(batch)
    assert augmenter.stats()["augmented"] >= 1
    return made


def placed(batch: Any, layout: str, root: str, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Absolute metres and 2D of a batch, read without the package."""
    target, keypoints, _, _, _, _ = fields(batch)
    pose_3d = canonical(target, layout, 3).astype(np.float64) * unit
    if root == "slot":
        pose_3d[:, :, 1:] += pose_3d[:, :, :1]
    per_joint = np.asarray(keypoints).size // pose_3d[..., 0].size
    return pose_3d, canonical(keypoints, layout, per_joint)[..., :2]


# Types and values are kept


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_types_and_other_rows_are_kept(container: str, kind: str) -> None:
    given, fmt = build(container, kind)
    before = snapshot(*fields(given))
    made = augmented(given, fmt)
    assert same(snapshot(*fields(given)), before)  # the input was not written to
    assert type(made) is type(given)
    assert len(fields(made)) == len(fields(given))
    if isinstance(given, dict):
        assert list(made) == list(given)
    old, new = fields(given), fields(made)
    for a, b in zip(old, new):
        assert type(a) is type(b)
    for extra in (2, 4, 5):
        assert new[extra] is old[extra]
    rows = [changed_rows(old[i], new[i]) for i in (0, 1, 3)]  # asserts shape and dtype
    assert rows[0] == rows[1] == rows[2]
    assert 1 <= len(rows[0]) <= ROWS // 2


@pytest.mark.parametrize("unit", [1.0, 0.001])
@pytest.mark.parametrize("root", ["absolute", "slot"])
@pytest.mark.parametrize("layout", ["flat", "frame", "clip", "graph"])
def test_augmented_rows_reproject_to_their_own_2d(layout: str, root: str, unit: float) -> None:
    given, fmt = build("tuple", "float64 array", layout, root, unit)
    made = augmented(given, fmt, ratio=1.0)
    pose_3d, pose_2d = placed(made, layout, root, unit)
    changed = changed_rows(given[0], made[0])
    assert len(changed) >= ROWS // 2
    off = reproject(pose_3d, made[3]) - pose_2d
    assert np.abs(off).max() < 1e-5
    assert (pose_3d[changed][..., 2] > 0.5).all()
    assert (np.abs(pose_2d[changed]) <= 1).all()


@pytest.mark.parametrize("layout", ["flat", "frame", "clip", "graph"])
def test_a_relative_target_stays_root_relative(layout: str) -> None:
    given, fmt = build("tuple", "float32 array", layout, "relative", 0.001)
    made = augmented(given, fmt, ratio=1.0)
    pose_3d = canonical(made[0], layout, 3)
    assert np.abs(pose_3d[:, :, 0]).max() == 0
    assert 200 < np.abs(pose_3d).max() < 3000  # still millimetres
    assert len(changed_rows(given[0], made[0])) >= ROWS // 2


@pytest.mark.parametrize("layout", ["frame", "clip", "graph"])
def test_confidence_stays_with_its_row(layout: str) -> None:
    given, fmt = build(layout=layout, confidence=True)
    made = augmented(given, fmt, ratio=1.0)
    old, new = (canonical(b[1], layout, 3) for b in (given, made))
    assert np.array_equal(old[..., 2], new[..., 2])
    assert (old[..., :2] != new[..., :2]).any()
    pose_3d, pose_2d = placed(made, layout, "absolute", 1.0)
    assert np.abs(reproject(pose_3d, made[3]) - pose_2d).max() < 1e-5


def test_a_clip_moves_as_one() -> None:
    """One set of parameters per clip: all frames have the same scale, and steps keep their size."""
    given, fmt = build(layout="clip")
    made = augmented(given, fmt, ratio=1.0, ba=False)
    (old, _), (new, _) = (placed(b, "clip", "absolute", 1.0) for b in (given, made))
    rows = changed_rows(given[0], made[0])
    bones = [np.linalg.norm(p[:, :, 1:] - p[:, :, list(H36M.parent)], axis=-1) for p in (old, new)]
    ratio = bones[1][rows] / bones[0][rows]
    assert np.abs(ratio - ratio[:, :1]).max() < 1e-4
    assert np.abs(ratio - 1).max() > 0.02
    steps = [np.linalg.norm(np.diff(p[:, :, 0], axis=1), axis=-1) for p in (old, new)]
    assert np.abs(steps[1] - steps[0]).max() < 1e-5
    assert steps[0].min() > 1e-3


@pytest.mark.parametrize("rowkind", ["tensor", "float32 array", "float64 array", "lists"])
def test_a_field_may_be_a_list_of_rows(rowkind: str) -> None:
    to: dict[str, Any] = {
        "tensor": torch.from_numpy,
        "float32 array": np.copy,
        "float64 array": lambda a: a.astype(np.float64),
        "lists": lambda a: a.tolist(),
    }
    who = people(ROWS)
    target, keypoints = ([to[rowkind](row[0]) for row in a] for a in (who.pose_3d, who.pose_2d))
    given = {"target": target, "keypoints": keypoints, "intrinsics": torch.from_numpy(who.camera)}
    made = augmented(given, BY_NAME | dict(root="absolute"), ratio=1.0)
    changed = 0
    for name in ("target", "keypoints"):
        assert type(made[name]) is list
        for old, new in zip(given[name], made[name]):
            assert type(new) is type(old)
            assert getattr(new, "dtype", None) == getattr(old, "dtype", None)
            changed += not np.array_equal(old, new)
    assert changed >= ROWS


# No memory is shared


def arrays(batch: Any) -> list[np.ndarray]:
    return [np.asarray(batch[i]) for i in (0, 1, 3)]


@pytest.mark.parametrize("mix", ["replace", "append"])
@pytest.mark.parametrize("kind", ["float32 tensor", "float32 array", "float64 array"])
def test_yielded_arrays_share_no_memory_with_the_input(kind: str, mix: str) -> None:
    given, fmt = build(kind=kind)
    made = augmented(given, fmt, mix=mix)
    assert not any(np.shares_memory(a, b) for a, b in zip(arrays(given), arrays(made)))


@pytest.mark.parametrize("kind", ["float32 tensor", "float32 array", "rows"])
def test_later_changes_to_the_arrays_do_not_reach_the_plugin(kind: str) -> None:
    def learned(spoil: bool) -> list[Any]:
        augmenter, _, optimizer = attached(small(adv2d=1.0), build()[1])
        given, _ = build("list", "float32 tensor" if kind == "rows" else kind)
        if kind == "rows":
            given[:2] = [list(given[0]), list(given[1])]
        made = augmenter(given)
        for each in (given, made) if spoil else ():
            for i in (0, 1, 3):
                for row in each[i]:
                    row[:] = 1e3
        optimizer.step()
        assert augmenter.stats()["updates"] == 1
        return snapshot(augmenter)

    assert same(learned(spoil=True), learned(spoil=False))


# Reading


@pytest.mark.parametrize("kind", ["float32 tensor", "float64 array"])
@pytest.mark.parametrize("root", ["absolute", "slot", "relative"])
@pytest.mark.parametrize("layout", ["flat", "frame", "clip", "graph"])
def test_every_layout_reads_as_the_same_poses(layout: str, root: str, kind: str) -> None:
    given, fmt = build("tuple", kind, layout, root, 0.001)
    who = people(ROWS, frames=5 if layout in ("clip", "graph") else 1)
    poses = fmt.read(given, H36M, Camera())
    assert len(poses) == ROWS
    assert poses.pose_3d.dtype == poses.pose_2d.dtype == torch.float32
    assert np.abs(poses.pose_3d.numpy() - who.relative).max() < 2e-6
    assert np.abs(poses.pose_2d.numpy() - who.pose_2d).max() < 1e-6
    assert np.abs(poses.camera.numpy() - who.camera).max() < 1e-6
    assert poses.has_root is (root != "relative")
    # a fitted root is as good as the camera, which is exact here
    assert np.abs(poses.root.numpy() - who.pose_3d[:, :, 0]).max() < 0.01


def test_the_given_camera_stands_in_where_batches_have_none() -> None:
    given, fmt = build(root="relative")
    fmt = dataclasses.replace(fmt, camera=None)
    poses = fmt.read(given, H36M, Camera(f=(2.0, 2.1), c=(0.1, 0.2)))
    assert poses.has_camera is False
    assert poses.camera[:, :4].tolist() == [pytest.approx([2.0, 2.1, 0.1, 0.2])] * ROWS


def test_formats_by_name_are_what_those_codebases_yield() -> None:
    assert FORMATS["semgcn"] == BatchFormat(pose_2d=1, pose_3d=0, root="relative")
    assert FORMATS["poseaug"] == BatchFormat(pose_2d=1, pose_3d=0, camera=3, root="absolute")
    assert repr(FORMATS["poseaug"]) == (
        "BatchFormat(pose_2d=1, pose_3d=0, camera=3, root='absolute')"
    )
    assert resolve_format("semgcn") is FORMATS["semgcn"]
    assert resolve_format(dict(pose_2d=1, pose_3d=0)) == FORMATS["semgcn"]


class OnlyReadAndWrite:
    """A custom format with only `read` and `write`."""

    def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> Any:
        return FORMATS["poseaug"].read(batch["wrapped"], skeleton, camera)

    def write(self, batch: Any, poses: Any, rows: Any, skeleton: Skeleton) -> Any:
        return {"wrapped": FORMATS["poseaug"].write(batch["wrapped"], poses, rows, skeleton)}


@pytest.mark.parametrize("preset", ["random", "default"])
def test_any_object_with_read_and_write_is_a_format(preset: str) -> None:
    """Without feedback, that is, which needs `inputs` and `outputs` (see test_protocol)."""
    model, optimizer = trained()
    config = small(preset, feedback="off")
    augmenter = PoseAugmenter(
        model, optimizer, OnlyReadAndWrite(), config=config, skeleton="h36m_16"
    )
    given = {"wrapped": build()[0]}
    made = augmenter(given)
    optimizer.step()
    assert 1 <= len(changed_rows(given["wrapped"][0], made["wrapped"][0])) <= ROWS // 2
    assert augmenter.stats().get("updates", 0) == (preset == "default")


# Calling the estimator


@pytest.mark.parametrize(
    ("layout", "confidence"),
    [("flat", False), *[(name, sure) for name in ("frame", "clip", "graph") for sure in (0, 1)]],
)
def test_the_estimator_is_called_as_the_training_loop_calls_it(
    layout: str, confidence: bool
) -> None:
    given, fmt = build(layout=layout, root="absolute", unit=0.001, confidence=confidence)
    poses = fmt.read(given, H36M, Camera())
    assert torch.equal(fmt.inputs(poses, poses.pose_2d), given[1])
    read = fmt.outputs(given[0], poses, H36M)  # millimetres, absolute, in the target's shape
    assert (read - poses.pose_3d).abs().max() < 2e-6


class Any2d(torch.nn.Module):
    """Takes any layout, and predicts in the same layout with three channels."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.weight = torch.nn.Parameter(torch.randn(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.layout == "flat":
            return (x.view(len(x), -1, 2) @ self.weight).flatten(1)
        if self.layout == "graph":
            return torch.einsum("nctvm,cd->ndtvm", x[:, :2], self.weight)
        return x[..., :2] @ self.weight


@pytest.mark.parametrize("preset", ["residual", "released"])
@pytest.mark.parametrize("layout", ["flat", "frame", "clip", "graph"])
def test_every_layout_trains(layout: str, preset: str) -> None:
    given, fmt = build(layout=layout, confidence=layout != "flat")
    model = Any2d(layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    augmenter = PoseAugmenter(model, optimizer, fmt, config=small(preset, mix="append"))
    made = augmenter(given)
    optimizer.step()
    assert len(made[0]) == 2 * ROWS
    assert augmenter.stats()["updates"] == 1
    assert augmenter.stats()["feedback"] > 0


# Pieces


def test_repeat_rows_repeats_what_has_rows() -> None:
    given = {
        "tensor": torch.tensor([[1.0], [2.0]]),
        "array": np.array([1, 2]),
        "strings": ["a", "b"],
        "pair": ("x", "y"),
        "name": "ab",
        "other": torch.tensor([1, 2, 3]),
        "scalar": torch.tensor(5.0),
        "none": None,
    }
    made = repeat_rows(given, 2)
    assert made["tensor"].tolist() == [[1], [1], [2], [2]]
    assert made["array"].tolist() == [1, 1, 2, 2]
    assert made["strings"] == ["a", "a", "b", "b"]
    assert made["pair"] == ("x", "x", "y", "y")
    for name in ("name", "other", "scalar", "none"):
        assert made[name] is given[name]


@pytest.mark.parametrize("container", CONTAINERS)
def test_describe_names_fields_and_shapes(container: str) -> None:
    given, _ = build(container)
    words = describe(given)
    assert type(given).__name__ in words
    assert "(8, 16, 3)" in words
    for key in keys_of(given):
        assert repr(key) in words


def test_a_name_with_a_dot_is_a_name() -> None:
    given = dict(zip(("gt.3d", "kp.2d"), batch()))
    fields = dict(pose_2d="kp.2d", pose_3d="gt.3d", root="absolute")
    made = attached(small("random", ratio=1.0), fields)[0](given)
    assert len(changed_rows(given["kp.2d"], made["kp.2d"])) > 4


@pytest.mark.parametrize("old", [torch.zeros(3, 2).long(), np.zeros((3, 2), np.int32)])
def test_whole_numbers_are_rounded(old: Any) -> None:
    new = torch.tensor([[1.6, -1.6], [2.4, 9.5], [7.0, 8.9]])
    made = overwrite(old, new, torch.tensor([True, True, False]))
    assert made.tolist() == [[2, -2], [2, 10], [0, 0]]
    assert made.dtype == old.dtype
    rows = overwrite([old[0]], new[:1], torch.tensor([True]))
    assert rows[0].tolist() == [2, -2]


@pytest.mark.parametrize(
    ("zero_2d", "zero_3d", "valid"), [(0, 0, True), (1, 0, False), (0, 1, False), (1, 1, False)]
)
def test_a_row_is_padding_if_either_field_is_all_zeros(
    zero_2d: int, zero_3d: int, valid: bool
) -> None:
    who = people(3)
    pose_3d, pose_2d = (torch.from_numpy(field[:, 0]) for field in (who.pose_3d, who.pose_2d))
    pose_2d[1] *= 1 - zero_2d
    pose_3d[1] *= 1 - zero_3d
    fmt = BatchFormat(pose_2d=0, pose_3d=1, root="absolute")
    assert fmt.read((pose_2d, pose_3d), H36M, Camera()).valid.tolist() == [True, valid, True]


@pytest.mark.parametrize("root", ["absolute", "relative"])
def test_joints_without_2d_are_those_that_the_camera_of_the_batch_would_see(root: str) -> None:
    who = people(ROWS)
    camera = who.camera * np.float32([0.7, 0.6, 1, 1, 1, 1, 1, 1, 1])
    whole = reproject(who.pose_3d, camera)[:, 0].astype(np.float32)
    kept = tuple(joint for joint in range(16) if joint not in (0, 9, 12))
    pose_3d = (who.pose_3d if root == "absolute" else who.relative)[:, 0]
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, joints_2d=kept, root=root)  # type: ignore[arg-type]
    poses = fmt.read((pose_3d, whole[:, kept], camera), H36M, Camera())
    assert np.abs(poses.pose_2d[:, 0].numpy() - whole).max() < 1e-3
    assert np.abs(poses.root.numpy() - who.pose_3d[:, :, 0]).max() < 0.01


def test_a_frame_without_2d_or_3d_is_padding_and_the_frame_before_stands_in() -> None:
    """Or the first frame that is there. The confidence plays no part."""
    pose_3d, pose_2d, camera = map(torch.from_numpy, people(4, 9)[:3])
    padding, stand_in = torch.zeros(4, 9, dtype=torch.bool), torch.arange(9).repeat(4, 1)
    padding[0, :3], padding[1, 4], padding[2, 7:] = True, True, True
    stand_in[0, :3], stand_in[1, 4], stand_in[2, 7:] = 3, 3, 6
    given_3d, given_2d = pose_3d.clone(), torch.cat([pose_2d, torch.full((4, 9, 16, 1), 0.5)], -1)
    given_2d[..., :2][padding] = 0
    given_3d[2, 7:] = 0
    layout = dict(pose_3d=0, pose_2d=1, camera=2, root="absolute")
    augmenter, *_ = attached(dict(ratio=1.0), layout, skeleton="h36m_16")
    made = augmenter((given_3d, given_2d, camera))
    assert changed_rows(given_3d, made[0]) == [0, 1, 2, 3]
    for old, new in zip((given_3d, given_2d), made):
        assert torch.equal(old[padding], new[padding])
    poses = augmenter.read((given_3d, given_2d, camera))
    row = torch.arange(4)[:, None]
    assert torch.allclose(poses.absolute, pose_3d[row, stand_in], atol=1e-6)
    assert torch.equal(poses.pose_2d, pose_2d[row, stand_in])


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("kind", ["clip", "columns", "list"])
@pytest.mark.parametrize("mix", ["replace", "append"])
def test_frames_of_padding_stay_zeros_and_their_clip_is_augmented(
    pixels: bool, kind: str, mix: str
) -> None:
    """As a collate function pads clips of different lengths."""
    who = people(8, 9)
    camera, fields = torch.from_numpy(who.camera), [*map(torch.from_numpy, who[:2])]
    if pixels:
        fields[1] = (fields[1] + 1) * 500
        camera = torch.cat([camera[:, :2] * 500, camera[:, 2:4] * 500 + 500, camera[:, 4:]], 1)
    padding = torch.zeros(8, 9, dtype=torch.bool)
    padding[::2, 6:], padding[1, :3], padding[3, 4], padding[5] = True, True, True, True
    given: list[Any] = [field.masked_fill(padding[..., None, None], 0) for field in fields]
    if kind == "columns":
        given = [field.flatten(2).mT for field in given]
    if kind == "list":
        given = [[*field] for field in given]
    layout = dict(pose_3d=0, pose_2d=1, camera=2, root="absolute")
    layout |= dict(screen=(1000, 1000)) if pixels else {}
    augmenter, *_ = attached(dict(ratio=1.0, mix=mix), layout, skeleton="h36m_16")
    *new, lens = augmenter((*given, camera))
    rows = slice(1, None, 2) if mix == "append" else slice(None)
    new = [torch.stack([*field]) for field in new]
    if kind == "columns":
        new = [field.mT.unflatten(2, (16, -1)) for field in new]
    pose_3d, pose_2d = (field[rows] for field in new)
    assert not pose_3d[padding].any()
    assert not pose_2d[padding].any()
    assert changed_rows(fields[0] * ~padding[..., None, None], pose_3d) == [0, 1, 2, 3, 4, 6, 7]
    lens = lens[rows].clone()
    if pixels:
        pose_2d = pose_2d / 500 - 1
        lens = torch.cat([lens[:, :2] / 500, lens[:, 2:4] / 500 - 1, lens[:, 4:]], 1)
    off = (
        reproject(pose_3d.where(~padding[..., None, None], torch.ones(())), lens) - pose_2d.numpy()
    )
    assert abs(off[~padding.numpy()]).max() < 1e-4
