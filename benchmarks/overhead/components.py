"""The plugin's parts one by one, and the operators that a turn spends its time on."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from poseaug_plugin import Camera
from poseaug_plugin.adversarial.discriminators import DISCRIMINATORS, DiscriminatorInput
from poseaug_plugin.adversarial.fake_pool import FakePool
from poseaug_plugin.adversarial.objectives import estimator_feedback, make_predict_pairs
from poseaug_plugin.geometry.bones import Bones, bones_to_pose, part_kcs, pose_to_bones
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.operators import move

from ..timing import Work
from .loops import Inside

__all__ = ["operators", "works"]


def works(inside: Inside) -> dict[str, Work]:
    """Every part as a call without arguments.

    Reading, writing and one sample are of the whole batch, the rest of the rows that a turn looks
    at. Networks run forward and record what a backward pass would need, as in a turn; feedback is
    measured with its backward pass.
    """
    sampler, few, poses, fmt = inside.sampler, inside.few, inside.poses, inside.fmt
    skeleton, config, rng = sampler.skeleton, sampler.config, sampler.generator
    estimator, trainer = inside.estimator, inside.trainer
    pose, camera = few.pose_3d.detach(), few.camera
    bones = Bones.of(pose, skeleton)
    vectors, centre = pose_to_bones(pose, skeleton), bones.frame(few.middle)
    made, _, aug = sampler.sample(few)
    whole = sampler.sample(poses)[0]
    bent = aug.bend(bones).pose_3d.requires_grad_()
    placed = made.absolute.requires_grad_()
    everyone = torch.ones(len(poses), dtype=torch.bool, device=sampler.device)
    pool = FakePool(config.pool)
    pool(pose[torch.arange(config.pool) % len(pose), 0], rng)

    def feedback() -> None:
        with estimator.untouched():
            pairs = {"rt": few.projected(placed, made.camera, skeleton.root, limit=1.0)}
            if config.feedback == "range":
                pairs["ba"] = few.projected(
                    bent + few.root[:, :, None], camera, skeleton.root, limit=1.0
                )
            question = make_predict_pairs(estimator, fmt, skeleton)
            loss, *_ = estimator_feedback(
                few, pairs, few.valid, question, config, inside.schedule, skeleton
            )
            torch.autograd.grad(loss, [bent, placed], allow_unused=True)

    def ask() -> None:
        with estimator.untouched():
            estimator(fmt.inputs(few, few.pose_2d))

    parts: dict[str, Work] = {
        "H": lambda: pose_to_bones(pose, skeleton),
        "H inverse": lambda: bones_to_pose(vectors, skeleton),
        "bend": lambda: aug.bend(bones),
        "stretch": lambda: aug.stretch(bones),
        "move": lambda: move(pose, aug.R[:, None], aug.t[:, None], skeleton),
        "project": lambda: project(placed.detach(), made.camera[:, None]),
        "part_kcs": lambda: part_kcs(centre.direction, skeleton.parts),
        "prior's draw": lambda: sampler.draw(few),
        "estimator forward": ask,
        "pool": lambda: pool(pose[:, 0], rng),
        "read": lambda: fmt.read(inside.batch, skeleton, Camera()),
        "write": lambda: fmt.write(inside.batch, whole, everyone, skeleton),
        "one sample": lambda: sampler.sample(poses),
        "check": lambda: inside.augmenter.check([inside.batch], 1),
        "augmenter(batch)": lambda: inside.augmenter(inside.batch),
    }
    if trainer is None:
        return parts
    _, draft, _ = sampler.augment(few, bones)
    parts["augmentor forward"] = lambda: trainer.propose(draft)
    given = DiscriminatorInput(centre, few.pose_2d[:, few.middle])
    for name in trainer.discriminators:
        seen = DISCRIMINATORS[name].view(given)
        parts[f"{name} forward"] = partial(trainer.nets[name], seen)
    if config.feedback != "off":
        parts["feedback"] = feedback
    parts["one update"] = inside.update
    return parts


def operators(work: Work, times: int, device: str, most: int = 25) -> list[dict[str, Any]]:
    """The operators that take most of a work's time by themselves, per run of it."""
    cuda = device.startswith("cuda")
    work()
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]) as profiler:
        for _ in range(times):
            work()
    of = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -float(getattr(event, of)))
    total = sum(getattr(event, of) for event in events) or 1.0
    return [
        {
            "operator": event.key,
            "calls": event.count / times,
            "µs": getattr(event, of) / times,
            "share %": 100 * getattr(event, of) / total,
        }
        for event in events[:most]
    ]
