"""Training on a GPU, with batches on the GPU or on the CPU."""

import numpy as np
import pytest
import torch

from helpers import H36M, cameras, people
from loop_helpers import Lifter, batch, small
from poseaug_plugin import PoseAugmenter
from poseaug_plugin.augment.augmentation import Augmentation
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.geometry.camera import Camera, project

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("device", ["numpy", "cpu", "cuda"])
@pytest.mark.parametrize("preset", ["default", "random", "paper", "released"])
def test_every_preset_trains_with_batches_on_any_device(preset, device):
    model = Lifter().cuda().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    config = small(preset, update_every=1, d_every=1, warmup=0, mix="replace", ratio=0.5)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", 2, config=config)
    before = torch.cuda.get_rng_state(), torch.get_rng_state()
    for seed in range(3):
        given = list(batch(rows=16, seed=seed))
        if device == "numpy":
            given = [f.numpy() if isinstance(f, torch.Tensor) else f for f in given]
        elif device == "cuda":
            given = [f.cuda() if isinstance(f, torch.Tensor) else f for f in given]
        augmented = augmenter(given)
        assert [type(f) for f in augmented] == [type(f) for f in given]
        pose_3d, pose_2d, camera = (torch.as_tensor(augmented[i]).cpu() for i in (0, 1, 3))
        assert (project(pose_3d, camera) - pose_2d).abs().max() < 1e-4
        if device != "numpy":
            assert augmented[0].device == given[0].device
        optimizer.zero_grad()
        model(torch.as_tensor(augmented[1]).cuda()).square().mean().backward()
        optimizer.step()
    assert all(np.isfinite(value) for value in augmenter.stats().values())
    assert torch.equal(before[0], torch.cuda.get_rng_state())
    assert torch.equal(before[1], torch.get_rng_state())


def test_a_resumed_run_continues_with_equal_batches():
    def new_augmenter():
        torch.manual_seed(0)
        model = Lifter().cuda().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        return PoseAugmenter(
            model, optimizer, "poseaug", 2, config=small("default", update_every=1)
        )

    first, second = new_augmenter(), new_augmenter()
    first(batch(rows=16))
    second.load_state_dict(first.state_dict())
    a, b = first(batch(rows=16, seed=1)), second(batch(rows=16, seed=1))
    assert torch.equal(a[1], b[1])


def test_an_augmentation_gives_equal_poses_on_both_devices():
    poses = torch.as_tensor(people(8, 3)).float()
    config = PoseAugConfig.random()
    sampler = Sampler(H36M, config, torch.device("cpu"))
    relative = poses - poses[:, :, :1]
    given = FORMATS["poseaug"].read(
        (poses, project(poses, cameras(8)[:, None]), None, cameras(8)), H36M, Camera()
    )
    aug = sampler.augment(given, Bones.of(relative, H36M))
    on_cpu = aug.project(aug.apply(relative, H36M))
    parameters = {name: value.cuda() for name, value in aug.parameters.items()}
    moved = Augmentation(parameters, aug.R.cuda(), aug.t.cuda(), aug.camera.cuda())
    on_gpu = moved.project(moved.apply(relative.cuda(), H36M))
    assert torch.allclose(on_cpu, on_gpu.cpu(), atol=1e-5)


def test_the_plugin_moves_with_the_model():
    model = Lifter().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    augmenter = PoseAugmenter(
        model, optimizer, "poseaug", 2, config=small("default", update_every=1)
    )
    augmenter(batch(rows=16))
    model.cuda()
    augmenter(batch(rows=16))
    optimizer.zero_grad()
    model(batch(rows=16)[1].cuda()).square().mean().backward()
    optimizer.step()
    assert augmenter.stats()["updates"] == 1
