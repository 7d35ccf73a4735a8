"""Each mix: which rows become augmented, in which order, and that rejected pairs stay real."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
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
from poseaug_plugin import AttachError, PoseAugmenter, PoseAugWarning
from poseaug_plugin.geometry.bones import directions, kcs, pose_to_bones, unit
from poseaug_plugin.geometry.operators import axis_angle_to_matrix

ROWS = 8


def augmented(given: Any, **config: Any) -> Any:
    return attached(small("random", **config))[0](given)


# replace


@pytest.mark.parametrize("ratio", [0.125, 0.3, 0.5, 1.0])
def test_replace_changes_at_most_its_share_and_no_size(ratio: float) -> None:
    given = batch()
    augmenter, _, _ = attached(small("random", ratio=ratio))
    changed = [len(changed_rows(given[0], augmenter(given)[0])) for _ in range(4)]
    tried = int(4 * ratio * ROWS)
    assert max(changed) == math.ceil(ratio * ROWS)
    assert augmenter.stats()["rows"] == tried
    assert augmenter.stats()["augmented"] == sum(changed)
    assert augmenter.stats()["accepted"] == pytest.approx(sum(changed) / tried)


def test_replace_picks_other_rows_each_time() -> None:
    given = batch()
    augmenter, _, _ = attached(small("random", ratio=0.25))
    picked = {tuple(changed_rows(given[0], augmenter(given)[0])) for _ in range(6)}
    assert len(picked) > 2


@pytest.mark.parametrize(("rows", "ratio"), [(1, 0.5), (1, 0.9), (3, 0.5), (4, 0.1)])
def test_the_share_holds_over_small_batches(rows: int, ratio: float) -> None:
    augmenter, _, _ = attached(small("random", ratio=ratio))
    given = batch(rows=rows)
    made = [augmenter(given) for _ in range(20)]
    assert augmenter.stats()["rows"] == 20 * rows * ratio
    assert made[0] is given or ratio * rows >= 1


def test_the_share_goes_from_start_to_end_over_the_run() -> None:
    augmenter, _, _ = attached(small("random", ratio=(1.0, 0.25)), epochs=4)
    shares = []
    for _ in range(4):
        before = augmenter.stats()["rows"]
        augmenter(batch())
        shares.append((augmenter.stats()["rows"] - before) / ROWS)
        augmenter.end_epoch()
    assert shares == [0.75, 0.625, 0.375, 0.25]  # of 6.5, 5, 3.5 and 2 rows
    endless, _, _ = attached(small("random", ratio=(1.0, 0.25)))
    endless(batch())
    assert endless.stats()["rows"] == 2  # no length given: the end from the start


# What is learned from the poses


STILL = dict(yaw=0.0, tilt=(0.0, 0.0), roll=0.0)
STILL |= dict(bend=0.0, stretch=0.0, body_scale=0.0, swap_lengths=False)


def shape(pose_3d: torch.Tensor) -> torch.Tensor:
    """Distances between joints, which no view changes: (B, J, J)."""
    return torch.cdist(pose_3d, pose_3d)


def angles(pose_3d: torch.Tensor) -> torch.Tensor:
    """Cosines between bones, which no view and no body changes: (B, K, K)."""
    return kcs(unit(pose_to_bones(pose_3d, H36M)))


def odd_one_out(rows: int = 64) -> tuple[torch.Tensor, ...]:
    """The same pose in all rows but one, whose left arm is up."""
    pose_3d, _, action, camera = batch(rows=rows)
    pose_3d = pose_3d[:1].expand(rows, -1, -1).clone()
    pose_3d[5, 11:13] -= torch.tensor([0.2, 0.5, 0.0])
    return pose_3d, reprojected(pose_3d, camera), action, camera


def reprojected(pose_3d: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(reproject(pose_3d[:, None], camera))[:, 0].float()


@pytest.mark.parametrize(("balance", "least", "most"), [(0.0, 1, 1), (4.0, 8, 64)])
def test_rare_poses_come_more_often(balance: float, least: int, most: int) -> None:
    config = small("random", **STILL, ratio=1.0, rare_pose_power=balance)
    given = odd_one_out()
    made = attached(config)[0](given)
    odd = shape(given[0][5:6])
    like_it = (shape(made[0]) - odd).abs().amax((1, 2)) < 1e-3
    assert least <= int(like_it.sum()) <= most


def test_bends_go_where_bones_move() -> None:
    """Only the left arm moves in these data, from the shoulder on, so only it is bent."""
    rows = 64
    pose_3d, _, action, camera = batch(rows=rows)
    pose_3d = pose_3d[:1].expand(rows, -1, -1).clone()
    pose_3d[:, 11:13] += 0.15 * torch.randn(rows, 1, 3, generator=torch.Generator().manual_seed(0))
    given = (pose_3d, reprojected(pose_3d, camera), action, camera)
    made = attached(small("random", **STILL, ratio=1.0, bend_sigma=3.0))[0](given)
    rows_made = changed_rows(given[0], made[0])
    moved = (shape(made[0]) - shape(pose_3d))[rows_made].square().mean(0).sqrt()
    others = [j for j in range(16) if j not in (11, 12)]
    assert moved[11:13].mean() > 2 * moved[others][:, others].mean()


@pytest.mark.parametrize("upright", [True, False])
def test_views_are_about_the_vertical_of_the_people(upright: bool) -> None:
    """Filmed from above: turned about the camera's own axis instead, they lean in every view."""
    pose_3d, _, action, camera = batch(rows=64)
    down = axis_angle_to_matrix(torch.tensor([0.7, 0.0, 0.0]))
    root = pose_3d[:, :1]
    pose_3d = (pose_3d[:1] - root[:1]) @ down.T + root
    given = (pose_3d, reprojected(pose_3d, camera), action, camera)
    config = small("random", **{**STILL, "yaw": math.pi}, ratio=1.0, upright=upright)
    made = attached(config)[0](given)[0]
    before, after = (directions(pose, H36M)[1][..., 1] for pose in (pose_3d, made))
    rows_made = changed_rows(pose_3d, made)
    assert len(rows_made) > 32
    assert after[rows_made, 2].std() > 0.1 or upright  # heads nearer and further than feet
    stands = 1.0 if upright else float(-before[0, 1])
    assert torch.allclose(-after[rows_made, 1], torch.tensor(stands), atol=1e-4)
    assert -before[0, 1] < 0.95  # else nothing was shown


def test_limbs_come_from_other_rows() -> None:
    """No made row is one of the given, but each has the knees and elbows of some of them."""
    given = batch()
    made = attached(small("random", **STILL, ratio=1.0, limb_crossover=True))[0](given)
    rows_made = changed_rows(given[0], made[0])
    before, after = angles(given[0]), angles(made[0])[rows_made]
    assert ((after[:, None] - before).abs().amax((2, 3)) > 1e-3).all()  # (made, given)
    for upper, lower in ((1, 2), (4, 5), (10, 11), (13, 14)):  # bones
        found = (after[:, None, upper, lower] - before[:, upper, lower]).abs().amin(1)
        assert (found < 1e-5).all()


def test_without_bone_angles_every_row_keeps_its_pose() -> None:
    given = batch()
    made = attached(small("default", ba=False, bl=False, ratio=1.0, learned=False))[0](given)
    assert (shape(made[0]) - shape(given[0])).abs().max() < 1e-4


# append


def test_append_interleaves_each_row_with_its_twin() -> None:
    given = {
        "pose_3d": batch()[0],
        "pose_2d": batch()[1],
        "camera": batch()[3],
        "action": [f"action {i}" for i in range(ROWS)],
        "box": np.arange(4 * ROWS).reshape(ROWS, 4),
        "scale": torch.tensor(2.0),
        "subset": "S1",
    }
    fmt = dict(pose_3d="pose_3d", pose_2d="pose_2d", camera="camera", root="absolute")
    made = attached(small("random", mix="append"), fmt)[0](given)
    for name in ("pose_3d", "pose_2d", "camera"):
        assert made[name].shape == (2 * ROWS, *given[name].shape[1:])
        assert torch.equal(made[name][::2], given[name])
    twins = changed_rows(given["pose_3d"], made["pose_3d"][1::2])
    assert len(twins) >= ROWS - 2
    assert twins == changed_rows(given["pose_2d"], made["pose_2d"][1::2])
    assert made["action"] == [name for name in given["action"] for _ in "ab"]
    assert made["box"].tolist() == given["box"].repeat(2, 0).tolist()
    assert made["scale"] is given["scale"]
    assert made["subset"] is given["subset"]
    off = reproject(made["pose_3d"], made["camera"]) - made["pose_2d"].numpy()
    assert np.abs(off).max() < 1e-5


@pytest.mark.parametrize("ratio", [0.1, 1.0])
def test_append_gives_every_row_a_twin_whatever_the_ratio(ratio: float) -> None:
    assert len(augmented(batch(), mix="append", ratio=ratio)[0]) == 2 * ROWS


def test_twins_in_lists_of_rows_are_their_own_objects() -> None:
    """`for row in batch: row -= ...` must not reach a row twice."""
    given = list(batch())
    given[:2] = [list(given[0]), list(given[1])]
    made = augmented(given, mix="append", depth=99.0)
    for rows in made[:2]:
        assert len({row.data_ptr() for row in rows}) == 2 * ROWS


# alternate


def test_alternate_hands_on_the_real_batch_then_its_augmented_one() -> None:
    augmenter, _, _ = attached(small("random", mix="alternate"))
    plain = [batch(seed=i) for i in range(3)]
    seen = augmenter.wrap(plain)
    made = list(seen)
    assert len(seen) == len(made) == 6
    for real, twin, given in zip(made[::2], made[1::2], plain):
        assert real is given
        assert twin is not given
        assert len(changed_rows(given[0], twin[0])) >= ROWS - 2
    augmenter.disable()
    assert len(seen) == len(list(seen)) == 3
    augmenter.detach()
    assert len(seen) == 3


@pytest.mark.parametrize("norm", [True, False])
def test_alternate_warns_where_there_is_batchnorm(norm: bool) -> None:
    model, optimizer = trained(norm=norm)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small(mix="alternate"))
        list(augmenter.wrap(loader()))
    found = [w for w in caught if issubclass(w.category, PoseAugWarning)]
    assert len(found) == norm
    assert all("BatchNorm" in str(w.message) for w in found)
    assert all("mix='replace'" in str(w.message) for w in found)


# passes


class Shuffled:
    """Another order each time; tells which batches it gave."""

    def __init__(self, batches: int) -> None:
        self.data = [batch(seed=i) for i in range(batches)]
        self.orders: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Any]:
        self.orders.append(torch.randperm(len(self)).tolist())
        return iter([self.data[i] for i in self.orders[-1]])


def test_passes_hand_on_an_epochs_augmented_batches_and_then_its_real_ones() -> None:
    augmenter, model, optimizer = attached(small("released", mix="passes", warmup=0))
    given = Shuffled(3)
    seen = augmenter.wrap(given)
    for epoch in range(2):
        before = snapshot(model)
        batches = iter(seen)
        assert len(given.orders) == 2 * epoch  # starting is free
        made = [next(batches)]
        assert augmenter.stats()["updates"] == 3 * (epoch + 1)  # all with the estimator as it was
        assert same(snapshot(model), before)
        for each in batches:
            step(model, optimizer, made[-1])
            made.append(each)
        assert not same(snapshot(model), before)
        assert augmenter.stats()["updates"] == 3 * (epoch + 1)
        fakes, reals = given.orders[-2:]
        assert len(seen) == len(made) == 6
        for i, twin in zip(fakes, made[:3]):
            assert twin is not given.data[i]
        assert sum(len(changed_rows(given.data[i][0], m[0])) for i, m in zip(fakes, made)) > 0
        assert all(real is given.data[i] for i, real in zip(reals, made[3:]))
        assert augmenter.stats()["epochs"] == epoch + 1
    augmenter.disable()
    assert len(seen) == len(list(seen)) == 3
    assert len(given.orders) == 5  # once


def test_passes_take_turns_before_the_feedback_is_warm_and_hand_on_real_batches_alone() -> None:
    augmenter, _, _ = attached(small("released", mix="passes", warmup=1))
    given = Shuffled(2)
    first = list(augmenter.wrap(given))
    assert [each is given.data[i] for i, each in zip(given.orders[1], first)] == [True, True]
    assert augmenter.stats()["updates"] == 2
    assert len(list(augmenter.wrap(given))) == 4


def test_passes_take_every_so_manieth_batch() -> None:
    augmenter, _, _ = attached(small("released", mix="passes", warmup=0, update_every=2))
    list(augmenter.wrap(Shuffled(5)))
    assert augmenter.stats()["updates"] == 2


def test_passes_need_a_loader_that_starts_anew() -> None:
    augmenter, _, _ = attached(small("released", mix="passes"))
    with pytest.raises(
        AttachError, match="a list_iterator can be iterated only once, but mix='passes'"
    ):
        augmenter.wrap(iter([batch()]))


@pytest.mark.parametrize("mix", ["replace", "append"])
def test_other_mixes_keep_the_number_of_batches(mix: str) -> None:
    augmenter, _, _ = attached(small("random", mix=mix), norm=True)
    seen = augmenter.wrap(loader())
    assert len(seen) == len(list(seen)) == 2


# Rejected


@pytest.mark.parametrize("mix", ["replace", "append", "alternate"])
def test_a_rejected_pair_leaves_the_real_row(mix: str) -> None:
    given = batch()
    made = augmented(given, mix=mix, ratio=1.0, depth=99.0)
    real = made[:2] if mix != "append" else [field[1::2] for field in made[:2]]
    assert same(snapshot(*real), snapshot(*given[:2]))


def test_only_pairs_a_camera_could_have_taken_get_through() -> None:
    """Half of these people stand too near or out of the frame."""
    given = batch(rows=64)
    limits = dict(distance=(1.0, 5.0), image_offset=0.9, depth=2.0, frame_height=0.8)
    augmenter, _, _ = attached(small("random", ratio=1.0, **limits))
    made = augmenter(given)
    changed = changed_rows(given[0], made[0])
    assert 4 <= len(changed) <= 48
    assert augmenter.stats()["accepted"] == len(changed) / 64
    pose_3d, pose_2d = made[0][changed], made[1][changed]
    assert (pose_3d[..., 2] >= 2.0).all()
    assert (pose_2d[..., 0].abs() <= 1).all()
    assert (pose_2d[..., 1].abs() <= 0.8).all()


@pytest.mark.parametrize("mix", ["replace", "append", "alternate"])
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_without_a_prior_nothing_is_augmented_during_warm_up(preset: str, mix: str) -> None:
    augmenter, _, optimizer = attached(small(preset, mix=mix, warmup=1))
    plain = list(loader())
    seen = augmenter.wrap(plain)
    first = []
    for each in seen:
        first.append(each)
        optimizer.step()
    assert [id(b) for b in first] == [id(b) for b in plain]
    assert augmenter.stats()["updates"] == 2  # it learns meanwhile
    assert augmenter.stats()["rows"] == 0
    list(seen)
    assert augmenter.stats()["rows"] == 16


def test_with_a_prior_augmentation_starts_at_once() -> None:
    augmenter, _, _ = attached(small(warmup=1))
    augmenter(batch())
    assert augmenter.stats()["rows"] == ROWS // 2


def test_append_repeats_what_stands_in_mappings_inside() -> None:
    x, y = batch()[1], batch()[0]
    given = dict(x=x, y=y, meta=dict(name=[f"S{i}" for i in range(ROWS)], fps=50))
    fields = dict(pose_2d="x", pose_3d="y", root="absolute")
    augmenter, _, _ = attached(small("random", mix="append"), fields)
    made = augmenter(given)
    assert len(made["x"]) == len(made["meta"]["name"]) == 2 * ROWS
    assert made["meta"]["name"][2:4] == ["S1", "S1"]
    assert (made["meta"]["fps"], len(given["meta"]["name"])) == (50, ROWS)
