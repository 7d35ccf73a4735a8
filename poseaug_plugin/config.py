"""Every option of the plugin: its default, bounds, unit and meaning, in one frozen dataclass.

Each field of `PoseAugConfig` describes itself once. Validation, the docstring and the table of the
documentation are made from these descriptions.
"""

# ruff: noqa: RUF009  `option` and `number` are field specifiers, as `dataclasses.field`

from __future__ import annotations

import difflib
import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError, look_up

__all__ = ["PRESETS", "RENAMED", "PoseAugConfig"]

T = TypeVar("T")
Range = tuple[float, float]
Interval = Annotated[Range, "low before high"]
Schedule = Annotated[Range, "start and end of the run"]

#: Former names of options, and what they are called now.
RENAMED: dict[str, str] = {
    "turn": "yaw",
    "place": "image_offset",
    "size": "body_scale",
    "shift": "joint_offset",
    "flex": "bend_sigma",
    "balance": "rare_pose_power",
    "crossover": "limb_crossover",
    "detector": "keep_detection_error",
    "traps": "released_quirks",
    "swap": "swap_lengths",
    "every": "update_every",
    "turn_rows": "update_rows",
}


def option(default: T, meaning: str, *, section: str = "") -> T:
    """A switch (`bool`) or a choice (`Literal`).

    Args:
        section: set on the first option of each section.
    """
    return field(default=default, metadata={"meaning": meaning, "section": section})


def number(default: T, low: float, high: float, unit: str, meaning: str, *, section: str = "") -> T:
    """A number or a pair of numbers, each in `low` to `high`; the annotation says which."""
    described = {"meaning": meaning, "section": section, "low": low, "high": high, "unit": unit}
    return field(default=default, metadata=described)


def _refusing_unknown_names(cls: type[T]) -> type[T]:
    """Let the constructor of a dataclass raise `ConfigError`, with the closest name."""
    init: Callable[..., None] = cls.__init__

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        _refuse_unknown(options)
        init(self, *args, **options)

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


@_refusing_unknown_names
@dataclass(frozen=True)
class PoseAugConfig:
    """What is augmented, how far, and how the learned networks are trained.

    Start from a preset and change what you need. Angles are in radians and lengths in metres.
    Screen units are those of VideoPose3D: the image is 2 wide and its centre is 0.

    Raises:
        ConfigError: an option is unknown or out of range, or two options contradict each other.

    >>> PoseAugConfig.default(distance=(2, 8)).distance
    (2, 8)
    >>> PoseAugConfig.of({"preset": "random", "ratio": 0.5})
    PoseAugConfig.random(ratio=0.5)
    >>> PoseAugConfig(ratio=2)
    Traceback (most recent call last):
    poseaug_plugin.errors.ConfigError: ratio=2 is out of range; it must lie in 0 to 1.
    """

    mix: Literal["replace", "append", "alternate", "passes"] = option(
        "replace",
        "How augmented pairs reach the training loop. replace: in place of rows. append: one "
        "beside each row. alternate: each batch twice, real and then augmented. passes: all "
        "augmented batches of an epoch and then all real ones, as in the released code; the "
        "augmentor trains in the first pass, in which the estimator does not.",
        section="Mixing",
    )
    ratio: float | Schedule = number(
        (0.9, 0.5),
        0,
        1,
        "",
        "Share of the rows that are augmented. A falling share brings training back towards the "
        "original data, which keeps in-domain accuracy. With any mix but replace, all rows are "
        "augmented unless this is 0.",
    )
    depth: float | None = number(
        None,
        1e-3,
        100,
        "m",
        "Smallest depth of a joint; pairs with a nearer joint are rejected. None: a fifth of the "
        "smallest distance.",
    )
    frame_height: float | None = number(
        None,
        0.1,
        10,
        "screen",
        "Half height of the image, h / w; pairs with a joint outside the image are rejected. None: "
        "that of the batch format's screen= or of camera=, else 1.",
    )
    ba: bool = option(True, "Change bone angles.")
    bl: bool = option(True, "Change bone lengths.")
    rt: bool = option(
        True, "Change view and position. With ba, bl and rt all off, nothing is augmented."
    )

    prior: bool = option(
        True,
        "Draw parameters for each row at random from the ranges of this section and the next. "
        "False: the learned networks alone provide them, and change the row's own pose and view.",
        section="Prior",
    )
    yaw: float = number(
        math.pi, 0, math.pi, "rad", "Rotation about the vertical, drawn from -yaw to yaw."
    )
    upright: bool = option(
        True,
        "Estimate the vertical from the trunks of the people seen so far, if the skeleton has a "
        "trunk bone at its root. False: use the vertical of the row's camera, which may be tilted.",
    )
    tilt: Interval = number(
        (-0.3, 0.6), -math.pi, math.pi, "rad", "Camera tilt. Above 0 it looks down on people."
    )
    roll: float = number(
        0.1, 0, math.pi, "rad", "Rotation about the viewing direction, drawn from -roll to roll."
    )
    distance: Interval | None = number(
        None,
        0.01,
        1000,
        "m",
        "Distance from the camera to the root. None: fitted to where your people are in the first "
        "batches; (2.5, 6.5) for Human3.6M.",
    )
    image_offset: float | None = number(
        None,
        0,
        2,
        "screen",
        "Offset of the root from the image centre, drawn from -image_offset to image_offset on "
        "each axis. None: fitted to where your people are in the image; 0.3 for Human3.6M.",
    )
    focal: Interval | None = number(
        None,
        0.05,
        20,
        "",
        "Factor on the row's focal length. None: fitted to your people's size on the screen; "
        "(0.5, 1.0) for Human3.6M, and more for smaller people.",
    )

    widen_views: float | None = number(
        None,
        0,
        1e3,
        "",
        "Learn how far views may be from those of the data: each range of this section starts at "
        "the row's own view, and widens while the model's squared errors at its ends are less than "
        "this many times those in own views, e.g. 1.1. The options above are its limits; for those "
        "that are None, 3 times nearer or further, 0.6 screen units, and a third to 3 times the "
        "focal length. None: draw from the ranges at once.",
    )

    bend: float = number(
        0.0,
        0,
        2,
        "",
        "Longest random step added to a unit bone vector, in any direction.",
        section="Poses",
    )
    bend_sigma: float = number(
        2.0,
        0,
        20,
        "std",
        "Random bends in the directions in which each bone moves in the data so far, in standard "
        "deviations. Bones further from the root rotate with it.",
    )
    stretch: float = number(
        0.1,
        0,
        0.9,
        "",
        "Factor on the length of each left-right pair of bones, drawn from 1 - stretch to "
        "1 + stretch.",
    )
    body_scale: float = number(
        0.15, 0, 0.9, "", "Factor on the whole body, drawn from 1 - body_scale to 1 + body_scale."
    )
    body_height: Interval | None = number(
        None,
        1e-3,
        1e3,
        "m",
        "Height of the people where the model will be used, drawn from this range, in place of "
        "body_scale. No image tells it. It is measured along the bones from the ankles to the "
        "uppermost joint of the head: about 0.1 m less than people are tall, more where that joint "
        "is not the top of the head. None: that of the training people, times body_scale.",
    )
    joint_offset: float | None = number(
        None,
        0,
        1,
        "m",
        "Standard deviation of a random offset of each joint, per body axis, mirrored between "
        "left and right: data sets define joints differently. Needs ba and bl. None: a share of "
        "your people's size; 0.025 for Human3.6M; 0 with target_2d, which tells where joints are.",
    )
    swap_lengths: bool = option(
        True,
        "Give each row the bone lengths of another row's person first. The learned networks take "
        "the result as the original.",
    )
    keep_detection_error: float = number(
        0.5,
        0,
        1,
        "",
        "Share of the augmented rows whose 2D keeps the detection error of its row, scaled with "
        "the person's size. It has no effect if the 2D of the first batch is exact.",
    )
    joint_dropout: float = number(
        0.0,
        0,
        0.9,
        "",
        "Share of the joints of augmented rows that are hidden, as by an object or the image's "
        "border: their 2D and confidence are 0. Half of the rows lose single joints, the others "
        "all joints beyond a line. Needs a confidence in the batch.",
    )
    released_quirks: bool = option(
        False,
        "Reproduce the defects of the released code, for comparison: 2D is clamped at 45 degrees "
        "off the axis, only the right and lower image borders are checked, people behind the "
        "camera are accepted, and the feedback divides without an eps.",
    )
    rare_pose_power: float = number(
        4.0,
        0,
        20,
        "",
        "Preference for rare poses. The pose of each augmented row is drawn from the batch, with "
        "probability proportional to its Mahalanobis distance from the mean pose, to this power. "
        "0: each row keeps its own pose.",
    )
    limb_crossover: bool = option(True, "Take each limb, and the torso, from another row's pose.")
    lifted_poses: float = number(
        0.5,
        0,
        1,
        "",
        "Share of the augmented rows that take a pose of `target_2d`, which the model lifts to 3D. "
        "It has no effect without `target_2d`. 0: the model is not called for it.",
    )

    learned: bool = option(
        False,
        "Train augmentor networks with discriminators and feedback, as in PoseAug.",
        section="Learned networks",
    )
    networks: Literal["shared", "separate"] = option(
        "shared",
        "shared: one trunk with a head for each output. separate: one network for each output; "
        "without a prior, they replace the row's view, as in the released code.",
    )
    width: int = number(
        128, 1, 1 << 24, "", "Width of the augmentor's hidden layers; 256 as published."
    )
    noise: int = number(48, 1, 1 << 24, "", "Size of the Gaussian noise vector of each network.")
    limit_ba: float | None = number(
        0.3, 0, 2, "", "Largest learned step on a unit bone vector, per axis. None: no limit."
    )
    limit_bl: float = number(0.1, 0, 0.9, "", "Largest learned relative change of a bone length.")
    limit_r: float = number(0.3, 0, math.pi, "rad", "Largest learned rotation, per axis.")
    limit_t: float = number(
        0.2,
        0,
        2,
        "",
        "Largest learned change of the log distance and of the image position in screen units. "
        "Not used by separate networks without a prior.",
    )
    freeze_trunk: bool = option(
        True,
        "Exclude the bones pelvis-spine-thorax from learned bends, and the length of spine-thorax "
        "from learned changes.",
    )

    d_width: int = number(
        64,
        1,
        1 << 24,
        "",
        "Width of the 3D discriminator's hidden layers; 256 as published.",
        section="Losses",
    )
    normalize_gradients: bool = option(
        True,
        "Divide the gradient of each loss with respect to the outputs of the augmentor by its "
        "running root mean square, so that the weights are shares. False: the weighted sum of the "
        "losses, as in the released code.",
    )
    adv3d: float = number(1.0, 0, 1e6, "", "Weight of the 3D discriminator. 0: off.")
    adv2d: float = number(0.0, 0, 1e6, "", "Weight of the 2D discriminator. 0: off.")
    kcs: Literal["parts", "whole"] = option(
        "parts",
        "Input of the 3D discriminator. parts: a KCS matrix for each body part. whole: one KCS "
        "matrix of the whole body.",
    )
    feedback: Literal["log", "exp", "range", "off"] = option(
        "log",
        "Form of the feedback from the estimator's errors. log: it raises the hardness to its "
        "target, and fades there. exp: as in the paper. range: as in the released code.",
    )
    feedback_weight: float = number(0.2, 0, 1e6, "", "Weight of the feedback.")
    beta: Schedule = number(
        (1.0, 2.0),
        0,
        1e3,
        "",
        "feedback='log' or 'exp': target of the hardness, the ratio of the squared errors on "
        "augmented and original pairs. That of the prior's pairs is near 1 at first, and rises as "
        "the model learns. With 'log', pairs that are harder than beta are not made easier.",
    )
    ba_ratio: Schedule = number(
        (3.0, 5.0),
        0,
        1e3,
        "",
        "feedback='range': target ratio of the errors on pairs with new bone angles alone and on "
        "original pairs.",
    )
    ba_band: float = number(
        2.0, 0, 1e3, "", "feedback='range': deviation from ba_ratio that costs nothing."
    )
    ba_weight: float = number(
        0.1, 0, 1e6, "", "feedback='range': weight of pairs with new bone angles alone."
    )
    rt_ratio: Schedule = number(
        (17.0, 17.0),
        0,
        1e3,
        "",
        "feedback='range': target ratio of the errors on fully augmented and on original pairs.",
    )
    rt_band: float = number(
        15.0, 0, 1e3, "", "feedback='range': deviation from rt_ratio that costs nothing."
    )
    rt_weight: float = number(
        0.01, 0, 1e6, "", "feedback='range': weight of fully augmented pairs."
    )
    reg: Literal["threshold", "range"] = option(
        "threshold",
        "Form of the regularisation of what is learned. threshold: as in the paper. range: as in "
        "the released code.",
    )
    reg_weight: float = number(1.0, 0, 1e6, "", "Weight of the regularisation. 0: off.")
    reg_angles: float = number(
        2.0,
        0,
        1e6,
        "",
        "Weight of the part of joint angles that is outside the range of the real poses, and "
        "further outside than in the prior's sample. 0: off.",
    )
    reg_ba: float = number(
        0.15, 0, 1e3, "", "reg='threshold': mean absolute step on unit bones that costs nothing."
    )
    reg_bl: float = number(
        0.05,
        0,
        1e3,
        "",
        "Relative change of bone lengths that costs nothing: of their mean with reg='threshold', "
        "of each with reg='range'.",
    )
    bend_target: float = number(
        0.205, 0, 1e3, "", "reg='range': target of the mean of 1 - cos(angle of each bend)."
    )
    bend_band: float = number(
        0.165, 0, 1e3, "", "reg='range': deviation from bend_target that costs nothing."
    )

    lr: float = number(
        1e-3,
        0,
        1,
        "",
        "Initial learning rate of augmentor and discriminators; it decays linearly over the run.",
        section="Optimisation",
    )
    clip: float = number(1.0, 1e-6, 1e6, "", "Largest gradient norm.")
    update_every: int = number(
        4,
        1,
        1 << 24,
        "steps",
        "Number of optimizer steps, each after a new batch, between two updates of what is "
        "learned: networks, ranges of views, and lifted poses of `target_2d`.",
    )
    update_rows: int | None = number(
        256,
        1,
        1 << 24,
        "rows",
        "Rows of a batch that an update uses; as many poses of `target_2d` are lifted. None: all.",
    )
    d_every: int = number(
        2, 1, 1 << 24, "updates", "Interval between updates of the discriminators."
    )
    warmup_steps: int | None = number(
        None,
        0,
        1 << 40,
        "steps",
        "Length of the warm-up in steps that followed a new batch. None: `warmup` epochs.",
    )
    warmup: float = number(
        2.0,
        0,
        1e6,
        "epochs",
        "Time before the augmentor starts to learn; until then, discriminators learn from samples "
        "of the prior. Without a prior, augmentor and discriminators learn without feedback until "
        "then, and nothing is augmented.",
    )
    pool: int = number(
        4096,
        1,
        1 << 24,
        "samples",
        "Number of past augmented samples that are kept for each discriminator.",
    )
    repair: bool = option(True, "Restart a network that has collapsed. False: only report it.")
    sync_ranks: bool = option(
        True,
        "Average the networks' gradients over the processes of a distributed run, so that they "
        "have equal weights. Then all of them must take the same steps. False: each trains its "
        "own networks, for runs in which some take fewer steps (`model.join()`) or detach.",
    )
    seed: int = number(0, 0, 2**63 - 1, "", "Seed of the plugin's own random generators.")

    @classmethod
    def default(cls, **changes: Any) -> PoseAugConfig:
        """A broad prior, with pose variation estimated from the caller's data."""
        return cls(**{**PRESETS["default"], **changes})

    @classmethod
    def random(cls, **changes: Any) -> PoseAugConfig:
        """The control: random views, positions, focal lengths, bodies and bends, no learning."""
        return cls(**{**PRESETS["random"], **changes})

    @classmethod
    def paper(cls, **changes: Any) -> PoseAugConfig:
        """As the paper describes it: no prior, both discriminators, exponential feedback.

        What the paper leaves open is chosen so that it works: the networks start from the rows as
        they are, their outputs have a mean of zero over rows, those for R and t the same variance
        in every direction, and original and augmented rows share a batch.
        """
        return cls(**{**PRESETS["paper"], **changes})

    @classmethod
    def released(cls, **changes: Any) -> PoseAugConfig:
        """As in the released code: four networks, feedback and regularisation with ranges."""
        return cls(**{**PRESETS["released"], **changes})

    @classmethod
    def of(cls, source: PoseAugConfig | Mapping[str, Any] | str | None) -> PoseAugConfig:
        """Return the config that `source` describes.

        Args:
            source: a config, which is returned as it is; the name of a preset; a mapping of changes
                to a preset, whose name is under `"preset"` (`"default"` where it is missing); or
                None for `"default"`.

        Raises:
            ConfigError: `source` is none of these, or an option is unknown or out of range.
        """
        if isinstance(source, PoseAugConfig):
            return source
        if isinstance(source, Mapping):
            changes = dict(source)
            preset = cls.of(changes.pop("preset", None))
            _refuse_unknown(changes)
            return preset.replace(**changes)
        name = "default" if source is None else source
        changes = look_up(
            PRESETS,
            name,
            "config",
            "pass a PoseAugConfig or a mapping such as {'preset': 'default', 'ratio': 0.5}",
            ConfigError,
        )
        return cls(**changes)

    def replace(self, **changes: Any) -> PoseAugConfig:
        """Return a copy with some options changed, checked again."""
        return replace(self, **changes)

    @classmethod
    def table(cls, section: str | None = None) -> str:
        """Return the options as a Markdown table: field, default, bounds, unit, meaning.

        Args:
            section: the section to return, such as `"Prior"`. None: all, each with its title.
        """
        rows = [["field", "default", "bounds", "unit", "meaning"], ["---"] * 5]
        for title, members in _sections():
            if section in (None, title):
                rows += [[f"**{title}**", "", "", "", ""]] * (section is None)
                rows += [
                    [f"`{o.name}`", f"`{o.start}`", o.bounds, o.unit, o.meaning] for o in members
                ]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    @property
    def ratios(self) -> Range:
        """Start and end of `ratio`."""
        start, end = self.ratio if isinstance(self.ratio, tuple) else (self.ratio,) * 2
        return start, end

    @property
    def augments(self) -> bool:
        """Whether any row is augmented."""
        return any(self.ratios) and (self.ba or self.bl or self.rt)

    @property
    def uses_pose_statistics(self) -> bool:
        """Whether statistics of the caller's poses are estimated."""
        return self.resamples or self.aligns_vertical or (self.ba and bool(self.bend_sigma))

    @property
    def uses_view_statistics(self) -> bool:
        """Whether ranges of the prior are fitted to the caller's data."""
        fitted = (self.distance, self.focal, self.image_offset, self.joint_offset)
        return self.prior and None in fitted

    @property
    def resamples(self) -> bool:
        """Whether a row may get the pose of another row."""
        return self.ba and bool(self.rare_pose_power)

    @property
    def aligns_vertical(self) -> bool:
        """Whether views are drawn about the vertical of the caller's poses."""
        return self.rt and self.prior and self.upright

    @property
    def varies_poses(self) -> bool:
        """Whether new poses are made from the caller's poses."""
        return self.ba and bool(self.limb_crossover or self.bend_sigma)

    @property
    def lifts(self) -> bool:
        """Whether poses of a target are lifted, if there is one."""
        return self.ba and bool(self.lifted_poses)

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return self.learned and (self.ba or self.bl or self.rt)

    @property
    def refines(self) -> bool:
        """Whether learned parameters are added to a sample of the prior, or to the row's own view.

        Otherwise they replace the view, as in the released code.
        """
        return self.prior or self.networks == "shared"

    @property
    def widens(self) -> bool:
        """Whether ranges of views are learned."""
        return self.widen_views is not None and self.prior and self.rt

    @property
    def learns(self) -> bool:
        """Whether anything is learned from batches: networks, or ranges of views."""
        return self.trains or self.widens

    def __post_init__(self) -> None:
        for name, described in _OPTIONS.items():
            object.__setattr__(self, name, described.checked(getattr(self, name)))
        if not (self.prior or self.learned):
            raise ConfigError(
                "prior=False and learned=False leave nothing to augment with; keep one of them, "
                "or use augmenter.disable() for a plain run."
            )
        if self.widen_views is not None and not self.widens:
            raise ConfigError(
                f"widen_views={self.widen_views} has no views to widen with prior={self.prior} and "
                f"rt={self.rt}; set both to True, or leave it out."
            )

    def __repr__(self) -> str:
        """The nearest preset and what differs from it; `eval` of it gives an equal config."""
        changes = {name: self._changes(preset) for name, preset in PRESETS.items()}
        nearest = min(changes, key=lambda name: len(changes[name]))  # the first of equals
        listed = ", ".join(f"{name}={value!r}" for name, value in changes[nearest].items())
        return f"{type(self).__name__}.{nearest}({listed})"

    def _changes(self, preset: Mapping[str, Any]) -> dict[str, Any]:
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != preset.get(f.name, f.default)
        }


#: Nothing is estimated from the caller's poses.
_NO_STATISTICS: dict[str, Any] = dict(
    upright=False,
    rare_pose_power=0.0,
    limb_crossover=False,
    lifted_poses=0.0,
    bend_sigma=0.0,
    joint_offset=0.0,
    keep_detection_error=0.0,
)
#: What `paper` and `released` have in common.
_PUBLISHED: dict[str, Any] = dict(
    **_NO_STATISTICS,
    prior=False,
    swap_lengths=False,
    learned=True,
    depth=0.1,
    width=256,
    d_width=256,
    limit_ba=None,
    limit_bl=0.2,
    limit_r=math.pi,
    limit_t=0.5,
    reg_angles=0.0,
    reg_ba=0.3,
    reg_bl=0.1,
    lr=1e-4,
    update_every=1,
    update_rows=None,
    repair=False,
)
#: What each preset changes of the fields' defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "random": {**_NO_STATISTICS, "bend": 0.6, "tilt": (-0.45, 0.45)},
    "paper": {
        **_PUBLISHED,
        "freeze_trunk": False,
        "adv2d": 0.1,
        "feedback": "exp",
        "feedback_weight": 3.0,
        "beta": (1.5, 2.5),
    },
    "released": {
        **_PUBLISHED,
        "mix": "alternate",
        "ratio": 1.0,
        "swap_lengths": True,
        "networks": "separate",
        "normalize_gradients": False,
        "adv3d": 6.0,
        "adv2d": 1.0,
        "feedback_weight": 1.0,
        "reg_weight": 3.0,
        "feedback": "range",
        "reg": "range",
    },
}


@dataclass(frozen=True)
class _Option:
    """What the annotation (`kinds`) and the metadata of one field say."""

    name: str
    default: Any
    kinds: tuple[Any, ...]  # members of the annotation's union
    choices: tuple[Any, ...]
    meaning: str
    section: str
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""

    @property
    def single(self) -> bool:
        """Whether a number may stand alone."""
        return float in self.kinds or int in self.kinds

    @property
    def pair(self) -> str:
        """What two numbers mean; empty where they are not taken."""
        return next((get_args(k)[1] for k in self.kinds if k in (Interval, Schedule)), "")

    @property
    def limits(self) -> str:
        """Smallest and largest number."""
        return f"{_number(self.low)} to {_number(self.high)}"

    @property
    def bounds(self) -> str:
        """All that is allowed."""
        if bool in self.kinds:
            return "True or False"
        if self.choices:
            return ", ".join(map(repr, self.choices))
        return (
            ("whole number, " * (int in self.kinds) + self.limits)
            + (f"; {'or ' * self.single}{self.pair}" if self.pair else "")
            + ", or None" * (NoneType in self.kinds)
        )

    @property
    def start(self) -> str:
        """The default, as in source code."""
        return _NAMED.get(self.default) or repr(self.default)

    def checked(self, value: Any) -> Any:
        """Return a value as it is stored: plain numbers, and pairs as tuples.

        Raises:
            ConfigError: the value is of another kind or out of range.
        """
        said = f"{self.name}={value!r}"
        if bool in self.kinds:
            if not isinstance(value, bool):
                raise ConfigError(f"{said} must be True or False.")
            return value
        if self.choices:
            if value not in self.choices:
                raise ConfigError(f"{said} is not one of {list(self.choices)}.")
            return value
        if value is None and NoneType in self.kinds:
            return None
        two = bool(self.pair) and isinstance(value, (tuple, list))
        ends = tuple(value) if two else (value,)
        if not all(isinstance(v, Real) and not isinstance(v, bool) for v in ends) or (
            len(ends) != 2 if two else not self.single
        ):
            names = "low, high" if Interval in self.kinds else "start, end"
            wanted = ["a number"] * self.single + [f"two numbers ({names})"] * bool(self.pair)
            raise ConfigError(f"{said} must be {' or '.join(wanted)}.")
        increasing = Interval in self.kinds
        if not all(self.low <= v <= self.high for v in ends) or (increasing and ends[0] > ends[1]):
            raise ConfigError(
                f"{said} is out of range; it must lie in "
                + " ".join(filter(None, (self.limits, self.unit)))
                + (f", {self.pair}." if increasing else ".")
            )
        whole = int in self.kinds
        if whole and any(int(v) != v for v in ends):
            raise ConfigError(f"{said} must be a whole number.")
        plain = tuple(int(v) if whole or isinstance(v, Integral) else float(v) for v in ends)
        return plain if two else plain[0]


def _options() -> Iterator[_Option]:
    hints = get_type_hints(PoseAugConfig, include_extras=True)
    section = ""
    for f in fields(PoseAugConfig):
        hint = hints[f.name]
        section = f.metadata["section"] or section
        yield _Option(
            f.name,
            f.default,
            kinds=get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,),
            choices=get_args(hint) if get_origin(hint) is Literal else (),
            **{**f.metadata, "section": section},
        )


_OPTIONS = {option.name: option for option in _options()}


def _sections() -> Iterable[tuple[str, Iterable[_Option]]]:
    return groupby(_OPTIONS.values(), lambda option: option.section)


def _refuse_unknown(given: Mapping[Any, Any]) -> None:
    """Raise `ConfigError` on the first name that is not an option."""
    for name in given:
        if name in _OPTIONS:
            continue
        if name in RENAMED:
            raise ConfigError(f"{name}= is now called {RENAMED[name]}=.")
        names = {known: known for known in _OPTIONS} | RENAMED
        close = difflib.get_close_matches(str(name), names, n=1)
        raise ConfigError(
            f"{name}={given[name]!r} is not an option of PoseAugConfig; "
            + (f"did you mean {names[close[0]]}=?" if close else "help() on it lists all options.")
        )


#: Numbers that are easier to read by name.
_NAMED = {math.pi: "pi", -math.pi: "-pi", 1 << 24: "2**24", 2**63 - 1: "2**63 - 1"}


def _number(value: float) -> str:
    return _NAMED.get(value) or f"{value:g}"


def _described() -> str:
    """The options in sections, for a docstring."""
    indent = " " * 8
    wrapper = textwrap.TextWrapper(
        96, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    lines = []
    for section, members in _sections():
        lines += ["", f"{section}:"]
        for o in members:
            bounds = f"{o.bounds}{'; ' * bool(o.unit)}{o.unit}"
            lines.append(f"    {o.name} = {o.start}  [{bounds}]")
            lines += wrapper.wrap(o.meaning)
    return "\n".join(lines)


PoseAugConfig.__doc__ = inspect.cleandoc(PoseAugConfig.__doc__ or "") + "\n" + _described()
