"""An interactive page: poses that can be turned round, in one HTML file that needs no network."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from .arguments import CPU, skeleton_of
from .sides import COLOURS, side

if TYPE_CHECKING:
    from ..plugin import PoseAugmenter

__all__ = ["augmented_page", "write_page"]

TEMPLATE = Path(__file__).with_name("page.html")


def write_page(
    sets: Mapping[str, PoseBatch],
    path: Path | str,
    *,
    skeleton: Skeleton | str | None = None,
    rows: int = 24,
    title: str = "Poses",
) -> Path:
    """Write a page on which poses can be turned, enlarged and, if they are clips, played.

    Sets are shown side by side, row by row, each in 3D and in the image.

    Args:
        sets: title to poses, with the same number of rows.
        path: file to write. Its folder is created.
        skeleton: a `Skeleton` or what `Skeleton.of` takes. None: the preset with as many joints.
        rows: how many rows the page holds at most.
        title: title of the page.

    Returns:
        The path.
    """
    found = {name: poses.to(CPU).first(rows) for name, poses in sets.items()}
    joints = next(iter(found.values())).pose_2d.shape[2]
    tree = skeleton_of(skeleton, joints)
    content = {
        "bones": [
            [parent, child, COLOURS[side(tree, child)]]
            for parent, child in zip(tree.parent, tree.child)
        ],
        "names": list(tree.names or map(str, range(joints))),
        "sets": [
            {
                "title": name,
                "height": poses.frame_height,
                "pose_3d": _rounded(poses.pose_3d, 4),
                "pose_2d": _rounded(poses.pose_2d, 4),
            }
            for name, poses in found.items()
        ],
    }
    # `<` is escaped, so that no name can end the script element.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    page = TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(title)).replace("{{data}}", data)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def augmented_page(augmenter: PoseAugmenter, batch: Any, path: Path | str, rows: int = 24) -> Path:
    """Write a page with rows of a batch beside what the augmenter puts in their place.

    Args:
        augmenter: an attached augmenter.
        batch: what the loader yields, in the augmenter's format. It is not changed.
        path: file to write. Its folder is created.
        rows: how many rows the page holds at most.

    Returns:
        The path.
    """
    before = augmenter.read(batch)
    after, accepted, _ = augmenter.preview(batch)
    shown = accepted.nonzero()[:rows, 0]
    sets = {"in your batch": before.pick(shown), "in its place": after.pick(shown)}
    return write_page(
        sets, path, skeleton=augmenter.skeleton, rows=rows, title="A batch and its augmentation"
    )


def _rounded(values: Tensor, digits: int) -> Any:
    return [
        [[[round(x, digits) for x in joint] for joint in pose] for pose in clip]
        for clip in values.tolist()
    ]
