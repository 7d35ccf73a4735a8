"""One update of the augmentor and the discriminators.

Source: PoseAug (CVPR 2021) section 3.4; order of updates of the released code: augmentor first,
then, every `d_every` updates, the discriminators on what it just made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..augment.sampler import Proposal, Sampler
from ..batches.protocol import EstimatorFormat
from ..geometry.bones import Bones
from ..geometry.camera import project
from ..geometry.pose_batch import PoseBatch
from ..loop.distributed import average
from ..loop.estimator import Estimator
from ..schedule import EpochSchedule
from .augmentor import Augmentor
from .collapse import CollapseReport, CollapseWatch
from .discriminators import DISCRIMINATORS, DiscriminatorInput
from .fake_pool import FakePool
from .losses import lsgan_discriminator, lsgan_generator
from .objectives import estimator_feedback, make_predict_pairs, regularisation

__all__ = ["Trainer"]


class Trainer:
    """The plugin's own networks and their optimizers; they propose to a sampler from now on.

    Args:
        sampler: its skeleton, config, device and random stream are the trainer's as well.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.skeleton, self.config, self.device = sampler.skeleton, sampler.config, sampler.device
        # Weights come from the seed alone, so that ranks start equal; draws differ by rank.
        self._weights = torch.Generator().manual_seed(self.config.seed)
        self.nets: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.pools: dict[str, FakePool] = {}
        self.watch = CollapseWatch()
        self.updates = 0
        self.measures: dict[str, Tensor] = {}
        weights = {name: entry.weight(self.config) for name, entry in DISCRIMINATORS.items()}
        #: Weight of each discriminator there is in the augmentor's loss.
        self.discriminators = {name: weight for name, weight in weights.items() if weight > 0}
        for part in ("augmentor", *self.discriminators):
            self.start(part)
        sampler.propose = self.propose

    def start(self, part: str) -> None:
        """Make a part anew: at its prior, or at fresh noise."""
        skeleton, config, weights = self.skeleton, self.config, self._weights
        net: nn.Module
        if part == "augmentor":
            net = Augmentor(skeleton, config, weights)
        else:
            net = DISCRIMINATORS[part].build(skeleton, config, weights)
            self.pools[part] = FakePool(config.pool)
        self.nets[part] = net.to(self.device)
        self.optimizers[part] = _adam(net, config.lr)

    def propose(self, centre: Bones) -> Proposal:
        """What the augmentor would do to bones of (B, K)."""
        proposal: Proposal = self.nets["augmentor"](centre, self.sampler.generator)
        return proposal

    def update(
        self, poses: PoseBatch, estimator: Estimator, fmt: EstimatorFormat, schedule: EpochSchedule
    ) -> list[CollapseReport]:
        """Update the augmentor, and every `d_every` times the discriminators; verdicts on health.

        To be called inside `estimator.untouched()`.
        """
        config, sampler, middle = self.config, self.sampler, poses.middle
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = config.lr * schedule.lr_factor

        given = Bones.of(poses.pose_3d, self.skeleton)
        bones, _ = sampler.swap_lengths(poses, given)
        if bones is given:
            real_2d = project(poses.absolute[:, middle], poses.camera, limit=1.0)
        else:  # as published: what follows knows these bodies alone
            swapped = bones.pose_3d + poses.root[:, :, None]
            poses = sampler.observe(poses, swapped, poses.camera, limit=1.0)
            real_2d = poses.pose_2d[:, middle]
        real = DiscriminatorInput(bones.frame(middle), real_2d)

        proposal = self.propose(real.bones)
        aug = sampler.augment(poses, bones, proposal)
        bent = aug.bend(bones)
        body = aug.stretch(bent)
        placed = aug.place(body, bones, poses.path)
        made = {"rt": sampler.observe(poses, placed, aug.camera, limit=1.0)}
        fake = DiscriminatorInput(body.frame(middle), made["rt"].pose_2d[:, middle])

        measures: dict[str, Tensor] = {}
        straight, turned = real.bones.direction, fake.bones.direction
        loss = config.reg_weight * regularisation(proposal, straight, turned, config)
        for name, weight in self.discriminators.items():
            score = self.nets[name](DISCRIMINATORS[name].view(fake))
            loss = loss + weight * lsgan_generator(score)
        if config.feedback != "off" and schedule.warm:
            if config.feedback == "range":
                at = bent.pose_3d + poses.root[:, :, None]
                made["ba"] = sampler.observe(poses, at, poses.camera, limit=1.0)
            ask = make_predict_pairs(estimator, fmt, self.skeleton)
            value, measures["hardness"] = estimator_feedback(
                poses, made, ask, config, schedule, self.skeleton
            )
            measures["feedback"] = value.detach()
            loss = loss + value
        if loss.requires_grad:
            measures["grad_norm"] = self._descend("augmentor", loss)
        measures["loss_augmentor"] = loss.detach()
        for name in ("gamma_ba", "gamma_bl"):
            if name in aug.parameters:
                measures[name] = aug.parameters[name].detach().abs().mean()

        if self.updates % config.d_every == 0:
            for name in self.discriminators:
                measures.update(self._discriminate(name, real, fake))
        self.updates += 1
        self.measures.update(measures)
        reports = self.watch.add(measures)
        if config.repair:
            for report in reports:
                self.start(report.part)
        return reports

    def _discriminate(
        self, name: str, real: DiscriminatorInput, fake: DiscriminatorInput
    ) -> dict[str, Tensor]:
        """One step of a discriminator, on the real pairs and on a mix of new and past fakes."""
        net, view = self.nets[name], DISCRIMINATORS[name].view
        old = self.pools[name](view(fake).detach(), self.sampler.generator)
        on_real, on_fake = net(torch.cat([view(real), old])).chunk(2)  # no layer mixes rows
        loss = lsgan_discriminator(on_real, on_fake)
        self._descend(name, loss)
        return {
            f"loss_{name}": loss.detach(),
            f"{name}_real": on_real.detach().mean(),
            f"{name}_fake": on_fake.detach().mean(),
        }

    def _descend(self, part: str, loss: Tensor) -> Tensor:
        """One clipped step of one part on its loss; the gradient norm."""
        parameters = list(self.nets[part].parameters())
        # autograd.grad, not backward: the loss also depends on the caller's parameters.
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        used = [(p, g) for p, g in zip(parameters, grads) if g is not None]
        average(grad for _, grad in used)
        for parameter, grad in used:
            parameter.grad = grad
        norm = nn.utils.clip_grad_norm_([p for p, _ in used], self.config.clip)
        for parameter, grad in used:  # clipped in place; a loss that is no number teaches nothing
            parameter.grad = torch.where(norm.isfinite(), grad, 0.0)
        self.optimizers[part].step()
        self.optimizers[part].zero_grad()
        return norm.detach()

    # Saving

    def state_dict(self) -> dict[str, Any]:
        return {
            "updates": self.updates,
            "nets": {name: net.state_dict() for name, net in self.nets.items()},
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "pools": {name: pool.state_dict() for name, pool in self.pools.items()},
            "weights": self._weights.get_state(),
            "watch": {
                "sums": dict(self.watch.sums),
                "counts": dict(self.watch.counts),
                "updates": self.watch.updates,
            },
        }

    def example_state(self) -> dict[str, Any]:
        """A state as after an update, of which keys, shapes and types hold; not to go on from."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad()
        joints = self.skeleton.num_joints
        nobody = DiscriminatorInput(
            Bones.of(torch.zeros(1, joints, 3, device=self.device), self.skeleton),
            torch.zeros(1, joints, 2, device=self.device),
        )
        for name, pool in self.pools.items():
            row = DISCRIMINATORS[name].view(nobody)
            pool.items = row.new_zeros((pool.size, *row.shape[1:]))
        names = {"hardness", "feedback", "grad_norm", "loss_augmentor", "gamma_ba", "gamma_bl"}
        for name in self.discriminators:
            names |= {f"loss_{name}", f"{name}_real", f"{name}_fake"}
        self.watch.sums = {name: torch.zeros((), device=self.device) for name in names}
        self.watch.counts = dict.fromkeys(names, 0)
        return self.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, net in self.nets.items():
            net.load_state_dict(state["nets"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, pool in self.pools.items():
            pool.load_state_dict(state["pools"][name], self.device)
        self._weights.set_state(state["weights"].cpu())
        sums = {name: value.to(self.device) for name, value in state["watch"]["sums"].items()}
        self.watch = CollapseWatch(sums, dict(state["watch"]["counts"]), state["watch"]["updates"])


def _adam(net: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam in one kernel where this torch has one for the device."""
    try:
        return torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    except RuntimeError:
        return torch.optim.Adam(net.parameters(), lr=lr)
