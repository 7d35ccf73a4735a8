"""Skeletons: trees of joints, and what follows from them, such as mirrored bones and body parts.

Bone k connects joint `child[k]` to its parent `parent[k]`. Bones are numbered in the order of
their child joints; the root is the child of no bone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import SkeletonError, look_up
from .mmpose_metainfo import parse_dataset_meta
from .skeleton_presets import PRESETS

__all__ = ["SKELETONS", "Skeleton"]


@dataclass(frozen=True)
class Skeleton:
    """A tree of joints with a left and a right side.

    Args:
        parents: the parent of each joint, -1 for the root. Joints may be in any order.
        left, right: the joints of each side; `left[i]` mirrors `right[i]`. Empty if the skeleton
            has no sides, as that of a hand.
        names: the name of each joint, for messages and plots.

    Raises:
        SkeletonError: the parents do not form one tree, or the sides do not mirror each other.

    >>> arm = Skeleton(parents=[-1, 0, 1], names=["shoulder", "elbow", "wrist"])
    >>> arm.num_bones, arm.child, arm.parent
    (2, (1, 2), (0, 1))
    """

    parents: tuple[int, ...]
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in ("parents", "left", "right"):
            object.__setattr__(self, field, tuple(int(i) for i in getattr(self, field)))
        if self.names is not None:
            object.__setattr__(self, "names", tuple(self.names))
        self._check_tree()
        self._check_sides()

    def _check_tree(self) -> None:
        roots = [j for j, parent in enumerate(self.parents) if parent < 0]
        if self.num_joints < 2 or len(roots) != 1:
            raise SkeletonError(
                f"parents={self.parents} has the roots {roots}; expected two joints or more and "
                "exactly one root. Set the parent of the pelvis (or wrist), and of no other joint, "
                "to -1."
            )
        if max(self.parents) >= self.num_joints:
            raise SkeletonError(
                f"parents={self.parents} refers to joint {max(self.parents)}, but has only "
                f"{self.num_joints} joints. Renumber the parents after removing joints."
            )
        reached, frontier = 0, set(roots)
        while frontier:
            reached += len(frontier)
            frontier = {j for j, parent in enumerate(self.parents) if parent in frontier}
        if reached != self.num_joints:
            raise SkeletonError(
                f"parents={self.parents} has a cycle: only {reached} of {self.num_joints} joints "
                "are connected to the root. From each joint, the parents must lead to -1."
            )
        if self.names is not None and len(self.names) != self.num_joints:
            raise SkeletonError(
                f"{len(self.names)} names for {self.num_joints} joints; pass one name per joint."
            )

    def _check_sides(self) -> None:
        both = self.left + self.right
        if len(self.left) != len(self.right) or len(set(both)) != len(both):
            raise SkeletonError(
                f"left={self.left} and right={self.right} must have the same length and no joint "
                "in common: left[i] mirrors right[i]."
            )
        mirror = dict(zip(both, self.right + self.left))
        for left, right in zip(self.left, self.right):
            if not (0 <= left < self.num_joints and 0 <= right < self.num_joints):
                raise SkeletonError(
                    f"left={self.left} and right={self.right} have joints outside 0 to "
                    f"{self.num_joints - 1}; number the joints as in parents."
                )
            left_parent, right_parent = self.parents[left], self.parents[right]
            expected = mirror.get(left_parent, left_parent)
            if right_parent != expected:
                raise SkeletonError(
                    f"left and right are in different orders: left joint {left} has the parent "
                    f"{left_parent}, but its mirror {right} has the parent {right_parent}, "
                    f"expected {expected}. Make left[i] mirror right[i]."
                )

    @classmethod
    def of(cls, source: Skeleton | str | Sequence[int] | object) -> Skeleton:
        """Return the skeleton that `source` describes.

        Args:
            source: a `Skeleton`, the name of a preset, a parents list, an object with the methods
                `parents()`, `joints_left()` and `joints_right()`, such as the result of
                `dataset.skeleton()` in VideoPose3D, SemGCN and PoseAug, or a `dataset_meta` of
                mmpose.

        Raises:
            SkeletonError: `source` is none of these, or does not describe a tree.
        """
        if isinstance(source, Skeleton):
            return source
        if isinstance(source, str):
            alternative = "pass Skeleton(parents, left, right)"
            return look_up(SKELETONS, source, "skeleton", alternative, SkeletonError)
        if isinstance(source, Mapping):
            return cls(*parse_dataset_meta(source))
        if all(hasattr(source, name) for name in ("parents", "joints_left", "joints_right")):
            parents, left, right = (
                tuple(int(i) for i in getattr(source, name)())
                for name in ("parents", "joints_left", "joints_right")
            )
            return cls(parents, left, right)
        try:
            parents = tuple(int(i) for i in source)  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            raise SkeletonError(
                f"cannot make a skeleton from an object of type {type(source).__name__}; pass the "
                "name of a preset, a parents list, dataset.skeleton(), or "
                "Skeleton(parents, left, right)."
            ) from None
        return cls(parents)

    @classmethod
    def for_joints(cls, count: int) -> Skeleton:
        """Return the preset with `count` joints; for 17 joints, that of Human3.6M.

        Raises:
            SkeletonError: no preset has `count` joints.
        """
        if count not in _BY_COUNT:
            raise SkeletonError(
                f"no preset skeleton has {count} joints (known: {sorted(_BY_COUNT)}); pass "
                "skeleton=Skeleton(parents, left, right). If the poses have another number, their "
                "joints are in another dimension than expected: yield (B, J, C) or (B, T, J, C)."
            )
        return SKELETONS[_BY_COUNT[count]]

    @property
    def num_joints(self) -> int:
        """Number of joints, J."""
        return len(self.parents)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """`names`, or `joint 0`, `joint 1`, ... if the joints have none."""
        return self.names or tuple(f"joint {j}" for j in range(self.num_joints))

    @property
    def num_bones(self) -> int:
        """Number of bones, K = J - 1."""
        return len(self.parents) - 1

    @cached_property
    def root(self) -> int:
        """The joint without a parent."""
        return next(j for j, parent in enumerate(self.parents) if parent < 0)

    @cached_property
    def child(self) -> tuple[int, ...]:
        """The joint at the end of each bone."""
        return tuple(j for j in range(self.num_joints) if j != self.root)

    @cached_property
    def parent(self) -> tuple[int, ...]:
        """The joint at the start of each bone."""
        return tuple(self.parents[j] for j in self.child)

    @cached_property
    def bone_of(self) -> dict[int, int]:
        """The bone that ends at each joint; the root has none."""
        return {joint: bone for bone, joint in enumerate(self.child)}

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The joints whose parent each joint is."""
        return tuple(
            tuple(j for j, parent in enumerate(self.parents) if parent == joint)
            for joint in range(self.num_joints)
        )

    @cached_property
    def mirror_group(self) -> tuple[int, ...]:
        """The mirror group of each bone: a bone and its mirror have the same number."""
        mirror = dict(zip(self.left + self.right, self.right + self.left))
        group: dict[int, int] = {}
        for joint in self.child:
            twin = mirror.get(joint, joint)
            group[joint] = group[twin] if twin in group else len(set(group.values()))
        return tuple(group[joint] for joint in self.child)

    @property
    def num_groups(self) -> int:
        """Number of mirror groups, G."""
        return max(self.mirror_group) + 1

    @cached_property
    def trunk(self) -> tuple[int, ...]:
        """Bones of no side from which bones of a side descend, from the root upward.

        In Human3.6M, these are the bones from pelvis to spine and from spine to thorax.
        """
        sided = set(self.left) | set(self.right)

        def has_sided_descendant(joint: int) -> bool:
            return any(c in sided or has_sided_descendant(c) for c in self.children[joint])

        joints = [j for j in self.child if j not in sided and has_sided_descendant(j)]
        return tuple(self.bone_of[j] for j in sorted(joints, key=self._depth))

    @cached_property
    def limbs(self) -> tuple[tuple[int, ...], ...]:
        """Bones of each limb, outward from a joint with several children.

        If the skeleton has sides, only chains of a side are limbs: the neck belongs to the torso.
        Otherwise all chains are, as the fingers of a hand. The toes and the heel belong to the leg.
        """
        sided = set(self.left) | set(self.right)
        starts = dict.fromkeys(  # of the chains to each leaf, in the order of the leaves
            self._chain(leaf)[0]
            for leaf in self.child
            if not self.children[leaf] and (leaf in sided or not sided)
        )
        return tuple(tuple(self.bone_of[j] for j in self._below(start)) for start in starts)

    def _chain(self, joint: int) -> list[int]:
        """The joints from the start of a limb to one of its joints.

        A limb starts below a joint with several children, unless these are the foot of the limb:
        not longer than the limb up to there.
        """
        parent = self.parents[joint]
        if parent == self.root:
            return [joint]
        chain = self._chain(parent)
        foot = parent in (*self.left, *self.right) and self._height(parent) <= len(chain)
        return [*chain, joint] if len(self.children[parent]) == 1 or foot else [joint]

    def _below(self, joint: int) -> list[int]:
        """A joint and its descendants, nearest first."""
        found = [joint]
        for j in found:
            found += self.children[j]
        return found

    def _height(self, joint: int) -> int:
        """Number of bones between a joint and its farthest leaf."""
        return max((1 + self._height(j) for j in self.children[joint]), default=0)

    @cached_property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """Bones of each body part that the 3D discriminator scores: one per limb, then the torso.

        The part of a limb includes the parent bone of the limb, so that it covers the angle at the
        shoulder. If the limb starts at the root, the part includes the other bones of the root
        instead, so that it covers the angle at the hip. On the 16 joints of Human3.6M, these are
        the five lists of the released code.
        """
        limb_bones = {bone for limb in self.limbs for bone in limb}
        torso = [b for b in range(self.num_bones) if b not in limb_bones]
        torso += [limb[0] for limb in self.limbs]
        parts = []
        for limb in self.limbs:
            start = self.parent[limb[0]]
            if start == self.root:
                context = [self.bone_of[j] for j in self.children[start]]
            else:
                context = [self.bone_of[start]]
            parts.append(tuple(sorted({*limb, *context})))
        return (*parts, tuple(sorted(torso)))

    @cached_property
    def joint_tiers(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Joints in three tiers by their distance from the trunk.

        The tiers of a body are hips and shoulders, knees and elbows, ankles and wrists. Joints of
        the head are in the second tier. The joints of the trunk and the root are in none.
        """
        tiers: tuple[list[int], list[int], list[int]] = ([], [], [])
        in_limb = set()
        for limb in self.limbs:
            for position, bone in enumerate(limb):
                tiers[3 * position // len(limb)].append(self.child[bone])
                in_limb.add(bone)
        for bone in range(self.num_bones):
            if bone not in in_limb and bone not in self.trunk:
                tiers[1].append(self.child[bone])
        near, middle, far = (tuple(sorted(tier)) for tier in tiers)
        return near, middle, far

    def _depth(self, joint: int) -> int:
        """Number of bones between the root and a joint."""
        depth = 0
        while joint != self.root:
            joint = self.parents[joint]
            depth += 1
        return depth


SKELETONS: dict[str, Skeleton] = {name: Skeleton(*preset) for name, preset in PRESETS.items()}

_BY_COUNT = {
    15: "humaneva_15",
    16: "h36m_16",
    17: "h36m_17",
    21: "hand_21",
    24: "smpl_24",
    25: "body_25",
    26: "halpe_26",
}
