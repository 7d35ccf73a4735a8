"""Weighted draws: probabilities, and weights that are no numbers."""

from __future__ import annotations

import pytest
import torch

from helpers import generator
from poseaug_plugin.augment.draws import weighted

NAN, INF = float("nan"), float("inf")


def shares(weight: list[float], count: int = 20_000) -> list[float]:
    drawn = weighted(generator(), torch.tensor(weight), count)
    return (drawn.bincount(minlength=len(weight)) / count).tolist()


def test_probabilities_are_proportional_to_the_weights() -> None:
    assert shares([1.0, 3.0, 0.0, 6.0]) == pytest.approx([0.1, 0.3, 0.0, 0.6], abs=0.02)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_one_bad_weight_is_never_drawn_and_leaves_the_others(bad: float) -> None:
    assert shares([1.0, bad, 3.0]) == pytest.approx([0.25, 0.0, 0.75], abs=0.02)


@pytest.mark.parametrize("weight", [[0.0] * 4, [NAN] * 4, [1e30] * 4, [1e-30] * 4])
def test_equal_weights_of_any_size_are_equally_likely(weight: list[float]) -> None:
    assert shares(weight) == pytest.approx([0.25] * 4, abs=0.02)
