"""Draws: ranges, probabilities, and weights that are no numbers."""

from __future__ import annotations

import pytest
import torch

from helpers import generator
from poseaug_plugin.augment.draws import uniform, weighted

NAN, INF = float("nan"), float("inf")


def test_uniform_numbers_fill_their_range() -> None:
    drawn = uniform(generator(), 100, 200, high=2.5)
    assert drawn.shape == (100, 200)
    assert 0.0 <= float(drawn.min()) < 0.01
    assert 2.49 < float(drawn.max()) <= 2.5
    assert float(drawn.mean()) == pytest.approx(1.25, abs=0.02)
    assert float(uniform(generator(), 20_000).max()) <= 1.0


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
