"""The caller's model is asked, and does not notice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loop_helpers import Lifter, batch, same, snapshot, streams
from poseaug_plugin import AttachError
from poseaug_plugin.loop.estimator import Estimator


def asked(estimator: Estimator, pose_2d: Tensor | None = None) -> Any:
    with estimator.untouched():
        return estimator(batch()[1] if pose_2d is None else pose_2d)


def test_flags_come_back_module_by_module_even_after_an_error() -> None:
    model = Lifter()
    model.norm.eval()  # frozen by hand
    estimator = Estimator(model)
    flags = [m.training for m in model.modules()]
    with estimator.untouched():
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == flags
    with pytest.raises(ValueError, match="mine"), estimator.untouched():
        raise ValueError("mine")
    assert [m.training for m in model.modules()] == flags
    assert sum(flags) == len(flags) - 1


def test_asking_moves_no_statistics_and_drops_nothing() -> None:
    model = Lifter(dropout=0.9)
    before = snapshot(model)
    first, second = asked(Estimator(model)), asked(Estimator(model))
    assert torch.equal(first, second)
    assert same(snapshot(model), before)


def test_a_model_that_draws_at_random_keeps_the_callers_stream() -> None:
    class Noisy(Lifter):
        def forward(self, pose_2d: Tensor) -> Tensor:
            return super().forward(pose_2d + torch.randn_like(pose_2d))

    model = Noisy()
    before = streams()
    asked(Estimator(model))
    assert same(streams(), before)


def test_gradients_flow_to_the_input_and_not_into_the_model() -> None:
    model = Lifter()
    pose_2d = batch()[1].requires_grad_()
    with torch.no_grad():
        answer = asked(Estimator(model), pose_2d)
        assert not torch.is_grad_enabled()
    (grad,) = torch.autograd.grad(answer.square().sum(), [pose_2d])
    assert grad.abs().max() > 0
    assert all(p.grad is None for p in model.parameters())


def test_the_callers_autocast_is_off_inside() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert asked(Estimator(Lifter())).dtype == torch.float32
        assert Lifter()(batch()[1]).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_model_is_asked_in_its_own_dtype(dtype: torch.dtype) -> None:
    assert asked(Estimator(Lifter().to(dtype))).dtype == dtype


class Parallel(nn.Module):
    """Another library's, by the name and the field that torch's have."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module


def test_parallel_wrappers_are_unwrapped() -> None:
    inner = Lifter()
    outer = Parallel(inner)
    seen = Estimator(outer, lambda net, pose_2d: net)
    assert asked(seen) is inner
    outer.training = False  # the caller switches the outer one
    assert not seen.training
    inner_only = Lifter()
    inner_only.module = None
    assert Estimator(inner_only).model is inner_only


def test_batchnorm_is_seen_wherever_it_is() -> None:
    assert Estimator(Parallel(nn.Sequential(nn.Sequential(nn.BatchNorm2d(3))))).has_batchnorm
    assert not Estimator(Lifter(norm=False)).has_batchnorm


def test_device_is_that_of_the_parameters_now() -> None:
    model = Lifter()
    estimator = Estimator(model)
    assert estimator.device.type == "cpu"
    model.to("meta")
    assert estimator.device.type == "meta"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda x: x, "function, expected the torch.nn.Module"),
        (None, "NoneType, expected the torch.nn.Module"),
        (nn.ReLU(), "ReLU has no parameters"),
        (Parallel(nn.Sequential()), "no parameters"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, words: str) -> None:
    with pytest.raises(AttachError, match=words):
        Estimator(model)


def test_an_optimizer_of_some_parameters_will_do() -> None:
    model = Lifter()
    Estimator(model).check_optimizer(torch.optim.SGD(model.last.parameters(), lr=0.1))
    both = [*Lifter().parameters(), *model.parameters()]
    Estimator(model).check_optimizer(torch.optim.SGD(both, lr=0.1))
    with pytest.raises(AttachError, match=r"the SGD holds none of the parameters of Lifter"):
        Estimator(model).check_optimizer(torch.optim.SGD(Lifter().parameters(), lr=0.1))
