"""Pictures: nothing is cut off, what they show is true, and the page works in a browser."""

from __future__ import annotations

import csv
import html
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import poseaug_plugin
from helpers import people
from poseaug_plugin import Camera, PoseAugmenter, PoseBatch, Skeleton, SkeletonError
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.report import Bin, ErrorReport

pytest.importorskip("matplotlib")
from PIL import Image

from poseaug_plugin import plots

H36M = Skeleton.of("h36m_16")


def batch(rows: int = 48) -> tuple[torch.Tensor, ...]:
    """SemGCN-like rows, with absolute 3D and cameras: the format `poseaug`."""
    pose_3d = people(rows)[:, 0]
    camera = Camera().intrinsics.expand(rows, 9)
    return pose_3d, project(pose_3d, camera), torch.arange(rows), camera


def attached(**changes: Any) -> PoseAugmenter:
    model = SimpleBaseline(width=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", epochs=2, config=changes or None)
    augmenter.optimizer = optimizer  # type: ignore[attr-defined]  # the hook does not keep it alive
    for _ in range(3):
        augmenter(batch())
    return augmenter


def everything_is_visible(figure: Any) -> bool:
    """Whether the limits of all axes contain all lines."""
    for axis in figure.axes:
        (left, right), heights = axis.get_xlim(), sorted(axis.get_ylim())
        for line in axis.lines:
            x, y = line.get_data()
            if not (left <= min(x) and max(x) <= right):
                return False
            if not (heights[0] <= min(y) and max(y) <= heights[1]):
                return False
    return True


@pytest.mark.parametrize("preset", ["default", "random"])
def test_no_limb_leaves_its_panel(preset: str, tmp_path: Path) -> None:
    augmenter = attached(preset=preset)
    for plot in (plots.plot_augmented, plots.plot_sources):
        path = tmp_path / "new" / f"{plot.__name__}.png"
        assert everything_is_visible(plot(augmenter, batch(), path, 2))
        with Image.open(path) as picture:
            assert picture.width > 300
    figure = plots.plot_pose(batch()[0][3], batch()[1][3])
    assert everything_is_visible(figure)
    assert [axis.get_title() for axis in figure.axes][::2] == ["from the camera", "in the image"]


def test_looking_changes_nothing() -> None:
    augmenter = attached()
    before = augmenter.state_dict()["engine"]["sampler"]
    plots.plot_augmented(augmenter, batch(), None, 1)
    plots.plot_sources(augmenter, batch(), None, 1)
    after = augmenter.state_dict()["engine"]["sampler"]
    assert torch.equal(before["generator"], after["generator"])
    assert before["pose_statistics"]["batches"] == after["pose_statistics"]["batches"] == 3


def test_limbs_come_from_the_rows_that_are_shown() -> None:
    augmenter = attached(bend_sigma=0, joint_offset=0, stretch=0)
    before = augmenter.read(batch())
    after, _, augmentation = augmenter.preview(batch())
    old, new = (Bones.of(poses.pose_3d[:, 0], H36M).body_direction for poses in (before, after))
    assert augmentation.sources is not None
    taken = old.gather(0, augmentation.sources[..., None].expand_as(old))
    # The torso differs by a rotation of the body frame, which its own hips define.
    assert torch.allclose(new, taken, atol=1e-4)
    assert (augmentation.sources[:, 0] != augmentation.sources[:, 1]).any()
    assert attached(preset="random").preview(batch())[2].sources is None


def test_azimuth_and_elevation_are_those_of_the_camera() -> None:
    facing = torch.zeros(16, 3)  # a person who faces the camera: its left is at the right
    for joint, place in {
        **{1: (-0.1, 0, 0), 4: (0.1, 0, 0), 7: (0, -0.2, 0), 8: (0, -0.5, 0), 9: (0, -0.7, 0)},
        **{10: (0.2, -0.5, 0), 13: (-0.2, -0.5, 0)},
    }.items():
        facing[joint] = torch.tensor(place)
    quarter = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # about the vertical
    down = torch.tensor([[1.0, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    pose_3d = torch.stack([facing, facing @ quarter.T, facing @ quarter, facing @ down.T])[:, None]
    root = torch.tensor([0.0, 0, 4]).expand(4, 1, 3)
    poses = PoseBatch(pose_3d[..., :2], pose_3d, root, Camera().intrinsics.expand(4, 9))
    azimuth, elevation = plots.view_angles(poses, H36M).T
    # The second person's left side is turned to the camera, the fourth bows to it.
    assert azimuth.tolist() == pytest.approx([0, 90, -90, 0], abs=1e-3)
    assert elevation.tolist() == pytest.approx([0, 0, 0, 36.87], abs=1e-2)


def drawn(axis: Any) -> list[tuple[str, Any]]:
    """Colour and ends of all lines but the white edges, in the order in which they are drawn."""
    lines = [(line.get_color(), line.get_xydata().tolist()) for line in axis.lines]
    return [(colour, ends) for colour, ends in lines if colour != "white"]


def nothing_overlaps(figure: Any) -> bool:
    """Whether all panels, with their titles and labels, are inside the figure and apart."""
    figure.draw_without_rendering()
    boxes = [axis.get_tightbbox() for axis in figure.axes if axis.axison]
    whole = figure.bbox.padded(1)
    return all(
        whole.contains(*box.min)
        and whole.contains(*box.max)
        and not any(box.padded(-1).overlaps(other) for other in boxes[:i])
        for i, box in enumerate(boxes)
    )


def test_panels_do_not_overlap_and_poses_fill_theirs() -> None:
    bins = {name: [Bin(-10, 0, 3, 20.0), Bin(0, 30, 2, 60.0)] for name in ("yaw", "tilt", "pose")}
    report = plots.plot_report(ErrorReport(5, 36.0, 30.0, bins, {"a": 10.0, "b": 50.0}))
    assert nothing_overlaps(report)
    assert [axis.get_title() for axis in report.axes] == [
        "by yaw",
        "by tilt",
        "by pose",
        "by joint",
        "",
        "",
    ]
    clip = people(3)[:, 0]
    figure = plots.plot_clips({"one": clip}, frames=2)
    assert nothing_overlaps(figure)
    boxes = [axis.get_tightbbox() for axis in figure.axes]
    assert sum(box.width for box in boxes) > 0.8 * figure.bbox.width
    assert min(box.height for box in boxes) > 0.8 * figure.bbox.height


def test_left_is_blue_right_is_orange_and_what_is_near_is_drawn_last() -> None:
    """A star of a left, a right and a middle bone; the left one is nearest, the right one far."""
    star = Skeleton([-1, 0, 0, 0], left=(1,), right=(2,))
    pose = torch.tensor([[0.0, 0, 4], [1, 0, 3], [-1, 0, 5], [0, -1, 4]])
    camera, side, image = plots.plot_pose(pose, pose[:, :2] / 9, skeleton=star).axes
    left, right, middle = "#2a78d6", "#eb6834", "#52514e"
    # x and y; z and y, seen from where x is small.
    assert drawn(camera) == [
        (right, [[0, 0], [-1, 0]]),
        (middle, [[0, 0], [0, -1]]),
        (left, [[0, 0], [1, 0]]),
    ]
    assert drawn(side) == [
        (right, [[0, 0], [1, 0]]),
        (middle, [[0, 0], [0, -1]]),
        (left, [[0, 0], [-1, 0]]),
    ]
    assert [colour for colour, _ in drawn(image)] == [left, right, middle]
    for axis in (camera, side, image):  # y points down, and a metre is as long in x as in y
        low, high = axis.get_ylim()
        assert low > high
        assert axis.get_aspect() == 1
    assert (image.get_xlim(), image.get_ylim()) == ((-1, 1), (1, -1))


def test_a_report_is_drawn_with_its_bins_and_joints(tmp_path: Path) -> None:
    bins = {"tilt": [Bin(-10, 0, 3, 20.0), Bin(0, 30, 2, 60.0)]}
    report = ErrorReport(5, 36.0, 30.0, bins, {"a": 10.0, "b": 50.0})
    figure = plots.plot_report(report, tmp_path / "new" / "folder" / "report.png")
    assert (tmp_path / "new" / "folder" / "report.png").exists()
    tilt, joints = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["by tilt", "by joint"]
    values, edges, _ = tilt.patches[0].get_data()
    assert (values.tolist(), edges.tolist()) == ([20, 60], [-10, 0, 30])
    assert tilt.lines[0].get_ydata() == [36.0, 36.0]
    assert [bar.get_width() for bar in joints.patches] == [10, 50]
    assert [label.get_text() for label in joints.get_yticklabels()] == ["a", "b"]
    assert joints.yaxis_inverted()


def test_more_sets_than_colours_are_all_drawn() -> None:
    sets = {str(number): attached().read(batch()) for number in range(8)}
    figure = plots.plot_views(sets)
    assert all(figure.axes[4 * number].collections for number in range(8))


def test_views_of_sets_lie_below_each_other(tmp_path: Path) -> None:
    augmenter = attached()
    after, accepted, _ = augmenter.preview(batch())
    sets = {"source": augmenter.read(batch()), "augmented": after.pick(accepted.nonzero()[:, 0])}
    figure = plots.plot_views(sets, tmp_path / "views.png")
    assert [figure.axes[i].get_ylabel() for i in (0, 4)] == ["source", "augmented"]
    assert len(figure.axes[4].collections[0].get_offsets()) == int(accepted.sum())
    for line, poses in zip((figure.axes[:4], figure.axes[4:]), sets.values()):
        root = line[2].collections[0].get_offsets()
        assert torch.allclose(torch.tensor(root).float(), poses.pose_2d[:, 0, 0], atol=1e-6)
        assert line[2].get_ylim() == (1, -1)  # y points down
        assert sum(bar.get_height() for bar in line[1].patches) == len(poses)
        assert sum(bar.get_height() for bar in line[3].patches) == len(poses)


def test_a_clip_is_a_strip_and_a_gif(tmp_path: Path) -> None:
    clip = people(12)[:, 0]
    figure = plots.plot_clips({"one": clip, "two": 1.2 * clip}, tmp_path / "clip.png", frames=5)
    assert everything_is_visible(figure)
    assert [axis.get_title() for axis in figure.axes[:5]] == [
        f"frame {i}" for i in (0, 3, 6, 8, 11)
    ]
    target = tmp_path / "new" / "folder" / "clip.gif"
    path = plots.animate_clips({"one": clip[:4], "two": clip[:3]}, target, fps=20)
    with Image.open(path) as animation:
        assert (animation.n_frames, animation.info["duration"]) == (3, 50)  # type: ignore[attr-defined]


#: They grow with every step, so their curves say nothing.
COUNTS = {"steps", "batches", "steps_with_batch", "epochs", "rows", "augmented", "updates"}


def test_curves_of_a_run(tmp_path: Path) -> None:
    augmenter = attached(learned=True)
    history = [
        {
            **augmenter.stats(),
            **dict.fromkeys(COUNTS, float(step)),
            "new key": step % 2.0,
            "settled": 2.0,
        }
        for step in range(4)
    ]
    panels = plots.plot_run(history, tmp_path / "a.png").axes
    titles = [axis.get_title() for axis in panels]
    assert panels[titles.index("new key")].lines[0].get_xydata().tolist() == [
        [step, step % 2] for step in range(4)
    ]
    accepted = panels[titles.index("share of pairs that are used")]
    assert accepted.get_ylim() == (0, 1.02)
    names = {line.get_label() for line in panels[titles.index("problems, count")].lines}
    assert names == {"bad_batches", "bad_rows", "failed_updates"}
    assert not COUNTS & {*titles}
    assert "new key" in titles
    assert "settled" not in titles
    with open(tmp_path / "run.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)
    read = plots.plot_run(tmp_path / "run.csv").axes
    assert [axis.get_title() for axis in read] == titles
    for wrong in ([], [{"rows": 1.0}]):
        with pytest.raises(ValueError, match=r"augmenter.stats\(\)"):
            plots.plot_run(wrong)


def test_any_skeleton_and_windows_are_drawn(tmp_path: Path) -> None:
    hand = torch.randn(21, 3, generator=torch.Generator().manual_seed(0))
    assert everything_is_visible(plots.plot_pose(hand))
    assert everything_is_visible(plots.plot_pose(hand, skeleton=Skeleton([-1, *range(20)])))


def page_of(tmp_path: Path, frames: int = 1) -> tuple[Path, PoseBatch]:
    pose_3d = people(frames * 5).view(5, frames, 16, 3)
    root = torch.tensor([0.0, 0, 4]).expand(5, frames, 3)
    camera = Camera().intrinsics.expand(5, 9)
    poses = PoseBatch(project(pose_3d + root[:, :, None], camera[:, None]), pose_3d, root, camera)
    sets = {"</script><b>": poses, "again": poses}
    path = plots.write_page(
        sets, tmp_path / "new" / "folder" / "page.html", rows=3, title="<i> & co"
    )
    return path, poses


def test_the_page_holds_the_poses_and_needs_nothing_else(tmp_path: Path) -> None:
    path, poses = page_of(tmp_path, frames=2)
    page = path.read_text()
    assert not re.search(r"https?:|\bsrc=|@import|url\(", page)
    assert "<title>&lt;i&gt; &amp; co</title>" in page
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert [each["title"] for each in data["sets"]] == ["</script><b>", "again"]
    assert torch.allclose(torch.tensor(data["sets"][0]["pose_3d"]), poses.pose_3d[:3], atol=1e-4)
    assert torch.allclose(torch.tensor(data["sets"][1]["pose_2d"]), poses.pose_2d[:3], atol=1e-4)
    assert [each["height"] for each in data["sets"]] == [1, 1]
    assert data["bones"][0] == [0, 1, "#eb6834"]  # to the right hip
    assert data["bones"][3] == [0, 4, "#2a78d6"]
    assert data["bones"][6] == [0, 7, "#52514e"]
    assert len(data["bones"]) == 15
    assert (data["names"][0], len(data["names"])) == ("pelvis", 16)


def test_joints_without_names_are_numbered_on_the_page(tmp_path: Path) -> None:
    pose_3d = torch.rand(2, 1, 3, 3)
    poses = PoseBatch(pose_3d[..., :2], pose_3d, pose_3d[:, :, 0], torch.zeros(2, 9))
    page = plots.write_page({"a": poses}, tmp_path / "a.html", skeleton=Skeleton([-1, 0, 1]))
    assert '"names":["0","1","2"]' in page.read_text()


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium on this machine")
def test_the_page_runs_in_a_browser(tmp_path: Path) -> None:
    path, _ = page_of(tmp_path)
    # A probe at the end of the script: turn a pose with the pointer, go on, and compare pictures.
    probe = """
    const canvas = panels[0].turn, shot = () => canvas.toDataURL();
    const rect = canvas.getBoundingClientRect(), first = shot();
    canvas.setPointerCapture = () => {};
    const point = (type, x) => canvas.dispatchEvent(
      new PointerEvent(type, { pointerId: 1, clientX: rect.x + x, clientY: rect.y + 50 }));
    point("pointerdown", 50); point("pointermove", 90); point("pointerup", 90);
    const second = shot(), yaw = view.yaw;
    get("next").click();
    document.title = JSON.stringify([first !== second, second !== shot(), yaw, row]);
    """
    page = path.read_text().replace("requestAnimationFrame(tick);\n</script>", probe + "</script>")
    path.write_text(page)
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    shown = subprocess.run(
        [*command, f"--user-data-dir={tmp_path}/profile", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    title = re.search(r"<title>(.*?)</title>", shown)
    assert title
    assert json.loads(html.unescape(title[1])) == [True, True, pytest.approx(-0.4), 1]
    assert shown.count("<option") == 3


def test_the_skeleton_is_known_after_a_batch() -> None:
    model = SimpleBaseline(width=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    augmenter = PoseAugmenter(model, optimizer, "poseaug")
    with pytest.raises(SkeletonError, match="pass skeleton="):
        _ = augmenter.skeleton
    poses = augmenter.read(batch(5))
    assert augmenter.skeleton == H36M
    assert torch.allclose(poses.absolute[:, 0], batch(5)[0], atol=1e-5)


def test_importing_changes_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poseaug_plugin, "plots", plots)  # put back afterwards
    for name in [*sys.modules]:
        if name == "matplotlib.pyplot" or name.startswith("poseaug_plugin.plots"):
            monkeypatch.delitem(sys.modules, name)
    for module in plots._MODULES:
        importlib.import_module(f"poseaug_plugin.plots.{module}")
    assert "matplotlib.pyplot" not in sys.modules


def test_limbs_are_named_as_people_say_them() -> None:
    figure = plots.plot_sources(attached(), batch(), None, 1)
    titles = [axis.get_title() for axis in figure.axes]
    parts = ["torso of", "right leg of", "left leg of", "left arm of", "right arm of"]
    assert titles == [*parts, "new pose", "in a new view", "in the image"]
    hand = plots.poses._parts(Skeleton.of("hand_21"))
    assert [*hand] == ["torso", "thumb4", "index4", "middle4", "ring4", "little4"]
    assert "limb to joint 3" in plots.poses._parts(Skeleton([-1, 0, 1, 2, 0]))
