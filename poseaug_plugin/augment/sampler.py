"""The sampler, which makes augmented pairs.

The steps of a sample are, in this order: choose the source row, swap bone lengths, bend, stretch,
place, project, accept or reject. Poses are converted to bones once, before the first step, and back
once. Nothing here is trained. Learned networks add to the parameters through `Sampler.propose`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..errors import ConfigError
from ..geometry.bones import EPS, Bones, body_axes, lengths, pose_to_bones
from ..geometry.camera import in_frame, zoom
from ..geometry.constants import constant, identity
from ..geometry.contact import bone_distance
from ..geometry.operators import axis_angle_to_matrix
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from ..loop.distributed import rank
from .augmentation import BONE_OPERATORS, Augmentation
from .body_measures import BodyMeasures
from .draws import uniform, weighted
from .own_views import OwnViews
from .pose_statistics import PoseStatistics
from .prior import Draw, View, draw, own_view, swap_lengths
from .ranges import Ranges
from .target import Target
from .view_statistics import ViewStatistics

__all__ = ["Draft", "Proposal", "Sampler"]

CONTACT = 0.5  # mean bone lengths between the bones of two people who touch: 13 cm
CONTACT_PAIRS = 4096  # that are compared at a time, to save memory
DETECTED = 0.01  # error of the 2D relative to the size of the person; a wrong lens has 0.004


@dataclass(frozen=True)
class Proposal:
    """The learned part of the parameters; empty if nothing is learned.

    Attributes:
        parameters: (B, ...) by operator, added to those of the prior. With a prior, `gamma_ba` is
            in the body frame, so that a bend does not depend on the view.
        axis_angle: (B, 3), radians, a rotation after that of the prior.
        t: (B, 3). Without a prior, the position of the root in metres. With a prior, two offsets
            on the image in screen units, and the log of a factor on the distance.
    """

    parameters: dict[str, Tensor] = field(default_factory=dict)
    axis_angle: Tensor | None = None
    t: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        view = (x for x in (self.axis_angle, self.t) if x is not None)
        return [*self.parameters.values(), *view]


@dataclass(frozen=True)
class Draft:
    """What learned networks see of the centre frame of each row, before they add to it.

    Attributes:
        bones: bones of (B, K). With a prior, they have its bends, lengths and view.
        place: (B, 4), image offset, log distance and log focal length of the prior's view; None
            without a prior.
    """

    bones: Bones
    place: Tensor | None = None


class Sampler:
    """Makes augmented pairs, from its own random stream and statistics of the poses.

    Args:
        skeleton: the skeleton of the poses.
        config: the ranges of the prior and all other options.
        device: device of the poses.
        target: unlabelled 2D poses from where the model will be used.

    Attributes:
        own_views: the ranges of views, if they are learned.
        detected: whether the 2D of the poses is detected, and errors of it are kept; None before
            the first batch.
        propose: returns the learned part of the parameters. None: nothing is learned.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        config: PoseAugConfig,
        device: torch.device,
        target: Target | None = None,
    ) -> None:
        self.skeleton, self.config, self.device = skeleton, config, device
        self._height = self._height_weights() if config.body_height and config.bl else None
        self._ranges = Ranges.of(config, skeleton, device)
        self.view_statistics = ViewStatistics(device)
        self.generator = torch.Generator(device).manual_seed(config.seed + 1 + rank())
        self.pose_statistics = PoseStatistics(skeleton, device)
        self.target = target
        self.own_views = OwnViews(config, device) if config.widens else None
        self.detected: bool | None = None
        self.owed_rows = 0.0  # that `ratio` asks for and no batch has had yet, see `mixing`
        self.propose: Callable[[Draft], Proposal] | None = None

    @property
    def ranges(self) -> Ranges:
        """What the prior draws from."""
        if self.target is None:
            return self._ranges
        return self._ranges.with_target(self.config, self.skeleton)

    @torch.no_grad()
    def pairs(self, poses: PoseBatch, rows: Tensor) -> tuple[PoseBatch, Tensor]:
        """Make augmented pairs to replace the given rows (N,) of a batch.

        The poses may come from other rows of the batch, see `source_rows`. The pairs also correct
        what is learned from the target.

        Returns:
            N pairs, and which of them are accepted (N,).
        """
        self.measure(poses)
        sources, centre = rows, None
        if self.config.uses_pose_statistics:
            centre = Bones.of(poses.pose_3d[:, poses.middle, None], self.skeleton)
            sources = self.source_rows(poses, centre, rows)
        originals = poses.pick(sources)
        if centre is not None and poses.pose_3d.shape[1] == 1:
            bones = centre.pick(sources)
        else:
            bones = Bones.of(originals.pose_3d, self.skeleton)
        bones, is_lifted = self._lifted(bones)
        augmented, accepted, *_ = self._sample(originals, bones, keeps_pose=is_lifted)
        accepted = accepted & poses.valid.index_select(0, rows)
        if self.target is not None:
            self.target.add(augmented, accepted)
        return augmented, accepted

    @torch.no_grad()
    def sample(self, poses: PoseBatch) -> tuple[PoseBatch, Tensor, Augmentation]:
        """Make an augmented pair from each row.

        Returns:
            B pairs, which of them are accepted (B,), and the parameters.
        """
        bones = Bones.of(poses.pose_3d, self.skeleton)
        augmented, accepted, swap, aug = self._sample(poses, bones)
        return augmented, accepted, aug if swap is None else aug.after_stretch(swap)

    @torch.no_grad()
    def sample_in(self, poses: PoseBatch, low: Tensor, high: Tensor) -> tuple[PoseBatch, Tensor]:
        """Make an augmented pair from each row, with a view in given ranges.

        Args:
            low, high: (B, 7), the ends of the ranges, see `ranges.VIEW`.

        Returns:
            B pairs, and which of them are accepted (B,).
        """
        bones = Bones.of(poses.pose_3d, self.skeleton)
        augmented, accepted, *_ = self._sample(poses, bones, (low, high))
        return augmented, accepted

    def _sample(
        self,
        poses: PoseBatch,
        bones: Bones,
        view_ends: tuple[Tensor, Tensor] | None = None,
        keeps_pose: Tensor | None = None,
    ) -> tuple[PoseBatch, Tensor, Tensor | None, Augmentation]:
        bones, swap = self.swap_lengths(poses, bones)
        aug, *_ = self.augment(poses, bones, view_ends, keeps_pose)
        pose_3d = aug.place(aug.stretch(aug.bend(bones)), bones, poses.path)
        augmented = self.observe(poses, pose_3d, aug.camera)
        if self.detected:
            kept = uniform(self.generator, len(poses)) < self.config.keep_detection_error
            augmented = augmented.with_error(poses.detection_error * kept[:, None, None, None])
        return augmented, self.accepted(poses, augmented, pose_3d), swap, aug

    # The steps of a sample

    def measure(self, poses: PoseBatch) -> None:
        """Fit the ranges of the prior to the rows so far and those of a batch.

        The first batch tells whether the 2D is detected; only then this waits for the device.
        """
        if self.detected is None:
            self.detected = bool(self.config.keep_detection_error) and _is_detected(poses)
        if self.config.uses_view_statistics and self.view_statistics.add(poses):
            self._fit()

    def _fit(self) -> None:
        self._ranges = self._ranges.fitted(self.config, self.view_statistics)

    def source_rows(self, poses: PoseBatch, bones: Bones, rows: Tensor) -> Tensor:
        """Return the row from whose pose each of `rows` (N,) is made, and update the statistics.

        It is the row itself, or, with `config.rare_pose_power`, any row of the batch, with a
        probability that grows with the rarity of its pose. Rows of groups keep their own poses.

        Args:
            poses: the batch.
            bones: the bones (B, 1, K) of its centre frames.
            rows: indices of rows.
        """
        config, pose_statistics = self.config, self.pose_statistics
        _ = bones.axes  # computes and caches them for later use
        centre = bones.frame(0)
        directions = centre.body_direction
        pose_statistics.add(directions, centre.axes, poses.valid)
        if not config.resamples or poses.group is not None:
            return rows
        complete = poses.valid & (centre.length > EPS).all(-1)  # a missing bone is not a rare pose
        weight = pose_statistics.rarity(directions) ** config.rare_pose_power * complete
        return weighted(self.generator, weight, len(rows))

    def _lifted(self, bones: Bones) -> tuple[Bones, Tensor | None]:
        """Give some rows a pose of the target, with `config.lifted_poses`.

        Args:
            bones: bones of (B, T, K).

        Returns:
            The bones, and which rows have such a pose (B,), or None.
        """
        if self.target is None or not self.config.lifts:
            return bones, None
        rows, frames = bones.direction.shape[:2]
        centre = bones.frame(frames // 2)
        share = self.config.lifted_poses
        directions, chosen = self.target.draw_poses(rows, share, self.generator)
        if frames > 1:  # the root moves as before, so the body has to face as before
            axes = body_axes(directions, self.skeleton)
            directions = directions @ axes @ centre.axes.mT
        gamma_ba = torch.where(chosen[:, None, None], directions - centre.direction, 0.0)
        return bones.bend_clip(gamma_ba, frames // 2), chosen

    def swap_lengths(self, poses: PoseBatch, bones: Bones) -> tuple[Bones, Tensor | None]:
        """With `config.swap_lengths`, give each row the bone lengths of another row.

        Returns:
            The bones of (B, T, K), and the gamma_bl (B, G) that was applied, or None.
        """
        if not (self.config.swap_lengths and self.config.bl):
            return bones, None
        gamma_bl = swap_lengths(bones.length[:, poses.middle], self.skeleton, self.generator)
        return bones.stretch(gamma_bl[:, None]), gamma_bl

    def augment(
        self,
        poses: PoseBatch,
        bones: Bones,
        view_ends: tuple[Tensor, Tensor] | None = None,
        keeps_pose: Tensor | None = None,
    ) -> tuple[Augmentation, Draft, Proposal]:
        """Return the parameters of each row, and the learned part of them.

        They are the sum of those of the prior, the bends to a new pose and the learned ones. The
        networks see the result of the first two, so that they can refine it.

        Args:
            poses: the rows.
            bones: their bones, of (B, T, K).
            view_ends: the ranges of views (B, 7), low and high. None: those of the prior.
            keeps_pose: (B,) bool, the rows that get no new pose. None: no row.
        """
        config, centre, sources = self.config, bones.frame(poses.middle), None
        drawn = self.draw(poses, view_ends) if config.prior else None
        parameters = dict(drawn.parameters) if drawn else {}
        if self.target is not None and config.ba and config.bl:
            _add(parameters, "offset", self.target.offset(centre))
        if config.varies_poses:
            new, sources = self.pose_statistics.new_poses(
                centre.body_direction, config, self.generator
            )
            # Back in the camera frame, minus the old unit bones.
            gamma_ba = torch.baddbmm(centre.direction, new, centre.axes.mT, beta=-1)
            if keeps_pose is not None:
                gamma_ba = torch.where(keeps_pose[:, None, None], 0.0, gamma_ba)
            _add(parameters, "gamma_ba", gamma_ba)
        if self.target is not None and config.bl:
            own, gamma_bl = parameters.get("gamma_bl"), self.target.gamma_bl(centre)
            parameters["gamma_bl"] = gamma_bl if own is None else (1 + own) * (1 + gamma_bl) - 1
        view = self._view_to_refine(drawn, poses) if config.rt and config.refines else None
        draft = self._draft(centre, parameters, view)
        learned = Proposal() if self.propose is None else self.propose(draft)
        for name, value in learned.parameters.items():
            in_body_frame = config.refines and name == "gamma_ba"
            _add(parameters, name, value @ centre.axes.mT if in_body_frame else value)
        R, t, camera = self._view(learned, view, poses)
        aug = Augmentation(parameters, R, t, camera, sources)
        if self._height is not None:
            stretched = centre if aug.gamma_bl is None else centre.stretch(aug.gamma_bl)
            aug = aug.after_stretch(self._to_height(stretched, self._height))
        leader = poses.leader
        return aug if leader is None else aug.share_views(leader), draft, learned

    def _view_to_refine(self, drawn: Draw | None, poses: PoseBatch) -> View:
        """Return the view that the prior has drawn, as it is used, or the rows' own one.

        The former is about the vertical of the caller's poses, with the target's places and sizes.
        For a row of a group, it is that of its leader.
        """
        view, leader = drawn.view if drawn else own_view(poses), poses.leader
        R, image_offset, distance = view.R, view.image_offset, view.distance
        if self.config.aligns_vertical:
            R = R.view(-1, 3).mm(self.pose_statistics.vertical_alignment()).view_as(R)
        if drawn and self.target is not None:
            views = self.target.draw_views(zoom(poses.camera, view.focal), self.generator)
            image_offset, distance = views or (image_offset, distance)
        if leader is None:
            return View(R, image_offset, distance, view.focal)
        return View(R[leader], image_offset[leader], distance[leader], view.focal[leader])

    def _draft(self, centre: Bones, parameters: dict[str, Tensor], view: View | None) -> Draft:
        """Return the sample of the prior, as far as the networks see it."""
        if self.propose is None or not self.config.refines:
            return Draft(centre)
        bones = centre
        for name, operator in BONE_OPERATORS.items():
            if name in parameters:
                bones = operator.apply(bones, parameters[name])
        if view is None:
            return Draft(bones, bones.length.new_zeros(len(bones.length), 4))
        scales = torch.stack([view.distance, view.focal], -1).log()
        bones = replace(bones, direction=bones.direction @ view.R.mT)
        return Draft(bones, torch.cat([view.image_offset, scales], -1))

    def _height_weights(self) -> Tensor:
        weights = BodyMeasures.of(self.skeleton).height
        if not weights:
            raise ConfigError(
                f"body_height={self.config.body_height} needs a skeleton with hips, knees, ankles "
                "and a trunk at its root; leave it out, or pass the data's skeleton=."
            )
        return constant(weights, torch.float32, self.device)

    def _to_height(self, bones: Bones, weights: Tensor) -> Tensor:
        """Return the change (B, G) of bone lengths to a height drawn from `config.body_height`.

        Args:
            bones: bones of (B, K).
            weights: (K,), see `BodyMeasures.height`.
        """
        low, high = self.config.body_height or (0.0, 0.0)
        height = low + (high - low) * uniform(self.generator, len(bones.length))
        factor = height / (bones.length @ weights).clamp_min(EPS)
        return (factor - 1)[:, None].expand(-1, self.skeleton.num_groups)

    def draw(self, poses: PoseBatch, view_ends: tuple[Tensor, Tensor] | None = None) -> Draw:
        """Draw from the prior for some rows; see `augment`."""
        ranges = self.ranges
        if view_ends is None and self.own_views is not None:
            view_ends = self.own_views.ends(poses)
        if view_ends is not None:
            ranges = replace(ranges, view=view_ends)
        return draw(len(poses), self.skeleton, self.config, ranges, self.generator)

    def _view(
        self, learned: Proposal, view: View | None, poses: PoseBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return R (B, 3, 3), t (B, 3) and the camera (B, 9)."""
        root, camera = poses.root[:, poses.middle], poses.camera
        if not self.config.rt:
            return identity(3, root.dtype, root.device).expand(len(root), 3, 3), root, camera
        rotation = None
        if learned.axis_angle is not None:
            rotation = axis_angle_to_matrix(learned.axis_angle)
        if view is None:  # all of it is learned
            assert rotation is not None
            assert learned.t is not None
            return rotation, learned.t, camera
        R = view.R if rotation is None else rotation @ view.R
        image_offset, distance = view.image_offset, view.distance
        if learned.t is not None:
            image_offset = image_offset + learned.t[:, :2]
            distance = distance * learned.t[:, 2].exp()
        camera = zoom(camera, view.focal)
        depth = distance[:, None]
        return R, torch.cat([depth * image_offset / camera[:, :2], depth], -1), camera

    def observe(
        self, poses: PoseBatch, pose_3d: Tensor, camera: Tensor, limit: float | None = None
    ) -> PoseBatch:
        """Return the rows with new absolute poses and their projection.

        Args:
            poses: the rows.
            pose_3d: (B, T, J, 3), camera frame, metres.
            camera: (B, 9).
            limit: see `geometry.camera.project`.
        """
        root = self.skeleton.root
        if self.config.released_quirks:  # the published projection: rays clamped, any depth
            return poses.projected(pose_3d, camera, root, limit=1.0, floor=-math.inf)
        return poses.projected(pose_3d, camera, root, limit=limit)

    def accepted(self, poses: PoseBatch, augmented: PoseBatch, pose_3d: Tensor) -> Tensor:
        """Return which pairs are accepted (B,): those in frame in all frames of the clip.

        A group is accepted only if all its people are, and no two of them came into contact.

        Args:
            poses: the rows from which the pairs were made.
            augmented: the pairs.
            pose_3d: their absolute poses (B, T, J, 3).
        """
        config = self.config
        if config.released_quirks:  # the published check: two sides of the image, any depth
            accepted = (augmented.pose_2d <= 1).flatten(1).all(1)
        else:
            accepted = in_frame(
                pose_3d.flatten(1, 2),
                augmented.pose_2d.flatten(1, 2),
                depth=self.ranges.depth,
                height=config.frame_height or poses.frame_height,
            )
        leader = poses.leader
        if leader is not None:
            rejected = (~accepted | self._contacts(poses, pose_3d)) & poses.valid
            group_rejected = torch.zeros_like(accepted)
            group_rejected.index_put_((leader,), rejected, accumulate=True)
            accepted = ~group_rejected[leader]
        return accepted & poses.valid

    def _contacts(self, poses: PoseBatch, pose_3d: Tensor) -> Tensor:
        """Return the rows (B,) of groups that touch another one and came nearer to it.

        This waits for the device.
        """
        same = (poses.group[:, None] == poses.group) & poses.valid[:, None] & poses.valid  # type: ignore[index]
        size = lengths(pose_to_bones(pose_3d, self.skeleton)).mean((1, 2))
        touching = torch.zeros_like(poses.valid)
        pairs = same.triu(1).nonzero()
        for start in range(0, len(pairs), CONTACT_PAIRS):
            first, second = pairs[start : start + CONTACT_PAIRS].unbind(1)
            before, after = (
                bone_distance(
                    x.index_select(0, first), x.index_select(0, second), self.skeleton
                ).amin(1)
                for x in (poses.absolute, pose_3d)
            )
            mean = (size.index_select(0, first) + size.index_select(0, second)) / 2
            contact = (after < CONTACT * mean) & (after < before)
            touching.index_put_((first,), contact, accumulate=True)
        return touching

    @torch.no_grad()
    def preview(self, poses: PoseBatch) -> tuple[PoseBatch, Tensor, Augmentation]:
        """Make an augmented pair from each row, as `sample`; nothing changes by it.

        Before the first batch, the ranges are fitted to these rows.
        """
        state = self.generator.get_state()
        try:
            with self.fitted_to(poses):
                return self.sample(poses)
        finally:
            self.generator.set_state(state)

    @contextmanager
    def fitted_to(self, poses: PoseBatch) -> Iterator[None]:
        """Before the first batch, the ranges are those of these rows inside the block."""
        ranges = self._ranges
        if self.config.uses_view_statistics and not self.view_statistics.rows:
            self._ranges = Ranges.for_batch(self.config, self.skeleton, poses)
        try:
            yield
        finally:
            self._ranges = ranges

    def rejections(self, poses: PoseBatch) -> tuple[str, str]:
        """Return the shares of pairs that leave the image and that are too near, in per cent.

        Nothing changes by it. This waits for the device.
        """
        observed, *_ = self.preview(poses)
        height = self.config.frame_height or poses.frame_height
        size = observed.pose_2d.new_tensor([1.0, height])
        outside = (observed.pose_2d.abs() > size).flatten(1).any(1)
        near = (observed.absolute[..., 2] < self.ranges.depth).flatten(1).any(1)
        return f"{float(outside.float().mean()):.0%}", f"{float(near.float().mean()):.0%}"

    # State

    def state_dict(self) -> dict[str, Any]:
        return {
            "pose_statistics": self.pose_statistics.state_dict(),
            "view_statistics": self.view_statistics.state_dict(),
            "generator": self.generator.get_state(),
            "owed_rows": self.owed_rows,
            "detected": self.detected,
            "target": None if self.target is None else self.target.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pose_statistics.load_state_dict(state["pose_statistics"], self.device)
        self.view_statistics.load_state_dict(state["view_statistics"], self.device)
        if self.config.uses_view_statistics:
            self._fit()
        self.owed_rows, self.detected = state["owed_rows"], state["detected"]
        if state["target"] is not None:
            self.target = Target.restored(state["target"], self.skeleton, self.device)
        saved = state["generator"].cpu()
        if saved.shape == self.generator.get_state().shape:
            self.generator.set_state(saved)
        else:  # the state of another kind of device: numbers that depend on it, not the first ones
            self.generator.manual_seed(zlib.crc32(saved.numpy().tobytes()))
        if rank():  # the state is usually that of rank 0, but each rank draws its own numbers
            seed = torch.randint(1 << 62, (), generator=self.generator, device=self.device)
            self.generator.manual_seed(int(seed) + rank())


def _add(parameters: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Add a parameter to the one of the same name, if there is one."""
    parameters[name] = parameters[name] + value if name in parameters else value


def _is_detected(poses: PoseBatch) -> bool:
    """Whether the 2D of most rows is off their projected 3D by more than a wrong lens explains."""
    error = poses.detection_error.square().sum(-1).mean((1, 2)).sqrt() / poses.size.clamp_min(EPS)
    rows = error[poses.valid]
    return bool(len(rows)) and bool(rows.median() > DETECTED)
