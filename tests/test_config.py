"""Every option is checked once, by name, and describes itself."""

from __future__ import annotations

import inspect
import math
import pickle
from dataclasses import FrozenInstanceError, asdict, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loop_helpers import attached
from poseaug_plugin import BatchFormat, PoseAugmenter
from poseaug_plugin.config import PRESETS, RENAMED, Interval, PoseAugConfig, Schedule
from poseaug_plugin.errors import ConfigError

NUMBERS_OUT_OF_RANGE: dict[str, tuple[object, ...]] = {
    "ratio": (-0.1, 1.1, (0.5, 1.1), (-0.1, 0.5)),
    **dict.fromkeys(("keep_detection_error", "lifted_poses"), (-0.1, 1.1)),
    "widen_views": (-0.1, 1001.0),
    **dict.fromkeys(("rare_pose_power", "bend_sigma"), (-1.0, 21.0)),
    "depth": (0.0, 101.0),
    "frame_height": (0.0, 11.0),
    **dict.fromkeys(("yaw", "roll", "limit_r"), (-0.1, 3.2)),
    "tilt": ((-4.0, 0.0), (0.0, 4.0), (0.2, 0.1)),
    "distance": ((0.0, 5.0), (2.0, 1001.0), (6.5, 2.5)),
    "image_offset": (-0.1, 2.1),
    "focal": ((0.0, 1.0), (0.5, 21.0), (1.0, 0.5)),
    **dict.fromkeys(("bend", "limit_ba", "limit_t"), (-0.1, 2.1)),
    **dict.fromkeys(("stretch", "body_scale", "limit_bl", "joint_dropout"), (-0.1, 1.0)),
    "joint_offset": (-0.01, 2.0),
    "body_height": ((0.0, 1.8), (1.5, 2000.0), (1.8, 1.5)),
    **dict.fromkeys(
        ("width", "d_width", "noise", "update_every", "d_every", "pool", "update_rows"),
        (0, -5, 1.5, 1 << 25),
    ),
    "seed": (-1, 0.5, 2**64),
    **dict.fromkeys(
        ("adv3d", "adv2d", "feedback_weight", "ba_weight", "rt_weight", "reg_weight", "reg_angles"),
        (-1.0, 1e7),
    ),
    **dict.fromkeys(("beta", "ba_ratio", "rt_ratio"), ((-1.0, 2.0), (1.0, 2000.0))),
    **dict.fromkeys(
        ("ba_band", "rt_band", "reg_ba", "reg_bl", "bend_target", "bend_band"), (-1.0, 1001.0)
    ),
    "lr": (-1e-4, 1.1),
    "clip": (0.0, 1e7),
    "warmup": (-1.0, 1e7),
    "warmup_steps": (-1, 1.5, 1 << 41),
}
RANGES = {"tilt", "distance", "body_height", "focal", "beta", "ba_ratio", "rt_ratio"}
CHOICES = {"mix", "networks", "kcs", "feedback", "reg"}
SWITCHES = {"ba", "bl", "rt", "prior", "swap_lengths", "learned", "freeze_trunk", "repair"}
SWITCHES |= {"sync_ranks", "normalize_gradients"}
SWITCHES |= {"released_quirks", "limb_crossover", "upright"}
FIELDS = {field.name: field for field in fields(PoseAugConfig)}
HINTS = get_type_hints(PoseAugConfig, include_extras=True)


def refused(**change: object) -> str:
    with pytest.raises(ConfigError) as caught:
        PoseAugConfig(**change)
    ((name, value),) = change.items()
    message = str(caught.value)
    assert message.startswith(f"{name}={value!r} "), message
    return message


def test_every_field_is_tried_below() -> None:
    names = {field.name for field in fields(PoseAugConfig)}
    assert names == {*NUMBERS_OUT_OF_RANGE, *CHOICES, *SWITCHES}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in NUMBERS_OUT_OF_RANGE.items() for v in values]
)
def test_numbers_out_of_range_are_refused_by_name_and_value(name: str, value: object) -> None:
    message = refused(**{name: value})
    assert ("must lie in" in message) or ("whole number" in message)


@pytest.mark.parametrize("name", sorted(NUMBERS_OUT_OF_RANGE))
def test_what_is_no_number_is_refused(name: str) -> None:
    many = (1.0, 2.0, 3.0)
    for value in ("1", True, many, [0.5], math.nan if name not in RANGES else (1.0, math.nan)):
        refused(**{name: value})
    if name in RANGES:
        assert "two numbers (" in refused(**{name: 3.0})


def test_numbers_of_numpy_are_numbers() -> None:
    config = PoseAugConfig.default(ratio=np.float32(0.5), pool=np.int64(64))
    assert (type(config.ratio), type(config.pool)) == (float, int)
    assert (config.ratio, config.pool) == (0.5, 64)
    attached(epochs=np.int64(5))
    BatchFormat(pose_3d=0, pose_2d=1, unit=np.float64(0.001), screen=(np.int64(9), np.int64(9)))


def test_messages_say_what_is_wanted() -> None:
    assert refused(yaw=180).endswith("it must lie in 0 to pi rad.")
    assert refused(distance=(5, 2)).endswith("it must lie in 0.01 to 1000 m, low before high.")
    assert refused(ratio="half").endswith("must be a number or two numbers (start, end).")
    assert refused(ratio=(0.5,)).endswith("must be a number or two numbers (start, end).")
    assert refused(beta=3.0).endswith("must be two numbers (start, end).")
    assert refused(distance=3.0).endswith("must be two numbers (low, high).")
    assert refused(pool=0).endswith("it must lie in 1 to 2**24 samples.")
    assert refused(pool=1.5).endswith("must be a whole number.")


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_unknown_choices_are_refused(name: str) -> None:
    assert "is not one of [" in refused(**{name: "best"})
    refused(**{name: None})


@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_switches_are_true_or_false(name: str) -> None:
    for value in (1, "yes", None):
        assert "must be True or False" in refused(**{name: value})


def test_nothing_to_augment_with_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prior=False and learned=False.*disable\(\)"):
        PoseAugConfig(prior=False, learned=False)


def test_none_means_unlimited_where_the_field_says_so() -> None:
    optional = ("limit_ba", "update_rows", "frame_height", "body_height", "warmup_steps")
    optional += ("distance", "focal", "image_offset", "joint_offset", "depth", "widen_views")
    config = PoseAugConfig(**dict.fromkeys(optional))
    assert [getattr(config, name) for name in optional] == [None] * len(optional)
    for name in sorted(set(NUMBERS_OUT_OF_RANGE) - set(optional)):
        refused(**{name: None})


def test_limits_themselves_are_allowed() -> None:
    PoseAugConfig(ratio=0, yaw=math.pi, distance=(0.01, 0.01), focal=[0.05, 20], seed=2**63 - 1)
    PoseAugConfig(ratio=1, bend=2, stretch=0.9, width=1, update_rows=1, beta=(3.0, 1.0))


def test_presets() -> None:
    assert PoseAugConfig.default() == PoseAugConfig()
    assert PoseAugConfig.random() == PoseAugConfig(
        bend=0.6,
        bend_sigma=0.0,
        rare_pose_power=0.0,
        limb_crossover=False,
        lifted_poses=0.0,
        joint_offset=0.0,
        upright=False,
        tilt=(-0.45, 0.45),
        keep_detection_error=0.0,
    )
    paper, released = PoseAugConfig.paper(), PoseAugConfig.released()
    for published in (paper, released):
        assert not published.prior
        assert published.limit_bl == 0.2
        assert published.limit_ba is None
        assert published.limit_r == pytest.approx(math.pi)
    assert (paper.adv3d, paper.adv2d, paper.feedback_weight) == (1, 0.1, 3)
    assert (paper.mix, released.mix) == ("replace", "alternate")
    assert paper.normalize_gradients
    assert (released.adv3d, released.adv2d, released.feedback_weight) == (6, 1, 1)
    assert not released.normalize_gradients
    assert (paper.feedback, paper.reg, paper.networks) == ("exp", "threshold", "shared")
    assert (released.feedback, released.reg, released.networks) == ("range", "range", "separate")
    assert released.freeze_trunk
    assert not paper.freeze_trunk
    assert (released.ba_ratio, released.ba_band, released.ba_weight) == ((3, 5), 2, 0.1)
    assert (released.rt_ratio, released.rt_band, released.rt_weight) == ((17, 17), 15, 0.01)
    assert (released.width, released.d_width, paper.width, paper.d_width) == (256,) * 4
    assert (released.bend_target, released.bend_band, released.reg_bl) == (0.205, 0.165, 0.1)
    assert (released.lr, released.clip, released.d_every, released.pool) == (1e-4, 1, 2, 4096)
    assert (released.noise, released.warmup, released.reg_weight) == (48, 2, 3)


@pytest.mark.parametrize("name", ["default", "random", "paper", "released"])
def test_presets_take_changes_and_are_found_by_name(name: str) -> None:
    preset = getattr(PoseAugConfig, name)
    assert PoseAugConfig.of(name) == preset()
    assert preset(lr=3e-4) == preset().replace(lr=3e-4)
    assert preset(learned=True, networks="separate").networks == "separate"


def test_of() -> None:
    config = PoseAugConfig(lr=1e-3)
    assert PoseAugConfig.of(config) is config
    assert PoseAugConfig.of(None) == PoseAugConfig()


@pytest.mark.parametrize("source", ["best", 3, ["paper"], {"ratio"}])
def test_of_refuses_the_rest(source: object) -> None:
    with pytest.raises(ConfigError, match="is not a preset; choose one of") as caught:
        PoseAugConfig.of(source)
    assert repr(source) in str(caught.value)


def test_of_takes_a_mapping_of_changes() -> None:
    assert PoseAugConfig.of({}) == PoseAugConfig()
    assert PoseAugConfig.of(dict(ratio=0.5)) == PoseAugConfig(ratio=0.5)
    changes = dict(preset="random", tilt=[-0.2, 0.2])
    assert PoseAugConfig.of(changes) == PoseAugConfig.random(tilt=(-0.2, 0.2))
    assert changes == dict(preset="random", tilt=[-0.2, 0.2])
    base = PoseAugConfig.paper(seed=3)
    assert PoseAugConfig.of(dict(preset=base, lr=1e-3)) == base.replace(lr=1e-3)
    both = dict(preset="paper", prior=True, learned=False)
    assert PoseAugConfig.of(both) == PoseAugConfig.paper(prior=True, learned=False)
    with pytest.raises(ConfigError, match="config='best' is not a preset; choose one of"):
        PoseAugConfig.of(dict(preset="best"))
    with pytest.raises(ConfigError, match="ratio=2 is out of range"):
        PoseAugConfig.of(dict(ratio=2))
    with pytest.raises(ConfigError, match="3=4 is not an option of PoseAugConfig"):
        PoseAugConfig.of({3: 4})


def test_the_augmenter_takes_a_mapping() -> None:
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    augmenter = PoseAugmenter(model, optimizer, config=dict(ratio=0.5))
    assert augmenter.config == PoseAugConfig.default(ratio=0.5)
    augmenter.detach()


WAYS = {
    "constructor": PoseAugConfig,
    **{name: getattr(PoseAugConfig, name) for name in PRESETS},
    "but": PoseAugConfig().replace,
    "of": lambda **changes: PoseAugConfig.of(changes),
}


@pytest.mark.parametrize("way", WAYS)
def test_unknown_names_are_refused_with_the_closest(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message(**changes: object) -> str:
        with pytest.raises(ConfigError) as caught:
            WAYS[way](**changes)
        return str(caught.value)

    assert message(rato=0.5) == ("rato=0.5 is not an option of PoseAugConfig; did you mean ratio=?")
    assert message(zzz=1) == (
        "zzz=1 is not an option of PoseAugConfig; help() on it lists all options."
    )
    monkeypatch.setitem(RENAMED, "azimuth", "yaw")
    assert message(azimuth=1) == "azimuth= is now called yaw=."
    assert message(azimut=1).endswith("did you mean yaw=?")
    assert message(yaww=1).endswith("did you mean yaw=?")


def test_former_names_lead_to_options() -> None:
    assert set(RENAMED.values()) <= set(FIELDS)
    assert not set(RENAMED) & set(FIELDS)


def test_values_are_stored_plain() -> None:
    config = PoseAugConfig(distance=[2, np.float64(8.5)], lr=np.float64(0.5), pool=64.0)
    assert (config.distance, config.lr, config.pool) == ((2, 8.5), 0.5, 64)
    assert {type(v) for v in (*config.distance, config.lr)} == {int, float}
    assert type(config.pool) is int
    assert hash(config) == hash(config.replace())


def test_copies() -> None:
    config = PoseAugConfig.released(ratio=(0.5, 0.25))
    assert pickle.loads(pickle.dumps(config)) == config
    assert PoseAugConfig(**asdict(config)) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_repr_is_the_nearest_preset_and_what_differs(preset: str) -> None:
    made = getattr(PoseAugConfig, preset)
    assert repr(made()) == f"PoseAugConfig.{preset}()"
    assert repr(made(lr=0.5, ratio=(0.5, 0.25))) == (
        f"PoseAugConfig.{preset}(ratio=(0.5, 0.25), lr=0.5)"
    )


def test_repr_of_a_tie_is_the_default() -> None:
    changes = dict(bend=0.6, tilt=(-0.45, 0.45), bend_sigma=0.0, joint_offset=0.0, upright=False)
    assert len(PRESETS["random"]) == 9
    assert repr(PoseAugConfig(**changes)).startswith("PoseAugConfig.random(")
    changes["bend"] = 0.3  # neither's: four of random's other eight changes are left, four missing
    assert repr(PoseAugConfig(**changes)).startswith("PoseAugConfig.default(")


def allowed(name: str) -> st.SearchStrategy[Any]:
    """Values of an option, by its annotation and bounds."""
    hint, data = HINTS[name], FIELDS[name].metadata
    if hint is bool:
        return st.booleans()
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if hint is int or int in get_args(hint):
        numbers: st.SearchStrategy[Any] = st.integers(data["low"], data["high"])
    else:
        numbers = st.floats(data["low"], data["high"])
    pairs = st.tuples(numbers, numbers)
    if hint == Interval | None:
        return st.none() | pairs.map(sorted).map(tuple)
    if hint == Interval:
        return pairs.map(sorted).map(tuple)
    if hint == Schedule:
        return pairs
    if Schedule in get_args(hint):
        return numbers | pairs
    return numbers | st.none() if type(None) in get_args(hint) else numbers


@settings(deadline=None)
@given(
    st.sampled_from(sorted(PRESETS)),
    st.fixed_dictionaries({}, optional={name: allowed(name) for name in FIELDS}),
)
def test_repr_evaluates_to_the_config(preset: str, changes: dict[str, Any]) -> None:
    values = {**asdict(getattr(PoseAugConfig, preset)()), **changes}
    assume(values["prior"] or values["learned"])
    assume(values["widen_views"] is None or (values["prior"] and values["rt"]))
    config = getattr(PoseAugConfig, preset)(**changes)
    assert eval(repr(config)) == config
    assert PoseAugConfig.of(dict(preset=preset, **changes)) == config


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_describes_itself(name: str) -> None:
    data, hint = FIELDS[name].metadata, HINTS[name]
    assert ("low" in data) != (hint is bool or get_origin(hint) is Literal)
    assert data["meaning"][0] != " "
    assert data["meaning"].endswith(".")
    assert "|" not in data["meaning"]


def test_help_and_table_list_every_field() -> None:
    described = inspect.getdoc(PoseAugConfig)
    table = [line.strip("| ").split(" | ") for line in PoseAugConfig.table().splitlines()]
    assert all(line.count("|") == 6 for line in PoseAugConfig.table().splitlines())
    assert table[0] == ["field", "default", "bounds", "unit", "meaning"]
    rows = [row for row in table if row[0].startswith("`")]
    assert [row[0] for row in rows] == [f"`{name}`" for name in FIELDS]
    for name, field in FIELDS.items():
        assert f"\n    {name} = " in described
        assert field.metadata["meaning"].split(".")[0][:60] in described
    assert "distance = None  [0.01 to 1000; low before high, or None; m]" in described
    assert "tilt = (-0.3, 0.6)  [-pi to pi; low before high; rad]" in described
    assert "ratio = (0.9, 0.5)  [0 to 1; or start and end of the run]" in described
    assert "yaw = pi  [0 to pi; rad]" in described
    assert "update_rows = 256  [whole number, 1 to 2**24, or None; rows]" in described
    sections = ("Mixing", "Prior", "Poses", "Learned networks", "Losses", "Optimisation")
    assert [row[0] for row in table if row[0].startswith("**")] == [f"**{s}**" for s in sections]
    assert [described.index(f"\n{s}:\n") for s in sections] == sorted(
        described.index(f"\n{s}:\n") for s in sections
    )
    assert str(inspect.signature(PoseAugConfig)).startswith("(mix: ")


def test_but_checks_again_and_leaves_the_original() -> None:
    config = PoseAugConfig()
    assert config.replace(ratio=0.25).ratio == 0.25
    assert config.ratio == (0.9, 0.5)
    assert (config.ratios, config.replace(ratio=0.25).ratios) == ((0.9, 0.5), (0.25, 0.25))
    with pytest.raises(ConfigError, match="ratio=2 is out of range"):
        config.replace(ratio=2)


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        PoseAugConfig().ratio = 0.1
    assert len({PoseAugConfig(), PoseAugConfig(), PoseAugConfig(seed=1)}) == 2


OFF = dict(ba=False, bl=False, rt=False)
#: Properties, and changes of the default under which they hold and do not.
PROPERTIES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "augments": (
        [{}, dict(ratio=(0.0, 0.5)), dict(ratio=(0.5, 0.0)), *[{**OFF, n: True} for n in OFF]],
        [OFF, dict(ratio=0.0), dict(ratio=(0.0, 0.0))],
    ),
    "trains": (
        [dict(learned=True), *[{**OFF, n: True, "learned": True} for n in OFF]],
        [{}, dict(learned=True, **OFF)],
    ),
    "widens": ([dict(widen_views=1.1)], [{}]),
    "lifts": ([{}], [dict(lifted_poses=0.0), dict(ba=False)]),
    "learns": ([dict(widen_views=1.1), dict(learned=True)], [{}]),
    "resamples": ([{}], [dict(rare_pose_power=0.0), dict(ba=False)]),
    "aligns_vertical": (
        [{}],
        [dict(upright=False), dict(rt=False), dict(prior=False, learned=True)],
    ),
    "varies_poses": (
        [{}, dict(limb_crossover=False), dict(bend_sigma=0.0)],
        [dict(limb_crossover=False, bend_sigma=0.0), dict(ba=False)],
    ),
    "uses_pose_statistics": (
        [
            dict(rare_pose_power=0.0, upright=False),
            dict(rare_pose_power=0.0, bend_sigma=0.0),
            dict(upright=False, bend_sigma=0.0),
        ],
        [
            dict(rare_pose_power=0.0, upright=False, bend_sigma=0.0),
            dict(ba=False, upright=False),
        ],
    ),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_what_follows_from_the_options(name: str) -> None:
    holding, others = PROPERTIES[name]
    assert [getattr(PoseAugConfig(**changes), name) for changes in holding] == [True] * len(holding)
    assert [getattr(PoseAugConfig(**changes), name) for changes in others] == [False] * len(others)


def test_views_are_measured_unless_all_ranges_are_given() -> None:
    given: dict[str, Any] = dict(distance=(2, 2), focal=(1, 1), image_offset=0.1, joint_offset=0.0)
    assert not PoseAugConfig(**given).uses_view_statistics
    for name in given:
        assert PoseAugConfig(**{**given, name: None}).uses_view_statistics
    assert not PoseAugConfig(prior=False, learned=True).uses_view_statistics


@pytest.mark.parametrize("off", [dict(rt=False), dict(prior=False, learned=True)])
def test_views_that_do_not_vary_cannot_widen(off: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"widen_views=1\.1 has no views to widen"):
        PoseAugConfig(widen_views=1.1, **off)


def test_whole_numbers_stay_whole_and_may_be_given_as_floats() -> None:
    config = PoseAugConfig(width=64.0, distance=(2, 3.0), lr=0)  # type: ignore[arg-type]
    assert [type(x) for x in (config.width, *config.distance, config.lr)] == [int, int, float, int]
    for wrong in (64.5, True):
        with pytest.raises(ConfigError, match="width="):
            PoseAugConfig(width=wrong)  # type: ignore[arg-type]
