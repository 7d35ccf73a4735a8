"""Mechanics of training loops, one function each; `LOOPS` is the table of them.

A loop gets `attach(model, optimizer, loader, **arguments of PoseAugmenter)`, which returns the
loader that it iterates: wrapped, or as it is in the plain run. It returns what must be equal to the
plain run if the plugin is off.
"""

from __future__ import annotations

import copy
import io
import itertools
import queue
import random
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler, swa_utils
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset

from loop_helpers import Lifter, Pairs, loader, people, seed_all, step, train

Attach = Callable[..., Any]
Loop = Callable[[Attach], Any]
Adam, SGD = partial(torch.optim.Adam, lr=1e-3), partial(torch.optim.SGD, lr=1e-2)


def pair(
    model: nn.Module | None = None, optimizer: Callable[..., Any] = Adam, **lifter: Any
) -> tuple[Any, Any]:
    """A model in training, seeded, and its optimizer."""
    seed_all()
    model = model or Lifter(**{"norm": False, **lifter})
    return model, optimizer(model.parameters())


def loss_of(model: Any, batch: Any) -> Tensor:
    target = batch[0] - batch[0][:, :1]
    loss: Tensor = (model(batch[1].to(next(model.parameters()).dtype)) - target).square().mean()
    return loss


def shuffled(rows: int = 16, size: int = 8) -> DataLoader[Any]:
    return loader(shuffle=True, rows=rows, size=size)


def simple(attach: Attach, model: Any, optimizer: Any, batches: Any = None, **options: Any) -> Any:
    """Two epochs of the usual loop."""
    batches = shuffled() if batches is None else batches
    train(model, optimizer, attach(model, optimizer, batches, **options), epochs=2)
    return model, optimizer


# Steps


def gradients_are_zeroed_in_place_after_the_step(attach: Attach) -> Any:
    model, optimizer = pair()
    for each in attach(model, optimizer, shuffled()):
        loss_of(model, each).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return model, optimizer


def gradients_are_zeroed_before_the_batch(attach: Attach) -> Any:
    model, optimizer = pair()
    batches = iter(attach(model, optimizer, shuffled()))
    for _ in range(2):
        model.zero_grad()
        loss_of(model, next(batches)).backward()
        optimizer.step()
    return model, optimizer


def bfloat16_autocast(attach: Attach) -> Any:
    model, optimizer = pair()
    for each in attach(model, optimizer, shuffled()):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, each)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, optimizer


def grad_scaler_that_skips_a_step(attach: Attach) -> Any:
    model, optimizer = pair()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for number, each in enumerate(attach(model, optimizer, shuffled(rows=32))):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, each)).backward()
        if number == 1:
            next(model.parameters()).grad.fill_(float("inf"))
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() < 2
    return model, optimizer, scaler


def accumulation(attach: Attach) -> Any:
    model, optimizer = pair()
    for number, each in enumerate(attach(model, optimizer, shuffled(rows=40))):
        (loss_of(model, each) / 2).backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
    return model, optimizer


def closure(attach: Attach) -> Any:
    model, optimizer = pair()
    train(model, optimizer, attach(model, optimizer, shuffled()), epochs=2, closure=True)
    return model, optimizer


def lbfgs(attach: Attach) -> Any:
    model, optimizer = pair(optimizer=partial(torch.optim.LBFGS, max_iter=3))
    train(model, optimizer, attach(model, optimizer, shuffled()), closure=True)
    return model, optimizer


def two_losses_with_a_retained_graph(attach: Attach) -> Any:
    model, optimizer = pair()
    for each in attach(model, optimizer, shuffled()):
        optimizer.zero_grad()
        predicted = model(each[1])
        predicted.square().mean().backward(retain_graph=True)
        predicted.abs().mean().backward()
        optimizer.step()
    return model, optimizer


def clipped_norm(attach: Attach) -> Any:
    model, optimizer = pair()
    for each in attach(model, optimizer, shuffled()):
        optimizer.zero_grad()
        loss_of(model, each).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return model, optimizer


def clipped_values(attach: Attach) -> Any:
    model, optimizer = pair()
    for each in attach(model, optimizer, shuffled()):
        optimizer.zero_grad()
        loss_of(model, each).backward()
        nn.utils.clip_grad_value_(model.parameters(), 1e-3)
        optimizer.step()
    return model, optimizer


def anomaly_detection(attach: Attach) -> Any:
    with torch.autograd.detect_anomaly(check_nan=True):
        return simple(attach, *pair())


def deterministic_algorithms(attach: Attach) -> Any:
    torch.use_deterministic_algorithms(True)
    try:
        return simple(attach, *pair())
    finally:
        torch.use_deterministic_algorithms(False)


def second_derivatives(attach: Attach) -> Any:
    """A gradient penalty."""
    model, optimizer = pair()
    for each in attach(model, optimizer, shuffled()):
        pose_2d = each[1].requires_grad_()
        (grad,) = torch.autograd.grad(model(pose_2d).sum(), pose_2d, create_graph=True)
        optimizer.zero_grad()
        (loss_of(model, each) + grad.square().mean()).backward()
        optimizer.step()
    return model, optimizer


# Optimizers


def optimizer(make: Callable[..., Any]) -> Loop:
    return lambda attach: simple(attach, *pair(optimizer=make))


def a_rate_per_layer(attach: Attach) -> Any:
    model, _ = pair()
    groups = [{"params": model.first.parameters(), "lr": 1e-4}, {"params": model.last.parameters()}]
    return simple(attach, model, torch.optim.AdamW(groups, lr=1e-3))


def a_group_added_later(attach: Attach) -> Any:
    model, _ = pair()
    own = SGD(model.last.parameters())
    batches = attach(model, own, shuffled())
    train(model, own, batches)
    own.add_param_group({"params": model.first.parameters(), "lr": 1e-3})
    train(model, own, batches)
    return model, own


def frozen_layers(attach: Attach) -> Any:
    model, _ = pair()
    model.first.requires_grad_(False)
    return simple(attach, model, Adam([p for p in model.parameters() if p.requires_grad]))


def two_optimizers(attach: Attach) -> Any:
    model, _ = pair()
    first, last = Adam(model.first.parameters()), SGD(model.last.parameters())
    for each in attach(model, last, shuffled()):
        model.zero_grad()
        loss_of(model, each).backward()
        first.step()
        last.step()
    return model, first, last


def another_network_beside_it(attach: Attach) -> Any:
    """As in adversarial training of the caller's own: two networks take turns."""
    model, own = pair()
    critic = nn.Linear(48, 1)
    critic_optimizer = SGD(critic.parameters())
    for each in attach(model, own, shuffled()):
        critic_optimizer.zero_grad()
        critic(model(each[1]).detach().flatten(1)).mean().backward()
        critic_optimizer.step()
        own.zero_grad()
        (loss_of(model, each) + critic(model(each[1]).flatten(1)).mean()).backward()
        own.step()
    return model, own, critic


def an_optimizer_for_each_parameter(attach: Attach) -> Any:
    """Steps inside the backward pass."""
    model, _ = pair()
    each_own = {p: SGD([p]) for p in model.parameters()}

    def on_gradient(parameter: Any) -> None:
        each_own[parameter].step()
        each_own[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(on_gradient)
    for each in attach(model, each_own[next(model.parameters())], shuffled()):
        loss_of(model, each).backward()
    return model


# Schedules


def a_rate_per_step(attach: Attach) -> Any:
    model, own = pair()
    schedule = lr_scheduler.OneCycleLR(own, 1e-2, total_steps=4)
    for _ in range(2):
        for each in attach(model, own, shuffled()):
            step(model, own, each)
            schedule.step()
    return model, own, schedule


def a_rate_from_the_loss(attach: Attach) -> Any:
    model, own = pair()
    schedule, batches = lr_scheduler.ReduceLROnPlateau(own, patience=0), shuffled()
    batches = attach(model, own, batches)
    for _ in range(3):
        train(model, own, batches)
        schedule.step(1.0)
    return model, own, schedule


# Precision and form of the model


def model_in(dtype: torch.dtype) -> Loop:
    def loop(attach: Attach) -> Any:
        model, own = pair()
        model.to(dtype)
        for each in attach(model, own, shuffled()):
            own.zero_grad()
            loss_of(model, each).backward()
            own.step()
        return model, own

    return loop


def default_dtype_float64(attach: Attach) -> Any:
    batches = shuffled()
    torch.set_default_dtype(torch.float64)
    try:
        model, own = pair()
        for each in attach(model, own, batches):
            own.zero_grad()
            loss_of(model, each).backward()
            own.step()
    finally:
        torch.set_default_dtype(torch.float32)
    return model, own


def moved_to_float64_in_the_middle(attach: Attach) -> Any:
    model, own = pair(optimizer=SGD)
    for number, each in enumerate(attach(model, own, shuffled(rows=32))):
        if number == 2:
            model.double()
        own.zero_grad()
        loss_of(model, each).backward()
        own.step()
    return model, own


def batchnorm(attach: Attach) -> Any:
    return simple(attach, *pair(norm=True))


def frozen_batchnorm(attach: Attach) -> Any:
    model, own = pair(norm=True)
    model.norm.eval()
    found = simple(attach, model, own)
    assert not model.norm.training
    return found


def weight_norm(attach: Attach) -> Any:
    seed_all()
    model = Lifter(norm=False)
    nn.utils.parametrizations.weight_norm(model.first)
    nn.utils.parametrizations.spectral_norm(model.last)
    return simple(attach, model, Adam(model.parameters()))


def lazy_layers(attach: Attach) -> Any:
    seed_all()
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(48), nn.Unflatten(1, (16, 3)))
    model(torch.zeros(2, 16, 2))
    return simple(attach, model, Adam(model.parameters()))


def data_parallel(attach: Attach) -> Any:
    seed_all()
    return simple(attach, *pair(nn.DataParallel(Lifter(norm=False))))


class Checkpointed(Lifter):
    def __init__(self, reentrant: bool) -> None:
        super().__init__(norm=False)
        self.reentrant = reentrant

    def forward(self, pose_2d: Tensor) -> Tensor:
        if not self.training:
            return super().forward(pose_2d)
        pose_2d = pose_2d if pose_2d.requires_grad else pose_2d.detach().requires_grad_()
        answer: Tensor = checkpoint(super().forward, pose_2d, use_reentrant=self.reentrant)
        return answer


def checkpointing(attach: Attach, reentrant: bool) -> Any:
    seed_all()
    model = Checkpointed(reentrant)
    return simple(attach, model, Adam(model.parameters()))


def compiled(attach: Attach) -> Any:
    model, own = pair()
    return simple(attach, torch.compile(model, backend="aot_eager"), own)


def compiled_step(attach: Attach) -> Any:
    model, own = pair(dropout=0.0)

    @torch.compile(backend="eager")
    def whole_step(target: Tensor, pose_2d: Tensor) -> None:
        own.zero_grad()
        (model(pose_2d) - target).square().mean().backward()
        own.step()

    for each in attach(model, own, shuffled()):
        whole_step(each[0] - each[0][:, :1], each[1])
    return model, own


def hooks_of_others(attach: Attach) -> Any:
    model, own = pair()
    counts = {"backward": 0, "before": 0, "after": 0}

    def count(name: str) -> Callable[..., None]:
        return lambda *_: counts.update({name: counts[name] + 1})

    model.first.weight.register_hook(count("backward"))
    own.register_step_pre_hook(count("before"))
    own.register_step_post_hook(count("after"))
    found = simple(attach, model, own)
    assert counts == {"backward": 4, "before": 4, "after": 4}
    return *found, counts


# Copies of the model


def average_of_weights(attach: Attach) -> Any:
    model, own = pair()
    average = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    for each in attach(model, own, shuffled()):
        step(model, own, each)
        average.update_parameters(model)
        average(each[1])
    return model, own, average


def swa_with_batchnorm(attach: Attach) -> Any:
    model, own = pair(norm=True)
    average, batches = swa_utils.AveragedModel(model), attach(model, own, shuffled())
    train(model, own, batches)
    average.update_parameters(model)
    average.train()
    swa_utils.update_bn((each[1] for each in batches), average)
    return model, own, average


def best_weights_are_restored(attach: Attach) -> Any:
    model, own = pair()
    batches = attach(model, own, shuffled())
    train(model, own, batches)
    best = copy.deepcopy(model.state_dict()), copy.deepcopy(own.state_dict())
    train(model, own, batches)
    model.load_state_dict(best[0])
    own.load_state_dict(best[1])
    train(model, own, batches)
    return model, own


def saved_whole_and_loaded(attach: Attach) -> Any:
    model, own = pair()
    train(model, own, attach(model, own, shuffled()))
    file = io.BytesIO()
    torch.save((model, own), file)
    file.seek(0)
    loaded, optimizer = torch.load(file, weights_only=False)
    return simple(attach, loaded, optimizer)


# What the loop does between batches


def evaluation_in_the_middle(attach: Attach) -> Any:
    model, own = pair(norm=True)
    batches, held_out = attach(model, own, shuffled()), loader(seed=1)
    errors = []
    for each in batches:
        step(model, own, each)
        model.eval()
        with torch.no_grad():
            errors += [float(loss_of(model, other)) for other in held_out]
        model.train()
    return model, own, errors


def evaluation_on_the_same_loader(attach: Attach) -> Any:
    model, own = pair()
    batches = attach(model, own, shuffled())
    for _ in range(2):
        train(model, own, batches)
        model.eval()
        with torch.inference_mode():
            for each in batches:
                loss_of(model, each)
        model.train()
    return model, own


def early_break(attach: Attach) -> Any:
    model, own = pair()
    batches = attach(model, own, shuffled(rows=32))
    for _ in range(3):
        train(model, own, itertools.islice(batches, 2))
    return model, own


def an_error_that_is_caught(attach: Attach) -> Any:
    model, own = pair()
    for number, each in enumerate(attach(model, own, shuffled(rows=32))):
        try:
            if number == 1:
                raise RuntimeError("out of memory")
            step(model, own, each)
        except RuntimeError:
            own.zero_grad()
    return model, own


def an_interrupted_epoch(attach: Attach) -> Any:
    model, own = pair()
    batches = attach(model, own, shuffled())
    for epoch in range(3):
        try:
            for each in batches:
                step(model, own, each)
                if epoch == 1:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            continue
    return model, own


def steps_without_end(attach: Attach) -> Any:
    model, own = pair()
    batches = attach(model, own, shuffled())

    def endless() -> Iterator[Any]:
        while True:
            yield from batches

    train(model, own, itertools.islice(endless(), 5))
    return model, own


def next_and_start_again(attach: Attach) -> Any:
    model, own = pair()
    batches = attach(model, own, shuffled())
    iterator = iter(batches)
    for _ in range(5):
        try:
            each = next(iterator)
        except StopIteration:
            iterator = iter(batches)
            each = next(iterator)
        step(model, own, each)
    return model, own


def a_generator_that_is_wrapped(attach: Attach) -> Any:
    model, own = pair()
    train(model, own, attach(model, own, (each for each in shuffled())))
    return model, own


def a_batch_overwritten_by_the_loop(attach: Attach) -> Any:
    model, own = pair()
    for each in attach(model, own, shuffled()):
        own.zero_grad()
        loss_of(model, each).backward()
        each[0].fill_(float("nan"))
        each[1].fill_(float("nan"))
        own.step()
    return model, own


def a_thread_that_prefetches(attach: Attach) -> Any:
    model, own = pair()
    batches, ready = attach(model, own, loader(rows=32)), queue.Queue[Any](2)

    def fill() -> None:
        for each in batches:
            ready.put(each)
        ready.put(None)

    thread = threading.Thread(target=fill)
    thread.start()
    while (each := ready.get()) is not None:
        own.zero_grad()
        loss_of(model, each).backward()
        own.step()
    thread.join()
    return model, own


def modes_set_by_hand(attach: Attach) -> Any:
    """Gradients switched off and on, and the training mode set in each step."""
    model, own = pair()
    for each in attach(model, own, shuffled()):
        model.train(True)
        with torch.set_grad_enabled(True):
            step(model, own, each)
        with torch.set_grad_enabled(False):
            model.train(False)(each[1])
        model.train()
    return model, own


def a_functional_call(attach: Attach) -> Any:
    model, own = pair()
    for each in attach(model, own, shuffled()):
        fast = {name: p - 0.01 * p for name, p in model.named_parameters()}
        own.zero_grad()
        torch.func.functional_call(model, fast, each[1]).square().mean().backward()
        own.step()
    return model, own


# Loaders


def loaded_by(context: str, epochs: int = 1, **options: Any) -> Loop:
    def loop(attach: Attach) -> Any:
        model, own = pair()
        data = Pairs(people(16))
        batches: DataLoader[Any] = DataLoader(
            data, 8, shuffle=True, num_workers=1, multiprocessing_context=context, **options
        )
        train(model, own, attach(model, own, batches), epochs)
        return model, own

    return loop


def a_small_last_batch(attach: Attach) -> Any:
    return simple(attach, *pair(), shuffled(rows=17))


def one_row_a_batch(attach: Attach) -> Any:
    return simple(attach, *pair(), shuffled(rows=12, size=1), config_changes={"ratio": 1.0})


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([Pairs(people(16))[i] for i in range(16)])


def an_iterable_dataset(attach: Attach) -> Any:
    return simple(attach, *pair(), DataLoader(Stream(), 8))


def batches_sliced_from_memory(attach: Attach) -> Any:
    batches = [tuple(each) for each in loader()]
    return simple(attach, *pair(), DataLoader(batches, batch_size=None, shuffle=True))


def data_made_in_inference_mode(attach: Attach) -> Any:
    with torch.inference_mode():
        batches = [[f.clone() if isinstance(f, Tensor) else f for f in each] for each in loader()]
    return simple(attach, *pair(), batches)


def numpy_batches(attach: Attach) -> Any:
    batches = [[np.asarray(field) for field in each] for each in loader()]
    return simple(attach, *pair(), batches)


Named = namedtuple("Named", "pose_3d pose_2d action camera")


def named_batches(attach: Attach) -> Any:
    return simple(attach, *pair(), [Named(*each) for each in loader()])


def read_only_arrays(attach: Attach) -> Any:
    model, own = pair()
    batches = [[np.asarray(field) for field in each] for each in loader()]
    for array in itertools.chain(*batches):
        array.flags.writeable = False
    for each in attach(model, own, batches):
        step(model, own, [torch.tensor(array) for array in each[:2]])
    return model, own


def a_loop_that_draws(attach: Attach) -> Any:
    """Draws from every global random stream between batches."""
    model, own = pair(dropout=0.5)
    drawn = []
    for each in attach(model, own, shuffled(rows=32)):
        step(model, own, each)
        drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
    return model, own, drawn


def needs_cuda(attach: Attach) -> Any:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def pinned_memory(attach: Attach) -> Any:
    needs_cuda(attach)
    model, own = pair()
    model.cuda()
    for each in attach(model, own, DataLoader(Pairs(people(16)), 8, pin_memory=True)):
        own.zero_grad()
        loss_of(model, [f.cuda(non_blocking=True) for f in each[:2]]).backward()
        own.step()
    return model, own


def float16_autocast_on_cuda(attach: Attach) -> Any:
    needs_cuda(attach)
    model, own = pair()
    model.cuda()
    scaler = torch.amp.GradScaler("cuda")
    for each in attach(model, own, loader()):
        with torch.autocast("cuda", torch.float16):
            loss = loss_of(model, [f.cuda() for f in each[:2]])
        own.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(own)
        scaler.update()
    return model, own


LOOPS: dict[str, Loop] = {
    "plain": lambda attach: simple(attach, *pair()),
    "gradients zeroed in place after the step": gradients_are_zeroed_in_place_after_the_step,
    "gradients zeroed before the batch": gradients_are_zeroed_before_the_batch,
    "bfloat16 autocast": bfloat16_autocast,
    "GradScaler that skips a step": grad_scaler_that_skips_a_step,
    "accumulation, the last one incomplete": accumulation,
    "closure": closure,
    "LBFGS": lbfgs,
    "two losses with a retained graph": two_losses_with_a_retained_graph,
    "clipped norm": clipped_norm,
    "clipped values": clipped_values,
    "anomaly detection": anomaly_detection,
    "deterministic algorithms": deterministic_algorithms,
    "second derivatives": second_derivatives,
    "SGD with momentum": optimizer(partial(SGD, momentum=0.9)),
    "fused AdamW": optimizer(partial(torch.optim.AdamW, fused=True)),
    "foreach RMSprop": optimizer(partial(torch.optim.RMSprop, foreach=True)),
    "a rate per layer": a_rate_per_layer,
    "a parameter group added later": a_group_added_later,
    "frozen layers": frozen_layers,
    "two optimizers": two_optimizers,
    "another network beside it": another_network_beside_it,
    "an optimizer for each parameter": an_optimizer_for_each_parameter,
    "a rate per step": a_rate_per_step,
    "a rate from the loss": a_rate_from_the_loss,
    "model in float64": model_in(torch.float64),
    "model in bfloat16": model_in(torch.bfloat16),
    "default dtype float64": default_dtype_float64,
    "moved to float64 in the middle": moved_to_float64_in_the_middle,
    "BatchNorm": batchnorm,
    "frozen BatchNorm": frozen_batchnorm,
    "weight norm and spectral norm": weight_norm,
    "lazy layers": lazy_layers,
    "DataParallel": data_parallel,
    "checkpointing": partial(checkpointing, reentrant=False),
    "reentrant checkpointing in training mode": partial(checkpointing, reentrant=True),
    "compiled model": compiled,
    "compiled step": compiled_step,
    "hooks of others": hooks_of_others,
    "average of weights": average_of_weights,
    "SWA with BatchNorm": swa_with_batchnorm,
    "best weights are restored": best_weights_are_restored,
    "saved whole and loaded": saved_whole_and_loaded,
    "evaluation in the middle": evaluation_in_the_middle,
    "evaluation on the same loader": evaluation_on_the_same_loader,
    "early break": early_break,
    "an error that is caught": an_error_that_is_caught,
    "an interrupted epoch": an_interrupted_epoch,
    "steps without end": steps_without_end,
    "next, and start again": next_and_start_again,
    "a generator": a_generator_that_is_wrapped,
    "a batch overwritten by the loop": a_batch_overwritten_by_the_loop,
    "a thread that prefetches": a_thread_that_prefetches,
    "modes set by hand": modes_set_by_hand,
    "a functional call": a_functional_call,
    "a forked worker": loaded_by("fork"),
    "a spawned worker": loaded_by("spawn"),
    "a persistent worker": loaded_by("fork", epochs=2, persistent_workers=True),
    "a small last batch": a_small_last_batch,
    "one row a batch": one_row_a_batch,
    "an iterable dataset": an_iterable_dataset,
    "batches sliced from memory": batches_sliced_from_memory,
    "data made in inference mode": data_made_in_inference_mode,
    "numpy batches": numpy_batches,
    "named tuples": named_batches,
    "read-only arrays": read_only_arrays,
    "a loop that draws": a_loop_that_draws,
    "pinned memory": pinned_memory,
    "float16 autocast on CUDA": float16_autocast_on_cuda,
}
