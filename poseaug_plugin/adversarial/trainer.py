"""Training of the augmentor and the discriminators.

Source: PoseAug (CVPR 2021), section 3.4. The order is that of the released code: the augmentor is
updated first, then, every `d_every` updates, the discriminators on the pairs it has just made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..augment.augmentation import Augmentation
from ..augment.draws import uniform
from ..augment.sampler import Draft, Proposal, Sampler
from ..batches.protocol import EstimatorFormat
from ..geometry.bones import Bones
from ..geometry.camera import project
from ..geometry.pose_batch import PoseBatch
from ..loop.distributed import average, on_all_ranks
from ..loop.estimator import Estimator
from ..schedule import EpochSchedule
from .augmentor import Augmentor
from .balance import Balance, gradients_of, sums_of_squares
from .collapse import CollapseReport, CollapseWatch
from .discriminators import DISCRIMINATORS, DiscriminatorInput
from .fake_pool import FakePool
from .feedback import raising_slope
from .losses import lsgan_discriminator, lsgan_generator
from .objectives import Feedback, estimator_feedback, judge, make_predict_pairs, regularisation
from .plausibility import AngleRange, diversity, evenness

__all__ = ["Trainer"]

_Gradients = list[tuple[nn.Parameter, Tensor]]  # parameters of a network with their gradients


@dataclass
class _Forward:
    """What an update has made of its rows.

    Attributes:
        real, fake: what the discriminators compare.
        draft: the sample of the prior.
        aug: all parameters.
        proposal: those of the augmentor.
        losses: the terms of the augmentor's loss, by name.
        weights: their weights. That of the feedback may depend on the hardness on all ranks, and
            is not among them.
        gradients: the gradient of each term with respect to each tensor of the proposal.
        feedback: the feedback, if there is any.
    """

    real: DiscriminatorInput
    fake: DiscriminatorInput
    draft: Draft
    aug: Augmentation
    proposal: Proposal
    losses: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float | Tensor] = field(default_factory=dict)
    gradients: dict[str, tuple[Tensor | None, ...]] = field(default_factory=dict)
    feedback: Feedback | None = None


class Trainer:
    """The networks of the plugin, their optimizers and their updates.

    It sets `sampler.propose`, so that the augmentor takes part in all samples from now on.

    Args:
        sampler: provides the skeleton, the config, the device and the random stream.

    Attributes:
        nets: the augmentor and the discriminators, by name.
        optimizers: their optimizers, by name.
        pools: the pool of past fakes of each discriminator, by name.
        discriminators: the weight of each discriminator in the loss of the augmentor, by name.
        measures: the latest losses and scores, on the device.
        updates: number of updates of the augmentor.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.skeleton, self.config, self.device = sampler.skeleton, sampler.config, sampler.device
        # Depends on the seed only, so that all ranks start with the same weights. The generator of
        # the sampler depends on the rank too.
        self._weights = torch.Generator().manual_seed(self.config.seed)
        self.nets: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.pools: dict[str, FakePool] = {}
        self.watch, self.angles = CollapseWatch(), AngleRange(self.skeleton, self.device)
        self.updates = 0
        self.is_reducing = False  # whether an update averages over the ranks now
        self.measures: dict[str, Tensor] = {}
        weights = {name: entry.weight(self.config) for name, entry in DISCRIMINATORS.items()}
        self.discriminators = {name: weight for name, weight in weights.items() if weight > 0}
        for part in ("augmentor", *self.discriminators):
            self.reset(part)
        sampler.propose = self.propose

    def reset(self, part: str) -> None:
        """Build a network with new weights, with a new optimizer and an empty pool."""
        skeleton, config, weights = self.skeleton, self.config, self._weights
        net: nn.Module
        if part == "augmentor":
            net = Augmentor(skeleton, config, weights)
            terms = ("reg", "angles", "feedback", *self.discriminators)
            self.balance = Balance(terms, len(net.heads), self.device, config.normalize_gradients)
        else:
            net = DISCRIMINATORS[part].build(skeleton, config, weights)
            self.pools[part] = FakePool(config.pool)
        self.nets[part] = net.to(self.device).eval()
        self.optimizers[part] = _adam(net, config.lr)

    def propose(self, draft: Draft) -> Proposal:
        """Return the parameters that the augmentor proposes."""
        proposal: Proposal = self.nets["augmentor"](draft, self.sampler.generator)
        return proposal

    def update(
        self, poses: PoseBatch, estimator: Estimator, fmt: EstimatorFormat, schedule: EpochSchedule
    ) -> list[CollapseReport]:
        """Update the augmentor, and, every `d_every` updates, the discriminators.

        With a prior, discriminators alone learn in the warm-up, from its samples, so that they know
        something when the augmentor starts. Call it inside `estimator.untouched()`.

        Args:
            poses: the rows to train with.
            estimator: the caller's model, for the feedback.
            fmt: converts poses to inputs of the estimator, and its outputs to poses.
            schedule: the epoch, on which the learning rate and the feedback depend.

        Returns:
            A report for each part that has collapsed. With `config.repair`, it has been reset.
        """
        config = self.config
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = config.lr * schedule.lr_factor
        device, self.is_reducing = self.device, False
        moves = schedule.warm or not config.prior

        def compute() -> _Forward:
            made = self._forward(poses, estimator, fmt, schedule, moves)
            self.angles.add(made.real.bones.direction)
            made.gradients = gradients_of(made.losses, made.proposal.tensors)
            return made

        made = on_all_ranks(compute, device, self.angles.bounds)
        if made is None:
            return []
        self.is_reducing = True
        measures = self._measure(made)
        steps: dict[str, _Gradients] = {}
        if moves:
            steps["augmentor"] = self._augmentor_gradients(made, schedule, measures)
        if self.updates % config.d_every == 0 or not moves:
            for name in self.discriminators:
                steps[name] = self._discriminator_gradients(name, made, measures)
        norms = self._step(steps)
        if moves:
            measures["grad_norm"] = norms["augmentor"]
        self.updates += 1
        self.measures.update(measures)
        reports = self.watch.add(measures)
        self.is_reducing = False
        if not config.repair:
            return reports
        for report in reports:
            self.reset(report.part)
        return [replace(report, restarted=True) for report in reports]

    def _forward(
        self,
        poses: PoseBatch,
        estimator: Estimator,
        fmt: EstimatorFormat,
        schedule: EpochSchedule,
        moves: bool,
    ) -> _Forward:
        """Make augmented pairs, and, if the augmentor moves, the terms of its loss."""
        config, sampler, middle = self.config, self.sampler, poses.middle
        bones = Bones.of(poses.pose_3d, self.skeleton)
        bones, swap = sampler.swap_lengths(poses, bones)
        if swap is None:
            real_2d = project(poses.absolute[:, middle], poses.camera, limit=1.0)
        else:  # as in the released code, the poses with swapped lengths replace the originals
            swapped = bones.pose_3d + poses.root[:, :, None]
            poses = sampler.observe(poses, swapped, poses.camera, limit=1.0)
            real_2d = poses.pose_2d[:, middle]

        augmentor = self.nets["augmentor"].train(moves)
        aug, draft, proposal = sampler.augment(poses, bones)
        augmentor.eval()
        bent = aug.bend(bones)
        stretched = aug.stretch(bent)
        placed = aug.place(stretched, bones, poses.path)
        augmented = {"rt": sampler.observe(poses, placed, aug.camera, limit=1.0)}
        real_2d, fake_2d = self._compared_2d(real_2d, augmented["rt"].pose_2d[:, middle])
        real = DiscriminatorInput(bones.frame(middle), real_2d)
        fake = DiscriminatorInput(stretched.frame(middle), fake_2d)
        made = _Forward(real, fake, draft, aug, proposal)
        if not moves:
            return made

        regularised = regularisation(proposal, real.bones.direction, fake.bones.direction, config)
        made.losses["reg"], made.weights["reg"] = regularised, config.reg_weight
        if config.reg_angles:
            excess = self.angles.excess(fake.bones.direction, draft.bones.direction)
            made.losses["angles"], made.weights["angles"] = excess, config.reg_angles
        for name, weight in self.discriminators.items():
            score = self.nets[name](DISCRIMINATORS[name].view(fake))
            made.losses[name], made.weights[name] = lsgan_generator(score), weight
        if config.feedback != "off" and schedule.warm:
            if config.feedback == "range":
                bent_3d = bent.pose_3d + poses.root[:, :, None]
                augmented["ba"] = sampler.observe(poses, bent_3d, poses.camera, limit=1.0)
            made.feedback = estimator_feedback(
                poses,
                augmented,
                sampler.accepted(poses, augmented["rt"], placed),
                make_predict_pairs(estimator, fmt, self.skeleton),
                config,
                schedule,
                self.skeleton,
            )
            made.losses["feedback"] = made.feedback.steered
        return made

    def _compared_2d(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the 2D poses (B, J, 2) that the 2D discriminator compares.

        With a target, the real ones are the target's. Place and size, which the target's own
        distributions give, are removed then.
        """
        target = self.sampler.target
        if target is None or "d2d" not in self.discriminators or not len(target.whole):
            return real, fake
        rows = uniform(self.sampler.generator, len(fake)) * len(target.whole)
        return target.normalised[rows.to(torch.int64)], target.normalise(fake)

    @torch.no_grad()
    def _measure(self, made: _Forward) -> dict[str, Tensor]:
        """Return measures of the augmented poses."""
        fake, drafted = made.fake.bones.direction, made.draft.bones.direction
        measures = {
            "implausible": self.angles.outside(fake),
            "implausible_prior": self.angles.outside(drafted),
        }
        for name in ("gamma_ba", "gamma_bl"):
            if name in made.aug.parameters:
                measures[name] = made.aug.parameters[name].abs().mean()
            if name in made.proposal.parameters:
                measures[f"diversity_{name[-2:]}"] = diversity(made.proposal.parameters[name])
        for name, vectors in (("r", made.proposal.axis_angle), ("t", made.proposal.t)):
            if vectors is not None:
                measures[f"evenness_{name}"] = evenness(vectors)
        return measures

    def _augmentor_gradients(
        self, made: _Forward, schedule: EpochSchedule, measures: dict[str, Tensor]
    ) -> _Gradients:
        """Return the augmentor's parameters with their gradients, and add measures of its loss."""
        config, feedback, outputs = self.config, made.feedback, made.proposal.tensors
        sums, gradients = sums_of_squares(made.gradients, outputs), dict(made.gradients)
        weights = dict(made.weights)
        loss = [weight * made.losses[name] for name, weight in weights.items()]
        if feedback is None:
            average(sums.values())
        else:
            means, beta = feedback.means.clone(), schedule.between(config.beta)
            average([*sums.values(), means])
            judged = judge(feedback, means, config.feedback, beta)
            measures.update(hardness=judged.hardness, feedback=judged.loss)
            measures["model_error"] = feedback.model_error
            loss.append(config.feedback_weight * judged.loss)
            if "feedback" in gradients:
                steered = gradients["feedback"]
                gradients["feedback"] = tuple(g if g is None else judged.slope * g for g in steered)
                sums["feedback"][0] *= judged.slope.square()
            weights["feedback"] = config.feedback_weight
            if config.feedback == "log":
                # Its gradient fades at the target; the balance alone would keep its size.
                weights["feedback"] *= raising_slope(judged.log_hardness, beta)
        measures["loss_augmentor"] = torch.stack(loss).sum().detach()
        combined, shares = self.balance.combine(gradients, sums, weights, outputs)
        measures.update({f"share_{name}": share for name, share in shares.items()})
        return self._gradients("augmentor", outputs, combined)

    def _discriminator_gradients(
        self, name: str, made: _Forward, measures: dict[str, Tensor]
    ) -> _Gradients:
        """Return the parameters and gradients of a discriminator on real pairs and a mix of fakes.

        The fakes are new and past ones. Adds its loss and its mean scores to the measures.
        """
        net, view = self.nets[name], DISCRIMINATORS[name].view
        fakes = self.pools[name](view(made.fake).detach(), self.sampler.generator)
        # One call for both: discriminators have no batch normalisation, so rows do not interact.
        real_score, fake_score = net(torch.cat([view(made.real), fakes])).chunk(2)
        loss = lsgan_discriminator(real_score, fake_score)
        measures[f"loss_{name}"] = loss.detach()
        measures[f"{name}_real"] = real_score.detach().mean()
        measures[f"{name}_fake"] = fake_score.detach().mean()
        return self._gradients(name, [loss])

    def _gradients(
        self, part: str, outputs: list[Tensor], gradients: list[Tensor] | None = None
    ) -> _Gradients:
        """Return the parameters of a network with their gradients, without those that have none.

        Args:
            part: name of the network.
            outputs: a loss, or outputs of the network.
            gradients: the gradient of the loss with respect to each output.
        """
        parameters = list(self.nets[part].parameters())
        # Not loss.backward(), which would write gradients to the caller's parameters too.
        grads = torch.autograd.grad(outputs, parameters, gradients, allow_unused=True)
        return [(p, grad) for p, grad in zip(parameters, grads) if grad is not None]

    def _step(self, steps: dict[str, _Gradients]) -> dict[str, Tensor]:
        """Take an optimizer step of each part with a clipped gradient, and return their norms.

        In a distributed run, gradients and buffers are averaged first, in one message.
        """
        buffers = self.nets["augmentor"].buffers() if "augmentor" in steps else ()
        average([*(grad for used in steps.values() for _, grad in used), *buffers])
        norms = {}
        for part, used in steps.items():
            for parameter, grad in used:
                parameter.grad = grad
            norm = nn.utils.clip_grad_norm_([p for p, _ in used], self.config.clip)
            for parameter, grad in used:  # clipped in place above; NaN losses give zero gradients
                parameter.grad = torch.where(norm.isfinite(), grad, 0.0)
            self.optimizers[part].step()
            self.optimizers[part].zero_grad()
            norms[part] = norm.detach()
        return norms

    # State

    def state_dict(self) -> dict[str, Any]:
        return {
            "updates": self.updates,
            "nets": {name: net.state_dict() for name, net in self.nets.items()},
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "pools": {name: pool.state_dict() for name, pool in self.pools.items()},
            "weights": self._weights.get_state(),
            "squares": {name: value.clone() for name, value in self.balance.squares.items()},
            "angles": self.angles.state_dict(),
            "watch": self.watch.state_dict(),
        }

    def complete(self) -> None:
        """Make every entry of the state that training can add.

        Do not use the trainer afterwards.
        """
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad()
        joints = self.skeleton.num_joints
        empty = DiscriminatorInput(
            Bones.of(torch.zeros(1, joints, 3, device=self.device), self.skeleton),
            torch.zeros(1, joints, 2, device=self.device),
        )
        for name, pool in self.pools.items():
            row = DISCRIMINATORS[name].view(empty)
            pool.items = row.new_zeros((pool.size, *row.shape[1:]))
        names = {"hardness", "feedback", "grad_norm", "loss_augmentor", "gamma_ba", "gamma_bl"}
        names |= {"implausible", "implausible_prior", "diversity_ba", "diversity_bl"}
        names |= {"evenness_r", "evenness_t", "model_error"}
        names |= {f"share_{name}" for name in self.balance.squares}
        for name in self.discriminators:
            names |= {f"loss_{name}", f"{name}_real", f"{name}_fake"}
        self.watch.complete(names, self.device)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, net in self.nets.items():
            net.load_state_dict(state["nets"][name])
        for name, optimizer in self.optimizers.items():
            # The options are this augmenter's own: other torch versions and devices have others.
            own = optimizer.state_dict()["param_groups"]
            saved = state["optimizers"][name]["state"]
            optimizer.load_state_dict({"state": saved, "param_groups": own})
        for name, pool in self.pools.items():
            pool.load_state_dict(state["pools"][name], self.device)
        self._weights.set_state(state["weights"].cpu())
        self.balance.squares = {n: x.to(self.device) for n, x in state["squares"].items()}
        self.angles.load_state_dict(state["angles"])
        self.watch.load_state_dict(state["watch"], self.device)


def _adam(net: nn.Module, lr: float) -> torch.optim.Adam:
    """Return a fused Adam if this version of torch has one for the device, else a plain one."""
    try:
        return torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    except RuntimeError:
        return torch.optim.Adam(net.parameters(), lr=lr)
