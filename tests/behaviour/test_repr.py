"""`repr(augmenter)`: what it is attached to, its settings, and its progress."""

from __future__ import annotations

import re

from loop_helpers import attached, batch, loader, small, train
from poseaug_plugin import Skeleton


def fields(augmenter: object) -> dict[str, str]:
    """The lines `(name): value` of a repr."""
    first, *lines, last = repr(augmenter).splitlines()
    assert (first, last) == ("PoseAugmenter(", ")")
    found = [re.fullmatch(r"  \((\w+)\): (.+)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def test_before_the_first_batch() -> None:
    augmenter, _model, _optimizer = attached("default", batch=None)
    assert fields(augmenter) == {
        "model": "Lifter",
        "optimizer": "Adam",
        "batch": "not known yet",
        "config": "PoseAugConfig.default()",
        "skeleton": "not known yet",
        "steps": "0",
        "augmented": "0.0% of 0 chosen rows",
    }


def test_during_training_and_after_detach() -> None:
    augmenter, model, optimizer = attached()
    train(model, optimizer, augmenter.wrap(loader()))
    shown, stats = fields(augmenter), augmenter.stats()
    assert shown["batch"].startswith("BatchFormat(pose_2d=1, pose_3d=0")
    assert shown["config"] == repr(augmenter.config)
    assert shown["skeleton"] == "h36m_16"
    assert shown["steps"] == "2"
    assert shown["augmented"] == f"{stats['accepted']:.1%} of {stats['rows']:.0f} chosen rows"
    augmenter.detach()
    assert fields(augmenter) == {**shown, "optimizer": "detached"}


def test_a_skeleton_that_is_no_preset_is_described_by_its_joint_count() -> None:
    skeleton = Skeleton(Skeleton.of("h36m_16").parents)
    augmenter, _model, _optimizer = attached(small("random"), skeleton=skeleton)
    augmenter(batch())
    assert fields(augmenter)["skeleton"] == "16 joints"
