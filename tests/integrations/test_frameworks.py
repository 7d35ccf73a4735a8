"""The callback for Lightning and the hook for mmengine, in the frameworks' own loops."""

from __future__ import annotations

import csv
import importlib
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from helpers import people
from loop_helpers import Lifter, small
from poseaug_plugin import AttachError, Camera, ConfigError
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.geometry.camera import project

ROWS, BATCH = 24, 8  # three batches an epoch
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the frameworks


def framework(name: str):
    """Import a framework without its warnings, or skip the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def pairs():
    """Root-relative 3D and 2D of single frames."""
    pose = people(ROWS)
    return (pose - pose[:, :, :1])[:, 0], project(pose, Camera().intrinsics)[:, 0]


# Lightning


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def pl(request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return framework(request.param)


@pytest.fixture
def callback():
    """A function that creates a PoseAugCallback."""
    framework("lightning.pytorch")
    module = importlib.import_module("poseaug_plugin.integrations.lightning")
    return lambda **options: module.PoseAugCallback(
        **{"batch": "semgcn", "config": small("default", seed=3), **options}
    )


def lit(pl, fails_at=None, stops_after=None):
    """A LightningModule that records its batches."""

    class Lit(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net, self.trained_on, self.validated_on = Lifter(dropout=0.0), [], []

        def forward(self, pose_2d):
            return self.net(pose_2d)

        def training_step(self, batch, number):
            if len(self.trained_on) == fails_at:
                raise RuntimeError("the caller's own")
            self.trained_on.append(batch)
            return (self(batch[1]) - batch[0]).square().mean()

        def validation_step(self, batch, number):
            self.validated_on.append(batch)

        def on_train_epoch_end(self):
            self.trainer.should_stop = self.current_epoch + 1 == stops_after

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    return Lit()


def rows_of():
    return list(zip(*pairs(), range(ROWS)))


def trainer_of(pl, callbacks, epochs=2):
    off = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    return pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=callbacks, **dict.fromkeys(off, False)
    )


def fit(pl, module, callbacks, epochs=2, **more):
    trainer = trainer_of(pl, callbacks, epochs)
    trainer.fit(module, loader_of(rows_of()), loader_of(rows_of()), **more)
    return trainer


def loader_of(rows, **more):
    return DataLoader(rows, batch_size=BATCH, **more)


def test_lightning_augments_only_training_batches(pl, callback):
    hook, module = callback(), lit(pl)
    trainer = fit(pl, module, [hook])
    pose_3d, pose_2d = pairs()
    for batch, start in zip(module.trained_on, 2 * [*range(0, ROWS, BATCH)]):
        rows = slice(start, start + BATCH)
        changed = (batch[1] != pose_2d[rows]).flatten(1).any(1)
        assert changed.sum() == BATCH // 2
        assert torch.equal(changed, (batch[0] != pose_3d[rows]).flatten(1).any(1))
        assert batch[2].tolist() == [*range(ROWS)][rows]
    assert len(module.trained_on) == 6
    assert len(module.validated_on) > 6
    assert all(torch.equal(b[1], pose_2d[b[2]]) for b in module.validated_on)
    stats = hook.augmenter.stats()
    assert (stats["steps"], stats["batches"], stats["epochs"]) == (6, 6, 2)
    assert stats["updates"] > 0
    assert "batch_to_device" not in vars(trainer.strategy)


def test_lightning_with_ratio_0_equals_lightning_without_the_plugin(pl, callback):
    plain, hooked = lit(pl), lit(pl)
    fit(pl, plain, [])
    fit(pl, hooked, [callback(config=small("default", ratio=0.0))])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), hooked.parameters()))


def test_lightning_records_the_errors_of_training(pl, callback):
    plain, recorded, hook = lit(pl), lit(pl), callback(report=True)
    fit(pl, plain, [callback()])
    fit(pl, recorded, [hook])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), recorded.parameters()))
    assert hook.augmenter.report().rows == hook.augmenter.stats()["augmented"]
    assert not recorded._forward_hooks


def test_lightning_resumes_with_equal_results(pl, callback):
    whole, half, rest = lit(pl), lit(pl, stops_after=2), lit(pl)
    fit(pl, whole, [callback()], epochs=4)
    fit(pl, half, [callback()], epochs=4).save_checkpoint("half.ckpt")
    hook = callback()
    fit(pl, rest, [hook], epochs=4, ckpt_path="half.ckpt", weights_only=True)
    assert (len(half.trained_on), len(rest.trained_on)) == (6, 6)
    assert hook.augmenter.stats()["epochs"] == 4
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters()))


def test_lightning_logs_the_numbers_as_often_as_the_trainer(pl, callback):
    for log in (True, False):
        logger = importlib.import_module(f"{pl.__name__}.loggers").CSVLogger("logs", str(log))
        trainer = pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            callbacks=[callback(log=log)],
            logger=logger,
            log_every_n_steps=2,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(lit(pl), loader_of(rows_of()))
        assert ("poseaug/accepted" in trainer.logged_metrics) is log
    with open("logs/True/version_0/metrics.csv") as stream:
        steps = [row["poseaug/steps"] for row in csv.DictReader(stream)]
    assert steps == ["2.0", "4.0", "6.0"]


def test_lightning_detaches_when_a_run_fails(pl, callback):
    hook, module = callback(), lit(pl, fails_at=2)
    with pytest.raises(RuntimeError, match="the caller's own"):
        fit(pl, module, [hook])
    assert not hook.augmenter.active
    fit(pl, lit(pl), [hook])  # the callback can be used again
    assert hook.augmenter.stats()["steps"] == 6


def test_lightning_validating_a_checkpoint_does_not_resume(pl, callback):
    trainer = fit(pl, lit(pl), [callback()])
    trainer.save_checkpoint("two.ckpt")
    hook, module = callback(), lit(pl)
    again = trainer_of(pl, [hook])
    again.validate(module, loader_of(rows_of()), ckpt_path="two.ckpt", weights_only=True)
    again.fit(module, loader_of(rows_of()))
    assert hook.augmenter.stats()["epochs"] == 2


def test_lightning_continues_with_more_epochs(pl, callback):
    hook, module = callback(), lit(pl)
    trainer = fit(pl, module, [hook])
    trainer.fit_loop.max_epochs = 3
    trainer.fit(module, loader_of(rows_of()))
    stats = hook.augmenter.stats()
    assert (stats["epochs"], stats["batches"]) == (3, 9)


def test_lightning_without_an_optimizer_raises(pl, callback):
    module = lit(pl)
    module.configure_optimizers = lambda: None
    with pytest.raises(AttachError, match="holds none of the parameters"):
        fit(pl, module, [callback()])


# mmengine


@pytest.fixture
def mmengine():
    return framework("mmengine")


def mm_model(mmengine):
    """A model with the signature of mmpose's: inputs of (2J, 1) each, samples, mode."""
    model = importlib.import_module("mmengine.model")

    class Model(model.BaseModel):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.lifter, self.trained_on = Lifter(dropout=0.0), []

        def forward(self, inputs, data_samples, mode):
            inputs = torch.stack(list(inputs))
            pose = self.lifter(inputs[..., 0].unflatten(1, (16, 2)))
            if mode == "tensor":
                return pose
            labels = [s.gt_instance_labels.lifting_target_label for s in data_samples]
            self.trained_on.append((inputs.detach(), torch.stack(labels)))
            return {"loss": (pose - torch.stack(labels).view_as(pose)).square().mean()}

    return Model()


def runner_of(mmengine, model, epochs=2, stops_after=None, collate=None, start=(), **options):
    """A hook, and a Runner with it."""
    runner = importlib.import_module("mmengine.runner")
    hook = importlib.import_module("poseaug_plugin.integrations.mmengine").PoseAugHook

    class Stop(mmengine.hooks.Hook):
        def after_train_epoch(self, runner):
            runner.train_loop.stop_training = runner.epoch + 1 == stops_after

    pose_3d, pose_2d = pairs()
    rows = [
        {
            "inputs": x.reshape(32, 1),
            "data_samples": SimpleNamespace(
                gt_instance_labels=SimpleNamespace(lifting_target_label=y[None])
            ),
        }
        for x, y in zip(pose_2d, pose_3d)
    ]
    created = hook(skeleton="h36m_16", **{"config": small("default", seed=3), **options})
    return created, runner.Runner(
        model=model,
        work_dir="work",
        train_dataloader=loader_of(rows, collate_fn=collate or runner_collate),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=1e-3)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_hooks=[created, Stop()],
        **dict(start),
        experiment_name=str(id(created)),
        log_level="ERROR",
        default_scope="mmengine",
    )


def run(mmengine, model, **options):
    """Train with a Runner and return the augmenter."""
    hook, runner = runner_of(mmengine, model, **options)
    runner.train()
    return hook.augmenter


def runner_collate(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def list_collate(rows):
    return list(runner_collate(rows).values())


def test_mmengine_augments_steps_and_counts(mmengine, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = mm_model(mmengine)
    stats = run(mmengine, model).stats()
    assert (stats["steps"], stats["batches"], stats["epochs"]) == (6, 6, 2)
    assert stats["updates"] > 0
    pose_3d, pose_2d = pairs()
    for (inputs, labels), start in zip(model.trained_on, 2 * [*range(0, ROWS, BATCH)]):
        rows = slice(start, start + BATCH)
        changed = (inputs.view(BATCH, 16, 2) != pose_2d[rows]).flatten(1).any(1)
        assert changed.sum() == BATCH // 2
        assert torch.equal(changed, (labels[:, 0] != pose_3d[rows]).flatten(1).any(1))


def test_mmengine_resumes_with_equal_results(mmengine, monkeypatch, tmp_path):
    # mmengine's checkpoints hold more than weights, but it loads them with torch's default.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.chdir(tmp_path)
    whole = mm_model(mmengine)
    run(mmengine, whole, epochs=4)
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    run(mmengine, mm_model(mmengine), epochs=4, stops_after=2)
    rest = mm_model(mmengine)
    assert run(mmengine, rest, epochs=4, start=dict(resume=True)).stats()["epochs"] == 4
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters()))


def test_mmengine_loading_weights_does_not_resume(mmengine, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    run(mmengine, mm_model(mmengine))
    augmenter = run(
        mmengine, mm_model(mmengine), start=dict(load_from="work/epoch_2.pth"), epochs=1
    )
    assert (augmenter.stats()["epochs"], augmenter.stats()["batches"]) == (1, 3)


def test_mmengine_can_train_again_after_a_failure(mmengine, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = mm_model(mmengine)
    hook, runner = runner_of(mmengine, model)
    step, model.train_step = model.train_step, None
    with pytest.raises(TypeError):
        runner.train()
    model.train_step = step
    runner.train()
    assert hook.augmenter.stats()["steps"] == 6


def test_mmengine_batches_may_be_lists(mmengine, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    class Format:
        """The format "mmpose" for batches that are lists."""

        def _named(self, batch):
            return dict(zip(("inputs", "data_samples"), batch))

        def read(self, batch, skeleton, camera):
            return FORMATS["mmpose"].read(self._named(batch), skeleton, camera)

        def write(self, batch, poses, rows, skeleton):
            written = FORMATS["mmpose"].write(self._named(batch), poses, rows, skeleton)
            return list(written.values())

    model = mm_model(mmengine)
    run(
        mmengine,
        model,
        collate=list_collate,
        batch=Format(),
        config=small("default", learned=False),
    )
    _, pose_2d = pairs()
    changed = (model.trained_on[0][0].view(BATCH, 16, 2) != pose_2d[:BATCH]).flatten(1).any(1)
    assert changed.sum() == BATCH // 2


CONFIG = Path(__file__).parents[2] / "examples/configs/mmpose_videopose3d.py"
#: What mmpose's config of this name brings: model, data, optimizer and the default hooks.
BASE = """
default_scope = "mmengine"
work_dir = "work"
experiment_name = "config"
log_level = "ERROR"
model = dict(type="LifterOfFrames")
train_pipeline = [dict(type="RandomFlipAroundRoot", keypoints_flip_cfg=dict())]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(type="Frames"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
)
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type="Adam", lr=1e-3))
custom_hooks = [dict(type="SyncBuffersHook")]
"""


def test_the_config_for_mmpose_trains(mmengine, monkeypatch, tmp_path):
    """With mmengine's own Runner; in place of mmpose's base, one with a small model and data."""
    monkeypatch.chdir(tmp_path)
    registry = importlib.import_module("mmengine.registry")
    base = importlib.import_module("mmengine.model").BaseModel

    class LifterOfFrames(base):
        def __init__(self):
            super().__init__()
            self.lifter = nn.Linear(34, 51)

        def forward(self, inputs, data_samples, mode):
            pose = self.lifter(torch.stack(list(inputs)).flatten(1)).view(-1, 1, 17, 3)
            if mode == "tensor":
                return pose
            labels = [s.gt_instance_labels.lifting_target_label for s in data_samples]
            return {"loss": (pose - torch.stack(labels)).square().mean()}

    class Frames(torch.utils.data.Dataset):
        def __init__(self, pipeline):
            self.pipeline = pipeline
            few = people(ROWS)
            nose = few[:, :, 8:10].mean(2, keepdim=True)  # between thorax and head
            pose = torch.cat([few[:, :, :9], nose, few[:, :, 9:]], 2)
            self.inputs = project(pose, Camera().intrinsics).flatten(2).mT
            self.targets = pose - pose[:, :, :1]

        def __len__(self):
            return ROWS

        def __getitem__(self, row):
            label = SimpleNamespace(lifting_target_label=self.targets[row])
            sample = SimpleNamespace(gt_instance_labels=label)
            return {"inputs": self.inputs[row], "data_samples": sample}

    monkeypatch.setitem(registry.MODELS._module_dict, "LifterOfFrames", LifterOfFrames)
    monkeypatch.setitem(registry.DATASETS._module_dict, "Frames", Frames)
    (tmp_path / "base.py").write_text(BASE)
    source = re.sub(
        r"_base_ = \[.*?\]", '_base_ = ["base.py"]', CONFIG.read_text(), flags=re.DOTALL
    )
    (tmp_path / "config.py").write_text(source)
    config = mmengine.config.Config.fromfile(tmp_path / "config.py")
    runner = importlib.import_module("mmengine.runner").Runner.from_cfg(config)
    runner.train()
    names = [type(hook).__name__ for hook in runner.hooks]
    assert "SyncBuffersHook" in names  # of the base, kept
    stats = runner.hooks[names.index("PoseAugHook")].augmenter.stats()
    assert (stats["steps"], stats["epochs"], stats["bad_batches"]) == (6, 2, 0)
    assert stats["accepted"] > 0.9
    flip = {"type": "RandomFlipAroundRoot", "keypoints_flip_cfg": {"center_x": 500}}
    assert runner.train_dataloader.dataset.pipeline == [flip]


# Both


@pytest.mark.parametrize("mix", ["alternate", "passes"])
def test_a_mix_that_yields_batches_twice_raises(mix):
    from poseaug_plugin.integrations import attach

    model: nn.Module = Lifter()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with pytest.raises(ConfigError, match="takes each batch once") as error:
        attach(model, optimizer, 3, {"config": small("default", mix=mix)}, None)
    attach(model, optimizer, -1, {}, None).detach()  # the optimizer is not in use any more
    assert error.tb is not None  # although the failed one is kept alive by the traceback


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3}, r"\['epochs'\] are not options here"),
        ({"confg": "random"}, r"\['confg'\] are not options here; pass only .*'config'"),
        ({"batch": "sem"}, "batch='sem' is not a preset"),
        ({"config": "rnd"}, "config='rnd' is not a preset"),
    ],
)
def test_wrong_options_raise_when_the_hook_is_created(callback, mmengine, options, message):
    hook = importlib.import_module("poseaug_plugin.integrations.mmengine").PoseAugHook
    for create in (hook, callback):
        with pytest.raises(ConfigError, match=message):
            create(**options)
