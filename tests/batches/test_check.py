"""`check` finds what is wrong with a batch, names the cure, and changes nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loop_helpers import (
    LEFT,
    RIGHT,
    Pairs,
    attached,
    batch,
    loader,
    people,
    reproject,
    same,
    small,
    snapshot,
    step,
    streams,
    train,
)
from poseaug_plugin import BatchError, BatchFormat, Camera, CheckReport, DataError, Skeleton
from poseaug_plugin.batches import check
from poseaug_plugin.batches.diagnostics import Diagnostics
from poseaug_plugin.batches.infer import infer_format, root_is_zero, root_kind
from poseaug_plugin.data import synthetic_hands
from poseaug_plugin.data.h36m import load_h36m

H36M = Skeleton.of("h36m_16")
SHARED = Path(__file__).parents[3] / "shared" / "data"


def reports(batches: Any, fmt: Any = "poseaug", **kwargs: Any) -> list[CheckReport]:
    return attached(batch=fmt, **kwargs)[0].check(batches)


def wrong(what: str, order: str = "poseaug") -> tuple[Any, ...]:
    """A batch with one error."""
    given = list(batch(order, rows=16))
    if what == "millimetres":
        given[0] = given[0] * 1000
    elif what == "centimetres":
        given[0] = given[0] * 100
    elif what == "flipped y":
        given[1] = given[1] * torch.tensor([1.0, -1.0])
    elif what == "swapped sides":
        order_2d = list(range(16))
        for left, right in zip(LEFT, RIGHT):
            order_2d[left], order_2d[right] = right, left
        given[1] = given[1][:, order_2d]
    elif what == "world frame":  # z up, y away
        x, y, z = (given[0] - given[0][:, :1]).unbind(-1)
        given[0] = torch.stack([x, z, -y], -1) + given[0][:, :1]
    elif what == "pixels":
        given[1] = (given[1] + 1) * 500
    elif what == "joint order":
        given[0], given[1] = given[0].flip(1), given[1].flip(1)
        if order == "semgcn":
            given[0] = given[0] - given[0][:, :1]
    return tuple(given)


WRONGS = {
    "millimetres": r"longest bone is 4\d\d(\.\d+)? m.*unit=1\).*looks like unit=0.001",
    "centimetres": r"looks like unit=0.01",
    "flipped y": r"does not project onto its 2D \(residual .*y flipped",
    "swapped sides": r"does not project onto its 2D .*left and right swapped",
    "world frame": r"does not project onto its 2D .*world frame",
    "pixels": r"the 2D is in pixels \(coordinates are about \d+; .*pass screen=\(w, h\)",
    "joint order": r"order.*skeleton=",
}


@pytest.mark.parametrize("order", ["poseaug", "semgcn"])
def test_right_data_has_no_problems(order: str) -> None:
    found = reports(loader(order, rows=24), order)
    assert len(found) == 3
    for report in found:
        assert report.ok
        assert report.problems == ()
        assert (report.rows, report.frames, report.joints) == (8, 1, 16)
        assert 0.4 < report.longest_bone < 0.5
        assert report.asymmetry < 0.01
        assert report.residual < (1e-4 if order == "poseaug" else 0.01)
        report.raise_if_bad()
        words = str(report)
        assert "(8, 16, 3)" in words
        assert "no problem found" in words


@pytest.mark.parametrize("order", ["poseaug", "semgcn"])
@pytest.mark.parametrize("what", WRONGS)
def test_each_error_is_reported_with_its_cure(what: str, order: str) -> None:
    (report,) = reports([wrong(what, order)], order)
    assert not report.ok
    with pytest.raises(DataError, match=WRONGS[what]):
        report.raise_if_bad()
    assert all(f"PROBLEM    {p}" in str(report) for p in report.problems)
    assert "no problem" not in str(report)


def test_no_cure_proposes_the_present_unit() -> None:
    (report,) = reports([wrong("joint order")])
    assert not any("(unit=1); it looks like unit=1" in problem for problem in report.problems)


def test_asymmetric_bodies_are_reported() -> None:
    who = people(8)
    short = who.pose_3d.copy()
    for joint, parent in enumerate(H36M.parents):
        bone = who.pose_3d[:, :, joint] - who.pose_3d[:, :, parent]
        if joint:
            short[:, :, joint] = short[:, :, parent] + bone * (0.6 if joint in LEFT else 1.0)
    given = (short[:, 0], reproject(short, who.camera)[:, 0], None, who.camera)
    (report,) = reports([given])
    assert report.asymmetry == pytest.approx(0.5, abs=0.01)
    (problem,) = report.problems
    assert "left and right bones differ by 50%" in problem
    assert "skeleton=" in problem


def test_the_proposed_unit_cures() -> None:
    fmt = dict(pose_2d=1, pose_3d=0, camera=3, root="absolute", unit=0.001)
    (report,) = reports([wrong("millimetres")], fmt)
    assert report.ok
    assert 0.4 < report.longest_bone < 0.5


def test_clips_are_measured_over_all_frames() -> None:
    who = people(6, frames=5)
    given = {"pose_3d": who.pose_3d, "pose_2d": who.pose_2d, "camera": who.camera}
    fields = dict(pose_3d="pose_3d", pose_2d="pose_2d", camera="camera", root="absolute")
    (report,) = reports([given], fields)
    assert (report.rows, report.frames, report.ok) == (6, 5, True)
    given["pose_2d"] = -who.pose_2d
    (report,) = reports([given], dict(pose_3d="pose_3d", pose_2d="pose_2d", camera="camera"))
    assert not report.ok


def test_detected_2d_has_no_problems() -> None:
    """Five pixels of noise in a thousand."""
    given = list(batch(rows=64))
    noise = torch.randn(given[1].shape, generator=torch.Generator().manual_seed(0))
    given[1] = given[1] + 0.01 * noise
    (report,) = reports([given])
    assert report.ok
    assert 0.005 < report.residual < 0.03


def test_a_skeleton_without_sides_has_no_asymmetry() -> None:
    joints = Skeleton((-1, 0, 1, 2))
    pose_3d = np.cumsum(np.full((4, 4, 3), 0.1, np.float32), 1) + np.float32([0, 0, 4])
    pose_2d = pose_3d[..., :2] / pose_3d[..., 2:] * 2.29
    fmt = dict(pose_3d=0, pose_2d=1, root="absolute")
    (report,) = reports([(pose_3d, pose_2d)], fmt, skeleton=joints)
    assert (report.ok, report.asymmetry, report.joints) == (True, 0.0, 4)


# What check leaves unchanged


def test_check_prints_nothing_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    augmenter, model, optimizer = attached(small(), norm=True)
    batches, bad = [batch(seed=i) for i in range(4)], wrong("flipped y")

    def state() -> list[Any]:
        return [snapshot(model, optimizer, batches, augmenter), streams(), augmenter.stats()]

    before = state()
    assert len(augmenter.check(batches, batches=2)) == 2
    assert len(augmenter.check([bad])) == 1
    assert same(state(), before)
    assert len(batches) == 4
    assert capsys.readouterr() == ("", "")
    optimizer.step()
    assert augmenter.stats().get("updates", 0) == 0


def test_check_does_not_disturb_the_order_of_a_shuffling_loader() -> None:
    augmenter, _, _ = attached()
    before = streams()
    augmenter.check(loader(shuffle=True))
    assert same(streams(), before)


def test_check_of_a_wrapped_loader_reads_the_real_batches() -> None:
    augmenter, model, optimizer = attached(small(ratio=1.0))
    wrapped = augmenter.wrap([batch()])
    assert augmenter.check(wrapped)[0].residual < 1e-4
    assert augmenter.stats()["batches"] == 0
    train(model, optimizer, wrapped)
    assert augmenter.check(wrapped)[0].residual < 1e-4
    assert (augmenter.stats()["batches"], augmenter.stats()["epochs"]) == (1, 1)


def test_batches_that_a_check_uses_up_are_told() -> None:
    augmenter, *_ = attached(small("random"))
    (told,) = augmenter.check(iter([batch(), batch()]), 1)
    assert "its batches that were checked are used up" in str(told)
    (not_told,) = augmenter.check([batch(), batch()], 1)
    assert "used up" not in str(not_told)


def test_check_reads_a_generator_of_epochs() -> None:
    class Chunks:
        def next_epoch(self) -> Iterator[Any]:
            return iter([batch(), batch(seed=1)])

    assert [r.ok for r in reports(Chunks())] == [True, True]


@pytest.mark.parametrize("loader", [[], 3], ids=["empty", "no loader"])
def test_a_loader_that_yields_nothing_is_an_error(loader: Any) -> None:
    with pytest.raises(BatchError, match=r"no batch|cannot be iterated"):
        reports(loader)


def test_check_then_train_works_without_a_format() -> None:
    augmenter, model, optimizer = attached(batch=None)
    assert augmenter.check(loader())[0].ok
    for each in augmenter.wrap(loader()):
        step(model, optimizer, each)
    assert augmenter.stats()["updates"] == 2


# Inferring the format from shapes


@pytest.mark.parametrize(
    ("given", "fmt"),
    [
        (batch("semgcn"), BatchFormat(pose_2d=1, pose_3d=0, root="relative")),
        (batch("poseaug"), BatchFormat(pose_2d=1, pose_3d=0, camera=3, root="absolute")),
    ],
    ids=["semgcn", "poseaug"],
)
def test_known_orders_are_inferred(given: Any, fmt: BatchFormat) -> None:
    assert infer_format(given, None) == (fmt, H36M)
    assert infer_format(list(given), H36M) == (fmt, H36M)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("root", ["absolute", "relative", "slot"])
def test_the_kind_of_root_is_inferred(root: str, frames: int) -> None:
    who = people(6, frames)
    pose_3d = who.relative if root == "relative" else who.pose_3d.copy()
    if root == "slot":
        pose_3d[:, :, 1:] = who.relative[:, :, 1:]
    given = {"id": np.arange(6), "x": who.pose_2d, "cam": who.camera, "y": pose_3d, "name": "S1"}
    if frames == 1:
        given["x"], given["y"] = given["x"][:, 0], given["y"][:, 0]
    given["place"] = who.pose_3d[:, :, :1]  # no pose: no skeleton has a single joint
    fmt, skeleton = infer_format(given, None)
    assert fmt == BatchFormat(pose_2d="x", pose_3d="y", camera="cam", root=root)
    assert skeleton == H36M


def test_a_batch_whose_format_is_inferred_trains() -> None:
    augmenter, model, optimizer = attached(batch=None)
    train(model, optimizer, augmenter.wrap(loader()))
    assert augmenter.stats()["updates"] == 2
    assert augmenter.stats()["augmented"] > 0


@pytest.mark.parametrize(
    ("low", "high"),
    [(1.2, 1.8), (0.0, 0.1), (-0.05, 0.6)],
    ids=["1.5 m away", "flat", "relative"],
)
def test_2d_with_a_confidence_is_told_from_3d_by_its_third_channel(low: float, high: float) -> None:
    """Confidences are 0 to 1, and most of them are far from 0; these depths are not."""
    pose_3d, pose_2d, *_ = batch(rows=8)
    depth = torch.linspace(low, high, 8 * 16).view(8, 16, 1)
    seen = torch.cat([pose_2d, torch.full((8, 16, 1), 0.9)], -1)
    flat = torch.cat([pose_3d[..., :2], depth], -1)
    for given, places in (((seen, flat), (0, 1)), ((flat, seen), (1, 0))):
        fmt, _ = infer_format(given, H36M)
        assert (fmt.pose_2d, fmt.pose_3d) == places


def test_a_root_that_is_not_at_zero_in_one_row_is_not_at_zero() -> None:
    pose_3d = torch.zeros(100, 1, 16, 3)
    pose_3d[40, 0, H36M.root, 1] = 0.0009
    assert root_is_zero(pose_3d, H36M)
    pose_3d[40, 0, H36M.root, 1] = -0.005
    assert not root_is_zero(pose_3d, H36M)


def test_people_very_close_to_the_camera_still_have_an_absolute_root() -> None:
    """Their root is 0.6 m away, hardly more than a thigh."""
    who = people(6)
    near = who.pose_3d - who.pose_3d[:, :, :1] + np.float32([0, 0, 0.6])
    assert root_kind(torch.from_numpy(near), H36M) == "absolute"
    slot = who.relative.copy()
    slot[:, :, 0] = [0, 0, 0.6]
    assert root_kind(torch.from_numpy(slot), H36M) == "slot"


two, three = torch.zeros(8, 16, 2), torch.zeros(8, 16, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((two, two, three), r"\[0, 1\] for 2D, \[2\] for 3D"),
        ((two, three, three), r"\[1, 2\] for 3D"),
        ((three,), r"\[\] for 2D"),
        ((two, three, torch.ones(8, 9), torch.ones(8, 9)), r"\[2, 3\] for the camera"),
        (
            (two.flatten(1), three.flatten(1)),
            r"\(8, 32\).*\(8, 48\).*only flat fields.*martinez\(stat_2d=",
        ),
        ({"x": two, "z": two, "y": three}, r"\['x', 'z'\] for 2D"),
        ((torch.zeros(8, 99, 2), torch.zeros(8, 99, 3)), r"\(8, 99, 2\).*\[\] for 2D"),
        (("text", 3), r"'?0'?: str"),
    ],
)
def test_an_ambiguous_batch_is_an_error_that_lists_its_fields(given: Any, words: str) -> None:
    with pytest.raises(BatchError, match=words) as error:
        infer_format(given, None)
    assert "cannot tell which field is what" in str(error.value)
    assert "batch=dict(pose_2d=" in str(error.value)


def test_fields_to_choose_from_are_shown_as_the_format_to_pass() -> None:
    """Training scripts such as GraphMLP's yield detected and exact 2D side by side."""
    who = people(8, 4)
    slot = np.concatenate([who.pose_3d[:, :, :1], who.relative[:, :, 1:]], 2)
    given = (who.camera, slot, who.pose_2d + 0.01, who.pose_2d, "Posing")
    shown = "batch=dict(pose_2d=2, pose_3d=1, camera=0, root='slot')."
    with pytest.raises(BatchError, match=re.escape(shown)):
        infer_format(given, None)


def test_cameras_of_zeros_are_no_cameras() -> None:
    """Loaders of MPI-INF-3DHP yield them, because None cannot be collated."""
    pose_3d, pose_2d, action, camera = batch("poseaug")
    given = (pose_3d, pose_2d, action, torch.zeros_like(camera))
    assert infer_format(given, None)[0] == BatchFormat(pose_2d=1, pose_3d=0, root="absolute")
    augmenter, *_ = attached(batch="poseaug")
    (report,) = augmenter.check([given])
    (problem,) = report.problems
    assert "batch=dict(pose_2d=1, pose_3d=0, root='absolute'), and camera=" in problem
    with pytest.raises(DataError, match="the cameras are zeros"):
        augmenter(given)


def test_pairs_helper_orders() -> None:
    """The two orders of the helper differ in the number of fields and in the root."""
    who = people(2)
    semgcn, poseaug = (Pairs(who, order)[0] for order in ("semgcn", "poseaug"))
    assert (len(semgcn), len(poseaug)) == (3, 4)
    assert semgcn[0][0].abs().max() == 0
    assert poseaug[0][0, 2] > 3.9


def test_check_does_not_disturb_a_loaders_own_generator() -> None:
    own = torch.Generator().manual_seed(3)
    rows = torch.utils.data.DataLoader(Pairs(people(8)), 4, shuffle=True, generator=own)
    before = own.get_state()
    assert attached()[0].check(rows)[0].ok
    assert torch.equal(own.get_state(), before)


# Errors that a fitted root hides


def odd(what: str, rows: int = 32) -> tuple[Any, ...]:
    """A batch with one error, whose 3D still projects onto its 2D from some root position."""
    pose_3d, pose_2d, *rest = batch(rows=rows)
    if what == "z towards the camera":
        pose_3d = (pose_3d - pose_3d[:, :1]) * torch.tensor([1, 1, -1])
    elif what == "both divided by their own side":
        pose_2d = pose_2d * torch.tensor([1, 16 / 9])
    elif what == "about the root":
        pose_2d = pose_2d - pose_2d[:, :1]
    elif what == "in boxes":
        low, high = pose_2d.amin(1, keepdim=True), pose_2d.amax(1, keepdim=True)
        pose_2d = (pose_2d - (low + high) / 2) / (high - low).amax(-1, keepdim=True)
    elif what == "rays":
        pose_2d = pose_2d / 2.29
    elif what == "from 0 to 1":
        pose_2d = (pose_2d + 1) / 2
    return (pose_3d, pose_2d, *rest)


ODD = {
    "z towards the camera": "z points towards the camera.*negate z",
    "both divided by their own side": r"y is scaled by 1\.\d\d relative to its x",
    "about the root": "2D is centred on the same point",
    "in boxes": "2D is centred on the same point|does not project",
}


@pytest.mark.parametrize("what", ODD)
def test_errors_that_a_fitted_root_hides_are_found_in_the_2d(what: str) -> None:
    pose_3d, pose_2d, *_ = odd(what)
    (report,) = reports([(pose_3d - pose_3d[:, :1], pose_2d, None)], "semgcn")
    with pytest.raises(DataError, match=ODD[what]):
        report.raise_if_bad()


@pytest.mark.parametrize("what", ["rays", "from 0 to 1", "about the root", "in boxes"])
def test_the_2d_must_fit_the_root_position_of_the_batch(what: str) -> None:
    (report,) = reports([odd(what)])
    assert not report.ok
    if what in ("rays", "from 0 to 1"):
        assert "from its own root position" in report.problems[0]


def test_unusual_data_is_a_doubt_and_raises_nothing() -> None:
    pose_3d, pose_2d, *_ = batch(rows=32)
    relative = pose_3d - pose_3d[:, :1]
    for given, words in (
        (pose_2d / 2.29, r"people are 1\d\.\d m from the camera"),
        ((pose_2d + 1) / 2, "no 2D coordinate is negative"),
        (pose_2d + 0.025 * torch.randn(pose_2d.shape), r"residual is 0\.0\d"),
    ):
        (report,) = reports([(relative, given, None)], "semgcn")
        report.raise_if_bad()
        assert any(re.search(words, doubt) for doubt in report.doubts)
        assert "DOUBT" in str(report)
    lopsided = relative.clone()
    lopsided[:, 12] += 0.15 * (lopsided[:, 12] - lopsided[:, 11])
    lopsided[:, 6] += 0.15 * (lopsided[:, 6] - lopsided[:, 5])
    lopsided[:, 3] -= 0.1 * (lopsided[:, 3] - lopsided[:, 2])
    lopsided[:, 15] -= 0.1 * (lopsided[:, 15] - lopsided[:, 14])
    (report,) = reports([(lopsided, pose_2d, None)], "semgcn")
    assert report.ok
    (right,) = reports([(relative, pose_2d, None)], "semgcn")
    assert right.doubts == ()
    assert 4 < right.distance < 5.5


HANDS = synthetic_hands.make()[0][:256]
OF_HANDS = dict(pose_3d=0, pose_2d=1, camera=2, root="absolute")


def of_hands(scale: float = 1.0, config: object = None) -> CheckReport:
    """What check says of hands, `scale` times as large and as far away."""
    augmenter, _, _ = attached(config or "default", OF_HANDS, skeleton="hand_21")
    given = (scale * HANDS.pose_3d, HANDS.pose_2d, HANDS.camera)
    (report,) = augmenter.check([given])
    return report


def test_hands_are_not_doubted_and_the_report_tells_the_ranges_that_suit_them() -> None:
    report = of_hands()
    assert (report.problems, report.doubts) == ((), ())
    assert 0.2 < report.ranges["distance_low"] < 0.4 < report.ranges["distance_high"] < 0.9
    assert re.search(r"augmented people: 0\.\d+ to 0\.\d+ m away, focal length x 0\.5", str(report))


def test_the_unit_of_hands_is_guessed_from_a_hand() -> None:
    for scale, unit in ((1000, "0.001"), (100, "0.01")):
        assert f"it looks like unit={unit}" in " ".join(of_hands(scale).problems)


def test_ranges_before_training_are_those_after_the_batch_also_if_it_was_read() -> None:
    given = (HANDS.pose_3d, HANDS.pose_2d, HANDS.camera)
    augmenter, _, _ = attached("default", OF_HANDS, skeleton="hand_21")
    augmenter.read(given)
    (report,) = augmenter.check([given])
    assert report.ranges == of_hands().ranges


def test_a_distance_far_from_the_people_is_doubted() -> None:
    """At the distance of people in a room, a hand is a dot."""
    report = of_hands(config=dict(distance=(2.5, 6.5)))
    assert report.ok
    (doubt,) = report.doubts
    assert re.search(r"distance=\(2.5, 6.5\) .* Without distance=.* 0\.\d+ to 0\.\d+ m", doubt)
    assert report.ranges["distance_low"] == 2.5
    assert of_hands(config=dict(distance=(0.4, 1.0))).doubts == ()


def test_the_bones_of_an_animal_may_be_longer_than_a_thigh() -> None:
    """But the unit is doubted. Preset skeletons are those of people and hands."""
    pose_3d, pose_2d, _, camera = batch(rows=32)
    giant = (4 * pose_3d, pose_2d, camera)
    h36m = Skeleton.of("h36m_16")
    other = Skeleton((*h36m.parents, 9), h36m.left, h36m.right)
    tail = torch.tensor([0.0, -0.2, 0.1])
    animal = torch.cat([giant[0], giant[0][:, 9:10] + 4 * tail], 1)
    seen = torch.as_tensor(reproject(animal, camera)).float()
    fmt = dict(pose_3d=0, pose_2d=1, camera=2, root="absolute")
    augmenter, _, _ = attached("default", batch=fmt, skeleton=other)
    (report,) = augmenter.check([(animal, seen, camera)])
    assert report.ok
    assert any("unit= in batch=" in doubt for doubt in report.doubts)
    augmenter, _, _ = attached("default", batch=fmt, skeleton=h36m)
    (report,) = augmenter.check([giant])
    assert not report.ok


def test_the_skeleton_that_fits_is_named() -> None:
    """3DHP has as many joints as Human3.6M, in another order."""
    h36m, there = Skeleton.of("h36m_17"), Skeleton.of("mpi_inf_3dhp_17")
    names = {"thorax": "neck", "nose": "head", "head": "head_top"}
    place = {names.get(name, name): i for i, name in enumerate(h36m.names or ())}
    order = [place[name] for name in there.names or ()]
    pose_3d = batch(rows=32)[0]
    nose = (pose_3d[:, 8:9] + pose_3d[:, 9:10]) / 2
    whole = torch.cat([pose_3d[:, :9], nose, pose_3d[:, 9:]], 1)
    seen = torch.as_tensor(reproject(whole, batch(rows=32)[3])).float()
    given = (whole - whole[:, :1])[:, order], seen[:, order], None
    (report,) = reports([given], "semgcn")
    told = "the joints are in the order of mpi_inf_3dhp_17: pass skeleton='mpi_inf_3dhp_17'"
    assert report.problems[0] == told
    (report,) = reports([given], dict(pose_3d=0, pose_2d=1, root="slot"))
    assert report.problems[0] == f"{told} and root='relative' in batch="
    (report,) = reports([given], "semgcn", skeleton="mpi_inf_3dhp_17")
    assert report.ok


@pytest.mark.skipif(not SHARED.exists(), reason="the shared motion is not there")
@pytest.mark.parametrize("kind", ["gt", "det"])
@pytest.mark.parametrize("root", ["absolute", "relative"])
def test_real_motion_raises_nothing(kind: str, root: str) -> None:
    pairs = load_h36m(SHARED, ["S9"], kind)
    fields = dict(pose_3d=0, pose_2d=1, root=root) | (dict(camera=2) if root == "absolute" else {})
    pose_3d = pairs.pose_3d if root == "absolute" else pairs.root_relative
    for start in range(0, len(pairs) - 16, len(pairs) // 60):
        rows = slice(start, start + 16)  # neighbouring frames: one person, hardly moving
        (report,) = reports([(pose_3d[rows], pairs.pose_2d[rows], pairs.camera[rows])], fields)
        assert report.ok, report


@pytest.mark.parametrize("order", ["poseaug", "semgcn"])
def test_a_single_row_is_measured_without_a_warning(order: str) -> None:
    (report,) = reports([batch(order, rows=1)], order)
    assert report.ok


# Both sides of every limit


def measured(**changes: Any) -> Diagnostics:
    """Right data, but for the changes."""
    who = people(32)
    given = torch.from_numpy(who.pose_3d[:, 0]), torch.from_numpy(who.pose_2d[:, 0])
    camera = torch.from_numpy(who.camera)
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute")
    found = Diagnostics.of(fmt.read((*given, camera), H36M, Camera()), H36M)
    others = {"residual_behind": 1.0, "residual_scaled": 1.0}  # no other explanation fits
    return dataclasses.replace(found, **{**others, **changes})


#: A measure, the last value without a finding, the first one with it, and the finding.
LIMITS = [
    ("longest_bone", 0.031, 0.029, "longest bone"),
    ("longest_bone", 0.79, 0.81, "longest bone"),
    ("residual", 0.0499, 0.0501, "does not project"),
    ("asymmetry", 0.299, 0.301, "left and right bones differ"),
    ("residual_placed", 0.0499, 0.0501, "from its own root position"),
]
DOUBTS = [
    ("residual", 0.0249, 0.0251, "residual is"),
    ("asymmetry", 0.0499, 0.0501, "left and right bones differ"),
    ("longest_bone", 0.151, 0.149, "adult"),
    ("distance", 4.01 * 0.45, 3.99 * 0.45, "from the camera"),
    ("distance", 21.9 * 0.45, 22.1 * 0.45, "from the camera"),
]
KINDS = [
    ("size_2d", 9.9, 10.1, "pixels"),
    ("focal", 29.9, 30.1, "pixels"),
    ("length_spread", 0.0099, 0.0101, "different people"),
    ("root_step", 0.279, 0.281, "different people"),
]


@pytest.mark.parametrize(("name", "right", "wrong", "finding"), LIMITS)
def test_problems_begin_at_their_limits(
    name: str, right: float, wrong: float, finding: str
) -> None:
    def findings(value: float) -> str:
        return " ".join(check._problems(measured(**{name: value}), 1.0, H36M))

    assert finding not in findings(right)
    assert finding in findings(wrong)


@pytest.mark.parametrize(("name", "right", "wrong", "finding"), DOUBTS)
def test_doubts_begin_at_their_limits(name: str, right: float, wrong: float, finding: str) -> None:
    def findings(value: float) -> str:
        changes = {"longest_bone": 0.45, "distance": 4.5, name: value}
        if name == "longest_bone":
            changes["distance"] = 10 * value
        return " ".join(check._doubts(measured(**changes), H36M))

    assert not findings(right)
    assert finding in findings(wrong)


@pytest.mark.parametrize(("name", "right", "wrong", "finding"), KINDS)
def test_wrong_kinds_begin_at_their_limits(
    name: str, right: float, wrong: float, finding: str
) -> None:
    apart = {"length_spread": 0.02, "root_step": 0.4, "longest_bone": 0.4}
    others = apart if finding == "different people" else {}
    fmt = BatchFormat(pose_3d=0, pose_2d=1)
    assert not check._wrong_kind(measured(**{**others, name: right}), fmt)
    assert finding in check._wrong_kind(measured(**{**others, name: wrong}), fmt)[0]


@pytest.mark.parametrize(("depth", "right"), [(0.51, 1), (0.49, 0), (249.0, 1), (251.0, 0)])
def test_depth_is_judged_in_longest_bones(depth: float, right: int) -> None:
    for longest_bone in (0.1, 0.45):
        assert bool(check._wrong_depth(depth * longest_bone, longest_bone)) is not bool(right)


@pytest.mark.parametrize(("behind", "told"), [(0.019, True), (0.021, False)])
def test_a_flipped_z_is_told_if_it_halves_the_residual(behind: float, told: bool) -> None:
    found = measured(residual=0.04, residual_behind=behind)
    assert ("towards the camera" in " ".join(check._problems(found, 1.0, H36M))) is told


@pytest.mark.parametrize(
    ("image_space", "residual", "told"),
    [(0.0099, 0.03, True), (0.0101, 0.03, False), (0.004, 0.003, False), (0.003, 0.004, True)],
)
def test_image_space_is_told_if_it_fits_better_than_metres(
    image_space: float, residual: float, told: bool
) -> None:
    found = measured(image_space=image_space, residual=residual)
    assert bool(check._wrong_kind(found, BatchFormat(pose_3d=0, pose_2d=1))) is told
    in_it = BatchFormat(pose_3d=0, pose_2d=1, space="image")
    assert not check._wrong_kind(found, in_it)
    assert not check._wrong_kind(found, None)


def test_fields_that_the_format_names_are_not_told_as_stale() -> None:
    """Nor names of rows; other numbers of each row are."""
    pose_3d, pose_2d, action, camera = batch(rows=16)
    numbers = torch.arange(16.0) // 2
    given = dict(y=pose_3d, x=pose_2d, camera=camera, image=numbers, action=action, one=numbers[:1])
    fmt = dict(pose_3d="y", pose_2d="x", camera="camera", groups="image", root="absolute")
    assert reports([given], fmt)[0].doubts == ()
    (doubt,) = reports([given | dict(box=torch.rand(16, 4), speed=numbers)], fmt)[0].doubts
    assert "the fields ['box', 'speed'] hold numbers for each row" in doubt


def test_fields_of_images_are_told_and_padding_is_not_counted() -> None:
    pose_3d, pose_2d, _, camera = batch(rows=32)
    scenes = [x.unflatten(0, (16, 2)).clone() for x in (pose_3d, pose_2d)]
    scenes[0][3:, 1], scenes[1][3:, 1] = 0, 0  # most images show one person
    given = dict(y=scenes[0], x=scenes[1], camera=camera[::2], box=torch.rand(16, 4))
    fmt = dict(pose_3d="y", pose_2d="x", camera="camera", scenes=True, root="absolute")
    (report,) = reports([given], fmt)
    assert (report.rows, report.problems) == (19, ())
    assert any("the fields ['box'] hold numbers" in doubt for doubt in report.doubts)


def test_a_wrong_root_is_not_taken_for_another_order_of_the_joints() -> None:
    (report,) = reports([batch(rows=16)], dict(pose_3d=0, pose_2d=1, camera=3, root="slot"))
    assert "pass root='absolute'" in report.problems[0]
    assert "in the order of" not in str(report)
