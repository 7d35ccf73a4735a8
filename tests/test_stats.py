"""The table of numbers is complete, and it is what `help` shows."""

from __future__ import annotations

import pytest
import torch

from loop_helpers import small
from poseaug_plugin import PoseAugmenter
from poseaug_plugin.data import synthetic
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.stats import STATS, described, table

KEYS = {key for group in STATS.values() for key in group}


SOME = synthetic.make()[0][:16]


def after_a_few_steps(config: object, **options: object) -> set[str]:
    torch.manual_seed(0)
    model = SimpleBaseline(width=8)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", epochs=4, config=config, **options)
    for _ in range(4):
        for _ in augmenter.wrap([(SOME.pose_3d, SOME.pose_2d, SOME.action, SOME.camera)]):
            optimizer.step()
    return set(augmenter.stats())


@pytest.mark.parametrize("config", ["random", "paper", small("released", mix="replace")])
def test_every_number_is_in_the_table(config: object) -> None:
    assert set(STATS["Always"]) <= after_a_few_steps(config) <= KEYS


def test_no_number_of_the_table_is_gone() -> None:
    with_target = after_a_few_steps("default", target_2d=synthetic.make()[2].pose_2d)
    learned = after_a_few_steps(small(adv2d=1.0, widen_views=1.1))
    assert with_target | learned == KEYS


def test_help_and_documents_list_them() -> None:
    text = PoseAugmenter.stats.__doc__ or ""
    assert described() in text
    assert all(f"``{key}``" in text for key in KEYS)
    assert all(f"| `{key}` |" in table() for key in KEYS)
