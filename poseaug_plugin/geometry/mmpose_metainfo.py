"""mmpose's `dataset_meta` as a tree of joints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import SkeletonError
from .skeleton_presets import Preset

__all__ = ["tree_of"]


def tree_of(meta: Mapping[str, Any]) -> Preset:
    """Parents, left, right and names from joints by number, links, and pairs that swap.

    Raises:
        SkeletonError: no such mapping, or a joint that no link leads to.
    """
    try:
        names = [meta["keypoint_id2name"][i] for i in range(len(meta["keypoint_id2name"]))]
        links = [(int(a), int(b)) for a, b in meta["skeleton_links"]]
        swap = [int(i) for i in meta["flip_indices"]]
    except (KeyError, TypeError, ValueError) as error:
        raise SkeletonError(
            f"a mapping with {sorted(map(str, meta))} is no mmpose dataset_meta ({error!r}); "
            "it needs keypoint_id2name, skeleton_links and flip_indices."
        ) from None
    root = next((i for i, n in enumerate(names) if n in ("root", "pelvis", "hip")), 0)
    parents, frontier = {root: -1}, [root]
    while frontier:  # breadth first, so that a further link between limbs makes no parent
        joint = frontier.pop(0)
        for a, b in (*links, *((b, a) for a, b in links)):
            if a == joint and b not in parents:
                parents[b] = a
                frontier.append(b)
    loose = [name for i, name in enumerate(names) if i not in parents]
    if loose:
        raise SkeletonError(
            f"no link leads from {names[root]} to {loose}; pass Skeleton(parents, left, right)."
        )
    left = [i for i, j in enumerate(swap) if i != j and "left" in names[i]]
    return (
        tuple(parents[i] for i in range(len(names))),
        tuple(left),
        tuple(swap[i] for i in left),
        tuple(names),
    )
