"""What unlabelled 2D poses say about the people and the cameras where the model will be used.

Five things are taken from them:

- **Proportions.** Bone lengths of data sets differ by 10 to 20 % after the size of the people is
  taken out. A 2D length, divided by the mean of the pose, depends on the view, but its 75th
  percentile over many poses hardly does. Each mirror group of bones gets a factor that makes this
  percentile of the augmented poses equal to that of the target.
- **Joint definitions.** Joints of the trunk are moved in the body frame, until the medians of their
  places in 2D are those of the target, see `body_measures`.
- **Positions.** Augmented people stand where the people of the target stand in the image.
- **Sizes.** They appear as large as these.
- **Poses.** Some of them take the poses of these, which the caller's model lifts, see `lifting`.

The first two are corrected with each augmented batch, so that no past poses are kept (Robbins and
Monro, "A Stochastic Approximation Method", 1951).

How tall people are cannot be seen in 2D: a tall person far away looks like a short one nearby.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..batches.protocol import Format
from ..geometry.bones import EPS, Bones, lengths, pose_to_bones, unit
from ..geometry.constants import group_matrix, index_tensor
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from .body_measures import BodyMeasures
from .draws import normal, uniform, weighted
from .pose_statistics import MOMENTUM

__all__ = ["Target"]

ROWS = 2048  # poses that are kept; more are thinned out evenly, fewer are repeated
PERCENTILE = 0.75
#: Share of the poses in which a bone must be visible to be compared, and which the model must be
#: able to lift.
SEEN = 0.05
#: Share of the joints that a pose must show to be lifted.
SHOWN = 0.75
#: Correction by the first batch, per unit of probability: about a step of Newton's method.
GAIN = 0.4
GAIN_BATCHES = 10  # after which the correction is half as large
#: Limits of what is learned: twice or half as long, 0.6 mean bone lengths (15 cm) from its place.
LARGEST_LOG_FACTOR, LARGEST_SHIFT = 0.7, 0.6
BLOCKS = 10  # of consecutive poses, whose spread gives the standard errors
#: Distance by which a lifted pose may miss its 2D, mean over joints, in mean bone lengths.
FIT = 0.4
#: Mean bone length of a lifted pose, relative to that of its 2D; most people are seen at below 2.
DEEPEST = 5.0
#: Added to the covariance of 2D poses, in squares of the mean bone length: to each coordinate, and
#: to the place of the whole pose, which is unknown.
RIDGE, ANYWHERE = 0.01, 10.0
#: Tensors of the state.
SAVED = ("pose_2d", "visible", "log_factor", "shift", "reach", "lifted", "fits")

FEW_ERROR = 0.04  # larger standard errors of the proportions get a warning
SAME = 0.02  # relative difference below which proportions are called the same
SAME_VIEWS = 0.2  # standard deviations, and relative difference of them
UPSIDE_DOWN = 0.5  # cosine of the mean poses of target and training data


class Target:
    """Unlabelled 2D poses from where the model will be used, and what is learned from them.

    Args:
        pose_2d: (N, J, 2), screen units; NaN for joints that are not visible. Frames of a video
            in their order, since the standard errors assume that neighbours resemble each other.
        skeleton: the skeleton of the poses.
        device: device of the training poses.

    Attributes:
        count: N.
        batches: number of augmented batches that were compared.
        pose_2d: (M, J, 2), an even selection of the poses; 0 for joints that are not visible.
        visible: (M, J) bool.
        whole: (W,), the rows of poses that are not cut off: root and all ends of limbs are visible.
        log_factor: (G,), log of the factor on the bone lengths of each mirror group.
        shift: (P,), offsets of joints in the body frame, in mean bone lengths of the person.
        error: (G,), standard error of `log_factor`; infinite where it cannot be estimated.
        known: (G,) bool, the mirror groups that are visible often enough to be compared.
        known_shift: (P,) bool, likewise.
        size: (M,), mean 2D bone length of each pose, screen units.
        quantile: (G,), the percentile of 2D lengths, divided by the size of the pose.
        median: (P,), that of the places of joints, divided by the size of the pose.
        reach: (2,), mean and variance of log(size * distance / focal) of augmented poses.
        lifted: (M, K, 3), unit bones of the poses in the camera frame, as the model lifted them.
        fits: (M,) bool, those of them that fit their 2D.

    >>> pose_2d = torch.rand(500, 16, 2, generator=torch.Generator().manual_seed(0))
    >>> target = Target(pose_2d, Skeleton.of("h36m_16"), torch.device("cpu"))
    >>> target.count, target.normalised.shape, bool(target.known.all())
    (500, torch.Size([2048, 16, 2]), True)
    """

    def __init__(self, pose_2d: Tensor, skeleton: Skeleton, device: torch.device) -> None:
        self.skeleton, self.device = skeleton, device
        self.measures = BodyMeasures.of(skeleton)
        self.count, self.batches = len(pose_2d), 0
        kept = pose_2d[torch.arange(ROWS, device=pose_2d.device) * self.count // ROWS].to(device)
        self.visible = kept.isfinite().all(-1)
        self.pose_2d = torch.where(self.visible[..., None], kept, 0.0)
        self.log_factor = self.pose_2d.new_zeros(skeleton.num_groups)
        self.shift = self.pose_2d.new_zeros(len(self.measures.places))
        self.reach = self.pose_2d.new_zeros(2)
        self.lifted = self.pose_2d.new_zeros(len(kept), skeleton.num_bones, 3)
        self.fits = torch.zeros(len(kept), dtype=torch.bool, device=device)
        self._measure()

    def _measure(self) -> None:
        """Compute everything that follows from the poses alone."""
        self._measure_bodies()
        self._measure_views()

    def _measure_bodies(self) -> None:
        """Compute sizes, proportions and places of joints."""
        groups = self._group_mean
        bone_visible, place_visible = self.measures.visible(self.visible)
        self.known = (bone_visible.to(groups) @ groups).mean(0) >= SEEN
        measuring = self.known.index_select(0, self._group)
        weight = measuring.to(groups)  # explicit, because the caller may have changed the default
        self._weight = weight / weight.sum().clamp_min(1)  # (K,): a size is a mean with them

        seen = (bone_visible & measuring).to(groups)
        length, place = self.measures.measure(self.pose_2d)
        ratio, size, typical = length, length.mean(1), self._weight.new_ones(len(self._weight))
        for _ in range(10):  # the size of a pose is what its visible bones suggest
            size = (length * seen).sum(1) / (seen @ typical).clamp_min(EPS)
            ratio = torch.where(seen > 0, length / size.clamp_min(EPS)[:, None], torch.nan)
            typical = ratio.nanquantile(0.5, 0).nan_to_num(1.0)
            typical = typical / (typical @ self._weight).clamp_min(EPS)
        self.size = size
        self.quantile = self._quantile(ratio)
        self.known_shift = place_visible.to(groups).mean(0) >= SEEN
        place = torch.where(place_visible, place / size.clamp_min(EPS)[:, None], torch.nan)
        self.median = torch.zeros_like(self.shift)
        if self.measures.places:
            self.median = place.nanquantile(0.5, 0).nan_to_num(0.0)
        blocks = torch.stack([self._quantile(block).log() for block in ratio.chunk(BLOCKS)])
        shown = blocks.isfinite()  # not where a block has no such bone
        off, number = torch.where(shown, blocks - blocks.nanmean(0), 0.0), shown.sum(0)
        error = (off.square().sum(0) / (number - 1).clamp_min(0) / number).sqrt()
        few = torch.full_like(error, torch.inf)
        self.error = few if self.count < 2 * BLOCKS else error.nan_to_num(torch.inf)

    def _measure_views(self) -> None:
        """Compute where people stand in the image, and how large they appear."""
        # People who are cut off by the image stand where nobody would be visible as a whole.
        ends = [j for j, below in enumerate(self.skeleton.children) if not below]
        complete = self.visible[:, [self.skeleton.root, *ends]].all(1) & (self.size > EPS)
        self.whole = complete.nonzero()[:, 0]
        place, log_size = self.pose_2d[self.whole, self.skeleton.root], self.size[self.whole].log()
        self._views = torch.cat([place, log_size[:, None]], 1)
        # Scott's rule for a kernel density estimate; poses that are repeated count once.
        share = len(self.whole) / ROWS
        self._has_views = share >= SEEN
        if self._has_views:
            self._spread = self._views.std(0, correction=0)
            self._jitter = self._spread * max(1.0, share * min(self.count, ROWS)) ** (-1 / 7)
            self._mean_log_size = log_size.mean()

    def _quantile(self, ratio: Tensor) -> Tensor:
        """The percentile (G,) of ratios (N, K) over both sides; NaN where no bone is visible."""
        both = (ratio[:, self._group == g].flatten() for g in range(self.skeleton.num_groups))
        found = torch.stack([side.nanquantile(PERCENTILE) for side in both])
        return found.clamp_min(EPS)

    @property
    def _group(self) -> Tensor:
        return index_tensor(self.skeleton.mirror_group, self.device)

    @property
    def _group_mean(self) -> Tensor:
        return group_matrix(self.skeleton, torch.float32, self.device, mean=True)

    @property
    def normalised(self) -> Tensor:
        """The `whole` poses (W, J, 2) with the root at 0 and a mean 2D bone length of 1.

        A joint that is not visible, which can only be an inner one, is at the root.
        """
        pose_2d, visible = self.pose_2d[self.whole], self.visible[self.whole]
        centred = pose_2d - pose_2d[:, self.skeleton.root, None]
        return torch.where(visible[..., None], centred / self.size[self.whole, None, None], 0.0)

    def normalise(self, pose_2d: Tensor) -> Tensor:
        """Return poses (B, J, 2) in the form of `normalised`; all joints are visible."""
        size = self.measures.measure(pose_2d)[0] @ self._weight
        centred = pose_2d - pose_2d[:, self.skeleton.root, None]
        return centred / size.clamp_min(EPS)[:, None, None]

    # What a sample uses

    def gamma_bl(self, bones: Bones) -> Tensor:
        """Return the change (B, G) of bone lengths to the target's proportions.

        The sum of the bone lengths of each person is kept.

        Args:
            bones: bones of (B, K).
        """
        factor = self.log_factor.exp()
        changed = bones.length @ factor.index_select(0, self._group)
        scale = bones.length.sum(1) / changed.clamp_min(EPS)
        return scale[:, None] * factor - 1

    def offset(self, bones: Bones) -> Tensor:
        """Return the offsets (B, J, 3) of joints in the body frame, metres.

        Args:
            bones: bones of (B, K).
        """
        return bones.length.mean(1)[:, None, None] * self.measures.offset(self.shift)

    def draw_views(
        self, camera: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor] | None:
        """Draw where people stand in the image and how far away, so that they appear as large.

        Args:
            camera: (B, 9).
            generator: on the device of the cameras.

        Returns:
            Offsets (B, 2) of the root from the image centre and distances (B,), or None if they
            are not known: before the first batch, or if hardly any pose is visible as a whole.
        """
        if not self.batches or not self._has_views:
            return None
        rows = (uniform(generator, len(camera)) * len(self._views)).to(torch.int64)
        noise = normal(generator, len(camera), 3)
        views = torch.addcmul(self._views.index_select(0, rows), self._jitter, noise)
        # Log sizes of poses are log(focal / distance) + reach, of which the draw is the first term.
        mean, variance = self.reach.unbind()
        share = (1 - variance / self._spread[2].square().clamp_min(EPS)).clamp_min(0).sqrt()
        log_size = torch.lerp(self._mean_log_size, views[:, 2], share)
        return views[:, :2] - camera[:, 2:4], camera[:, :2].mean(1) * (mean - log_size).exp()

    def draw_poses(
        self, count: int, share: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw lifted poses that fit.

        Args:
            count: number of poses, B.
            share: of the rows that get one.
            generator: on the device of the target.

        Returns:
            Unit bones (B, K, 3) in the camera frame, and which rows get them (B,).
        """
        rows = weighted(generator, self.fits.to(self.size), count)
        chosen = (uniform(generator, count) < share) & self.fits[rows]
        return self.lifted.index_select(0, rows), chosen

    def liftable(self, fmt: Format) -> tuple[Tensor, bool]:
        """Return the rows of the poses that show the most of the joints that the model gets.

        They are complete poses if there are enough of them, since guessed joints cost accuracy.
        This waits for the device.

        Args:
            fmt: the format of the batches, which may have `joints_2d`.

        Returns:
            The rows, and whether a joint is missing in any of them.
        """
        joints = getattr(fmt, "joints_2d", None) or range(self.skeleton.num_joints)
        shown = self.visible[:, list(joints)].to(self.size).mean(1)
        enough = shown.topk(math.ceil(SEEN * len(shown))).values[-1].clamp_min(SHOWN)
        return (shown >= enough).nonzero()[:, 0], bool(enough < 1)

    def filled(self, rows: Tensor, others: Tensor) -> Tensor:
        """Return poses (B, J, 2) in which joints that are not visible are where one expects them.

        That is their mean in a normal distribution like that of other poses, given the joints that
        are visible.

        Args:
            rows: (B,), the rows of the poses.
            others: poses (N, J, 2) with all joints.
        """
        known = self.normalise(others).flatten(1)
        mean = known.mean(0)
        identity = torch.eye(len(mean), dtype=mean.dtype, device=self.device)
        anywhere = ANYWHERE * identity[:2, :2].repeat(len(mean) // 2, len(mean) // 2)
        covariance = torch.cov(known.T, correction=0) + RIDGE * identity + anywhere

        pose_2d, seen = self.pose_2d[rows], self.visible[rows, :, None]
        centred, size = _centred(pose_2d, seen), self.size[rows, None, None].clamp_min(EPS)
        shown = seen.expand_as(pose_2d).flatten(1).to(mean)
        off = shown * ((centred / size).flatten(1) - mean)
        # The equations of joints that are not visible are replaced by 0 = 0.
        equations = shown[:, :, None] * covariance * shown[:, None] + torch.diag_embed(1 - shown)
        weight, _ = torch.linalg.solve_ex(equations, off)  # `solve` waits for the device
        expected = mean + weight @ covariance
        return torch.where(seen, pose_2d, expected.view_as(pose_2d) * size + pose_2d - centred)

    def keep_lifted(self, rows: Tensor, pose_3d: Tensor, focal: Tensor) -> None:
        """Keep poses that the model has lifted, after moving their joints onto their rays.

        The depths are those of the model. The other two coordinates of visible joints follow from
        the 2D, and are compared with those of the model.

        Args:
            rows: (B,), the rows of the poses.
            pose_3d: (B, J, 3), camera frame, metres.
            focal: of the camera that is assumed, screen units. It hardly matters, since bones get
                other lengths.
        """
        pose_2d, depth, seen = self.pose_2d[rows], pose_3d[..., 2:], self.visible[rows, :, None]
        observed, predicted = _centred(pose_2d, seen), _centred(pose_3d[..., :2], seen)
        # Metres per screen unit at the person, by least squares without perspective.
        product, square = ((observed * x * seen).sum((1, 2)) for x in (predicted, observed))
        metres = product / square.clamp_min(EPS)
        on_rays = _centred(pose_2d * (metres[:, None, None] + depth / focal), seen)
        on_rays = torch.where(seen, on_rays, predicted)
        off = lengths(on_rays - predicted).sum(1) / seen.sum((1, 2))
        bones = pose_to_bones(torch.cat([on_rays, depth], -1), self.skeleton)
        length = lengths(bones).mean(1)
        fits = (off < FIT * length) & (length < DEEPEST * metres * self.size[rows])
        directions = unit(bones).nan_to_num(0.0, 0.0, 0.0)  # those with NaN do not fit
        self.lifted = self.lifted.index_copy(0, rows, directions)
        self.fits = self.fits.index_copy(0, rows, fits)

    def add(self, augmented: PoseBatch, accepted: Tensor) -> None:
        """Compare augmented poses with those of the target, and correct what was learned.

        Args:
            augmented: a batch of augmented pairs.
            accepted: (B,) bool, those that are used.
        """
        if not self.batches and not accepted.any():  # waits for the device, until one is accepted
            return
        length, place = self.measures.measure(augmented.pose_2d[:, augmented.middle])
        size = (length @ self._weight).clamp_min(EPS)
        weight = accepted.to(size)
        count = weight.sum()
        weight, any_row = weight / count.clamp_min(1), count.clamp_max(1)
        quantile = self.quantile.index_select(0, self._group)
        below = (length < size[:, None] * quantile).to(size)
        below = below @ self._group_mean
        excess = (torch.mv(below.T, weight) - PERCENTILE) * self.known
        excess = excess - self.known * excess.sum() / self.known.sum().clamp_min(1)  # size is free
        gain = any_row * GAIN / (1 + self.batches / GAIN_BATCHES)
        log_factor = self.log_factor + gain * excess
        self.log_factor = log_factor.clamp(-LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR)
        below = torch.mv((place < size[:, None] * self.median).to(size).T, weight)
        shift = self.shift + gain / 2 * (below - 0.5) * self.known_shift
        self.shift = shift.clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        # What a size depends on besides focal length and distance: body, pose and orientation.
        depth, focal = augmented.root[:, augmented.middle, 2], augmented.camera[:, :2].mean(1)
        reach = torch.where(accepted, (size * depth / focal).log(), 0.0)
        mean = weight @ reach
        moments = torch.stack([mean, weight @ (reach - mean).square()])
        momentum = any_row * max(MOMENTUM, 1 / (self.batches + 1))
        self.reach = torch.lerp(self.reach, moments, momentum)
        self.batches += 1

    # What the user is told

    def doubts(
        self, poses: PoseBatch, lifted_as: Format | None = None
    ) -> list[tuple[str, tuple[str, ...]]]:
        """Compare with the first training batch.

        Args:
            poses: the batch.
            lifted_as: the format in which the model gets poses to lift. None: it lifts none.

        Returns:
            The names of warnings in `events.WARNINGS`, and what they say. This waits for the
            device.
        """
        pose_2d = poses.pose_2d[:, poses.middle][poses.valid]
        training = Target(pose_2d, self.skeleton, self.device)
        found: list[tuple[str, tuple[str, ...]]] = []
        error = float(self.error[self.known].mean())
        if not error < FEW_ERROR:
            told = f"by {error:.0%} on average" if error < torch.inf else "by an unknown amount"
            found.append(("target_few", (str(self.count), told)))
        if self._is_upside_down(training):
            found.append(("target_strange", ()))
        elif self._resembles(training):
            found.append(("target_same", ()))
        if self.pose_2d.min() >= 0 > training.pose_2d.min():
            found.append(("target_positive", ()))
        if lifted_as is not None:
            share = len(self.liftable(lifted_as)[0]) / len(self.visible)
            if share < SEEN:
                never = (~self.visible.any(0)).nonzero()[:, 0].tolist()
                names = ", ".join(self.skeleton.joint_names[joint] for joint in never)
                told = f" (none shows {names})" if never else ""
                found.append(("target_incomplete", (f"{share:.1%}", told)))
        return found

    def _is_upside_down(self, other: Target) -> bool:
        if not (self._has_views and other._has_views and self.measures.legs):
            return False
        own, others = (target.normalised[..., 1].mean(0) for target in (self, other))
        return bool(torch.cosine_similarity(own, others, dim=0) < UPSIDE_DOWN)

    def _resembles(self, other: Target) -> bool:
        proportions = (self.quantile / other.quantile).log().abs()[self.known & other.known]
        if not (self._has_views and other._has_views and len(proportions)):
            return False
        views = (self._views.mean(0) - other._views.mean(0)).abs() / other._spread.clamp_min(EPS)
        spread = (self._spread / other._spread.clamp_min(EPS)).log().abs()
        same_views = views.max() < SAME_VIEWS and spread.max() < SAME_VIEWS
        return bool(proportions.mean() < SAME and same_views)

    @property
    def lifted_share(self) -> Tensor:
        """The share of the poses that the model has lifted and that fit their 2D, a scalar."""
        return self.fits.to(self.size).mean()

    def stats(self) -> dict[str, Tensor | float]:
        """Measures for `PoseAugmenter.stats()`."""
        return {
            "target_poses": float(self.count),
            "target_visible": self.visible.to(self.size).mean(),
            "target_proportions": ((self.log_factor.exp() - 1).abs() * self.known).sum()
            / self.known.sum().clamp_min(1),
            "target_error": self.error[self.known].mean(),
            "target_lifted": self.lifted_share,
            "target_shift": self.shift.abs().sum() / max(1, len(self.shift)),
        }

    def __str__(self) -> str:
        """A table of what was learned of the bodies, with standard errors of the bone lengths."""
        skeleton, names = self.skeleton, self.skeleton.joint_names
        lifted = f"{float(self.lifted_share):.0%} of them lifted"
        lines = [f"{self.count} unlabelled 2D poses, {self.batches} batches compared, {lifted}", ""]
        for group, log_factor in enumerate(self.log_factor.tolist()):
            bone = skeleton.mirror_group.index(group)
            ends = f"{names[skeleton.parent[bone]]} - {names[skeleton.child[bone]]}"
            error = float(self.error[group])
            told = f"length x {math.exp(log_factor):.2f} +- {error:.2f}"
            lines.append(f"{ends:24} {told if self.known[group] else 'not visible'}")
        lines.append("")
        for place, shift, known in zip(self.measures.places, self.shift, self.known_shift):
            joints = ", ".join(names[joint] for joint in place.joints)
            told = f"{shift:+.2f} mean bone lengths {'back' if place.back else 'up'}"
            lines.append(f"{joints:24} {told if known else 'not visible'}")
        return "\n".join(lines)

    # State

    def state_dict(self) -> dict[str, Any]:
        """The poses are part of it: a run resumes with those that it started with."""
        tensors = {name: getattr(self, name).clone() for name in SAVED}
        return {"count": self.count, "batches": self.batches, **tensors}

    @classmethod
    def restored(cls, state: dict[str, Any], skeleton: Skeleton, device: torch.device) -> Target:
        """Return the target that `state_dict()` describes."""
        pose_2d = torch.where(state["visible"][..., None], state["pose_2d"], torch.nan)
        target = cls(pose_2d, skeleton, device)
        target.count, target.batches = state["count"], state["batches"]
        for name in SAVED:
            setattr(target, name, state[name].to(device))
        target._measure()
        return target


def _centred(points: Tensor, rows: Tensor) -> Tensor:
    """Return points (B, J, C) minus the mean of those of `rows` (B, J, 1) bool."""
    return points - (points * rows).sum(1, keepdim=True) / rows.sum(1, keepdim=True).clamp_min(1)
