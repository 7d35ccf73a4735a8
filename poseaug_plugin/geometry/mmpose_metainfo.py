"""Conversion of mmpose's `dataset_meta` to a tree of joints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import SkeletonError
from .skeleton_presets import Preset

__all__ = ["parse_dataset_meta"]


def parse_dataset_meta(meta: Mapping[str, Any]) -> Preset:
    """Return parents, left joints, right joints and names.

    The tree follows the links from the joint that is named root, pelvis or hip, or from joint 0.

    Args:
        meta: `dataset_meta` of mmpose, with `keypoint_id2name`, `skeleton_links` and
            `flip_indices`.

    Raises:
        SkeletonError: a key is missing, or a joint is not connected to the root.
    """
    try:
        names = [meta["keypoint_id2name"][i] for i in range(len(meta["keypoint_id2name"]))]
        links = [(int(a), int(b)) for a, b in meta["skeleton_links"]]
        flip = [int(i) for i in meta["flip_indices"]]
    except (KeyError, TypeError, ValueError) as error:
        raise SkeletonError(
            f"a mapping with keys {sorted(map(str, meta))} is not a dataset_meta of mmpose "
            f"({error!r}); it needs keypoint_id2name, skeleton_links and flip_indices."
        ) from None
    root = next((i for i, n in enumerate(names) if n in ("root", "pelvis", "hip")), 0)
    parents, frontier = {root: -1}, [root]
    while frontier:  # breadth first: a link that closes a loop does not change a parent
        joint = frontier.pop(0)
        for a, b in (*links, *((b, a) for a, b in links)):
            if a == joint and b not in parents:
                parents[b] = a
                frontier.append(b)
    unreached = [name for i, name in enumerate(names) if i not in parents]
    if unreached:
        raise SkeletonError(
            f"skeleton_links is incomplete: no link leads from {names[root]} to {unreached}; pass "
            "Skeleton(parents, left, right)."
        )
    left = [i for i, j in enumerate(flip) if i != j and "left" in names[i]]
    return (
        tuple(parents[i] for i in range(len(names))),
        tuple(left),
        tuple(flip[i] for i in left),
        tuple(names),
    )
