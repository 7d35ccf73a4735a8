"""`window_3d=`: the 3D of whole windows in a field of its own, as in mmpose's data samples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import H36M, people
from loop_helpers import attached, small
from poseaug_plugin import BatchError, BatchFormat, Camera, PoseAugWarning
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.errors import WindowError
from poseaug_plugin.geometry.camera import project

ROWS, FRAMES = 16, 9
LENS = Camera().intrinsics
SIDES = [*H36M.left, *H36M.right], [*H36M.right, *H36M.left]


def flipped(x: Tensor) -> Tensor:
    """Mirrored people: x negated, left and right joints swapped."""
    x = x.clone()
    x[..., 0] *= -1
    x[..., SIDES[0], :] = x[..., SIDES[1], :]
    return x


def batch(every_second_flipped: bool = True, target: int = FRAMES // 2) -> dict[str, Any]:
    """What mmpose's VideoPoseLifting and PackPoseInputs make, with 'keypoints_3d' in meta_keys.

    RandomFlipAroundRoot mirrors the 2D and the target, but not `keypoints_3d`.
    """
    pose_3d = people(ROWS, FRAMES)
    inputs, samples = [], []
    for i, window in enumerate(pose_3d):
        shown = flipped(window) if every_second_flipped and i % 2 else window
        inputs.append(project(shown, LENS).permute(1, 2, 0).reshape(-1, FRAMES))
        label = shown[target, None] - shown[target, None, :1]
        labels = SimpleNamespace(lifting_target_label=label)
        samples.append(SimpleNamespace(gt_instance_labels=labels, keypoints_3d=window.numpy()))
    return {"inputs": inputs, "data_samples": samples}


def test_mirrored_windows_are_read_like_their_targets() -> None:
    given = batch()
    poses = FORMATS["mmpose"].read(given, H36M, Camera())
    assert poses.pose_3d.shape == (ROWS, FRAMES, 16, 3)
    assert poses.has_root
    assert (project(poses.absolute, LENS) - poses.pose_2d).abs().max() < 1e-5


@pytest.mark.parametrize("wrong", [None, 3], ids=["right", "one row is not centred"])
def test_windows_have_the_unit_of_the_target(wrong: int | None) -> None:
    pose_3d = people(ROWS, FRAMES)
    target = pose_3d[:, FRAMES // 2, None].clone()
    if wrong is not None:
        target[wrong] = pose_3d[wrong, 0]
    given = project(pose_3d, LENS), 1000 * (target - target[:, :, :1]), 1000 * pose_3d
    fmt = BatchFormat(pose_2d=0, pose_3d=1, window_3d=2, unit=0.001)
    if wrong is None:
        poses = fmt.read(given, H36M, Camera())
        assert torch.allclose(poses.absolute, pose_3d, atol=1e-5)
    else:
        with pytest.raises(WindowError, match="is not pose_3d"):
            fmt.read(given, H36M, Camera())


@pytest.mark.parametrize("root", ["absolute", "relative", "slot"])
def test_the_root_of_the_target_is_where_the_format_says(root: Any) -> None:
    window = people(ROWS, FRAMES)
    target = window[:, FRAMES // 2, None].clone()
    place = target[:, :, :1].clone()
    if root != "absolute":
        target -= place
    if root == "slot":
        target[:, :, :1] = place
    fmt = BatchFormat(pose_2d=0, pose_3d=1, window_3d=2, root=root)
    poses = fmt.read((project(window, LENS), target, window), H36M, Camera())
    assert torch.allclose(poses.absolute, window, atol=1e-5)


def test_check_knows_what_the_field_of_windows_is_for() -> None:
    window = people(ROWS, FRAMES)
    target = window[:, FRAMES // 2, None]
    pose_2d = project(window, LENS)
    given = pose_2d, target - target[:, :, :1], window, window.clone(), pose_2d.clone()
    fmt = dict(pose_2d=0, pose_3d=1, window_3d=2)
    (report,) = attached(small("random"), fmt, skeleton=H36M)[0].check([given])
    (doubt,) = (doubt for doubt in report.doubts if "passed through" in doubt)
    assert doubt.startswith("the fields [3, 4] hold points for each row")


def test_windows_are_augmented_with_their_motion_and_only_the_target_is_written() -> None:
    given = batch()
    config = small("random", ratio=1.0, ba=False, bl=False)
    augmenter, _, _ = attached(config, "mmpose", skeleton=H36M)
    made = augmenter(given)
    changed = 0
    for i in range(ROWS):
        old = given["data_samples"][i].gt_instance_labels.lifting_target_label
        new = made["data_samples"][i].gt_instance_labels.lifting_target_label
        assert new.shape == (1, 16, 3)
        assert np.array_equal(
            made["data_samples"][i].keypoints_3d, given["data_samples"][i].keypoints_3d
        )
        if torch.equal(old, new):
            assert torch.equal(made["inputs"][i], given["inputs"][i])
            continue
        changed += 1
        # The whole window, rotated as its target was and seen from where its centre frame is.
        window = torch.from_numpy(given["data_samples"][i].keypoints_3d).double()
        window = flipped(window) if i % 2 else window
        u, _, vt = torch.linalg.svd(old[0].double().T @ new[0].double())
        R = vt.T @ torch.diag(torch.tensor([1, 1, float(torch.det(vt.T @ u.T))]).double()) @ u.T
        moved = (window - window[FRAMES // 2, :1]) @ R.T
        seen = made["inputs"][i].double().reshape(16, 2, FRAMES).permute(2, 0, 1)
        a = torch.zeros(FRAMES * 16 * 2, 4).double()  # f X + f tx = u (Z + tz), unknown f, t
        a[:, 0], a[0::2, 1], a[1::2, 2] = moved[..., :2].flatten(), 1, 1
        a[:, 3] = -seen.flatten()
        b = (seen * moved[..., 2:]).flatten()
        residual = a @ torch.linalg.lstsq(a, b[:, None]).solution[:, 0] - b
        assert residual.abs().max() < 1e-4
    assert changed >= ROWS // 2


def test_without_the_windows_the_message_names_the_line_of_the_config() -> None:
    given = batch()
    for sample in given["data_samples"]:
        del sample.keypoints_3d
    augmenter, _, _ = attached(small("random"), "mmpose", skeleton=H36M)
    with pytest.warns(PoseAugWarning, match="add 'keypoints_3d' to meta_keys of PackPoseInputs"):
        assert augmenter(given) is given


def test_windows_that_are_not_centred_are_left_as_they_are() -> None:
    augmenter, _, _ = attached(small("random"), "mmpose", skeleton=H36M)
    given = batch(target=FRAMES - 1)
    with pytest.warns(PoseAugWarning, match="centred on their targets"):
        assert augmenter(given) is given


def test_single_frames_do_not_need_windows() -> None:
    given = batch()
    for i, sample in enumerate(given["data_samples"]):
        del sample.keypoints_3d
        given["inputs"][i] = given["inputs"][i][:, FRAMES // 2, None]
    augmenter, _, _ = attached(small("random", ratio=1.0), "mmpose", skeleton=H36M)
    made = augmenter(given)
    assert made is not given
    assert not torch.equal(made["inputs"][0], given["inputs"][0])


def test_windows_of_another_shape_raise() -> None:
    given = batch()
    for sample in given["data_samples"]:
        sample.keypoints_3d = sample.keypoints_3d[:, :15]
    augmenter, _, _ = attached(small("random"), "mmpose", skeleton=H36M)
    with pytest.raises(BatchError, match=r"window_3d .* has shape \(16, 9, 15, 3\)"):
        augmenter(given)
