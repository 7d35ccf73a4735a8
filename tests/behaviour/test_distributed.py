"""Two and three processes equal one, survive faults together, and resume with another number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ranks as ranks_module
import torch

from loop_helpers import attached, batch, run_script, same, small

pytestmark = pytest.mark.slow

each_size = pytest.mark.parametrize("size", ranks_module.SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with the results of all ranks, and what the processes printed."""
    found = tmp_path_factory.mktemp("ranks")
    return found, run_script(Path(ranks_module.__file__), found)


def results(case: str, size: int, folder: tuple[Path, str]) -> list[Any]:
    where, printed = folder
    files = [where / f"{case} {rank} of {size}.pt" for rank in range(size)]
    assert all(file.exists() for file in files), printed[-3000:]
    found = [torch.load(file, weights_only=False) for file in files]
    assert not [each["error"] for each in found if "error" in each]
    return found


def distance(a: Any, b: Any) -> float:
    """Largest difference of two snapshots of networks."""
    if isinstance(a, torch.Tensor):
        return float((a - b).abs().max())
    if isinstance(a, dict):
        return max(distance(a[key], b[key]) for key in a)
    pairs = [(x, y) for x, y in zip(a, b) if not isinstance(x, str)]
    return max(distance(x, y) for x, y in pairs)


@each_size
@pytest.mark.parametrize("config", ranks_module.EQUAL)
def test_ranks_equal_one_process_on_the_joined_batch(config: str, size: int, folder: Any) -> None:
    whole = torch.load(folder[0] / f"one process for {size}.pt", weights_only=False)[config]
    for each in (found[config] for found in results("equal_to_one_process", size, folder)):
        assert same(each["start"], whole["start"])
        assert each["updates"] == whole["updates"] == 3
        moved = distance(whole["nets"], whole["start"])
        assert moved > 1e-4
        # One process with its rows in another order differs by up to 1.4e-4.
        assert distance(each["nets"], whole["nets"]) < 2e-3 * moved


@each_size
def test_faults_on_one_rank_skip_the_update_on_all(size: int, folder: Any) -> None:
    """A bad batch, none, a disabled augmenter, and two failing passes: 5 of 12 steps."""
    first, *others = results("faults", size, folder)
    assert first["updates"] == 7
    for each in others:
        assert each["updates"] == 7
        assert same(each["nets"], first["nets"])


@each_size
def test_an_update_sends_eight_messages(size: int, folder: Any) -> None:
    """Is there a batch, the means over rows and the covariances, did the estimator fail, the sizes
    of the gradients, the gradients of the covariances and of the means, and the gradients. Layers
    of `released` have means of their own.
    """
    expected = {"paper": 8, "residual": 8, "released": 4}
    assert results("messages", size, folder) == [expected] * size


@each_size
def test_ranges_of_views_are_equal_on_all_ranks(size: int, folder: Any) -> None:
    """One of six updates fails on one rank, and is skipped on all."""
    first, *others = results("widened", size, folder)
    assert first["updates"] == 5
    assert first["shares"].max() > 0.02
    assert all(torch.equal(each["shares"], first["shares"]) for each in others)


@each_size
def test_a_run_resumes_with_another_number_of_ranks(size: int, folder: Any) -> None:
    first, *others = results("resumed", size, folder)
    assert first["updates"] == 4
    for each in others:
        assert same(each["start"], first["start"])
        assert same(each["nets"], first["nets"])
        assert not torch.equal(each["drawn"], first["drawn"])
    assert not same(first["nets"], first["start"])
    saved = torch.load(folder[0] / f"saved by {size}.pt", weights_only=False)
    alone, _, optimizer = attached(small("residual"))
    alone.load_state_dict(saved)
    alone(batch())
    optimizer.step()
    assert alone.stats()["updates"] == 5


@each_size
def test_ranks_may_take_different_numbers_of_steps(size: int, folder: Any) -> None:
    for rank, each in enumerate(results("uneven", size, folder)):
        steps = 2 + rank
        nothing, all_steps = (steps, 0, 0), (steps, steps, 0)
        assert each == {
            "random": nothing,
            "default": nothing,
            "target_2d": all_steps,
            "residual": all_steps,
        }


@each_size
def test_a_rank_may_detach_without_sync_ranks(size: int, folder: Any) -> None:
    updates = [each["updates"] for each in results("detached", size, folder)]
    assert updates == [4, 2, 4][:size]


@each_size
def test_fsdp2_equals_averaged_gradients(size: int, folder: Any) -> None:
    for each in results("sharded", size, folder):
        (plain, plain_nets, updates), (shards, shard_nets, updates_too) = each.values()
        assert updates == updates_too == 3
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, shards))
        assert distance(plain_nets, shard_nets) < 1e-4


@each_size
def test_a_sharded_model_lifts_poses_on_all_ranks_or_on_none(size: int, folder: Any) -> None:
    for each in results("sharded_lifter", size, folder):
        assert each == {"updates": 3, "failed_updates": 0, "steps": 4}


@each_size
def test_each_rank_records_its_own_rows_and_training_is_unchanged(size: int, folder: Any) -> None:
    for each in results("recorded", size, folder):
        for name in ("inner", "outer"):
            assert same(each[f"{name}, report=True"], each[f"{name}, report=False"])
            rows, augmented = each[f"{name}, rows"]
            assert rows == augmented > 0


@each_size
def test_accelerates_prepare_comes_before_wrap(size: int, folder: Any) -> None:
    found = results("prepared", size, folder)
    if not found[0]:
        pytest.skip("accelerate is not installed")
    seen = [set(each["prepared first"]) for each in found]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 2 * size * ranks_module.ROWS
    assert all("wrap(accelerator.prepare(loader))" in each["wrapped first"] for each in found)
