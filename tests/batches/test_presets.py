"""Formats with more than fields of poses: samples, statistics, image space, scenes, windows."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import H36M, cameras, people
from loop_helpers import attached, small
from poseaug_plugin import BatchFormat, Camera, ConfigError, PoseAugWarning, Skeleton, SkeletonError
from poseaug_plugin.batches.containers import get_field, set_fields
from poseaug_plugin.batches.image_space import from_image, to_image
from poseaug_plugin.batches.presets import FORMATS, martinez, resolve_format
from poseaug_plugin.batches.windows import Windows
from poseaug_plugin.files import check
from poseaug_plugin.geometry.camera import project

CAMERA = Camera()


def upright(rows=8, frames=1):
    """Absolute poses (B, T, 16, 3), their 2D under the default camera, float32."""
    pose = torch.as_tensor(people(rows, frames)).float()
    return pose, project(pose, CAMERA.intrinsics)


# Paths into rows of objects


def samples(pose_3d):
    return [
        SimpleNamespace(gt_instance_labels=SimpleNamespace(lifting_target_label=p), name=str(i))
        for i, p in enumerate(pose_3d)
    ]


@pytest.mark.parametrize("mix", ["replace", "append"])
def test_only_mmpose_samples_that_change_are_copied(mix):
    pose, pose_2d = upright()
    relative = pose - pose[:, :, :1]
    given = {
        "inputs": [x.permute(1, 2, 0).reshape(32, -1) for x in pose_2d],
        "data_samples": samples(relative),
    }
    before = copy.deepcopy(given)
    config = small("random", mix=mix)
    augmenter, _, _ = attached(config, "mmpose", skeleton="h36m_16")
    made = augmenter(given)
    path = "data_samples.gt_instance_labels.lifting_target_label"
    for old, kept in zip(get_field(given, path), get_field(before, path)):
        assert torch.equal(old, kept)
    step = 1 if mix == "replace" else 2
    assert len(made["data_samples"]) == len(made["inputs"]) == 8 * step
    twins = 0
    for i, sample in enumerate(made["data_samples"]):
        source = given["data_samples"][i // step]
        label = sample.gt_instance_labels.lifting_target_label
        same = torch.equal(label, source.gt_instance_labels.lifting_target_label)
        assert sample.name == source.name
        assert torch.equal(made["inputs"][i], given["inputs"][i // step]) is same
        assert made["inputs"][i].shape == (32, 1)
        twins += not same
    assert twins in ((4,) if mix == "replace" else (7, 8))


def test_a_path_enters_mappings_and_attributes():
    batch = {"rows": [{"a": SimpleNamespace(b=1)}, {"a": SimpleNamespace(b=2)}], "other": "x"}
    assert get_field(batch, "rows.a.b") == [1, 2]
    made = set_fields(batch, {"rows.a.b": [1, 5], "other": "y"})
    assert get_field(made, "rows.a.b") == [1, 5]
    assert get_field(batch, "rows.a.b") == [1, 2]
    assert made["rows"][0] is batch["rows"][0]
    assert (made["other"], batch["other"]) == ("y", "x")


# Statistics, pixels, missing joints


def flat_17(rows=32, seed=0):
    """A 17-joint pose, its fields in 3d-pose-baseline's form, and their statistics."""
    pose16, _ = upright(rows)
    nose = pose16[:, :, 8:9] * 0.4 + pose16[:, :, 9:10] * 0.6
    pose = torch.cat([pose16[:, :, :9], nose, pose16[:, :, 9:]], 2)[:, 0]
    pixels = (project(pose, CAMERA.intrinsics) + 1) * 500
    x = pixels[:, [j for j in range(17) if j != 9]].flatten(1)
    y = ((pose - pose[:, :1])[:, 1:] * 1000).flatten(1)
    stats = [(v.mean(0), v.std(0) + 1e-3) for v in (x, y)]
    fields = [(v - m) / s for v, (m, s) in zip((x, y), stats)]
    return pose, fields, stats


def test_standardised_pixels_without_nose_and_millimetres_without_hip_are_read_and_written():
    pose, fields, (stat_2d, stat_3d) = flat_17()
    fmt = martinez(stat_2d, stat_3d)
    skeleton = Skeleton.of("h36m_17")
    poses = fmt.read(fields, skeleton, CAMERA)
    poses.check(17)
    assert (poses.pose_3d[:, 0] - (pose - pose[:, :1])).abs().max() < 1e-5
    assert (poses.root[:, 0] - pose[:, 0]).abs().max() < 1e-3
    assert (poses.pose_2d[:, 0] - project(pose, CAMERA.intrinsics)).abs().max() < 1e-4
    rows = torch.arange(len(pose)) % 2 == 0
    written = fmt.write(fields, poses, rows, skeleton)
    for old, new in zip(fields, written):
        assert torch.equal(old[~rows], new[~rows])
        assert (old - new).abs().max() < 1e-3


def test_martinez_by_name_asks_for_the_statistics():
    with pytest.raises(ConfigError, match=r"stat_2d=\(mean, std\)"):
        resolve_format("martinez")


def test_a_3d_field_may_lack_only_the_root():
    pose, pose_2d = upright()
    fmt = BatchFormat(0, 1, joints_3d=tuple(range(2, 16)))
    with pytest.raises(ConfigError, match="leaves out more than the root"):
        fmt.read((pose_2d[:, 0], pose[:, 0, 2:]), H36M, CAMERA)


# Image space


def test_image_space_is_inverted_up_to_the_size_and_encoded_back_exactly():
    pose, _ = upright(frames=5)
    intrinsics = CAMERA.intrinsics.expand(len(pose), 9)
    image = to_image(pose, intrinsics, H36M.root)
    back = from_image(image, intrinsics, H36M)
    ratio = back / pose
    assert (ratio - ratio[:, :, :1, :1]).abs().max() < 1e-3
    assert (to_image(back, intrinsics, H36M.root) - image).abs().max() < 1e-5
    assert image[:, :, 0, 2].abs().max() < 1e-6


def test_a_prediction_in_image_space_is_converted_to_metres():
    pose, pose_2d = upright(frames=3)
    fmt = BatchFormat(0, 1, space="image", root="absolute")
    intrinsics = CAMERA.intrinsics.expand(len(pose), 9)
    image = to_image(pose, intrinsics, H36M.root)
    poses = fmt.read((pose_2d, image), H36M, CAMERA)
    for answer in (image, image - image[:, :, :1]):  # absolute, or root-relative as in training
        assert (fmt.outputs(answer, poses, H36M) - poses.pose_3d).abs().max() < 1e-4


# Scenes


def scene(ratio=1.0):
    """Two people in each of six images, side by side; (3D, 2D, group, camera)."""
    pose = torch.as_tensor(people(12)).float()[:, 0]
    pose[1::2] = pose[1::2] - pose[1::2, :1] + pose[::2, :1] + torch.tensor([0.7, 0.0, 0.4])
    camera = torch.as_tensor(cameras(12)).float()
    camera[1::2] = camera[::2]
    group = torch.arange(12) // 2 + 40
    fmt = dict(pose_3d=0, pose_2d=1, camera=3, root="absolute", groups=2)
    config = small("random", ratio=ratio, ba=False, bl=False)
    augmenter, _, _ = attached(config, fmt)
    given = (pose, project(pose, camera), group, camera)
    return augmenter, given


def test_people_of_one_image_move_as_one_scene():
    augmenter, given = scene()
    made = augmenter(given)
    moved = (made[1] != given[1]).flatten(1).any(1)
    assert torch.equal(moved[::2], moved[1::2])
    assert moved.sum() >= 6
    for i in range(6):  # every joint of one to every joint of the other
        pair = [torch.cdist(b[0][2 * i], b[0][2 * i + 1]) for b in (given, made)]
        assert (pair[0] - pair[1]).abs().max() < 1e-4
    assert torch.equal(made[3][::2], made[3][1::2])
    assert (project(made[0], made[3]) - made[1]).abs().max() < 1e-5


def test_scenes_are_augmented_as_a_whole_or_not_at_all():
    augmenter, given = scene(ratio=0.5)
    for _ in range(5):
        made = augmenter(given)
        moved = (made[1] != given[1]).flatten(1).any(1)
        assert torch.equal(moved[::2], moved[1::2])
    assert 0 < augmenter.stats()["augmented"] <= 5 * 6


def test_scenes_need_root_positions():
    with pytest.raises(ConfigError, match="root='absolute' or 'slot'"):
        resolve_format(dict(pose_2d=1, pose_3d=0, groups=2))


# Padding


def test_rows_of_zeros_are_padding_and_are_not_augmented():
    pose, pose_2d = upright(16)
    camera = CAMERA.intrinsics.expand(16, 9).clone()
    pose[::4], pose_2d[::4] = 0, 0
    given = (pose[:, None], pose_2d[:, None], None, camera)  # (B, 1, T, J, C) as AdaptPose
    augmenter, _, optimizer = attached(small("default", ratio=1.0, feedback="off"), "adaptpose")
    made = augmenter(given)
    optimizer.step()
    assert made[0][::4].abs().max() == made[1][::4].abs().max() == 0
    assert (made[1] != given[1]).flatten(1).any(1).sum() >= 10
    assert all(np.isfinite(v) for v in augmenter.stats().values())


# Skeletons of mmpose


META = {
    "keypoint_id2name": dict(
        enumerate(["root", "right_hip", "right_knee", "left_hip", "left_knee"])
    ),
    "skeleton_links": [(0, 3), (3, 4), (0, 1), (1, 2), (2, 4)],
    "flip_indices": [0, 3, 4, 1, 2],
}


def test_a_skeleton_of_mmpose_metainfo():
    skeleton = Skeleton.of(META)
    assert skeleton.parents == (-1, 0, 1, 0, 3)
    assert (skeleton.left, skeleton.right) == ((3, 4), (1, 2))
    assert skeleton.names[2] == "right_knee"


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"lr": 1}, "keypoint_id2name"),
        ({**META, "skeleton_links": [(0, 3)]}, "skeleton_links is incomplete"),
    ],
)
def test_metainfo_that_makes_no_tree_is_refused(meta, words):
    with pytest.raises(SkeletonError, match=words):
        Skeleton.of(meta)


# Windows


class Generator:
    """Yields windows with centre-frame targets in reused buffers, as VideoPose3D's generator."""

    def __init__(self, pad=2, shift=0, flip=True):
        pose, pose_2d = upright(3, 12)
        slot = pose - pose[:, :, :1]
        slot[:, :, 0] = pose[:, :, 0]
        self.poses_3d, self.poses_2d = list(slot.numpy()), list(pose_2d.numpy())
        self.batch_3d, self.batch_2d = np.empty((9, 1, 16, 3)), np.empty((9, 2 * pad + 1, 16, 2))
        self.pad, self.shift, self.flip = pad, shift, flip

    def next_epoch(self):
        left, right = list(H36M.left), list(H36M.right)
        for start in range(0, 36, 9):
            for row, at in enumerate(range(start, start + 9)):
                clip, t = divmod(at, 12)
                window = np.arange(t - self.pad, t + self.pad + 1) - self.shift
                self.batch_2d[row] = self.poses_2d[clip][window.clip(0, 11)]
                self.batch_3d[row] = self.poses_3d[clip][t]
                if self.flip and at % 2:
                    for batch in (self.batch_2d[row], self.batch_3d[row]):
                        batch[..., 0] *= -1
                        batch[:, left + right] = batch[:, right + left]
            yield None, self.batch_3d, self.batch_2d


def test_windows_get_their_3d_and_the_caller_sees_none_of_it():
    bare, generator = Generator(), Generator()
    kept = generator.poses_2d, generator.batch_2d
    augmenter, _, _ = attached(small("random"), "videopose3d")
    reports = augmenter.check(bare)
    assert reports[0].ok
    assert reports[0].frames == 5
    assert bare.poses_2d[0].shape[-1] == bare.batch_2d.shape[-1] == 2
    moved = 0
    seen = augmenter.wrap(generator)
    for (_, y, x), (_, y0, x0) in zip(seen.next_epoch(), bare.next_epoch()):
        assert (x.shape, x.dtype, y.shape, y.dtype) == (x0.shape, x0.dtype, y0.shape, y0.dtype)
        changed = (x != x0).any((1, 2, 3))
        assert np.array_equal(y[~changed], y0[~changed])
        assert (y[changed] != y0[changed]).any((1, 2, 3)).all()
        moved += changed.sum()
        for window, target in zip(x[changed], y[changed]):  # the centre projects onto it
            assert_seen(window[2], target[0])
            still = np.abs(np.diff(window, axis=0)).max((1, 2))
            assert still.max() < 0.2
    assert moved >= 12
    assert augmenter.stats()["epochs"] == 1
    augmenter.detach()
    assert (generator.poses_2d, generator.batch_2d) == kept or generator.poses_2d is kept[0]


def assert_seen(pose_2d, slot):
    """One focal length explains the 2D of a pose in slot form."""
    pose = slot.copy()
    pose[1:] += pose[0]
    ray = pose[:, :2] / pose[:, 2:]
    focal = (ray * pose_2d).sum() / (ray * ray).sum()
    assert np.abs(focal * ray - pose_2d).max() < 1e-5


def test_causal_windows_are_not_augmented():
    bare, generator = Generator(shift=2, flip=False), Generator(shift=2, flip=False)
    augmenter, _, _ = attached(small("random"), "videopose3d")
    batches = zip(augmenter.wrap(generator).next_epoch(), bare.next_epoch())
    with pytest.warns(PoseAugWarning, match="windows"):
        same = [
            np.array_equal(x, x0) and np.array_equal(y, y0) for (_, y, x), (_, y0, x0) in batches
        ]
    assert same == [True] * 4


def test_only_windows_with_the_3d_of_their_centre_are_packed():
    fmt = FORMATS["videopose3d"]
    assert Windows.of(Generator(), fmt) is not None
    assert Windows.of(Generator(pad=0), fmt) is None
    assert Windows.of(Generator(), None) is None
    hidden, shorter, whole = Generator(), Generator(), Generator()
    hidden.poses_3d = None  # as of a test subject
    shorter.poses_3d[1] = shorter.poses_3d[1][:5]
    whole.batch_3d = whole.batch_3d.repeat(5, 1)
    assert all(Windows.of(loader, fmt) is None for loader in (hidden, shorter, whole))


def test_windows_that_were_never_unpacked_are_packed_once():
    generator, fmt = Generator(), FORMATS["videopose3d"]
    generator.batch_2d = generator.batch_2d.astype(np.float32)
    for _ in range(2):
        windows = Windows.of(generator, fmt)
        assert windows is not None
        assert {clip.shape[-1] for clip in generator.poses_2d} == {5}
        assert generator.batch_2d.shape == (9, 5, 16, 5)
        assert generator.batch_2d.dtype == np.float32
    windows.undo()
    assert {clip.shape[-1] for clip in generator.poses_2d} == {2}
    assert generator.batch_2d.shape == (9, 5, 16, 2)
    batch = (None, generator.batch_3d, generator.batch_2d)
    assert all(each is batch for each in windows.split(batch))


def test_a_look_at_a_packed_generator_leaves_it_packed():
    packed, bare, fmt = Generator(), Generator(), FORMATS["videopose3d"]
    windows = Windows.of(packed, fmt)
    with Windows.for_a_look(packed, fmt) as found:
        assert found is windows
    with Windows.for_a_look(bare, fmt) as found:
        assert found not in (None, windows)
    assert (packed.poses_2d[0].shape[-1], bare.poses_2d[0].shape[-1]) == (5, 2)


def test_a_check_without_the_augmenter_leaves_a_wrapped_generator_as_it_is():
    augmenter, _, _ = attached(small("random"), "videopose3d")
    wrapped = augmenter.wrap(Generator())
    (report,) = check(wrapped, "videopose3d", batches=1)
    assert report.ok
    assert report.frames == 5
    list(wrapped.next_epoch())
    stats = augmenter.stats()
    assert (stats["bad_batches"], stats["batches"]) == (0, 4)


def test_formats_are_found_by_name():
    assert set(FORMATS) >= {"videopose3d", "semgcn", "poseaug", "adaptpose", "stgcn", "motionbert"}
    assert all(resolve_format(name) is fmt for name, fmt in FORMATS.items())


def test_a_mapping_may_name_every_argument() -> None:
    fmt = BatchFormat(pose_2d="x", pose_3d="y", root="absolute", unit=0.001)
    assert resolve_format(dict(vars(fmt))) == fmt
