"""The published estimators: sizes, shapes, and graph layers against slow loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.reproduction.published_lifters import (
    ESTIMATORS,
    STGCN,
    _GroupedConvolution,
    _NonLocal,
    _SemanticConvolution,
)
from helpers import generator
from poseaug_plugin.geometry.skeleton import SKELETONS

BODY = SKELETONS["h36m_17"]
TREE = BODY.parents
MIRROR = dict(zip(BODY.left + BODY.right, BODY.right + BODY.left))


def inputs(name: str, rows: int = 4) -> Tensor:
    frames = [ESTIMATORS[name].frames] * (ESTIMATORS[name].frames > 1)
    return torch.randn(rows, *frames, 16, 2, generator=generator()) * 0.3


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def random_statistics(model: nn.Module) -> nn.Module:
    """Evaluation mode with random BatchNorm parameters and statistics."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d)):
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(values, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_as_many_parameters_as_published(name: str) -> None:
    published = ESTIMATORS[name]
    model, small = published.make(), published.small()
    assert size(model) == published.parameters
    assert size(small) < published.parameters / 4
    assert type(small) is type(model)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_shapes_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    x = inputs(name)
    shape = (4, 16, 3) if ESTIMATORS[name].frames == 1 else (4, 1, 16, 3)
    for make in (ESTIMATORS[name].make, ESTIMATORS[name].small):
        model = random_statistics(make())
        out = model(x)
        assert out.shape == shape
        assert torch.allclose(out[1:3], model(x[1:3]), atol=1e-5)  # rows are independent
        out.square().sum().backward()
        for path, parameter in model.named_parameters():
            assert parameter.grad is not None, path
            assert parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("name", ["mlp", "videopose"])
def test_the_root_is_not_predicted(name: str) -> None:
    model = ESTIMATORS[name].make()
    *_, last = model.parameters()
    assert last.shape == (45,)
    assert not model(inputs(name))[:, 0].any()


@pytest.mark.parametrize("name", ["semgcn", "stgcn"])
def test_small_graphs_learn(name: str) -> None:
    torch.manual_seed(0)
    model, x = ESTIMATORS[name].small(), inputs(name, 64)
    target = torch.cat([x, x.square().sum(-1, keepdim=True)], -1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3 * float(target.square().mean())


def test_a_semantic_convolution_by_loops() -> None:
    joints, parents = 16, SKELETONS["h36m_16"].parents
    layer = ESTIMATORS["semgcn"].small().first[0].double()
    assert isinstance(layer, _SemanticConvolution)
    nn.init.normal_(layer.strength)
    nn.init.normal_(layer.bias)
    near = [[j for j in range(joints) if parents[i] == j or parents[j] == i] for i in range(joints)]
    pairs = [(i, i) for i in range(joints)] + [(i, j) for i in range(joints) for j in near[i]]
    strength = {pair: value.exp() for pair, value in zip(pairs, layer.strength)}
    assert len(pairs) == layer.strength.numel() == 46

    x = torch.randn(joints, 3, 2, dtype=torch.float64, generator=generator())
    own, others = layer.weight
    slow = []
    for i in range(joints):
        total = sum(strength[i, j] for j in (i, *near[i]))
        pose = strength[i, i] / total * (x[i] @ own)
        for j in near[i]:
            pose = pose + strength[i, j] / total * (x[j] @ others)
        slow.append(pose + layer.bias)
    assert torch.allclose(layer(x), torch.stack(slow))


def test_a_grouped_convolution_by_loops() -> None:
    layer = STGCN(8).joints[0].body[0].double()
    assert isinstance(layer, _GroupedConvolution)
    x = torch.randn(17, 3, 2, dtype=torch.float64, generator=generator())
    weights, biases = layer.matrices.weight.chunk(4), layer.matrices.bias.chunk(4)

    def hops(joint: int) -> int:
        """Number of bones from the spine, a child of the pelvis."""
        path = [joint]
        while TREE[path[-1]] >= 0:
            path.append(TREE[path[-1]])
        return path.index(7) if 7 in path else len(path)

    slow = []
    for i in range(17):
        edges = [(i, 0)]
        for j in range(17):
            if TREE[i] == j or TREE[j] == i:
                edges.append((j, 1 if hops(j) < hops(i) else 2))
        if i in MIRROR:
            edges.append((MIRROR[i], 3))
        messages = [x[j] @ weights[group].T + biases[group] for j, group in edges]
        slow.append(torch.stack(messages).mean(0))
    assert torch.allclose(layer(x), torch.stack(slow))


def test_five_parts_and_their_edges() -> None:
    model = STGCN(8)
    names = {frozenset(BODY.names[j] for j in limb) for limb in model.limbs}
    sided = [{"hip", "knee", "ankle"}, {"shoulder", "elbow", "wrist"}]
    expected = {frozenset(f"{side}_{j}" for j in limb) for side in "lr" for limb in sided}
    assert names == expected | {frozenset({"pelvis", "spine", "thorax", "nose", "head"})}
    for joint, part in enumerate(model.part_of.tolist()):
        assert joint in model.limbs[part]
    edges = model.pooled[0].body[0].edges
    # The torso has edges to itself and four limbs, a limb to itself, the torso and its mirror limb.
    counts = edges.gt(0).sum((0, 2)).tolist()
    assert counts == [3, 3, 3, 3, 5]
    assert torch.allclose(edges.sum((0, 2)), torch.ones(5))
    assert edges[3].gt(0).sum() == 4
    assert torch.equal(edges[3].gt(0), edges[3].gt(0).T)


def test_a_non_local_block_by_loops() -> None:
    torch.manual_seed(0)
    layer = _NonLocal(6).eval()
    x = torch.randn(5, 3, 6, generator=generator())
    assert torch.equal(layer(x), x)
    layer = random_statistics(layer).double()
    x, slow = x.double(), torch.zeros(5, 3, 6, dtype=torch.float64)
    for row in range(3):
        for i in range(5):
            scores = torch.stack([layer.query(x[i, row]) @ layer.key(x[j, row]) for j in range(5)])
            attention = scores.exp() / scores.exp().sum()
            value = sum(attention[j] * layer.value(x[j, row]) for j in range(5))
            slow[i, row] = x[i, row] + layer.out(value[None])[0]
    assert torch.allclose(layer(x), slow)


def test_the_nose_is_halfway_from_thorax_to_head() -> None:
    model, seen = STGCN(8), []
    model.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = inputs("stgcn")
    model(x)
    body = seen[0].view(4, 17, 2)
    assert torch.equal(body[:, [j for j in range(17) if j != 9]], x)
    assert torch.allclose(body[:, 9], (body[:, 8] + body[:, 10]) / 2)
    assert BODY.names[9] == "nose"
