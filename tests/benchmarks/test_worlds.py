"""Five worlds: their bodies stand as such bodies do, and a run is repeatable."""

from __future__ import annotations

import functools
import json

import pytest
import torch

from benchmarks.worlds import cli, quadrupeds, runs
from benchmarks.worlds.worlds import WORLDS
from poseaug_plugin.geometry.camera import project


@functools.cache
def made(name, seed=0):
    return WORLDS[name](seed)


@pytest.fixture(scope="module", params=WORLDS)
def world(request):
    return made(request.param)


@pytest.fixture(autouse=True)
def _made_once(monkeypatch):
    monkeypatch.setattr(runs, "_world", made)


def test_bodies_are_in_view_and_projected_exactly(world):
    for views in (world.train, world.test, world.cross):
        assert len(views) > 2000
        assert views.pose_3d.shape[1:] == (world.skeleton.num_joints, 3)
        size = torch.tensor([1.0, world.height])
        assert (views.pose_2d.abs() <= size).all()
        assert torch.allclose(views.pose_2d, project(views.pose_3d, views.camera), atol=1e-4)


def test_heads_are_above_hips(world):
    """In most images; fingers and sniffing animals may point down."""
    joints = {12: 5, 16: 9, 21: 12, 23: 12}  # a head, or the tip of the middle finger
    head = joints[world.skeleton.num_joints]
    for views in (world.train, world.test, world.cross):
        assert float((views.pose_2d[:, head, 1] < views.pose_2d[:, 0, 1]).float().mean()) > 0.5


def test_the_worlds_differ_from_a_room():
    distance = {name: made(name).train.pose_3d[:, 0, 2].median() for name in WORLDS}
    assert distance["hands"] < 0.7
    assert 0.9 < distance["selfies"] < 1.5
    assert distance["sports"] > 15


def test_legs_of_animals_mirror_each_other():
    skeleton = quadrupeds.SKELETON
    assert skeleton.trunk == (8, 9)  # pelvis to back to withers
    assert len(skeleton.limbs) == 4


def test_fixed_ranges_are_those_of_earlier_versions():
    hands, people = made("hands"), made("children")
    assert runs.config_of("plain", people, 0) is None
    fixed = runs.config_of("fixed", people, 3)
    assert (fixed.distance, fixed.joint_offset, fixed.seed) == ((2.5, 6.5), 0.025, 3)
    assert runs.config_of("fixed", hands, 0).joint_offset == 0
    assert runs.config_of("default", hands, 0).distance is None
    assert runs.config_of("tuned", hands, 0).distance == (0.3, 0.9)


def test_a_run_is_made_once_and_stands_in_the_table(tmp_path, capsys):
    results, table = tmp_path / "w.jsonl", tmp_path / "w.md"
    argv = f"--worlds hands --methods plain,default --seeds 0 --updates 3 --results {results}"
    first = cli.main([*argv.split(), "--markdown", str(table)])
    assert "2 runs, 2 to execute" in capsys.readouterr().out
    again = cli.main(argv.split())
    assert "2 runs, 0 to execute" in capsys.readouterr().out
    assert first == again
    assert len(results.read_text().splitlines()) == 2
    assert json.loads(results.read_text().splitlines()[1])["stats"]["distance_low"] < 0.5
    assert table.read_text().count("| hands |") == 2


def test_pictures_show_each_line(tmp_path):
    pytest.importorskip("matplotlib")
    cli.main(
        f"--worlds hands --methods plain --seeds 0 --updates 1 --results {tmp_path / 'w'} "
        f"--pictures {tmp_path}".split()
    )
    assert (tmp_path / "hands.png").stat().st_size > 10_000
