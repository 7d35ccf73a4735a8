"""Training on a GPU, with batches on the GPU or on the CPU.

On a machine without a GPU, `simulated_cuda` takes its place.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import H36M, cameras
from helpers import people as poses_of
from loop_helpers import Lifter, batch, people, same, small, snapshot
from poseaug_plugin import PoseAugmenter, PoseAugWarning
from poseaug_plugin.augment.augmentation import Augmentation
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.data import synthetic
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.geometry.camera import Camera, project
from simulated_cuda import SimulatedCuda

pytestmark = pytest.mark.usefixtures("cuda")

ROWS = 16
SCREEN = 1000.0, 800.0

#: Configs that differ in what runs: nothing learned, learned on top of a prior, and the papers'.
CONFIGS: dict[str, Callable[..., PoseAugConfig]] = {
    "default": lambda **changes: PoseAugConfig.default(ratio=0.5, **changes),
    "random": lambda **changes: PoseAugConfig.random(**changes),
    "learned": lambda **changes: small("default", **changes),
    "residual": lambda **changes: small("residual", **changes),
    "widening": lambda **changes: PoseAugConfig(
        **{"ratio": 0.5, "update_every": 1, "widen_views": 1.2, **changes}
    ),
    "paper": lambda **changes: small("paper", ratio=0.5, **changes),
    "released": lambda **changes: small("released", mix="replace", ratio=0.5, **changes),
}

PLACES: dict[str, Callable[[Tensor], Any]] = {
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x,
    "pinned": lambda x: x.pin_memory(),
    "cuda": lambda x: x.cuda(),
}


def placed(value: Any, place: str) -> Any:
    """A batch with its tensors at a place."""
    if isinstance(value, Tensor):
        return PLACES[place](value)
    if isinstance(value, dict):
        return {key: placed(x, place) for key, x in value.items()}
    if isinstance(value, SimpleNamespace):
        return SimpleNamespace(**placed(vars(value), place))
    return [placed(x, place) for x in value] if isinstance(value, list) else value


def tensors_of(value: Any) -> list[Any]:
    """The tensors and arrays of a batch, in order."""
    if isinstance(value, SimpleNamespace):
        value = vars(value)
    if isinstance(value, (list, dict)):
        values = value.values() if isinstance(value, dict) else value
        return [found for x in values for found in tensors_of(x)]
    return [value] if isinstance(value, (Tensor, np.ndarray)) else []


def host(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().cpu()


def attached(
    config: PoseAugConfig, fmt: Any = "poseaug", device: str = "cuda", **options: Any
) -> tuple[PoseAugmenter, Lifter, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Lifter().to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return PoseAugmenter(model, optimizer, fmt, 2, config=config, **options), model, optimizer


def train(model: Lifter, optimizer: torch.optim.Optimizer, pose_2d: Any) -> None:
    """A step of a training loop, which draws from the device's own random numbers."""
    device = next(model.parameters()).device
    optimizer.zero_grad()
    model(torch.as_tensor(pose_2d).to(device, torch.float32)).square().mean().backward()
    optimizer.step()


@contextmanager
def random_states_kept() -> Iterator[None]:
    before = torch.get_rng_state(), torch.cuda.get_rng_state()
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.equal(before[1], torch.cuda.get_rng_state())


@contextmanager
def no_bad_batch(augmenter: PoseAugmenter) -> Iterator[None]:
    """No batch and no update fails, which a warning alone would tell."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert augmenter.stats()["bad_batches"] == 0


# Batches and configs


@pytest.mark.parametrize("place", ["numpy", "cpu", "cuda"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_trains_with_batches_at_any_place(name: str, place: str) -> None:
    augmenter, model, optimizer = attached(CONFIGS[name]())
    with no_bad_batch(augmenter):
        for seed in range(2):
            given = placed(list(batch(rows=ROWS, seed=seed)), place)
            with random_states_kept():
                augmented = augmenter(given)
            assert [type(f) for f in augmented] == [type(f) for f in given]
            pose_3d, pose_2d, camera = (host(augmented[i]) for i in (0, 1, 3))
            exact = project(pose_3d, camera)
            assert torch.allclose(exact, pose_2d, atol=1e-4)
            if place != "numpy":
                assert augmented[0].device == given[0].device
            train(model, optimizer, augmented[1])
    stats = augmenter.stats()
    assert all(np.isfinite(value) for value in stats.values())
    assert stats["augmented"] > 0 or name == "paper"  # whose untrained networks place nobody
    assert stats["updates"] == (2 if augmenter.config.learns else 0)


def clips(seed: int) -> list[Any]:
    """Clips of 5 frames of pose_3d, pose_2d and cameras."""
    who = people(ROWS, 5, seed=seed)
    return [torch.from_numpy(x) for x in (who.pose_3d, who.pose_2d, who.camera)]


def scenes(seed: int) -> list[Any]:
    """As `clips` with one frame, and the image of each person: two people an image."""
    pose_3d, pose_2d, camera = clips(seed)
    return [pose_3d[:, 0], pose_2d[:, 0], camera, torch.arange(ROWS) // 2]


def pixels(seed: int) -> list[Any]:
    """2D and cameras in pixels of `SCREEN`."""
    pose_3d, pose_2d, camera, _ = scenes(seed)
    width, height = SCREEN
    offset = torch.tensor([1.0, height / width])
    camera[:, 2:4] += offset
    camera[:, :4] *= width / 2
    return [pose_3d, (pose_2d + offset) * (width / 2), camera]


def mmpose(seed: int) -> dict[str, Any]:
    """Lists of tensors (2 J, T), and of objects that hold the targets."""
    pose_3d, pose_2d, _ = clips(seed)
    relative = pose_3d - pose_3d[:, :, :1]

    def sample(target: Tensor) -> SimpleNamespace:
        return SimpleNamespace(gt_instance_labels=SimpleNamespace(lifting_target_label=target))

    return {
        "inputs": [clip.flatten(1).T.contiguous() for clip in pose_2d],
        "data_samples": [sample(clip) for clip in relative],
    }


UNIT = np.zeros(32), np.ones(32), np.zeros(48), np.ones(48)  # mean and deviation of 2D and 3D

#: Kinds of batches: how they are made, and their format.
KINDS: dict[str, tuple[Callable[[int], Any], Any]] = {
    "poseaug": (lambda seed: list(batch(rows=ROWS, seed=seed)), "poseaug"),
    "semgcn": (lambda seed: list(batch("semgcn", ROWS, seed)), "semgcn"),
    "clips": (clips, dict(pose_3d=0, pose_2d=1, camera=2, root="absolute")),
    "scenes": (scenes, dict(pose_3d=0, pose_2d=1, camera=2, root="absolute", groups=3)),
    "pixels": (pixels, dict(pose_3d=0, pose_2d=1, camera=2, root="absolute", screen=SCREEN)),
    "mmpose": (mmpose, "mmpose"),
    "standardised": (
        lambda seed: scenes(seed)[:3],
        dict(pose_3d=0, pose_2d=1, camera=2, root="absolute", stat_2d=UNIT[:2], stat_3d=UNIT[2:]),
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_batch_is_augmented_at_any_place(kind: str, place: str) -> None:
    make, fmt = KINDS[kind]
    augmenter, _, _ = attached(CONFIGS["default"](), fmt)
    with no_bad_batch(augmenter):
        for seed in range(2):
            given, before = placed(make(seed), place), tensors_of(make(seed))
            augmented = augmenter(given)
            assert type(augmented) is type(given)
            pairs = list(zip(tensors_of(given), tensors_of(augmented)))
            for old, new in pairs:
                assert type(new) is type(old)
                assert (new.dtype, new.shape) == (old.dtype, old.shape)
                assert place == "numpy" or new.device == old.device
                assert place == "numpy" or new.is_pinned() == old.is_pinned()
            assert all(torch.equal(host(x), y) for x, y in zip(tensors_of(given), before))
            assert any(not torch.equal(host(old), host(new)) for old, new in pairs)
    assert augmenter.stats()["augmented"] > 0


@pytest.mark.parametrize("kind", ["poseaug", "scenes", "pixels"])
def test_a_batch_gives_equal_results_at_any_place(kind: str) -> None:
    make, fmt = KINDS[kind]
    results = []
    for place in PLACES:
        augmenter, _, _ = attached(CONFIGS["default"](), fmt)
        results.append([host(x) for x in tensors_of(augmenter(placed(make(0), place)))])
    for other in results[1:]:
        for one, two in zip(results[0], other):
            assert torch.allclose(one.double(), two.double(), atol=1e-5, rtol=1e-5)


def test_an_augmentation_gives_equal_poses_on_both_devices() -> None:
    poses = torch.as_tensor(poses_of(8, 3)).float()
    sampler = Sampler(H36M, PoseAugConfig.random(), torch.device("cpu"))
    relative = poses - poses[:, :, :1]
    given = FORMATS["poseaug"].read(
        (poses, project(poses, cameras(8)[:, None]), None, cameras(8)), H36M, Camera()
    )
    aug, *_ = sampler.augment(given, Bones.of(relative, H36M))
    on_cpu = aug.project(aug.apply(relative, H36M))
    parameters = {name: value.cuda() for name, value in aug.parameters.items()}
    moved = Augmentation(parameters, aug.R.cuda(), aug.t.cuda(), aug.camera.cuda())
    on_gpu = moved.project(moved.apply(relative.cuda(), H36M))
    assert torch.allclose(on_cpu, on_gpu.cpu(), atol=1e-5)


# The loop's own settings


@pytest.mark.parametrize("name", ["default", "residual", "released"])
def test_autocast_of_the_loop_does_not_reach_the_geometry(name: str) -> None:
    results = []
    for enabled in (False, True):
        augmenter, model, optimizer = attached(CONFIGS[name]())
        with no_bad_batch(augmenter), torch.autocast("cuda", torch.bfloat16, enabled=enabled):
            results.append(augmenter(placed(list(batch(rows=ROWS)), "cuda")))
            train(model, optimizer, results[-1][1])
        assert augmenter.stats()["updates"] == augmenter.config.learns
    assert all(torch.equal(one, two) for one, two in zip(*map(tensors_of, results)))


@pytest.mark.parametrize("name", CONFIGS)
def test_deterministic_algorithms_suffice(name: str) -> None:
    results = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            augmenter, model, optimizer = attached(CONFIGS[name]())
            with no_bad_batch(augmenter):
                for kind in ("poseaug", "poseaug"):
                    results.append(augmenter(placed(KINDS[kind][0](0), "cuda")))
                    train(model, optimizer, results[-1][1])
    finally:
        torch.use_deterministic_algorithms(False)
    for one, two in zip(results[:2], results[2:]):
        assert all(torch.equal(a, b) for a, b in zip(tensors_of(one), tensors_of(two)))


def test_pairs_are_exact_although_the_loop_allows_tf32(cuda: SimulatedCuda | None) -> None:
    if cuda is not None:
        pytest.skip("only a real device rounds the inputs of products to TF32")
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        augmenter, *_ = attached(CONFIGS["default"]())
        pose_3d, pose_2d, _, camera = augmenter(placed(list(batch(rows=ROWS)), "cuda"))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert torch.allclose(project(host(pose_3d), host(camera)), host(pose_2d), atol=1e-4)


# Changes of the device


def moved(state: Any, device: str) -> Any:
    """A state as `torch.load(map_location=device)` returns it."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: moved(value, device) for key, value in state.items()}
    return (
        type(state)(moved(x, device) for x in state) if isinstance(state, (list, tuple)) else state
    )


@pytest.mark.parametrize("name", ["default", "learned", "residual", "released"])
def test_a_resumed_run_continues_with_equal_batches(name: str) -> None:
    first, model, optimizer = attached(CONFIGS[name]())
    train(model, optimizer, first(list(batch(rows=ROWS)))[1])
    second, *_ = attached(CONFIGS[name]())
    second.load_state_dict(moved(first.state_dict(), "cpu"))
    second._estimator.model.load_state_dict(model.state_dict())
    given = list(batch(rows=ROWS, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(*(tensors_of(a(given)) for a in (first, second))))


@pytest.mark.parametrize(("start", "end"), [("cpu", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize("name", ["default", "learned", "released"])
def test_a_run_resumes_on_another_device(name: str, start: str, end: str) -> None:
    first, model, optimizer = attached(CONFIGS[name](), device=start)
    train(model, optimizer, first(list(batch(rows=ROWS)))[1])
    second, model, optimizer = attached(CONFIGS[name](), device=end)
    second.load_state_dict(first.state_dict())
    counts = second.stats()
    assert counts == {name: first.stats()[name] for name in counts}
    one, two = (x.state_dict()["engine"]["sampler"]["pose_statistics"] for x in (first, second))
    assert torch.equal(host(one["moments"]), host(two["moments"]))
    with no_bad_batch(second):
        train(model, optimizer, second(list(batch(rows=ROWS, seed=1)))[1])
    assert second.stats()["updates"] == 2 * second.config.learns


@pytest.mark.parametrize("name", ["default", "learned", "released"])
def test_the_plugin_moves_with_the_model(name: str) -> None:
    augmenter, model, optimizer = attached(CONFIGS[name](), device="cpu")
    with no_bad_batch(augmenter):
        for device in ("cpu", "cuda", "cpu"):
            model.to(device)
            for state in optimizer.state.values():  # which torch leaves where it is
                state.update({key: state[key].to(device) for key in ("exp_avg", "exp_avg_sq")})
            train(model, optimizer, augmenter(list(batch(rows=ROWS)))[1])
    assert augmenter.stats()["updates"] == 3 * augmenter.config.learns


@pytest.mark.parametrize(("start", "end"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_unlabelled_poses_move_with_the_state(start: str, end: str) -> None:
    poses = synthetic.make()[2].pose_2d[::10]
    first, *_ = attached(CONFIGS["default"](), device=start, target_2d=poses)
    first(list(batch(rows=ROWS)))
    second, *_ = attached(CONFIGS["default"](), device=end, target_2d=poses)
    second.load_state_dict(first.state_dict())
    one, two = first.target, second.target
    assert one is not None
    assert two is not None
    assert two.log_factor.device.type == end
    assert torch.equal(host(one.log_factor), host(two.log_factor))
    with no_bad_batch(second):
        second(list(batch(rows=ROWS, seed=1)))


def test_unlabelled_poses_are_not_waited_for(cuda: SimulatedCuda | None) -> None:
    if cuda is None:
        pytest.skip("the waits are counted on the simulated device")
    poses = synthetic.make()[2].pose_2d[::10]
    augmenter, _, optimizer = attached(CONFIGS["default"](), target_2d=poses)
    for seed in range(3):
        given = placed(list(batch(rows=ROWS, seed=seed)), "cuda")
        cuda.waits.clear()
        augmenter(given)
        optimizer.step()
    assert not cuda.waits


# Waits


#: A batch that comes from the CPU is copied to the device and back. One that is there is not waited
#: for, unless the host has to choose whole scenes and to compare their people, or to go through the
#: rows of a list.
MOST_WAITS = {
    "cpu": {"scenes": 4, "other": 2},
    "cuda": {"scenes": 2, "mmpose": 1, "other": 0},
}


@pytest.mark.parametrize("place", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["default", "random"])
def test_a_batch_waits_no_more_often_than_known(
    cuda: SimulatedCuda | None, name: str, kind: str, place: str
) -> None:
    if cuda is None:
        pytest.skip("the waits are counted on the simulated device")
    make, fmt = KINDS[kind]
    augmenter, _, optimizer = attached(CONFIGS[name](), fmt)
    for seed in range(2):  # the first batches are checked, and fill the caches of constants
        augmenter(placed(make(seed), place))
        optimizer.step()
    given = placed(make(3), place)
    cuda.waits.clear()
    augmenter(given)
    most = MOST_WAITS[place]
    assert len(cuda.waits) <= most.get(kind, most["other"]), cuda.waits
    assert augmenter.stats()["bad_batches"] == 0


@pytest.mark.filterwarnings("ignore:mix='alternate' is used with a model that has BatchNorm")
@pytest.mark.parametrize("place", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", ["poseaug", "clips", "scenes", "pixels", "standardised"])
@pytest.mark.parametrize("mix", ["replace", "append", "alternate"])
def test_recording_errors_never_waits(
    cuda: SimulatedCuda | None, mix: Any, kind: str, place: str
) -> None:
    make, fmt = KINDS[kind]
    waits, reports = [], []
    for report in (False, True):
        augmenter, model, optimizer = attached(CONFIGS["default"](mix=mix), fmt, report=report)
        batches = augmenter.wrap([placed(make(seed), place) for seed in range(3)])
        for number, each in enumerate(batches):
            if number == 2 and cuda is not None:  # the first ones fill the caches of constants
                cuda.waits.clear()
            train(model, optimizer, each[1])
        waits.append(sorted(cuda.waits) if cuda is not None else [])
        reports.append(snapshot(model, optimizer))
    assert waits[0] == waits[1]
    assert same(*reports)
    assert augmenter.report().rows == augmenter.stats()["augmented"] > 0


def test_a_recorded_report_moves_with_the_model() -> None:
    augmenter, model, optimizer = attached(CONFIGS["default"](), report=True)
    train(model, optimizer, augmenter(list(batch(rows=ROWS)))[1])
    rows = augmenter.report().rows
    model.cpu()
    model(augmenter(list(batch(rows=ROWS, seed=1)))[1])
    assert augmenter.report().rows == 2 * rows


def test_bad_rows_on_the_device_are_told_when_it_is_waited_for_anyway(
    cuda: SimulatedCuda | None,
) -> None:
    augmenter, model, optimizer = attached(CONFIGS["residual"](warmup=0))
    for seed in range(2):
        train(model, optimizer, augmenter(placed(list(batch(rows=ROWS, seed=seed)), "cuda"))[1])
    given = list(batch(rows=ROWS, seed=3))
    given[0][2] = torch.nan
    given = placed(given, "cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if cuda is not None:
            cuda.waits.clear()
        augmented = augmenter(given)
        assert cuda is None or not cuda.waits
        optimizer.step()
    assert host(augmented[0]).isfinite().flatten(1).all(1).tolist() == [i != 2 for i in range(ROWS)]
    with pytest.warns(PoseAugWarning, match="1 rows have NaN"):
        augmenter.end_epoch()
    stats = augmenter.stats()
    assert (stats["bad_rows"], stats["updates"]) == (1, 3)
    assert all(np.isfinite(value) for value in stats.values())


# The simulation itself


def test_the_simulated_device_raises_as_a_real_one_does() -> None:
    ours, other = torch.zeros(3, device="cuda"), torch.zeros(3)
    assert (ours + torch.tensor(1.0)).device == torch.device("cuda:0")
    with pytest.raises(RuntimeError, match="device"):
        ours + other
    with pytest.raises(RuntimeError, match="device"):
        other[ours.long()]
    with pytest.raises(TypeError, match="numpy"):
        ours.numpy()
    for device, of_generator in (("cuda", "cpu"), ("cpu", "cuda")):
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, device=device, generator=torch.Generator(of_generator))
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="deterministic"):
            ours.cumsum(0)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_simulated_device_counts_waits(cuda: SimulatedCuda | None) -> None:
    if cuda is None:
        pytest.skip("the waits are counted on the simulated device")
    ours = torch.zeros(3).to("cuda", non_blocking=True)
    assert not cuda.waits
    for wait, kind in (
        (lambda: torch.zeros(3).cuda(), "to device"),
        (lambda: ours.new_tensor([1.0]), "to device"),
        (lambda: ours[[0, 1]], "to device"),
        (lambda: ours.cpu(), "to host"),
        (lambda: bool(ours.sum()), "read"),
        (lambda: ours[ours > 0], "read"),
        (lambda: ours.nonzero(), "read"),
    ):
        cuda.waits.clear()
        wait()
        assert any(wait.startswith(kind) for wait in cuda.waits)


def test_random_numbers_follow_the_seed_and_the_state() -> None:
    generator = torch.Generator("cuda").manual_seed(3)
    state = generator.get_state()
    assert state.shape == (16,)
    first, second = (torch.rand(3, generator=generator, device="cuda") for _ in range(2))
    assert not torch.equal(first, second)
    generator.set_state(state)
    assert torch.equal(first, torch.rand(3, generator=generator, device="cuda"))
