"""Who hangs on whom: joints, parents, mirrored bones and body parts, from one parents list.

Bone k joins joint `child[k]` to its parent; bones are numbered by child joint, the root left out.
Everything else here is derived, so that nothing anywhere types a joint count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import SkeletonError, look_up
from .mmpose_metainfo import tree_of
from .skeleton_presets import PRESETS

__all__ = ["SKELETONS", "Skeleton"]


@dataclass(frozen=True)
class Skeleton:
    """A tree of joints with a left and a right side.

    Args:
        parents: parent of every joint, -1 for the root; any order.
        left, right: joints of either side; `left[i]` mirrors `right[i]`. Empty where there are
            no sides (a hand).
        names: one per joint, for messages and plots.

    Raises:
        SkeletonError: not one tree, or sides that do not mirror each other.

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
                f"parents={self.parents} has roots {roots}; a skeleton needs two joints or more "
                "and exactly one root, marked -1. Give the pelvis (or wrist) the parent -1."
            )
        if max(self.parents) >= self.num_joints:
            raise SkeletonError(
                f"parents={self.parents} names joint {max(self.parents)}, but there are only "
                f"{self.num_joints}. Renumber the parents after removing joints."
            )
        reached, frontier = 0, set(roots)
        while frontier:
            reached += len(frontier)
            frontier = {j for j, parent in enumerate(self.parents) if parent in frontier}
        if reached != self.num_joints:
            raise SkeletonError(
                f"parents={self.parents} has a cycle: only {reached} of {self.num_joints} joints "
                "hang on the root. Follow each joint's parents; all must end at -1."
            )
        if self.names is not None and len(self.names) != self.num_joints:
            raise SkeletonError(
                f"{len(self.names)} names for {self.num_joints} joints; give one name per joint."
            )

    def _check_sides(self) -> None:
        both = self.left + self.right
        if len(self.left) != len(self.right) or len(set(both)) != len(both):
            raise SkeletonError(
                f"left={self.left} and right={self.right} must have equal length and share no "
                "joint: left[i] mirrors right[i]."
            )
        mirror = dict(zip(both, self.right + self.left))
        for left, right in zip(self.left, self.right):
            if not (0 <= left < self.num_joints and 0 <= right < self.num_joints):
                raise SkeletonError(
                    f"left={self.left}, right={self.right} name joints outside "
                    f"0..{self.num_joints - 1}."
                )
            above, other = self.parents[left], self.parents[right]
            if mirror.get(above, above) != other:
                raise SkeletonError(
                    f"joint {left} hangs on {above} but its mirror {right} hangs on {other}; "
                    "put left and right in the same order."
                )

    @classmethod
    def of(cls, source: Skeleton | str | Sequence[int] | object) -> Skeleton:
        """A skeleton from what the caller has.

        Args:
            source: a `Skeleton`, the name of a preset, a parents list, or an object with
                `parents()`, `joints_left()` and `joints_right()` as `dataset.skeleton()` of
                VideoPose3D, SemGCN and PoseAug returns, or mmpose's `dataset_meta`.

        Raises:
            SkeletonError: none of these.
        """
        if isinstance(source, Skeleton):
            return source
        if isinstance(source, str):
            other = "pass Skeleton(parents, left, right)"
            return look_up(SKELETONS, source, "skeleton", other, SkeletonError)
        if isinstance(source, Mapping):
            return cls(*tree_of(source))
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
                f"cannot make a skeleton of {type(source).__name__}; pass a preset's name, a "
                "parents list, dataset.skeleton(), or Skeleton(parents, left, right)."
            ) from None
        return cls(parents)

    @classmethod
    def for_joints(cls, count: int) -> Skeleton:
        """The preset that `count` joints mean in this field; Human3.6M's where several fit.

        Raises:
            SkeletonError: no preset has that many joints.
        """
        if count not in _BY_COUNT:
            raise SkeletonError(
                f"no preset skeleton has {count} joints (known: {sorted(_BY_COUNT)}); pass "
                "skeleton=Skeleton(parents, left, right)."
            )
        return SKELETONS[_BY_COUNT[count]]

    @property
    def num_joints(self) -> int:
        return len(self.parents)

    @property
    def num_bones(self) -> int:
        return len(self.parents) - 1

    @cached_property
    def root(self) -> int:
        return next(j for j, parent in enumerate(self.parents) if parent < 0)

    @cached_property
    def child(self) -> tuple[int, ...]:
        """Joint at the far end of each bone."""
        return tuple(j for j in range(self.num_joints) if j != self.root)

    @cached_property
    def parent(self) -> tuple[int, ...]:
        """Joint at the near end of each bone."""
        return tuple(self.parents[j] for j in self.child)

    @cached_property
    def bone_of(self) -> dict[int, int]:
        """Bone that ends at a joint."""
        return {joint: bone for bone, joint in enumerate(self.child)}

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(j for j, parent in enumerate(self.parents) if parent == joint)
            for joint in range(self.num_joints)
        )

    @cached_property
    def mirror_group(self) -> tuple[int, ...]:
        """Group of each bone; a bone and its mirror share one. Numbered in order of bones."""
        mirror = dict(zip(self.left + self.right, self.right + self.left))
        group: dict[int, int] = {}
        for joint in self.child:
            twin = mirror.get(joint, joint)
            group[joint] = group[twin] if twin in group else len(set(group.values()))
        return tuple(group[joint] for joint in self.child)

    @property
    def num_groups(self) -> int:
        return max(self.mirror_group) + 1

    @cached_property
    def trunk(self) -> tuple[int, ...]:
        """Unmirrored bones that carry mirrored ones (pelvis-spine, spine-thorax), root first."""
        sided = set(self.left) | set(self.right)

        def carries(joint: int) -> bool:
            return any(c in sided or carries(c) for c in self.children[joint])

        joints = [j for j in self.child if j not in sided and carries(j)]
        return tuple(self.bone_of[j] for j in sorted(joints, key=lambda j: len(self._up(j))))

    @cached_property
    def limbs(self) -> tuple[tuple[int, ...], ...]:
        """Chains of bones from a branching joint out to a leaf; unmirrored ones only where the
        skeleton has no sides (fingers), for a neck belongs to the torso.
        """
        sided = set(self.left) | set(self.right)
        chains = []
        for leaf in (j for j in self.child if not self.children[j]):
            if sided and leaf not in sided:
                continue
            chain = [leaf]
            while len(self.children[above := self.parents[chain[-1]]]) == 1 and above != self.root:
                chain.append(above)
            chains.append(tuple(self.bone_of[j] for j in reversed(chain)))
        return tuple(chains)

    @cached_property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """Bones of each part that the 3D discriminator judges: one per limb, then the torso.

        A limb is judged with the bone it hangs from, or, where it hangs from the root, with the
        root's other bones: the angle at hip or shoulder is part of a limb's pose. On
        Human3.6M's 16 joints these are the released code's five lists.
        """
        limb_bones = {bone for limb in self.limbs for bone in limb}
        torso = [b for b in range(self.num_bones) if b not in limb_bones]
        torso += [limb[0] for limb in self.limbs]
        parts = []
        for limb in self.limbs:
            base = self.parents[self.child[limb[0]]]
            if base == self.root:
                context = [self.bone_of[j] for j in self.children[base]]
            else:
                context = [self.bone_of[base]]
            parts.append(tuple(sorted({*limb, *context})))
        return (*parts, tuple(sorted(torso)))

    @cached_property
    def joint_tiers(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Limb joints near, midway and far (hips and shoulders, knees and elbows, ankles and
        wrists); the head's joints count as midway. Trunk joints and the root are in none.
        """
        tiers: tuple[list[int], list[int], list[int]] = ([], [], [])
        in_limb = set()
        for limb in self.limbs:
            for place, bone in enumerate(limb):
                tiers[3 * place // len(limb)].append(self.child[bone])
                in_limb.add(bone)
        for bone in range(self.num_bones):
            if bone not in in_limb and bone not in self.trunk:
                tiers[1].append(self.child[bone])
        near, middle, far = (tuple(sorted(tier)) for tier in tiers)
        return near, middle, far

    def _up(self, joint: int) -> list[int]:
        path = []
        while joint >= 0:
            path.append(joint)
            joint = self.parents[joint]
        return path


SKELETONS: dict[str, Skeleton] = {name: Skeleton(*preset) for name, preset in PRESETS.items()}

_BY_COUNT = {16: "h36m_16", 17: "h36m_17", 15: "humaneva_15", 24: "smpl_24", 21: "hand_21"}
