"""`scenes=True`: (B, P, J, C) is P people of one image, some of whom may be missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import H36M, cameras, people, poses_of
from loop_helpers import attached, changed_rows, small
from poseaug_plugin import BatchError, BatchFormat, Camera, ConfigError
from poseaug_plugin.batches.containers import get_field
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.contact import bone_distance

IMAGES, PEOPLE = 8, 3
FIELDS = dict(pose_2d=0, pose_3d=1, camera=2, root="absolute", scenes=True)
NEAR = dict(image_offset=0.1, distance=(5.0, 6.0))  # whole scenes stay in the image


def scenes(frames: int = 1, missing: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """2D and 3D (B, P, J, C), or (B, P, T, J, C) of clips, of people side by side, and cameras."""
    pose_3d = people(IMAGES * PEOPLE, frames).view(IMAGES, PEOPLE, frames, 16, 3)
    pose_3d = pose_3d - pose_3d[:, :, :1, :1] + torch.tensor([0.0, 0, 5.5])
    pose_3d[..., 0] += torch.tensor([-1.2, 0.0, 1.2])[:, None, None]
    camera = cameras(IMAGES)
    camera[:, :2] *= torch.linspace(0.9, 1.1, IMAGES)[:, None]
    pose_2d = project(pose_3d, camera[:, None, None])
    if missing:
        pose_2d[::2, 0] = pose_3d[::2, 0] = 0
        pose_2d[1::4, 1:] = pose_3d[1::4, 1:] = 0
        pose_2d[3] = pose_3d[3] = 0
    if frames == 1:
        pose_2d, pose_3d = pose_2d[:, :, 0], pose_3d[:, :, 0]
    return pose_2d, pose_3d, camera


def there(pose_3d: Tensor) -> Tensor:
    """(B, P) who is there."""
    return pose_3d.flatten(2).any(2)


def roots_apart(pose_3d: Tensor) -> Tensor:
    """Distances (B, P, P) between the people of an image, in the first frame."""
    first = pose_3d if pose_3d.ndim == 4 else pose_3d[:, :, 0]
    both = there(pose_3d)[:, None] & there(pose_3d)[:, :, None]
    return torch.cdist(first[:, :, 0], first[:, :, 0]) * both


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("missing", [False, True])
def test_scenes_are_read_as_rows_and_written_back(frames: int, missing: bool) -> None:
    batch = scenes(frames, missing)
    fmt = BatchFormat(**FIELDS)  # type: ignore[arg-type]
    poses = fmt.read(batch, H36M, Camera())
    poses.check(16)
    assert (len(poses), poses.people) == (IMAGES * PEOPLE, PEOPLE)
    assert poses.pose_2d.shape[1] == frames
    assert torch.equal(poses.valid.view(IMAGES, PEOPLE), there(batch[1]))
    assert poses.group is not None
    assert poses.group.tolist() == [i for i in range(IMAGES) for _ in range(PEOPLE)]
    assert torch.equal(poses.camera[::PEOPLE], batch[2])
    rows = poses.valid & (torch.arange(len(poses)) % 2 == 0)
    written = fmt.write(batch, poses, rows, H36M)
    for old, new in zip(batch, written):
        assert torch.allclose(old, new, atol=1e-5)


@pytest.mark.parametrize("mix", ["replace", "append", "alternate"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_scene_is_augmented_as_a_whole(mix: str, missing: bool) -> None:
    batch = scenes(missing=missing)
    config = small("random", mix=mix, ratio=0.5, **NEAR)
    augmenter, _, _ = attached(config, FIELDS)
    (*_, made) = augmenter.wrap([batch])
    given = batch
    if mix == "append":
        for old, new in zip(batch, made):
            assert torch.equal(old, new[::2])
        made = tuple(field[1::2] for field in made)
    changed = changed_rows(batch[1], made[1])
    assert 2 <= len(changed) <= IMAGES
    assert 3 not in changed or not missing
    assert changed == changed_rows(given[0], made[0]) == changed_rows(given[2], made[2])
    assert torch.equal(there(batch[1]), there(made[1]))
    assert torch.equal(there(batch[1]), there(made[0]))
    assert torch.allclose(roots_apart(batch[1]), roots_apart(made[1]), atol=1e-4)
    off = project(made[1], made[2][:, None]) - made[0]
    assert off[there(made[1])].abs().max() < 1e-5
    stats = augmenter.stats()
    assert stats["augmented"] == there(batch[1])[changed].sum()
    assert stats["rows"] <= there(batch[1]).sum()  # people who are missing are not counted


def test_a_share_of_the_people_is_chosen_not_of_the_places() -> None:
    batch = scenes(missing=True)
    augmenter, _, _ = attached(small("random", ratio=0.3), FIELDS)
    for _ in range(40):
        augmenter(batch)
    assert augmenter.stats()["rows"] == pytest.approx(40 * 0.3 * int(there(batch[1]).sum()), abs=3)


def test_lists_confidences_arrays_and_slots() -> None:
    pose_2d, pose_3d, camera = scenes(missing=True)
    observed = torch.cat([pose_2d, there(pose_3d)[..., None, None].expand(-1, -1, 16, 1)], -1)
    slot = pose_3d.clone()
    slot[:, :, 1:] -= slot[:, :, :1]
    slot *= there(pose_3d)[..., None, None]
    for as_list in (True, False):
        batch: Any = {
            "x": [*observed] if as_list else observed.numpy(),
            "y": [*slot] if as_list else slot.numpy(),
            "K": camera.numpy(),
        }
        fmt = dict(pose_2d="x", pose_3d="y", camera="K", root="slot", scenes=True)
        augmenter, _, _ = attached(small("random", ratio=1.0, **NEAR), fmt)
        made = augmenter(batch)
        assert type(made["x"]) is type(batch["x"])
        x, y = (np.stack([*made[key]]) for key in ("x", "y"))
        assert np.array_equal(x[..., 2], observed[..., 2].numpy())
        changed = changed_rows(y, slot.numpy())
        assert len(changed) >= 4
        absolute = torch.from_numpy(y).clone()
        absolute[:, :, 1:] += absolute[:, :, :1]
        off = project(absolute, torch.as_tensor(made["K"])[:, None]) - torch.from_numpy(x)[..., :2]
        assert off[there(pose_3d)].abs().max() < 1e-5


@pytest.mark.parametrize("preset", ["default", "random"])
def test_people_come_into_contact_no_more_often_than_before(preset: str) -> None:
    """Three people 0.5 to 1.2 m apart, of whom some touch: no scene gets a new contact."""
    torch.manual_seed(0)
    images = 200
    pose_3d = people(images * PEOPLE).view(images, PEOPLE, 16, 3)
    step = torch.rand(images, 2) * torch.tensor([0.7, 6.3]) + torch.tensor([0.5, 0.0])
    x, z = step[:, 0] * step[:, 1].cos(), step[:, 0] * step[:, 1].sin()
    root = torch.stack([torch.stack([i * x, 0 * x, i * z], -1) for i in (-1, 0, 1)], 1)
    pose_3d = pose_3d - pose_3d[:, :, :1] + (root + torch.tensor([0.0, 0, 5.5]))[:, :, None]
    pose_2d = project(pose_3d, Camera().intrinsics)
    config = small(preset, learned=False, ratio=1.0, distance=(5.0, 8.0))
    fmt = dict(pose_2d=0, pose_3d=1, root="absolute", scenes=True)
    augmenter, _, _ = attached(config, fmt)
    made = augmenter((pose_2d, pose_3d))[1]
    changed = changed_rows(made, pose_3d)
    assert len(changed) > images // 3

    def distances(poses: Tensor) -> Tensor:
        pairs = [(0, 1), (0, 2), (1, 2)]
        return torch.stack([bone_distance(poses[:, i], poses[:, j], H36M) for i, j in pairs], 1)

    before, after = distances(pose_3d)[changed], distances(made)[changed]
    assert (before < 0.1).any()
    assert (after - torch.minimum(before, torch.tensor(0.08))).min() > -1e-3


def test_without_scenes_the_error_names_it_and_check_is_content_with_it() -> None:
    batch = scenes()
    plain, _, _ = attached(small("random"), dict(FIELDS, scenes=False))
    assert "scenes=True" in str(plain.check([batch])[0])
    right, _, _ = attached(small("random"), FIELDS)
    (report,) = right.check([(*batch, torch.zeros(IMAGES, 4))])
    assert report.ok
    assert "the fields [3] hold numbers for each row" in str(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(root="relative"), "scenes= keeps people's positions.*has no positions"),
        (dict(groups=2), "leave out groups="),
    ],
)
def test_options_that_contradict_scenes_raise(change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchFormat(**{**FIELDS, **change})


def test_a_shape_without_people_is_refused() -> None:
    pose_2d, pose_3d, camera = scenes()
    augmenter, _, _ = attached(small("random"), FIELDS, skeleton="h36m_16")
    with pytest.raises(BatchError, match=r"expected \(B, P, 16, 2\)"):
        augmenter((pose_2d[:, 0], pose_3d[:, 0], camera))


@pytest.mark.parametrize("frames", [1, 3])
def test_rows_that_were_not_read_are_scenes_of_one_person_for_the_estimator(frames: int) -> None:
    fmt = BatchFormat(**FIELDS)  # type: ignore[arg-type]
    poses = poses_of(people(5, frames))
    wanted = poses.pose_2d[:, None] if frames > 1 else poses.pose_2d
    assert torch.equal(fmt.inputs(poses, poses.pose_2d), wanted)


def test_feedback_calls_the_estimator_with_one_person_per_scene() -> None:
    class PerPerson(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.shapes = torch.nn.Linear(32, 48), set()

        def forward(self, x: Tensor) -> Tensor:
            self.shapes.add(tuple(x.shape[1:]))
            return self.net(x.flatten(2)).view(*x.shape[:2], 16, 3)

    from poseaug_plugin import PoseAugmenter

    torch.manual_seed(0)
    model = PerPerson()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    augmenter = PoseAugmenter(model, optimizer, FIELDS, config=small(**NEAR))
    batch = scenes(missing=True)
    for _ in range(3):
        pose_2d, pose_3d, _ = augmenter(batch)
        (model(pose_2d) - (pose_3d - pose_3d[:, :, :1])).square().mean().backward()
        optimizer.step()
    assert augmenter.stats()["updates"] == 3
    assert augmenter.stats()["failed_updates"] == 0
    assert model.shapes == {(PEOPLE, 16, 2), (1, 16, 2)}


def test_fields_in_mappings_of_rows() -> None:
    pose_2d, pose_3d, camera = scenes()
    rows = [{"x": x, "y": y, "K": k} for x, y, k in zip(pose_2d, pose_3d, camera)]
    fmt = dict(pose_2d="x", pose_3d="y", camera="K", root="absolute", scenes=True)
    augmenter, _, _ = attached(small("random", ratio=1.0, **NEAR), fmt)
    made = augmenter(rows)
    new_2d, new_3d, new_camera = (torch.stack(get_field(made, key)) for key in ("x", "y", "K"))
    assert len(changed_rows(new_3d, pose_3d)) >= 4
    assert (project(new_3d, new_camera[:, None]) - new_2d).abs().max() < 1e-5
