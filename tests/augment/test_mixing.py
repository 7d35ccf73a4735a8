"""Each mix: which rows are augmented, their order, and that rejected pairs leave rows unchanged."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from helpers import H36M
from loop_helpers import (
    attached,
    batch,
    changed_rows,
    loader,
    reproject,
    same,
    small,
    snapshot,
    step,
    trained,
)
from poseaug_plugin import AttachError, Camera, PoseAugmenter, PoseAugWarning
from poseaug_plugin.augment.mixing import mix_batch
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.geometry.bones import directions, kcs, pose_to_bones, unit
from poseaug_plugin.geometry.operators import axis_angle_to_matrix

ROWS = 8


def augmented(original: Any, **config: Any) -> Any:
    return attached(small("random", **config))[0](original)


# replace


@pytest.mark.parametrize("ratio", [0.125, 0.3, 0.5, 1.0])
def test_replace_augments_a_share_of_the_rows(ratio: float) -> None:
    original = batch()
    augmenter, _, _ = attached(small("random", ratio=ratio))
    changed = [len(changed_rows(original[0], augmenter(original)[0])) for _ in range(4)]
    tried = int(4 * ratio * ROWS)
    assert max(changed) == math.ceil(ratio * ROWS)
    assert augmenter.stats()["rows"] == tried
    assert augmenter.stats()["augmented"] == sum(changed)
    assert augmenter.stats()["accepted"] == pytest.approx(sum(changed) / tried)


def test_replace_chooses_rows_at_random() -> None:
    original = batch()
    augmenter, _, _ = attached(small("random", ratio=0.25))
    chosen = {tuple(changed_rows(original[0], augmenter(original)[0])) for _ in range(6)}
    assert len(chosen) > 2


@pytest.mark.parametrize(("rows", "ratio"), [(1, 0.5), (1, 0.9), (3, 0.5), (4, 0.1)])
def test_the_ratio_holds_on_average_over_small_batches(rows: int, ratio: float) -> None:
    augmenter, _, _ = attached(small("random", ratio=ratio))
    original = batch(rows=rows)
    first, *_ = [augmenter(original) for _ in range(20)]
    assert augmenter.stats()["rows"] == 20 * rows * ratio
    assert first is original or ratio * rows >= 1


def test_the_ratio_changes_linearly_over_the_run() -> None:
    augmenter, _, _ = attached(small("random", ratio=(1.0, 0.25)), epochs=4)
    shares = []
    for _ in range(4):
        before = augmenter.stats()["rows"]
        augmenter(batch())
        shares.append((augmenter.stats()["rows"] - before) / ROWS)
        augmenter.end_epoch()
    assert shares == [0.75, 0.625, 0.5, 0.25]  # of 6.5, 5, 3.5 and 2 rows: 17 in all
    endless, _, _ = attached(small("random", ratio=(1.0, 0.25)))
    endless(batch())
    assert endless.stats()["rows"] == 2  # without epochs, the end value from the start


# Pose statistics


#: A prior that changes neither the rotation nor the body.
UNCHANGED = dict(yaw=0.0, tilt=(0.0, 0.0), roll=0.0)
UNCHANGED |= dict(bend=0.0, stretch=0.0, body_scale=0.0, swap_lengths=False)


def joint_distances(pose_3d: torch.Tensor) -> torch.Tensor:
    """Distances between joints (B, J, J), which do not depend on the view."""
    return torch.cdist(pose_3d, pose_3d)


def cosines(pose_3d: torch.Tensor) -> torch.Tensor:
    """Cosines between bones (B, K, K), which do not depend on the view and the bone lengths."""
    return kcs(unit(pose_to_bones(pose_3d, H36M)))


def batch_with_rare_pose(rows: int = 64) -> tuple[torch.Tensor, ...]:
    """The same pose in all rows but row 5, whose left arm is raised."""
    pose_3d, _, action, camera = batch(rows=rows)
    pose_3d = pose_3d[:1].expand(rows, -1, -1).clone()
    pose_3d[5, 11:13] -= torch.tensor([0.2, 0.5, 0.0])
    return pose_3d, reprojected(pose_3d, camera), action, camera


def reprojected(pose_3d: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(reproject(pose_3d[:, None], camera))[:, 0].float()


@pytest.mark.parametrize(("power", "fewest", "most"), [(0.0, 1, 1), (4.0, 8, 64)])
def test_rare_poses_are_augmented_more_often(power: float, fewest: int, most: int) -> None:
    config = small("random", **UNCHANGED, ratio=1.0, rare_pose_power=power)
    original = batch_with_rare_pose()
    result = attached(config)[0](original)
    rare = joint_distances(original[0][5:6])
    is_rare = (joint_distances(result[0]) - rare).abs().amax((1, 2)) < 1e-3
    assert fewest <= int(is_rare.sum()) <= most


def test_bones_bend_as_they_vary_in_the_data() -> None:
    """Only the left arm varies in these data, so only it is bent."""
    rows = 64
    pose_3d, _, action, camera = batch(rows=rows)
    pose_3d = pose_3d[:1].expand(rows, -1, -1).clone()
    pose_3d[:, 11:13] += 0.15 * torch.randn(rows, 1, 3, generator=torch.Generator().manual_seed(0))
    original = (pose_3d, reprojected(pose_3d, camera), action, camera)
    result = attached(small("random", **UNCHANGED, ratio=1.0, bend_sigma=3.0))[0](original)
    changed = changed_rows(original[0], result[0])
    change = (
        (joint_distances(result[0]) - joint_distances(pose_3d))[changed].square().mean(0).sqrt()
    )
    others = [j for j in range(16) if j not in (11, 12)]
    assert change[11:13].mean() > 2 * change[others][:, others].mean()


@pytest.mark.parametrize("upright", [True, False])
def test_yaw_is_about_the_vertical_of_the_people(upright: bool) -> None:
    """The camera looks down. With `upright=False`, people rotate about its y axis and lean."""
    pose_3d, _, action, camera = batch(rows=64)
    tilt = axis_angle_to_matrix(torch.tensor([0.7, 0.0, 0.0]))
    root = pose_3d[:, :1]
    pose_3d = (pose_3d[:1] - root[:1]) @ tilt.T + root
    original = (pose_3d, reprojected(pose_3d, camera), action, camera)
    config = small("random", **{**UNCHANGED, "yaw": math.pi}, ratio=1.0, upright=upright)
    result = attached(config)[0](original)[0]
    up_before, up_after = (directions(pose, H36M)[1][..., 1] for pose in (pose_3d, result))
    changed = changed_rows(pose_3d, result)
    assert len(changed) > 32
    assert up_after[changed, 2].std() > 0.1 or upright  # heads are nearer and farther than feet
    vertical_part = 1.0 if upright else float(-up_before[0, 1])
    assert torch.allclose(-up_after[changed, 1], torch.tensor(vertical_part), atol=1e-4)
    assert -up_before[0, 1] < 0.95  # the people lean in the input


def test_limbs_are_taken_from_other_rows() -> None:
    """No augmented pose equals an original one, but its knees and elbows are from original ones."""
    original = batch()
    result = attached(small("random", **UNCHANGED, ratio=1.0, limb_crossover=True))[0](original)
    changed = changed_rows(original[0], result[0])
    before, after = cosines(original[0]), cosines(result[0])[changed]
    assert ((after[:, None] - before).abs().amax((2, 3)) > 1e-3).all()  # (augmented, original)
    for upper, lower in ((1, 2), (4, 5), (10, 11), (13, 14)):  # bones
        distance = (after[:, None, upper, lower] - before[:, upper, lower]).abs().amin(1)
        assert (distance < 1e-5).all()


def test_every_row_keeps_its_pose_without_ba_and_bl() -> None:
    original = batch()
    result = attached(small("default", ba=False, bl=False, ratio=1.0, learned=False))[0](original)
    assert (joint_distances(result[0]) - joint_distances(original[0])).abs().max() < 1e-4


# append


def test_append_interleaves_original_and_augmented_rows() -> None:
    original = {
        "pose_3d": batch()[0],
        "pose_2d": batch()[1],
        "camera": batch()[3],
        "action": [f"action {i}" for i in range(ROWS)],
        "box": np.arange(4 * ROWS).reshape(ROWS, 4),
        "scale": torch.tensor(2.0),
        "subset": "S1",
    }
    fmt = dict(pose_3d="pose_3d", pose_2d="pose_2d", camera="camera", root="absolute")
    result = attached(small("random", mix="append"), fmt)[0](original)
    for name in ("pose_3d", "pose_2d", "camera"):
        assert result[name].shape == (2 * ROWS, *original[name].shape[1:])
        assert torch.equal(result[name][::2], original[name])
    changed = changed_rows(original["pose_3d"], result["pose_3d"][1::2])
    assert len(changed) >= ROWS - 2
    assert changed == changed_rows(original["pose_2d"], result["pose_2d"][1::2])
    assert result["action"] == [name for name in original["action"] for _ in "ab"]
    assert result["box"].tolist() == original["box"].repeat(2, 0).tolist()
    assert result["scale"] is original["scale"]
    assert result["subset"] is original["subset"]
    residual = reproject(result["pose_3d"], result["camera"]) - result["pose_2d"].numpy()
    assert np.abs(residual).max() < 1e-5


@pytest.mark.parametrize("ratio", [0.1, 1.0])
def test_append_augments_every_row_for_any_ratio(ratio: float) -> None:
    assert len(augmented(batch(), mix="append", ratio=ratio)[0]) == 2 * ROWS


def test_a_row_that_is_appended_counts_once_as_a_real_one() -> None:
    given, fmt = batch(), FORMATS["poseaug"]
    poses = fmt.read(given, H36M, Camera())
    poses.valid[2] = False
    sampler = Sampler(H36M, small("random", mix="append"), torch.device("cpu"))
    mixed = mix_batch(given, poses, sampler, fmt, 0.5)
    assert mixed.real.valid.tolist() == [
        row != 2 and not copy for row in range(8) for copy in (0, 1)
    ]
    assert torch.equal(mixed.real.pose_3d, poses.pose_3d.repeat_interleave(2, 0))
    assert mixed.tried == ROWS
    assert int(mixed.passed) == int(mixed.replaced.sum()) == int(mixed.replaced[1::2].sum()) > 0
    groups = replace(poses, group=torch.arange(ROWS) // 4)  # of scenes, padding is not tried
    assert mix_batch(given, groups, sampler, fmt, 0.5).tried == ROWS - 1


def test_append_copies_the_rows_of_a_list() -> None:
    """In-place changes such as `for row in batch: row -= ...` must not change a row twice."""
    original = list(batch())
    original[:2] = [list(original[0]), list(original[1])]
    result = augmented(original, mix="append", depth=99.0)
    for rows in result[:2]:
        assert len({row.data_ptr() for row in rows}) == 2 * ROWS


# alternate


def test_alternate_yields_each_batch_and_then_its_augmented_copy() -> None:
    augmenter, _, _ = attached(small("random", mix="alternate"))
    plain = [batch(seed=i) for i in range(3)]
    wrapped = augmenter.wrap(plain)
    yielded = list(wrapped)
    assert len(wrapped) == len(yielded) == 6
    for real, copy, original in zip(yielded[::2], yielded[1::2], plain):
        assert real is original
        assert copy is not original
        assert len(changed_rows(original[0], copy[0])) >= ROWS - 2
    augmenter.disable()
    assert len(wrapped) == len(list(wrapped)) == 3
    augmenter.detach()
    assert len(wrapped) == 3


def test_what_the_loop_does_to_the_real_batch_does_not_reach_the_augmented_one() -> None:
    """The rows that stay real, and the fields that are passed through, are copies."""
    before = {"y": batch()[0], "x": batch()[1], "extra": torch.ones(ROWS)}
    augmenter, _, _ = attached(
        small("random", mix="alternate", image_offset=1.0),
        dict(pose_3d="y", pose_2d="x", root="absolute"),
    )
    batches = iter(augmenter.wrap([{name: field.clone() for name, field in before.items()}]))
    real = next(batches)
    for field in real.values():
        field.mul_(0)
    made = next(batches)
    assert torch.equal(made["extra"], before["extra"])
    assert made["y"].flatten(1).any(1).all()
    assert 0 < len(changed_rows(before["y"], made["y"])) < ROWS


@pytest.mark.parametrize("norm", [True, False])
def test_alternate_warns_if_the_model_has_batchnorm(norm: bool) -> None:
    model, optimizer = trained(norm=norm)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small(mix="alternate"))
        list(augmenter.wrap(loader()))
    messages = [str(w.message) for w in caught if issubclass(w.category, PoseAugWarning)]
    assert len(messages) == norm
    assert all("BatchNorm" in message for message in messages)
    assert all("mix='replace'" in message for message in messages)


# passes


class Shuffled:
    """A loader with a new order in each epoch, which it records."""

    def __init__(self, batches: int) -> None:
        self.data = [batch(seed=i) for i in range(batches)]
        self.orders: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Any]:
        self.orders.append(torch.randperm(len(self)).tolist())
        return iter([self.data[i] for i in self.orders[-1]])


def test_passes_yields_the_augmented_batches_of_an_epoch_and_then_the_real_ones() -> None:
    augmenter, model, optimizer = attached(small("released", mix="passes", warmup=0))
    shuffled = Shuffled(3)
    wrapped = augmenter.wrap(shuffled)
    for epoch in range(2):
        before = snapshot(model)
        batches = iter(wrapped)
        assert (
            len(shuffled.orders) == 2 * epoch
        )  # the loader is not iterated before the first batch
        yielded = [next(batches)]
        assert augmenter.stats()["updates"] == 3 * (epoch + 1)  # before the estimator's first step
        assert same(snapshot(model), before)
        for following in batches:
            step(model, optimizer, yielded[-1])
            yielded.append(following)
        assert not same(snapshot(model), before)
        assert augmenter.stats()["updates"] == 3 * (epoch + 1)
        augmented_order, real_order = shuffled.orders[-2:]
        assert len(wrapped) == len(yielded) == 6
        originals = [shuffled.data[i] for i in augmented_order]
        for original, augmented_batch in zip(originals, yielded[:3]):
            assert augmented_batch is not original
        assert sum(len(changed_rows(o[0], a[0])) for o, a in zip(originals, yielded)) > 0
        assert all(real is shuffled.data[i] for i, real in zip(real_order, yielded[3:]))
        assert augmenter.stats()["epochs"] == epoch + 1
    augmenter.disable()
    assert len(wrapped) == len(list(wrapped)) == 3
    assert len(shuffled.orders) == 5  # one pass


def test_passes_yields_only_real_batches_during_warm_up() -> None:
    augmenter, _, _ = attached(small("released", mix="passes", warmup=1))
    shuffled = Shuffled(2)
    first = list(augmenter.wrap(shuffled))
    assert [each is shuffled.data[i] for i, each in zip(shuffled.orders[1], first)] == [True, True]
    assert augmenter.stats()["updates"] == 2
    assert len(list(augmenter.wrap(shuffled))) == 4


def test_passes_updates_with_every_nth_batch() -> None:
    augmenter, _, _ = attached(small("released", mix="passes", warmup=0, update_every=2))
    list(augmenter.wrap(Shuffled(5)))
    assert augmenter.stats()["updates"] == 2


def test_passes_needs_a_loader_that_can_be_iterated_again() -> None:
    augmenter, _, _ = attached(small("released", mix="passes"))
    with pytest.raises(
        AttachError, match="a list_iterator can be iterated only once, but mix='passes'"
    ):
        augmenter.wrap(iter([batch()]))


@pytest.mark.parametrize("mix", ["replace", "append"])
def test_other_mixes_keep_the_number_of_batches(mix: str) -> None:
    augmenter, _, _ = attached(small("random", mix=mix), norm=True)
    wrapped = augmenter.wrap(loader())
    assert len(wrapped) == len(list(wrapped)) == 2


# Rejected pairs


@pytest.mark.parametrize("mix", ["replace", "append", "alternate"])
def test_a_rejected_pair_leaves_the_real_row(mix: str) -> None:
    original = batch()
    result = augmented(original, mix=mix, ratio=1.0, depth=99.0)
    kept = result[:2] if mix != "append" else [field[1::2] for field in result[:2]]
    assert same(snapshot(*kept), snapshot(*original[:2]))


def test_only_pairs_in_frame_are_accepted() -> None:
    """About half of these people are too near or out of the frame."""
    original = batch(rows=64)
    limits = dict(distance=(1.0, 5.0), image_offset=0.9, depth=2.0, frame_height=0.8)
    augmenter, _, _ = attached(small("random", ratio=1.0, **limits))
    result = augmenter(original)
    changed = changed_rows(original[0], result[0])
    assert 4 <= len(changed) <= 48
    assert augmenter.stats()["accepted"] == len(changed) / 64
    pose_3d, pose_2d = result[0][changed], result[1][changed]
    assert (pose_3d[..., 2] >= 2.0).all()
    assert (pose_2d[..., 0].abs() <= 1).all()
    assert (pose_2d[..., 1].abs() <= 0.8).all()


@pytest.mark.parametrize("mix", ["replace", "append", "alternate"])
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_without_a_prior_nothing_is_augmented_during_warm_up(preset: str, mix: str) -> None:
    augmenter, _, optimizer = attached(small(preset, mix=mix, ratio=1.0, warmup=1))
    plain = list(loader())
    wrapped = augmenter.wrap(plain)
    yielded = []
    for each in wrapped:
        yielded.append(each)
        optimizer.step()
    assert [id(b) for b in yielded] == [id(b) for b in plain]
    assert augmenter.stats()["updates"] == 2  # the networks train during the warm-up
    assert augmenter.stats()["rows"] == 0
    list(wrapped)
    assert augmenter.stats()["rows"] == 16


def test_with_a_prior_augmentation_starts_at_once() -> None:
    augmenter, _, _ = attached(small(warmup=1))
    augmenter(batch())
    assert augmenter.stats()["rows"] == ROWS // 2


def test_append_repeats_the_fields_of_nested_mappings() -> None:
    x, y = batch()[1], batch()[0]
    original = dict(x=x, y=y, meta=dict(name=[f"S{i}" for i in range(ROWS)], fps=50))
    fields = dict(pose_2d="x", pose_3d="y", root="absolute")
    augmenter, _, _ = attached(small("random", mix="append"), fields)
    result = augmenter(original)
    assert len(result["x"]) == len(result["meta"]["name"]) == 2 * ROWS
    assert result["meta"]["name"][2:4] == ["S1", "S1"]
    assert (result["meta"]["fps"], len(original["meta"]["name"])) == (50, ROWS)


# Awkward shares: what is rounded off in a batch is made good in later ones


@pytest.mark.parametrize(("rows", "ratio"), [(7, 0.3), (5, 0.99), (3, 1 / 3), (16, 0.07)])
def test_after_every_batch_the_number_of_rows_is_that_of_the_ratio_rounded_down(
    rows: int, ratio: float
) -> None:
    augmenter, _, _ = attached(small("random", ratio=ratio))
    original = batch(rows=rows)
    for number in range(1, 12):
        augmenter(original)
        assert augmenter.stats()["rows"] == int(number * ratio * rows + 1e-6)


def test_a_ratio_of_one_replaces_every_row_of_every_batch() -> None:
    augmenter, _, _ = attached(small("random", ratio=1.0))
    for rows in (1, 7, 2, 30):
        before = augmenter.stats()["rows"]
        augmenter(batch(rows=rows))
        assert augmenter.stats()["rows"] - before == rows


@pytest.mark.filterwarnings("ignore:almost no augmented pair")  # these people touch each other
@pytest.mark.parametrize("ratio", [0.15, 0.37, 0.72, 1.0])
def test_scenes_of_different_sizes_are_whole_and_their_share_holds(ratio: float) -> None:
    """Scenes of 1 to 5 people: after each batch the share is off by half a scene at most."""
    fmt = dict(pose_3d=0, pose_2d=1, camera=3, groups=4, root="absolute")
    augmenter, _, _ = attached(small("random", ratio=ratio), fmt)
    sizes = [3, 1, 5, 2, 4]
    scene = torch.tensor([i for i, size in enumerate(sizes) for _ in range(size)])
    rows = len(scene)
    original = (*batch(rows=rows), scene)
    for number in range(1, 25):
        before = augmenter.stats()["rows"]
        changed = changed_rows(original[0], augmenter(original)[0])
        tried = augmenter.stats()["rows"] - before
        whole = {sum(picked) for k in range(6) for picked in itertools.combinations(sizes, k)}
        assert tried in whole
        taken = [int(scene[row]) for row in changed]
        assert all(taken.count(i) in (0, size) for i, size in enumerate(sizes))
        assert abs(augmenter.stats()["rows"] - number * ratio * rows) <= 2.5
