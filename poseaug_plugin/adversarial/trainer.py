"""One turn of augmentor and discriminators, and the samples the caller trains on in between.

Source: PoseAug (CVPR 2021) section 3.4; order of updates of the released code: augmentor first,
then, every `d_every` turns, the discriminators on what it just made.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..augment.pose_statistics import Repertoire
from ..augment.prior import swap_lengths
from ..batches.format import BatchFormat
from ..config import PoseAugConfig
from ..geometry.bones import directions
from ..geometry.camera import in_frame, project
from ..geometry.operators import stretch
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from ..loop.distributed import average, rank
from ..loop.estimator import Estimator
from ..schedule import Curriculum
from .augmentor import Augmentation, Augmentor
from .collapse import CollapseWatch, Verdict
from .discriminators import Discriminator2d, Discriminator3d
from .fake_pool import Pool
from .losses import lsgan_discriminator, lsgan_generator
from .objectives import asking, estimator_feedback, regularisation

__all__ = ["Trainer"]


class Trainer:
    """The plugin's own networks, their optimizers and their random stream.

    Args:
        device: where the networks live; the estimator's.
    """

    def __init__(self, skeleton: Skeleton, config: PoseAugConfig, device: torch.device) -> None:
        self.skeleton, self.config, self.device = skeleton, config, device
        # Weights come from the seed alone, so that ranks start equal; draws differ by rank.
        self._weights = torch.Generator().manual_seed(config.seed)
        self.generator = torch.Generator(device).manual_seed(config.seed + 1 + rank())
        self.nets: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.pools: dict[str, Pool] = {}
        self.repertoire = Repertoire(skeleton, device)
        self.watch = CollapseWatch()
        self.turns = 0
        self.measures: dict[str, Tensor] = {}
        weights = {"d3d": config.adv3d, "d2d": config.adv2d} if config.trains else {}
        #: Weight of each discriminator there is in the augmentor's loss.
        self.judges = {part: weight for part, weight in weights.items() if weight > 0}
        for part in ("augmentor", *self.judges):
            self.start(part)

    @property
    def augmentor(self) -> Augmentor:
        return self.nets["augmentor"]  # type: ignore[return-value]

    def start(self, part: str) -> None:
        """Make a part anew: at its prior, or at fresh noise."""
        skeleton, config, weights = self.skeleton, self.config, self._weights
        net: nn.Module
        if part == "augmentor":
            net = Augmentor(skeleton, config, weights)
        elif part == "d3d":
            net = Discriminator3d(skeleton, weights, kcs=config.kcs, width=config.d_width)
        else:
            net = Discriminator2d(skeleton, weights)
        self.nets[part] = net.to(self.device)
        if config.trains:
            self.optimizers[part] = _adam(net, config.lr)
        if part != "augmentor":
            self.pools[part] = Pool(config.pool)

    def on(self, device: torch.device) -> Trainer:
        """Itself, or its like on the device to which the estimator has moved."""
        if device == self.device:
            return self
        moved = Trainer(self.skeleton, self.config, device)
        moved.load_state_dict(self.state_dict())
        return moved

    # Samples for the caller

    @torch.no_grad()
    def pairs(self, poses: PoseBatch, rows: Tensor) -> tuple[PoseBatch, Tensor]:
        """Augmented pairs to stand in `rows` (N,) of a batch, and which of them count (N,)."""
        made, good, _ = self.sample(poses.pick(self._donors(poses, rows)))
        return made, good & poses.valid[rows]

    def _donors(self, poses: PoseBatch, rows: Tensor) -> Tensor:
        """Whose pose each of `rows` is made from: its own, or per `config.balance` another's.

        People of one scene keep their own. How people move is learned from the batch before.
        """
        config, repertoire = self.config, self.repertoire
        if not config.watches:
            return rows
        seen, axes = directions(poses.pose_3d[:, poses.middle], self.skeleton)
        repertoire.add(seen, axes, poses.valid)
        if not config.redraws or poses.group is not None:
            return rows
        whole = poses.valid & seen.any(-1).all(-1)  # a missing bone is no rare pose
        weight = (repertoire.rarity(seen) ** config.balance * whole).clamp_min(1e-12)
        return torch.multinomial(weight, len(rows), replacement=True, generator=self.generator)

    @torch.no_grad()
    def sample(self, poses: PoseBatch) -> tuple[PoseBatch, Tensor, Augmentation]:
        """Augmented pairs, which of them count (B,), and the parameters that made them."""
        swapped, other = self._swapped(poses)
        aug = self._augment(swapped)
        pose_3d = aug.apply(swapped.pose_3d, self.skeleton, poses.path)
        aug = replace(aug, gamma_bl=(1 + aug.gamma_bl) * (1 + other) - 1)
        config = self.config
        made = self._seen(poses, pose_3d, aug.camera, limit=1.0 if config.traps else None)
        if config.detector:
            made = replace(made, pose_2d=made.pose_2d + poses.detection_error(made))
        good = (
            (made.pose_2d <= 1).all(-1).all(-1)  # as published: two sides, any depth
            if config.traps
            else in_frame(pose_3d, made.pose_2d, depth=config.depth, height=config.frame_height)
        ).all(1)
        leader = poses.leader
        if leader is not None:  # one person out of the frame spoils the scene
            out = ~good & poses.valid
            spoilt = torch.zeros_like(good).index_put_((leader,), out, accumulate=True)
            good = ~spoilt[leader]
        return made, good & poses.valid, aug

    def _seen(
        self, poses: PoseBatch, pose_3d: Tensor, camera: Tensor, limit: float | None = 1.0
    ) -> PoseBatch:
        # Behind the camera the published projection turns left and right round.
        floor = {"floor": -math.inf} if self.config.traps else {}
        return poses.seen(pose_3d, camera, self.skeleton.root, limit=limit, **floor)

    def _swapped(self, poses: PoseBatch) -> tuple[PoseBatch, Tensor]:
        """Rows with the bone lengths of other rows' people, and gamma_bl (B or 1, G) that did it.

        The 2D is left as it was.
        """
        if not (self.config.swap and self.config.bl):
            return poses, poses.pose_3d.new_zeros(1, self.skeleton.num_groups)
        other = swap_lengths(poses.pose_3d[:, poses.middle], self.skeleton, self.generator)
        return replace(poses, pose_3d=stretch(poses.pose_3d, other[:, None], self.skeleton)), other

    def _augment(self, poses: PoseBatch) -> Augmentation:
        made: Augmentation = self.augmentor(
            poses.pose_3d, poses.root[:, poses.middle], poses.camera, self.generator
        )
        if self.config.varies:
            own, axes = directions(poses.pose_3d[:, poses.middle], self.skeleton)
            varied = self.repertoire.vary(own, self.config, self.generator)
            made = replace(made, gamma_ba=made.gamma_ba + (varied - own) @ axes.mT)
        if self.config.levels:
            made = replace(made, R=made.R @ self.repertoire.level())
        leader = poses.leader
        return made if leader is None else made.shared(leader)

    # One turn

    def turn(
        self, poses: PoseBatch, estimator: Estimator, fmt: BatchFormat, curriculum: Curriculum
    ) -> list[Verdict]:
        """Update the augmentor, and every `d_every` turns the discriminators; verdicts on health.

        To be called inside `estimator.untouched()`.
        """
        config, skeleton, middle = self.config, self.skeleton, poses.middle
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = config.lr * curriculum.lr_factor

        swapped, _ = self._swapped(poses)
        if swapped is not poses:  # as published: what follows knows these bodies alone
            poses = self._seen(poses, swapped.absolute, poses.camera)
        aug = self._augment(poses)
        bent = aug.bend(poses.pose_3d, skeleton)
        made = {"rt": self._seen(poses, aug.finish(bent, skeleton, poses.path), aug.camera)}
        fakes, reals = {"d3d": bent[:, middle]}, {"d3d": poses.pose_3d[:, middle]}
        if "d2d" in self.judges:
            fakes["d2d"] = made["rt"].pose_2d[:, middle]
            reals["d2d"] = project(poses.absolute[:, middle], poses.camera, limit=1.0)

        measures: dict[str, Tensor] = {}
        loss = config.reg_weight * regularisation(aug, reals["d3d"], fakes["d3d"], config, skeleton)
        for part, weight in self.judges.items():
            loss = loss + weight * lsgan_generator(self.nets[part](fakes[part]))
        if config.feedback != "off" and curriculum.warm:
            if config.feedback == "range":
                made["ba"] = self._seen(poses, bent + poses.root[:, :, None], poses.camera)
            ask = asking(estimator, fmt, skeleton)
            value, measures["hardness"] = estimator_feedback(
                poses, made, ask, config, curriculum, skeleton
            )
            measures["feedback"] = value.detach()
            loss = loss + value
        if loss.requires_grad:
            measures["grad_norm"] = self._descend("augmentor", loss)
        measures["loss_augmentor"] = loss.detach()
        measures["gamma_ba"] = aug.gamma_ba.detach().abs().mean()
        measures["gamma_bl"] = aug.gamma_bl.detach().abs().mean()

        if self.turns % config.d_every == 0:
            for part in self.judges:
                measures.update(self._judge(part, reals[part], fakes[part].detach()))
        self.turns += 1
        self.measures.update(measures)
        verdicts = self.watch.add(measures)
        if config.repair:
            for verdict in verdicts:
                self.start(verdict.part)
        return verdicts

    def _judge(self, part: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        net = self.nets[part]
        old = self.pools[part](fake, self.generator)
        on_real, on_fake = net(torch.cat([real, old])).chunk(2)  # no layer mixes rows
        loss = lsgan_discriminator(on_real, on_fake)
        self._descend(part, loss)
        return {
            f"loss_{part}": loss.detach(),
            f"{part}_real": on_real.detach().mean(),
            f"{part}_fake": on_fake.detach().mean(),
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
            "turns": self.turns,
            "nets": {name: net.state_dict() for name, net in self.nets.items()},
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "pools": {name: pool.state_dict() for name, pool in self.pools.items()},
            "repertoire": self.repertoire.state_dict(),
            "generator": self.generator.get_state(),
            "weights": self._weights.get_state(),
            "watch": {
                "sums": dict(self.watch.sums),
                "counts": dict(self.watch.counts),
                "turns": self.watch.turns,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.turns = state["turns"]
        for name, net in self.nets.items():
            net.load_state_dict(state["nets"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, pool in self.pools.items():
            pool.load_state_dict(state["pools"][name], self.device)
        self.repertoire.load_state_dict(state["repertoire"], self.device)
        self._weights.set_state(state["weights"].cpu())
        saved = state["generator"].cpu()
        if saved.shape == self.generator.get_state().shape:  # a CUDA state does not fit a CPU
            self.generator.set_state(saved)
            if rank():  # what is saved is mostly rank 0's: draws differ by rank
                seed = torch.randint(1 << 62, (), generator=self.generator, device=self.device)
                self.generator.manual_seed(int(seed) + rank())
        sums = {name: value.to(self.device) for name, value in state["watch"]["sums"].items()}
        self.watch = CollapseWatch(sums, dict(state["watch"]["counts"]), state["watch"]["turns"])


def _adam(net: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam in one kernel where this torch has one for the device."""
    try:
        return torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    except RuntimeError:
        return torch.optim.Adam(net.parameters(), lr=lr)
