"""Every number of the plugin, with its unit, checked once and then frozen.

Presets: `default` (a broad prior, and what it learns from the caller's poses), `random` (the prior
alone, the control every claim needs), `paper` and `released` (as published; see the README for the
differences).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from .errors import ConfigError

__all__ = ["PoseAugConfig"]

Range = tuple[float, float]


@dataclass(frozen=True)
class PoseAugConfig:
    """What is augmented, how far, and how the learned part is trained.

    Raises:
        ConfigError: an option out of range, or two that contradict each other.

    >>> PoseAugConfig.default(distance=(2, 8)).distance
    (2, 8)
    >>> PoseAugConfig(ratio=2)
    Traceback (most recent call last):
    poseaug_plugin.errors.ConfigError: ratio=2 is out of range; it must lie in 0 to 1.
    """

    # How augmented pairs reach the caller: in place of rows; a twin beside each row; each batch
    # real, then augmented; or, in the released code's order, all of an epoch's before its real
    # ones, made by an augmentor that trains while the estimator stands still.
    mix: Literal["replace", "append", "alternate", "passes"] = "replace"
    # Share of the rows that are augmented; two numbers: start to end of the run, so that home is
    # learned last, and not forgotten.
    ratio: float | Range = (0.9, 0.5)
    depth: float = 0.5  # metres; every joint of an augmented pair is at least this far away
    frame_height: float = 1.0  # half height of the image, h / w, in normalised screen units

    # What may change. With all three off nothing does.
    ba: bool = True  # bone angles
    bl: bool = True  # bone lengths
    rt: bool = True  # view and position

    # The prior: drawn per row, nothing learned. False: parameters come from the networks alone.
    prior: bool = True
    turn: float = math.pi  # rad, about the vertical, either way
    # The vertical is that of people's trunks in the data so far, if the skeleton has one on its
    # root; False: of the row's camera, which may be tilted.
    upright: bool = True
    tilt: Range = (-0.3, 0.6)  # rad, how far the camera looks down on people; below 0: up
    roll: float = 0.1  # rad, about the viewing direction
    distance: Range = (2.5, 6.5)  # metres to the root
    place: float = 0.3  # root's offset from the image centre, screen units, either way
    focal: Range = (0.5, 1.0)  # factor on the row's focal length
    bend: float = 0.0  # longest random step added to a unit bone, in any direction
    # The same along the ways that each bone moves in the data so far, in standard deviations; what
    # hangs on a bone turns with it.
    flex: float = 2.0
    stretch: float = 0.1  # random factor 1 +- stretch on the length of each mirrored bone pair
    size: float = 0.15  # random factor 1 +- size on the whole body
    # Metres, standard deviation on each axis of the body, left and right mirrored: other data sets
    # define joints otherwise. Only with both ba and bl, and on skeletons with sides.
    shift: float = 0.025
    # Each row first gets the bone lengths of another row's person; for the learned part this is
    # the original then.
    swap: bool = True
    # Augmented 2D is as far off as the row's own: its detector's error, scaled with the person.
    detector: bool = False
    # As the released code: 2D clamped at 45 degrees off the axis, frames without a left and an
    # upper side, people behind the camera, no eps where the feedback divides. To compare with.
    traps: bool = False
    # Whose pose a row gets: its own (0), or any of the batch, rare ones more often: as likely as
    # its distance from the mean pose, to this power.
    balance: float = 4.0
    crossover: bool = True  # each limb, and the torso, held as in another row's pose

    # The adversarial part: augmentor networks, judged by discriminators and feedback.
    learned: bool = False
    networks: Literal["shared", "separate"] = "shared"  # one trunk with heads, or one net each
    width: int = 128  # of the augmentor's hidden layers; published: 256
    noise: int = 48  # numbers of Gaussian noise per network
    limit_ba: float | None = 0.3  # largest learned step on a unit bone, per axis; None: unbounded
    limit_bl: float = 0.1  # largest learned change of a length ratio
    limit_r: float = 0.3  # rad, largest learned turn, per axis
    limit_t: float = 0.2  # largest learned shift: log distance, and screen units (with a prior)
    freeze_trunk: bool = True  # no learned turn of pelvis-spine-thorax, no spine-thorax length

    # Losses of the learned part; a weight of 0 switches the part off.
    d_width: int = 64  # of the 3D discriminator's hidden layers; published: 256
    adv3d: float = 6.0
    adv2d: float = 0.0
    kcs: Literal["parts", "whole"] = "parts"
    feedback: Literal["exp", "range", "off"] = "exp"
    feedback_weight: float = 1.0  # of the exp form
    # exp form: wanted squared error(augmented) / error(original), start to end. The prior's pairs
    # stand at 4 by themselves: a smaller beta would make them easier.
    beta: Range = (6.0, 6.0)
    ba_ratio: Range = (3.0, 5.0)  # range form: the same for the bone-angle pair, start to end
    ba_band: float = 2.0
    ba_weight: float = 0.1
    rt_ratio: Range = (17.0, 17.0)  # range form: for the final pair
    rt_band: float = 15.0
    rt_weight: float = 0.01
    reg: Literal["threshold", "range"] = "threshold"
    reg_weight: float = 3.0
    reg_ba: float = 0.3  # threshold form: mean abs gamma_ba that costs nothing
    reg_bl: float = 0.1  # largest gamma_bl that costs nothing
    bend_target: float = 0.205  # range form: mean 1 - cos(bend) aimed at
    bend_band: float = 0.165

    # Optimisation of augmentor and discriminators.
    lr: float = 1e-4
    clip: float = 1.0  # gradient norm
    every: int = 4  # batches per turn of the plugin, which follows the estimator's step
    turn_rows: int | None = 256  # rows of a batch that a turn looks at; None: all
    d_every: int = 2  # turns per update of the discriminators
    warmup: float = 2.0  # epochs before feedback counts
    pool: int = 4096  # past fakes each discriminator sees
    repair: bool = True  # restart a collapsed part; False: report it only
    seed: int = 0

    @classmethod
    def default(cls, **changes: Any) -> PoseAugConfig:
        """A broad prior, with poses and bends as the caller's data suggest them."""
        return cls(**changes)

    @classmethod
    def random(cls, **changes: Any) -> PoseAugConfig:
        """The control: views, places, focal lengths, bodies and bends drawn, nothing learned."""
        return cls(**{**_UNLEARNED, "bend": 0.6, "tilt": (-0.45, 0.45), **changes})

    @classmethod
    def paper(cls, **changes: Any) -> PoseAugConfig:
        """As the paper describes it: no prior, both discriminators, exponential feedback."""
        return cls(**{**_PUBLISHED, **changes})

    @classmethod
    def released(cls, **changes: Any) -> PoseAugConfig:
        """As the published code does it: four networks, range feedback and regularisation."""
        return cls(**{**_PUBLISHED, **_RELEASED, **changes})

    @classmethod
    def of(cls, source: PoseAugConfig | str | None) -> PoseAugConfig:
        """A config from itself, a preset's name, or None (`default`)."""
        if isinstance(source, PoseAugConfig):
            return source
        presets = {name: getattr(cls, name) for name in ("default", "paper", "released", "random")}
        name = "default" if source is None else source
        if not isinstance(name, str) or name not in presets:
            raise ConfigError(
                f"config={source!r} is neither a PoseAugConfig nor one of {sorted(presets)}."
            )
        made: PoseAugConfig = presets[name]()
        return made

    def but(self, **changes: Any) -> PoseAugConfig:
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)

    @property
    def ratios(self) -> Range:
        """Start and end of `ratio`."""
        start, end = self.ratio if isinstance(self.ratio, (tuple, list)) else (self.ratio,) * 2
        return start, end

    @property
    def augments(self) -> bool:
        """Whether any row is to become another."""
        return any(self.ratios) and (self.ba or self.bl or self.rt)

    @property
    def watches(self) -> bool:
        """Whether how people move and stand is learned from the caller's poses."""
        return self.redraws or self.levels or (self.ba and bool(self.flex))

    @property
    def redraws(self) -> bool:
        """Whether a row may get the pose of another."""
        return self.ba and bool(self.balance)

    @property
    def levels(self) -> bool:
        """Whether views are drawn about the vertical of the caller's poses."""
        return self.rt and self.prior and self.upright

    @property
    def varies(self) -> bool:
        """Whether new poses are made of the caller's."""
        return self.ba and bool(self.crossover or self.flex)

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return self.learned and (self.ba or self.bl or self.rt)

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            choices = get_args(hint)
            if choices and all(isinstance(c, str) for c in choices) and value not in choices:
                raise ConfigError(f"{field.name}={value!r} is not one of {list(choices)}.")
            if hint is bool and not isinstance(value, bool):
                raise ConfigError(f"{field.name}={value!r} must be True or False.")
        for names, low, high in _LIMITS:
            for name in names.split():
                self._check_range(name, low, high)
        if not (self.prior or self.learned):
            raise ConfigError(
                "prior=False and learned=False leave nothing to augment with; keep one of them, "
                "or use augmenter.disable() for a plain run."
            )

    def _check_range(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if value is None and name in _OPTIONAL:
            return
        alone = name in _EITHER and isinstance(value, (int, float))
        is_range = name in _RANGES and not alone
        ends = value if is_range and isinstance(value, (tuple, list)) else (value,)
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in ends)
        if (is_range and len(ends) != 2) or not numbers:
            wanted = "two numbers (low, high)" if is_range else "a number"
            raise ConfigError(f"{name}={value!r} must be {wanted}.")
        if not all(low <= v <= high for v in ends) or (name in _SPANS and ends[0] > ends[1]):
            raise ConfigError(
                f"{name}={value!r} is out of range; it must lie in {low:g} to {high:g}"
                + (", low before high." if name in _SPANS else ".")
            )
        if name in _WHOLE and any(int(v) != v for v in ends):
            raise ConfigError(f"{name}={value!r} must be a whole number.")


# Without what is ours beyond views, places and bodies.
_UNLEARNED: dict[str, Any] = dict(upright=False, balance=0.0, crossover=False, flex=0.0, shift=0.0)
# What both published forms share, and what the released code does differently.
_PUBLISHED: dict[str, Any] = dict(
    **_UNLEARNED,
    prior=False,
    beta=(1.5, 3.0),
    swap=False,
    learned=True,
    limit_ba=None,
    limit_bl=0.2,
    limit_r=math.pi,
    freeze_trunk=False,
    adv2d=1.0,
    turn_rows=None,
    width=256,
    d_width=256,
    every=1,
    mix="alternate",
    ratio=1.0,
    depth=0.1,
    repair=False,
)
_RELEASED: dict[str, Any] = dict(
    swap=True,
    networks="separate",
    freeze_trunk=True,
    feedback="range",
    reg="range",
)

_SPANS = {"tilt", "distance", "focal"}
_RANGES = _SPANS | {"ratio", "beta", "ba_ratio", "rt_ratio"}
_EITHER = {"ratio"}  # one number, or a range
_OPTIONAL = {"limit_ba", "turn_rows"}
_WHOLE = {"width", "d_width", "noise", "every", "d_every", "pool", "seed", "turn_rows"}
_LIMITS: tuple[tuple[str, float, float], ...] = (
    ("ratio", 0, 1),
    ("balance flex", 0, 20),
    ("depth", 1e-3, 100),
    ("frame_height", 0.1, 10),
    ("turn roll limit_r", 0, math.pi),
    ("tilt", -math.pi, math.pi),
    ("distance", 0.1, 1000),
    ("place", 0, 1),
    ("focal", 0.05, 20),
    ("bend limit_ba", 0, 2),
    ("stretch size limit_bl", 0, 0.9),
    ("shift", 0, 1),
    ("limit_t", 0, 2),
    ("width d_width noise every d_every pool turn_rows", 1, 1 << 24),
    ("seed", 0, 2**63 - 1),
    ("adv3d adv2d feedback_weight ba_weight rt_weight reg_weight", 0, 1e6),
    ("beta ba_ratio rt_ratio", 0, 1e3),
    ("ba_band rt_band reg_ba reg_bl bend_target bend_band", 0, 1e3),
    ("lr", 0, 1),
    ("clip", 1e-6, 1e6),
    ("warmup", 0, 1e6),
)
