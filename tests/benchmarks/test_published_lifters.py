"""The published estimators: sizes, shapes, and their graphs against slow loops."""

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
    """In evaluation mode, where no layer is left at zero or one."""
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
        assert torch.allclose(out[1:3], model(x[1:3]), atol=1e-5)  # rows do not see each other
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
        """Bones from the spine, which hangs on the pelvis."""
        way = [joint]
        while TREE[way[-1]] >= 0:
            way.append(TREE[way[-1]])
        return way.index(7) if 7 in way else len(way)

    slow = []
    for i in range(17):
        heard = [(i, 0)]
        for j in range(17):
            if TREE[i] == j or TREE[j] == i:
                heard.append((j, 1 if hops(j) < hops(i) else 2))
        if i in MIRROR:
            heard.append((MIRROR[i], 3))
        told = [x[j] @ weights[group].T + biases[group] for j, group in heard]
        slow.append(torch.stack(told).mean(0))
    assert torch.allclose(layer(x), torch.stack(slow))


def test_five_parts_and_how_they_hear_each_other() -> None:
    model = STGCN(8)
    names = {frozenset(BODY.names[j] for j in limb) for limb in model.limbs}
    sided = [{"hip", "knee", "ankle"}, {"shoulder", "elbow", "wrist"}]
    expected = {frozenset(f"{side}_{j}" for j in limb) for side in "lr" for limb in sided}
    assert names == expected | {frozenset({"pelvis", "spine", "thorax", "nose", "head"})}
    for joint, part in enumerate(model.part_of.tolist()):
        assert joint in model.limbs[part]
    edges = model.pooled[0].body[0].edges
    # The torso hears itself and four limbs; a limb itself, the torso and its mirror image.
    counts = edges.gt(0).sum((0, 2)).tolist()
    assert counts == [3, 3, 3, 3, 5]
    assert torch.allclose(edges.sum((0, 2)), torch.ones(5))
    assert edges[3].gt(0).sum() == 4
    assert torch.equal(edges[3].gt(0), edges[3].gt(0).T)


def test_every_joint_looks_at_every_other_by_loops() -> None:
    torch.manual_seed(0)
    layer = _NonLocal(6).eval()
    x = torch.randn(5, 3, 6, generator=generator())
    assert torch.equal(layer(x), x)
    layer = random_statistics(layer).double()
    x, slow = x.double(), torch.zeros(5, 3, 6, dtype=torch.float64)
    for row in range(3):
        for i in range(5):
            alike = torch.stack([layer.query(x[i, row]) @ layer.key(x[j, row]) for j in range(5)])
            share = alike.exp() / alike.exp().sum()
            found = sum(share[j] * layer.value(x[j, row]) for j in range(5))
            slow[i, row] = x[i, row] + layer.out(found[None])[0]
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
