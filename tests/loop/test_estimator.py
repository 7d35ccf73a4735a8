"""The caller's model is called without being changed."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loop_helpers import Lifter, batch, same, snapshot, streams
from poseaug_plugin import AttachError, ConfigError
from poseaug_plugin.loop.estimator import Estimator, full_precision
from simulated_cuda import SimulatedCuda


def call(estimator: Estimator, pose_2d: Tensor | None = None) -> Any:
    with estimator.untouched():
        return estimator(batch()[1] if pose_2d is None else pose_2d)


def test_training_flags_are_restored_for_each_module_even_after_an_error() -> None:
    model = Lifter()
    model.norm.eval()  # frozen by the caller
    estimator = Estimator(model)
    flags = [m.training for m in model.modules()]
    with estimator.untouched():
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == flags
    with pytest.raises(ValueError, match="the caller's own"), estimator.untouched():
        raise ValueError("the caller's own")
    assert [m.training for m in model.modules()] == flags
    assert sum(flags) == len(flags) - 1


def test_calls_use_evaluation_mode() -> None:
    model = Lifter(dropout=0.9)
    before = snapshot(model)
    first, second = call(Estimator(model)), call(Estimator(model))
    assert torch.equal(first, second)
    assert same(snapshot(model), before)


def test_the_global_random_streams_are_restored_after_calls_that_draw_even_after_an_error() -> None:
    def draws(net: nn.Module, pose_2d: Tensor) -> Tensor:
        noise = torch.rand(()) + np.random.rand() + random.random()
        if pose_2d.isnan().any():
            raise ValueError("the caller's own")
        return net(pose_2d) + noise

    pose_2d, estimator = batch()[1], Estimator(Lifter(), draws)
    before = streams()
    assert torch.equal(call(estimator, pose_2d), call(estimator, pose_2d))
    with pytest.raises(ValueError, match="the caller's own"):
        call(estimator, pose_2d * torch.nan)
    assert same(streams(), before)


def test_a_model_that_remembers_its_calls_forgets_those_of_the_plugin() -> None:
    class Remembers(Lifter):
        def __init__(self) -> None:
            super().__init__()
            self.state: Any = None
            self.register_buffer("mean", torch.zeros(16, 2))
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("hidden", None)

        def forward(self, pose_2d: Tensor) -> Tensor:
            self.state = pose_2d if self.state is None else self.state + pose_2d
            self.hidden = pose_2d
            self.register_buffer("mask", pose_2d > 0)
            self.mean = pose_2d.mean(0)
            self.count += 1
            self.cached = self.count.clone()
            return super().forward(pose_2d)

    model = Remembers()
    before, mean, version = snapshot(model), model.mean, model.mean._version
    call(Estimator(model))
    assert same(snapshot(model), before)
    assert model.state is None
    assert model.hidden is None
    assert model.mean is mean
    assert not hasattr(model, "cached")
    assert not hasattr(model, "mask")
    assert mean._version == version  # a graph that has saved it can still be used
    assert model.training


def test_a_random_model_does_not_advance_the_global_generators() -> None:
    class Noisy(Lifter):
        def forward(self, pose_2d: Tensor) -> Tensor:
            return super().forward(pose_2d + torch.randn_like(pose_2d))

    model = Noisy()
    before = streams()
    call(Estimator(model))
    assert same(streams(), before)


def test_gradients_flow_to_the_input_and_are_not_accumulated_in_the_model() -> None:
    model = Lifter()
    pose_2d = batch()[1].requires_grad_()
    with torch.no_grad():
        predicted = call(Estimator(model), pose_2d)
        assert not torch.is_grad_enabled()
    (grad,) = torch.autograd.grad(predicted.square().sum(), [pose_2d])
    assert grad.abs().max() > 0
    assert all(p.grad is None for p in model.parameters())


def test_the_callers_autocast_is_off() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert call(Estimator(Lifter())).dtype == torch.float32
        assert Lifter()(batch()[1]).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_model_is_called_in_its_own_dtype(dtype: torch.dtype) -> None:
    assert call(Estimator(Lifter().to(dtype))).dtype == dtype


class Parallel(nn.Module):
    """A wrapper of another library, which resembles torch's in its name and attribute."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module


def test_parallel_wrappers_are_unwrapped() -> None:
    inner = Lifter()
    outer = Parallel(inner)
    estimator = Estimator(outer, lambda net, pose_2d: net)
    assert call(estimator) is inner
    outer.training = False  # callers change the mode of the wrapper
    assert not estimator.training
    inner_only = Lifter()
    inner_only.module = None
    assert Estimator(inner_only).model is inner_only


def test_batchnorm_is_found_in_submodules() -> None:
    assert Estimator(Parallel(nn.Sequential(nn.Sequential(nn.BatchNorm2d(3))))).has_batchnorm
    assert not Estimator(Lifter(norm=False)).has_batchnorm
    of_rows = nn.Sequential(nn.InstanceNorm1d(3, affine=True))  # the same in both modes
    assert not Estimator(of_rows).has_batchnorm


def test_a_buffer_that_was_made_in_inference_mode_is_no_obstacle() -> None:
    model = Lifter()
    with torch.inference_mode():
        model.register_buffer("scale", torch.ones(3))
    call(Estimator(model))
    assert model.scale.is_inference()


def test_device_follows_the_parameters() -> None:
    model = Lifter()
    estimator = Estimator(model)
    assert estimator.device.type == "cpu"
    model.to("meta")
    assert estimator.device.type == "meta"


@pytest.mark.parametrize(
    ("model", "pattern"),
    [
        (lambda x: x, "function, expected the torch.nn.Module"),
        (None, "NoneType, expected the torch.nn.Module"),
        (
            {"lifter": nn.Linear(1, 1), "n": 1},
            r"dict, .* pass the one that is trained, of \['lifter",
        ),
        (nn.ReLU(), "ReLU has no parameters"),
        (Parallel(nn.Sequential()), "no parameters"),
    ],
)
def test_something_that_is_no_model_raises(model: Any, pattern: str) -> None:
    with pytest.raises(AttachError, match=pattern):
        Estimator(model)


def test_an_optimizer_of_some_parameters_is_accepted() -> None:
    model = Lifter()
    Estimator(model).check_optimizer(torch.optim.SGD(model.last.parameters(), lr=0.1))
    both = [*Lifter().parameters(), *model.parameters()]
    Estimator(model).check_optimizer(torch.optim.SGD(both, lr=0.1))
    with pytest.raises(AttachError, match=r"the SGD holds none of the parameters of Lifter"):
        Estimator(model).check_optimizer(torch.optim.SGD(Lifter().parameters(), lr=0.1))


# Older torch has no settings of oneDNN.
MATMULS: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]


def precisions() -> list[Any]:
    """All settings of the precision of products, with "mixed" where torch refuses to tell."""
    values: list[Any] = [matmul.fp32_precision for matmul in MATMULS]
    try:
        values.append(torch.get_float32_matmul_precision())
    except RuntimeError:
        values.append("mixed")
    return values


@pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="this torch has one way to set it"
)
@pytest.mark.parametrize("way", ["fp32_precision", "allow_tf32", "high", "medium"])
def test_reduced_precision_of_the_caller_is_off_inside_and_restored(way: str) -> None:
    before = precisions()
    try:
        if way in ("high", "medium"):
            torch.set_float32_matmul_precision(way)
        else:
            setattr(MATMULS[0], way, {"fp32_precision": "tf32", "allow_tf32": True}[way])
        own = precisions()
        assert own != before
        for _ in range(2):
            with full_precision(torch.device("cpu")):
                assert precisions() == ["ieee", "ieee", "highest"]
            assert precisions() == own
    finally:
        for matmul in MATMULS:
            matmul.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")
        for matmul, value in zip(MATMULS, before):
            matmul.fp32_precision = value
    assert precisions() == before


@pytest.mark.parametrize("rnn", [True, False])
def test_cudnn_is_off_for_rnns_on_a_gpu_which_have_no_backward_pass_there(
    rnn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.LSTM(4, 4) if rnn else nn.Linear(4, 4))
    before = torch.backends.cudnn.enabled
    with Estimator(model).untouched():
        assert torch.backends.cudnn.enabled == before  # on a CPU
    monkeypatch.setattr(Estimator, "device", torch.device("cuda:0"))
    with SimulatedCuda(), Estimator(model).untouched():
        assert torch.backends.cudnn.enabled == (before and not rnn)
    assert torch.backends.cudnn.enabled == before


def test_the_callers_training_flag_is_told_also_while_the_model_is_called() -> None:
    """A loader may be iterated by another thread then."""
    for training in (True, False):
        model = Lifter().train(training)
        estimator = Estimator(model)
        with estimator.untouched():
            assert estimator.training is training
            assert not model.training
        assert estimator.training is training
        model.train(not training)
        assert estimator.training is not training


class Answer(NamedTuple):
    pose: Tensor
    rest: Any


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("kind", ["tensor", "list", "tuple", "named tuple", "mapping"])
def test_an_output_is_replayed_in_its_own_form_as_a_copy_in_float32(
    kind: str, dtype: torch.dtype
) -> None:
    pose = torch.ones(2, 16, 3, dtype=dtype, requires_grad=True)
    output, select = {
        "tensor": (pose, lambda found: found),
        "list": ([pose, "text"], lambda found: found[0]),
        "tuple": ((0, (pose, None)), lambda found: found[1][0]),
        "named tuple": (Answer(pose, {"a": 1}), lambda found: found.pose),
        "mapping": ({"y": pose, "x": 3}, lambda found: found["y"]),
    }[kind]
    forms: list[type] = []

    def predict(net: nn.Module, pose_2d: Tensor) -> Any:
        found = net(pose_2d)
        forms.append(type(found))
        return select(found)

    given = batch()[1]
    first, predicted = Estimator(Lifter(), predict).replay(output, given)
    assert first is given
    assert forms == [torch.Tensor if kind == "tensor" else type(output)]
    assert predicted.dtype is torch.float32
    assert not predicted.requires_grad
    predicted += 1
    assert torch.equal(pose, torch.ones_like(pose))


class Scaled(Lifter):
    """With an attribute that `predict` may use."""

    scale = 2.0


@pytest.mark.parametrize(
    "predict",
    [
        lambda net, x: net.scale * net(x=x),
        lambda net, x: net.scale * net({"ids": 3, "x": [x]}),
        lambda net, x: net.scale * net("text", x) + 0 * (torch.rand(()) + np.random.rand()),
    ],
    ids=["by name", "in a mapping", "beside text, with a random number"],
)
def test_replay_finds_what_is_passed_to_the_model_and_draws_nothing(predict: Any) -> None:
    given, output, estimator = batch()[1], torch.ones(8, 16, 3), Estimator(Scaled(), predict)
    before = streams()
    first, predicted = estimator.replay(output, given)
    assert first is given
    assert torch.equal(predicted, 2 * output)
    assert not predicted.requires_grad
    assert same(streams(), before)


@pytest.mark.parametrize(("predict", "calls"), [(lambda n, x: x, 0), (lambda n, x: n(x) + n(x), 2)])
def test_a_predict_that_does_not_call_the_model_once_cannot_be_replayed(
    predict: Any, calls: int
) -> None:
    with pytest.raises(ConfigError, match=rf"predict\(Lifter, pose_2d\) calls.* {calls} times"):
        Estimator(Lifter(), predict).replay(torch.ones(8, 16, 3), batch()[1])


def test_the_model_inside_a_wrapper_is_called_and_the_mode_is_that_of_the_wrapper() -> None:
    class Mine(Parallel):  # as a subclass of DistributedDataParallel, whatever its name
        pass

    inner = Lifter()
    estimator = Estimator(Mine(inner))
    assert call(estimator).shape == (8, 16, 3)  # the wrapper itself has no `forward`
    assert estimator.called == "Lifter(pose_2d)"
    for outside in (True, False):
        estimator.outer.training, inner.training = outside, not outside
        with estimator.untouched():
            assert estimator.training is outside
        assert inner.training is not outside
    text = Parallel(inner)
    del text._modules["module"]
    text.module, text.own = "no module", nn.Linear(1, 1)
    assert Estimator(text).model is text
    ordinary = nn.Sequential()  # which happens to have a submodule of that name
    ordinary.module = inner
    assert Estimator(ordinary).model is ordinary


def test_the_parameters_may_be_in_any_group_of_the_optimizer() -> None:
    model = Lifter()
    groups = [{"params": Lifter().parameters()}, {"params": model.parameters()}]
    Estimator(model).check_optimizer(torch.optim.SGD(groups, lr=0.1))


def test_cudnn_that_the_caller_has_turned_off_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    with Estimator(Lifter()).untouched():
        assert not torch.backends.cudnn.enabled
    assert not torch.backends.cudnn.enabled


def test_a_device_without_autocast_needs_none() -> None:
    with full_precision(torch.device("meta")):
        assert torch.zeros(2, device="meta").shape == (2,)
