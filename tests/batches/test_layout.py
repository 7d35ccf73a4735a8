"""Every layout is converted to (B, T, J, C) and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from poseaug_plugin import BatchError
from poseaug_plugin.batches.layout import Layout

J = 5


def canonical(frames: int, channels: int) -> Tensor:
    return torch.arange(2.0 * frames * J * channels).view(2, frames, J, channels)


CASES = {
    "flat": (1, lambda x: x.reshape(2, -1)),
    "frame": (1, lambda x: x[:, 0]),
    "clip": (3, lambda x: x),
    "one frame clip": (1, lambda x: x),
    "graph": (3, lambda x: x.permute(0, 3, 1, 2)[..., None]),
    "window": (3, lambda x: x[:, None]),
    "columns": (4, lambda x: x.permute(0, 2, 3, 1).reshape(2, -1, 4)),
}


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name: str, channels: int) -> None:
    frames, shape = CASES[name]
    x = canonical(frames, channels)
    layout = Layout.of(shape(x).shape, J, channels, "x")
    assert torch.equal(layout.canonical(shape(x)), x)
    assert torch.equal(layout.shaped(x), shape(x))


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("frames", [1, 3])
def test_people_of_a_scene_become_rows_and_scenes_again(frames: int, channels: int) -> None:
    x = torch.arange(2.0 * 4 * frames * J * channels).view(2, 4, frames, J, channels)
    given = x if frames > 1 else x[:, :, 0]
    layout = Layout.of(given.shape, J, channels, "x", scenes=True)
    assert (layout.people, layout.frames) == (4, frames)
    assert torch.equal(layout.canonical(given), x.flatten(0, 1))
    assert torch.equal(layout.shaped(x.flatten(0, 1)), given)


@pytest.mark.parametrize("name", ["frame", "clip", "graph"])
def test_2d_may_carry_a_confidence(name: str) -> None:
    frames, shape = CASES[name]
    x = canonical(frames, 3)
    layout = Layout.of(shape(x).shape, J, 2, "x")
    assert torch.equal(layout.canonical(shape(x)), x)
    assert torch.equal(layout.shaped(x), shape(x))


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((4, 6, 2), 2),  # joints
        ((4, 5, 4), 2),  # channels
        ((4, 5, 2), 3),  # 2D where 3D is wanted
        ((4, 5, 4), 3),
        ((4, 3, 6, 2), 2),
        ((4, 2, 3, 6, 1), 2),
        ((4, 4, 3, 5, 1), 2),
        ((4, 2, 3, 5, 2), 2),  # two persons
        ((4, 12), 2),
        ((4, 11), 2),
        ((10,), 2),
        ((1, 1, 1, 4, 5, 2), 2),
    ],
)
def test_other_shapes_are_refused_with_the_known_ones(
    shape: tuple[int, ...], channels: int
) -> None:
    with pytest.raises(BatchError) as error:
        Layout.of(shape, J, channels, "pose (field 'x')")
    message = str(error.value)
    assert f"pose (field 'x') has shape {shape}, expected (B, 5, {channels})" in message
    assert f"(B, {5 * channels})" in message
    assert "skeleton=" in message


@pytest.mark.parametrize("shape", [(), (0, 5, 2), (4, 0, 5, 2)])
def test_empty_batches_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BatchError, match=r"no rows. Skip empty batches"):
        Layout.of(shape, J, 2, "x")


@pytest.mark.parametrize(
    ("shape", "channels", "cure"),
    [
        ((4, 4, 2), 2, r"lacks one joint: pass joints_2d="),
        ((4, 4, 3), 2, r"lacks one joint: pass joints_2d="),
        ((4, 4, 3), 3, r"lacks one joint: pass joints_3d="),
        ((4, 5, 6), 3, r"it has 6 channels: yield the first 3 alone"),
        ((4, 5, 4), 2, r"it has 4 channels: yield the first 2 alone"),
        ((4, 9, 3), 3, r"pass the data's skeleton= and the right fields"),
    ],
)
def test_the_cure_fits_what_is_wrong(shape: tuple[int, ...], channels: int, cure: str) -> None:
    with pytest.raises(BatchError, match=cure):
        Layout.of(shape, J, channels, "x")
