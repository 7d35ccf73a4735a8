"""Is a batch what its format says? What is found, what it means, and what stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
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
from poseaug_plugin import BatchError, BatchFormat, CheckReport, DataError, Skeleton
from poseaug_plugin.check import recognise

H36M = Skeleton.of("h36m_16")


def reports(batches: Any, fmt: Any = "poseaug", **kwargs: Any) -> list[CheckReport]:
    return attached(batch=fmt, **kwargs)[0].check(batches)


def wrong(what: str, order: str = "poseaug") -> tuple[Any, ...]:
    """A batch with one thing wrong."""
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
    "pixels": r"does not project onto its 2D .*pixels instead of screen units",
    "joint order": r"order.*skeleton=",
}


@pytest.mark.parametrize("order", ["poseaug", "semgcn"])
def test_right_data_is_found_right(order: str) -> None:
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
def test_each_wrong_is_reported_with_its_cure(what: str, order: str) -> None:
    (report,) = reports([wrong(what, order)], order)
    assert not report.ok
    with pytest.raises(DataError, match=WRONGS[what]):
        report.raise_if_bad()
    assert all(f"PROBLEM    {p}" in str(report) for p in report.problems)
    assert "no problem" not in str(report)


def test_no_cure_proposes_what_is_already_so() -> None:
    (report,) = reports([wrong("joint order")])
    assert not any("(unit=1); it looks like unit=1" in problem for problem in report.problems)


def test_lopsided_bodies_are_reported() -> None:
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


def test_detected_2d_is_no_problem() -> None:
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


# What check leaves alone


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
    assert augmenter.stats().get("turns", 0) == 0


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


def test_check_reads_a_generator_of_epochs() -> None:
    class Chunks:
        def next_epoch(self) -> Iterator[Any]:
            return iter([batch(), batch(seed=1)])

    assert [r.ok for r in reports(Chunks())] == [True, True]


@pytest.mark.parametrize("loader", [[], 3], ids=["empty", "no loader"])
def test_a_loader_that_gives_nothing_is_an_error(loader: Any) -> None:
    with pytest.raises(BatchError, match=r"no batch|cannot be iterated"):
        reports(loader)


def test_check_then_train_works_without_a_format() -> None:
    augmenter, model, optimizer = attached(batch=None)
    assert augmenter.check(loader())[0].ok
    for each in augmenter.wrap(loader()):
        step(model, optimizer, each)
    assert augmenter.stats()["turns"] == 2


# By shape


@pytest.mark.parametrize(
    ("given", "fmt"),
    [
        (batch("semgcn"), BatchFormat(pose_2d=1, pose_3d=0, root="relative")),
        (batch("poseaug"), BatchFormat(pose_2d=1, pose_3d=0, camera=3, root="absolute")),
    ],
    ids=["semgcn", "poseaug"],
)
def test_known_orders_are_recognised(given: Any, fmt: BatchFormat) -> None:
    assert recognise(given, None) == (fmt, H36M)
    assert recognise(list(given), H36M) == (fmt, H36M)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("root", ["absolute", "relative", "slot"])
def test_the_kind_of_root_is_recognised(root: str, frames: int) -> None:
    who = people(6, frames)
    pose_3d = who.relative if root == "relative" else who.pose_3d.copy()
    if root == "slot":
        pose_3d[:, :, 1:] = who.relative[:, :, 1:]
    given = {"id": np.arange(6), "x": who.pose_2d, "cam": who.camera, "y": pose_3d, "name": "S1"}
    if frames == 1:
        given["x"], given["y"] = given["x"][:, 0], given["y"][:, 0]
    fmt, skeleton = recognise(given, None)
    assert fmt == BatchFormat(pose_2d="x", pose_3d="y", camera="cam", root=root)
    assert skeleton == H36M


def test_a_batch_recognised_by_shape_trains() -> None:
    augmenter, model, optimizer = attached(batch=None)
    train(model, optimizer, augmenter.wrap(loader()))
    assert augmenter.stats()["turns"] == 2
    assert augmenter.stats()["augmented"] > 0


two, three = torch.zeros(8, 16, 2), torch.zeros(8, 16, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((two, two, three), r"\[0, 1\] as 2D, \[2\] as 3D"),
        ((two, three, three), r"\[1, 2\] as 3D"),
        ((three,), r"\[\] as 2D"),
        ((two, three, torch.zeros(8, 9), torch.zeros(8, 9)), r"\[2, 3\] as camera"),
        ((two.flatten(1), three.flatten(1)), r"\(8, 32\).*\(8, 48\).*\[\] as 2D"),
        ({"x": two, "z": two, "y": three}, r"\['x', 'z'\] as 2D"),
        ((torch.zeros(8, 99, 2), torch.zeros(8, 99, 3)), r"\(8, 99, 2\).*\[\] as 2D"),
        (("text", 3), r"'?0'?: str"),
    ],
)
def test_ambiguity_is_told_with_what_was_seen(given: Any, words: str) -> None:
    with pytest.raises(BatchError, match=words) as error:
        recognise(given, None)
    assert "cannot tell which field is what" in str(error.value)
    assert "batch=dict(pose_2d=" in str(error.value)


def test_pairs_helper_orders() -> None:
    """The two orders of the helper differ in what the formats say they differ in."""
    who = people(2)
    semgcn, poseaug = (Pairs(who, order)[0] for order in ("semgcn", "poseaug"))
    assert (len(semgcn), len(poseaug)) == (3, 4)
    assert semgcn[0][0].abs().max() == 0
    assert poseaug[0][0, 2] > 3.9


def test_check_does_not_disturb_a_loaders_own_stream() -> None:
    own = torch.Generator().manual_seed(3)
    rows = torch.utils.data.DataLoader(Pairs(people(8)), 4, shuffle=True, generator=own)
    before = own.get_state()
    assert attached()[0].check(rows)[0].ok
    assert torch.equal(own.get_state(), before)
