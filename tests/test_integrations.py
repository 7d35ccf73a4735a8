"""Frameworks' hooks, on the framework where it is installed, else on its interface."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from helpers import people
from loop_helpers import Lifter, small
from poseaug_plugin import Camera
from poseaug_plugin.camera import project


@pytest.fixture
def hook_class(monkeypatch):
    """PoseAugHook, on a stand-in for mmengine's two names where it is not installed."""
    try:
        importlib.import_module("mmengine.hooks")
    except ImportError:
        hooks, registry = ModuleType("mmengine.hooks"), ModuleType("mmengine.registry")
        hooks.Hook = type("Hook", (), {})
        registry.HOOKS = SimpleNamespace(register_module=lambda: lambda cls: cls)
        monkeypatch.setitem(sys.modules, "mmengine", ModuleType("mmengine"))
        monkeypatch.setitem(sys.modules, "mmengine.hooks", hooks)
        monkeypatch.setitem(sys.modules, "mmengine.registry", registry)
    monkeypatch.delitem(sys.modules, "poseaug_plugin.integrations.mmengine", raising=False)
    return importlib.import_module("poseaug_plugin.integrations.mmengine").PoseAugHook


class Model(nn.Module):
    """Called as mmpose's models: inputs (B, 2J, 1), samples, mode."""

    def __init__(self):
        super().__init__()
        self.lifter = Lifter()

    def forward(self, inputs, data_samples, mode):
        assert mode == "tensor"
        return self.lifter(inputs[..., 0].unflatten(1, (16, 2)))


def runner_and_batch():
    torch.manual_seed(0)
    model = Model().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    wrapper = SimpleNamespace(optimizer=optimizer)
    pose = torch.as_tensor(people(8)).float()
    pose_2d = project(pose, Camera().intrinsics)
    labels = [SimpleNamespace(lifting_target_label=p) for p in pose - pose[:, :, :1]]
    batch = {
        "inputs": [x[0].reshape(32, 1) for x in pose_2d],
        "data_samples": [SimpleNamespace(gt_instance_labels=label) for label in labels],
    }
    return SimpleNamespace(model=model, optim_wrapper=wrapper, max_epochs=3), batch


def test_the_mmengine_hook_augments_steps_counts_and_saves(hook_class):
    runner, batch = runner_and_batch()
    given = {name: list(rows) for name, rows in batch.items()}
    hook = hook_class(skeleton="h36m_16", config=small("default"))
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, batch)
    changed = [not torch.equal(a, b) for a, b in zip(batch["inputs"], given["inputs"])]
    assert sum(changed) == 4
    runner.model.lifter.last.bias.sum().backward()
    runner.optim_wrapper.optimizer.step()
    hook.after_train_epoch(runner)
    stats = hook.augmenter.stats()
    assert (stats["turns"], stats["epochs"]) == (1, 1)

    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    hook.after_train(runner)
    again, (other, fresh) = (
        hook_class(skeleton="h36m_16", config=small("default")),
        runner_and_batch(),
    )
    again.after_load_checkpoint(other, checkpoint)
    again.before_train(other)
    assert again.augmenter.stats()["turns"] == 1
    again.before_train_iter(other, 0, fresh)
    assert again.augmenter.stats()["batches"] == 2
