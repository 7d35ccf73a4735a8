"""`groups=`: the people of one image are augmented together, as one scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from replicas import slotted

from loop_helpers import attached, changed_rows, people, reproject, small
from poseaug_plugin import BatchError, ConfigError

SCENES, FRAMES = 12, 3
FORMAT = dict(pose_2d="x", pose_3d="y", camera="camera", groups="image", root="absolute")


def scenes(root: str = "absolute", order: Any = None) -> dict[str, Any]:
    """Two people in each image, side by side, with one camera; rows in random order."""
    who = people(2 * SCENES, FRAMES)
    pose, camera = who.pose_3d.copy(), who.camera.copy()
    camera[1::2] = camera[::2]
    pose[::2] -= np.float32([0.5, 0, 0])
    pose[1::2] += np.float32([0.5, 0, 0.3])
    image = np.arange(2 * SCENES) // 2 * 7 + 3
    rows = np.random.RandomState(1).permutation(2 * SCENES) if order is None else order
    fields = dict(
        x=reproject(pose, camera).astype(np.float32),
        y=pose if root == "absolute" else slotted(pose).astype(np.float32),
        camera=camera,
        image=image,
    )
    return {name: torch.from_numpy(field[rows]) for name, field in fields.items()}


def pairs_of(batch: dict[str, Any]) -> list[list[int]]:
    image = batch["image"].tolist()
    return [[i for i, j in enumerate(image) if j == number] for number in sorted(set(image))]


def augmented(given: Any, mix: str, **config: Any) -> Any:
    """The augmented batch; with append, only its augmented rows."""
    root = "absolute" if given["y"][:, :, 1, 2].min() > 1 else "slot"
    augmenter, _, _ = attached(small("random", mix=mix, **config), FORMAT | dict(root=root))
    (*_, result) = augmenter.wrap([given])
    return {k: v[1::2] for k, v in result.items()} if mix == "append" else result


each_mix = pytest.mark.parametrize("mix", ["replace", "append", "alternate"])


@each_mix
def test_a_scene_moves_rigidly(mix: str) -> None:
    """If only the view changes, all distances between two joints of a scene are kept."""
    given = scenes()
    after = augmented(given, mix, ba=False, bl=False, image_offset=0.1, distance=(4.0, 6.0))
    changed = set(changed_rows(given["y"], after["y"]))
    assert len(changed) >= 4
    for pair in pairs_of(given):
        assert len(changed & set(pair)) in (0, 2)
        old, new = (b["y"][pair].transpose(0, 1).flatten(1, 2).double() for b in (given, after))
        assert (torch.cdist(old, old) - torch.cdist(new, new)).abs().max() < 1e-4
        assert torch.equal(after["camera"][pair[0]], after["camera"][pair[1]])
    off = reproject(after["y"], after["camera"]) - after["x"].numpy()
    assert np.abs(off[sorted(changed)]).max() < 1e-5


@each_mix
@pytest.mark.parametrize("root", ["absolute", "slot"])
def test_new_people_keep_the_distances_between_roots(root: str, mix: str) -> None:
    given = scenes(root)
    after = augmented(given, mix, image_offset=0.1, distance=(4.0, 6.0))
    changed = set(changed_rows(given["y"], after["y"]))
    assert len(changed) >= 4
    for pair in pairs_of(given):
        assert len(changed & set(pair)) in (0, 2)
        apart = [
            (b["y"][pair[0], :, 0] - b["y"][pair[1], :, 0]).norm(dim=-1) for b in (given, after)
        ]
        assert (apart[0] - apart[1]).abs().max() < 1e-4


@each_mix
def test_a_scene_is_rejected_if_one_person_leaves_the_frame(mix: str) -> None:
    given = scenes()
    limits = dict(image_offset=0.6, distance=(2.0, 5.0), ratio=1.0)
    after = augmented(given, mix, **limits)
    changed = set(changed_rows(given["y"], after["y"]))
    assert 2 <= len(changed) < 2 * SCENES
    assert {len(changed & set(pair)) for pair in pairs_of(given)} == {0, 2}
    alone = augmented({**given, "image": torch.arange(2 * SCENES)}, mix, **limits)
    apart = set(changed_rows(given["y"], alone["y"]))
    assert 1 in {len(apart & set(pair)) for pair in pairs_of(given)}


def test_replace_augments_whole_scenes_up_to_the_ratio() -> None:
    given = scenes()
    for seed in range(5):
        changed = changed_rows(given["y"], augmented(given, "replace", seed=seed, ratio=0.25)["y"])
        assert len(changed) <= 0.25 * 2 * SCENES + 1
        assert len(changed) % 2 == 0


def test_image_numbers_may_have_any_values_and_types() -> None:
    """Only equality of the numbers matters."""
    given = scenes()
    poses = [
        augmented({**given, "image": image}, "append")["y"]
        for image in (given["image"], given["image"].numpy() - 40, given["image"].double() / 3)
    ]
    assert torch.equal(poses[0], poses[1])
    assert torch.equal(poses[0], poses[2])


@pytest.mark.parametrize(
    "names",
    [
        lambda i: [f"image {n}" for n in i],
        lambda i: tuple(f"image {n}".encode() for n in i),
        lambda i: np.array([f"image {n}" for n in i]),
        lambda i: np.array([f"image {n}" for n in i], object),
        lambda i: [("S1", n) for n in i],
        lambda i: [10**400 + n for n in i],
        lambda i: np.array(i, np.uint64) + np.uint64(2**63),
        lambda i: [torch.tensor(n) for n in i],
    ],
    ids=["text", "bytes", "array", "objects", "tuples", "400 digits", "uint64", "tensors"],
)
def test_images_may_have_names_of_any_kind(names: Any) -> None:
    given = scenes()
    named = {**given, "image": names(given["image"].tolist())}
    assert torch.equal(augmented(named, "replace")["y"], augmented(given, "replace")["y"])


@pytest.mark.parametrize(
    "names", ["x" * 2 * SCENES, {1: 2}, None, [[1, 2]] * 2 * SCENES, [{}] * 24]
)
def test_names_that_are_not_one_per_row_raise(names: Any) -> None:
    with pytest.raises(BatchError, match=r"groups \(field 'image'\).*expected one number"):
        augmented({**scenes(), "image": names}, "replace")


def test_groups_without_root_positions_raise() -> None:
    with pytest.raises(ConfigError, match=r"groups=.*root='relative' has no positions.*absolute"):
        attached(batch=FORMAT | dict(root="relative"))


@pytest.mark.parametrize("first", [True, False], ids=["padding first", "padding last"])
def test_padding_does_not_reject_a_scene(first: bool) -> None:
    """Scenes of fixed size are padded with rows of zeros that have the scene's number."""
    given = scenes(order=np.arange(2 * SCENES))
    empty = {name: torch.zeros_like(field[::2]) for name, field in given.items()}
    empty["image"] = given["image"][::2]
    parts = [empty, given] if first else [given, empty]
    padded = {name: torch.cat([part[name] for part in parts]) for name in given}
    people = slice(SCENES, None) if first else slice(2 * SCENES)
    config = small("random", ratio=1.0, ba=False, bl=False, image_offset=0.1, distance=(4, 6))
    result = attached(config, FORMAT)[0](padded)
    changed = changed_rows(padded["y"], result["y"])
    assert len(changed) >= SCENES
    assert set(changed) <= set(range(3 * SCENES)[people])
    for name, field in given.items():
        assert field.shape == result[name][people].shape
    before, after = (x["y"][people].view(SCENES, 2, FRAMES, 16, 3) for x in (padded, result))
    apart = [(p[:, 0, :, 0] - p[:, 1, :, 0]).norm(dim=-1) for p in (before, after)]
    assert torch.allclose(*apart, atol=1e-4)  # distances are kept
