"""Copies of several tensors at once; that they are one transfer is tested in test_cuda."""

from __future__ import annotations

import pytest
import torch

from poseaug_plugin.geometry.transfer import copy_together


@pytest.mark.usefixtures("cuda")
def test_copies_have_the_values_types_and_shapes_of_the_tensors() -> None:
    tensors = [
        torch.tensor([True, False, True]),
        torch.randn(3, 1, 5, 2),
        torch.arange(3),
        torch.zeros(3, 4, 0),
        torch.randn(3, 2, dtype=torch.float64).T,
        torch.tensor(1.5, dtype=torch.float16),
        torch.ones(2, device="cuda"),
    ]
    on_gpu = copy_together(tensors, torch.device("cuda:0"))
    back = copy_together(on_gpu, torch.device("cpu"))
    assert on_gpu[-1] is tensors[-1]
    for tensor, there, here in zip(tensors, on_gpu, back):
        assert there.device == torch.device("cuda:0")
        assert here.device == torch.device("cpu")
        assert here.dtype == there.dtype == tensor.dtype
        assert here.shape == there.shape == tensor.shape
        assert torch.equal(here, tensor.cpu())


def test_tensors_that_are_there_are_returned() -> None:
    tensors = [torch.zeros(2), torch.ones(3)]
    assert all(a is b for a, b in zip(copy_together(tensors, torch.device("cpu")), tensors))


@pytest.mark.usefixtures("cuda")
def test_copies_have_no_gradient() -> None:
    tensors = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    copies = copy_together(tensors, torch.device("cuda:0"))
    assert not any(copy.requires_grad for copy in copies)
