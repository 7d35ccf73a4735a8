"""Projection against the published formula of Human3.6M, and the functions based on it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import cameras, generator, gradients_are_right, people
from poseaug_plugin.errors import ConfigError
from poseaug_plugin.geometry.camera import Camera, fit_root, in_frame, project, undistort, zoom


def slow_projection(pose: np.ndarray, camera: np.ndarray, limit: float = math.inf) -> np.ndarray:
    """The camera model of Human3.6M, one joint at a time."""
    fx, fy, cx, cy, k1, k2, k3, p1, p2 = camera
    pose_2d = []
    for x, y, z in pose:
        u, v = np.clip(x / z, -limit, limit), np.clip(y / z, -limit, limit)
        r2 = u * u + v * v
        scale = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * u + p2 * v
        pose_2d.append((fx * (u * scale + p1 * r2) + cx, fy * (v * scale + p2 * r2) + cy))
    return np.array(pose_2d)


def close_people(rows: int = 8) -> Tensor:
    """People 2 to 3 m away, where the distortion is large."""
    return people(rows, dtype=torch.float64)[:, 0] - torch.tensor([0, 0, 2.0]).double()


def distorted_cameras(rows: int) -> Tensor:
    """Cameras (rows, 9) whose numbers all differ and whose distortion terms are all large."""
    return (
        torch.tensor([2.2, 2.4, 0.03, -0.05, -0.2, 0.3, -0.1, 0.01, -0.02]).double().repeat(rows, 1)
    )


@pytest.mark.parametrize("limit", [None, 1.0, 0.2])
def test_projection_equals_the_published_formula(limit: float | None) -> None:
    pose, camera = close_people(), distorted_cameras(8)
    fast = project(pose, camera, limit=limit).numpy()
    for row in range(8):
        slow = slow_projection(pose[row].numpy(), camera[row].numpy(), limit or math.inf)
        np.testing.assert_allclose(fast[row], slow, atol=1e-12)


def test_projection_of_one_joint_calculated_by_hand() -> None:
    # Ray (0.5, -0.25): r2 = 0.3125, radial = 1 - 0.2 r2 + 0.1 r2^2 + 0.4 r2^3 = 0.959472656,
    # tangential = 0.01 * 0.5 + 0.02 * 0.25 = 0.01, so u = 0.5 * 0.969472656 + 0.01 * 0.3125.
    camera = torch.tensor([2.0, 3.0, 0.1, -0.1, -0.2, 0.1, 0.4, 0.01, -0.02]).double()
    pose_2d = project(torch.tensor([[2.0, -1.0, 4.0]]).double(), camera)
    radial = 1 - 0.0625 + 0.009765625 + 0.01220703125
    expected = [2 * (0.5 * (radial + 0.01) + 0.003125) + 0.1]
    expected.append(3 * (-0.25 * (radial + 0.01) - 0.00625) - 0.1)
    assert pose_2d[0].tolist() == pytest.approx(expected, abs=1e-7)
    assert pose_2d[0].tolist() == pytest.approx([1.07572266, -0.84585449], abs=1e-7)


def test_projection_broadcasts_a_camera_over_frames() -> None:
    clip = people(3, 4)
    camera = cameras(3)
    whole = project(clip, camera[:, None])
    assert whole.shape == (3, 4, 16, 2)
    assert torch.allclose(whole[:, 2], project(clip[:, 2], camera))
    assert torch.allclose(whole, project(clip, camera[0]))


def test_projection_of_a_joint_behind_the_camera_is_finite() -> None:
    pose = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 1.0, -3.0]]])
    assert project(pose, Camera().intrinsics)[0, 1].tolist() == pytest.approx([2290, 2290])
    assert project(pose, Camera().intrinsics).isfinite().all()
    assert torch.equal(project(pose, Camera().intrinsics, limit=1.0), torch.full((1, 2, 2), 2.29))


def test_undistort_inverts_the_projection() -> None:
    pose, camera = people(20, dtype=torch.float64)[:, 0], cameras(20, torch.float64)
    ray = undistort(project(pose, camera), camera)
    assert torch.allclose(ray, pose[..., :2] / pose[..., 2:], atol=1e-8, rtol=0)


def test_undistort_converges() -> None:
    pose, camera = close_people(), distorted_cameras(8)
    errors = [
        (undistort(project(pose, camera), camera, steps) - pose[..., :2] / pose[..., 2:])
        .abs()
        .max()
        for steps in (0, 1, 2, 5, 10)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-3 > 1e-6 > errors[-1]


def test_fit_root_is_exact_on_exact_2d() -> None:
    pose, camera = people(20, dtype=torch.float64)[:, 0], cameras(20, torch.float64)
    root = pose[:, 0]
    fitted = fit_root(project(pose, camera), pose - root[:, None], camera)
    assert torch.allclose(fitted, root, atol=1e-6)


def test_fit_root_is_the_least_squares_solution_on_noisy_2d() -> None:
    pose, camera = people(4, dtype=torch.float64)[:, 0], Camera().intrinsics.double()
    relative = pose - pose[:, :1]
    pose_2d = project(pose, camera)
    pose_2d = pose_2d + 0.01 * torch.randn(pose_2d.shape, generator=generator()).double()
    fitted = fit_root(pose_2d, relative, camera)
    u, v = (pose_2d / 2.29).unbind(-1)
    for row in range(4):
        one, zero = torch.ones(16).double(), torch.zeros(16).double()
        in_x = torch.stack([one, zero, -u[row]], -1)
        in_y = torch.stack([zero, one, -v[row]], -1)
        x, y, z = relative[row].unbind(-1)
        target = torch.cat([u[row] * z - x, v[row] * z - y])
        expected = torch.linalg.lstsq(torch.cat([in_x, in_y]), target[:, None]).solution[:, 0]
        assert torch.allclose(fitted[row], expected, atol=1e-5)


def test_fit_root_of_coinciding_joints_is_finite() -> None:
    fitted = fit_root(torch.zeros(1, 16, 2), torch.zeros(1, 16, 3), Camera().intrinsics)
    assert fitted.isfinite().all()


def test_zoom_keeps_the_distortion_of_each_image_point() -> None:
    camera, factor = distorted_cameras(8), torch.linspace(0.4, 1.6, 8).double()
    pose = close_people()
    narrower = pose / torch.stack([factor, factor, torch.ones_like(factor)], -1)[:, None]
    zoomed = zoom(camera, factor)
    assert torch.allclose(project(narrower, zoomed), project(pose, camera), atol=1e-12)
    assert torch.allclose(zoomed[:, :2], camera[:, :2] * factor[:, None])
    assert torch.equal(zoom(camera, torch.ones(8).double()), camera)


@pytest.mark.parametrize(
    ("x", "y", "z", "accepted"),
    [
        (0.99, 0.0, 3.0, True),
        (1.01, 0.0, 3.0, False),
        (-0.99, 0.0, 3.0, True),
        (-1.01, 0.0, 3.0, False),
        (0.0, 0.74, 3.0, True),
        (0.0, 0.76, 3.0, False),
        (0.0, -0.74, 3.0, True),
        (0.0, -0.76, 3.0, False),
        (0.0, 0.0, 0.51, True),
        (0.0, 0.0, 0.49, False),
        (0.0, 0.0, -3.0, False),
        (math.nan, 0.0, 3.0, False),
        (0.0, math.inf, 3.0, False),
        (0.0, 0.0, math.nan, False),
        (0.0, 0.0, math.inf, False),
    ],
)
def test_in_frame_checks_every_side(x: float, y: float, z: float, accepted: bool) -> None:
    pose_2d, pose_3d = torch.zeros(2, 16, 2), torch.ones(2, 16, 3)
    pose_2d[1, 7] = torch.tensor([x, y])
    pose_3d[1, 7, 2] = z
    assert in_frame(pose_3d, pose_2d, depth=0.5, height=0.75).tolist() == [True, accepted]


def test_in_frame_rejects_a_nan_in_a_3d_coordinate_other_than_depth() -> None:
    pose_3d = torch.ones(1, 16, 3)
    pose_3d[0, 3, 0] = math.nan
    assert not in_frame(pose_3d, torch.zeros(1, 16, 2), depth=0.5)


def test_gradients() -> None:
    pose, camera = close_people(1), distorted_cameras(1)
    pose_2d, relative = project(pose, camera), pose - pose[:, :1]
    assert gradients_are_right(project, pose, camera)
    assert gradients_are_right(undistort, pose_2d, camera)
    assert gradients_are_right(fit_root, pose_2d, relative, camera)
    assert gradients_are_right(zoom, camera, torch.tensor([0.7]))


def test_camera_from_pixels() -> None:
    camera = Camera.from_pixels((1145.0, 1144.0), (512.5, 515.0), 1000, 1002, k=(-0.2, 0.2, 0.0))
    assert camera.f == pytest.approx((2.29, 2.288))
    assert camera.c == pytest.approx((0.025, 0.028))
    numbers = [2.29, 2.288, 0.025, 0.028, -0.2, 0.2, 0.0, 0.0, 0.0]
    assert camera.intrinsics.tolist() == pytest.approx(numbers, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f": 1145}, "Camera f=.* wrong number of values: 1, expected 2"),
        ({"k": (0.1, 0.2, 0.3, 0.4, 0.5)}, "Camera k=.* expected 3. OpenCV's vector is k1 k2 p1"),
        ({"k": (0.1, 0.2)}, "Camera k=.* wrong number of values: 2, expected 3"),
        ({"c": None}, "Camera c=None must be 2 numbers"),
    ],
)
def test_invalid_pixels_raise(arguments: dict[str, Any], message: str) -> None:
    given = {"f": (1145, 1145), "c": (500, 500), "w": 1000, "h": 1000, **arguments}
    with pytest.raises(ConfigError, match=message):
        Camera.from_pixels(**given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"f": (1145.0, 1145.0)},
            "not in normalised screen units, .* between 0.1 and 20.*from_pixels",
        ),
        ({"f": 1.5}, "Camera f=.* wrong number of values: 1, expected 2"),
        ({"f": (2.0,)}, "Camera f=.* wrong number of values: 1, expected 2"),
        ({"c": (0.0, 0.0, 0.0)}, "Camera c=.* wrong number of values: 3, expected 2"),
        ({"k": (0.0, 0.0)}, "Camera k=.* wrong number of values: 2, expected 3"),
        ({"p": ()}, "Camera p=.* wrong number of values: 0, expected 2"),
        ({"f": (math.nan, 2.0)}, "not finite"),
        ({"f": (2.0, 20.5)}, "between 0.1 and 20"),
        ({"f": (0.09, 2.0)}, "between 0.1 and 20"),
        ({"c": (math.nan, 0.0)}, "Camera c=.* not finite"),
        ({"height": -1.0}, "Camera height=-1.0 is not .* pass h / w"),
        ({"height": math.nan}, "Camera height=nan is not"),
    ],
)
def test_invalid_cameras_raise(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Camera(**arguments)


def test_the_numbers_of_a_camera_are_plain_and_its_tensor_is_a_copy() -> None:
    camera = Camera(f=torch.tensor([19.5, 0.11]), c=[1, 0])
    assert camera == Camera(f=(float(torch.tensor(19.5)), float(torch.tensor(0.11))), c=(1.0, 0.0))
    assert {type(x) for x in (*camera.f, *camera.c)} == {float}
    camera.intrinsics.zero_()
    assert camera.intrinsics[2] == 1


def test_camera_from_pixels_converts_every_argument() -> None:
    made = Camera.from_pixels((1000, 900), (520, 330), 1000, 600, (0.1, 0.2, 0.3), (0.4, 0.5))
    assert made.f == pytest.approx((2.0, 1.8))
    assert made.c == pytest.approx((0.04, 0.06))
    assert (made.k, made.p, made.height) == ((0.1, 0.2, 0.3), (0.4, 0.5), 0.6)


@pytest.mark.parametrize(("y", "accepted"), [(0.99, True), (1.01, False), (-1.01, False)])
def test_the_image_is_square_if_no_height_is_given(y: float, accepted: bool) -> None:
    pose_3d, pose_2d = torch.tensor([[[0.0, 0.0, 4.0]]]), torch.tensor([[[0.0, y]]])
    assert bool(in_frame(pose_3d, pose_2d, depth=0.5)) is accepted
