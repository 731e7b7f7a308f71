"""Metric history on TensorBoard, W&B and MLflow: read back from what they wrote."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from codex_forge.config import RunConfig, parse_config
from codex_forge.errors import ConfigError, Preempted
from codex_forge.train.report.reporting import Reporter, check_report_to, reporting
from codex_forge.train.report.sinks import Ending

ENTRIES: list[dict[str, Any]] = [
    {"stage": "warm", "step": 0, "epoch": 0.0, "seconds": 1.0, "dev_ndcg@10": 0.5},
    {"stage": "warm", "step": 5, "epoch": 0.5, "seconds": 2.0, "loss": 2.0, "learning_rate": 1e-5},
    {"stage": "pairs", "step": 10, "epoch": 0.1, "seconds": 3.0, "loss": 1.0, "dev_ndcg@10": 0.75},
    {
        "stage": "pairs",
        "step": 15,
        "epoch": 0.2,
        "seconds": 4.0,
        "dev_Crème | brûlée_recall@5": 1.0,
    },
]


def config(*report_to: str) -> RunConfig:
    tree = {
        "name": "reported",
        "store": "s3://bucket/prefix",
        "corpus": {"chunks": "chunks.jsonl"},
        "model": {"base": "some/model"},
        "train": {"report_to": report_to, "learning_rate": 3e-5},
    }
    return parse_config(json.dumps(tree), where="here")


def read_back(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def scalars(found: EventAccumulator, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in found.Scalars(name)]


def test_tensorboard_has_every_number_at_its_step(tmp_path: Path) -> None:
    with reporting(config("tensorboard"), tmp_path) as reporter:
        for entry in ENTRIES:
            reporter.entry(entry["step"], entry)
        reporter.close()
        found = read_back(tmp_path)  # closed: all of it is on the disk
    assert set(found.Tags()["scalars"]) == {
        "epoch", "loss", "learning_rate", "dev_ndcg_at_10", "dev_Crème _ brûlée_recall_at_5",
    }  # fmt: skip
    assert scalars(found, "loss") == [(5, 2.0), (10, 1.0)]
    assert scalars(found, "dev_ndcg_at_10") == [(0, 0.5), (10, 0.75)]
    (event,) = found.Tensors("config/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert '"learning_rate": 3e-05' in text
    assert "bucket" not in text


def test_a_resumed_run_has_what_came_before(tmp_path: Path) -> None:
    with reporting(config("tensorboard"), tmp_path, told={}) as reporter:
        reporter.replay(ENTRIES[:2])
        reporter.entry(10, ENTRIES[2])
    assert scalars(read_back(tmp_path), "loss") == [(5, 2.0), (10, 1.0)]


def test_a_rank_without_an_artifact_reports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with reporting(config("tensorboard"), None) as reporter:
        reporter.entry(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


class Sink:
    """Remembers what it is told, until it fails."""

    def __init__(self, name: str, fails_at: int | None = None, *, is_new: bool = True) -> None:
        self.name, self.is_new, self.run_id = name, is_new, f"run-of-{name}"
        self.errors: tuple[type[Exception], ...] = (ConnectionError,)
        self.sent: list[tuple[int, dict[str, float]]] = []
        self.endings: list[str] = []
        self._fails_at = fails_at

    def send(self, step: int, values: Mapping[str, float]) -> None:
        if step == self._fails_at:
            raise ConnectionError("gone")
        self.sent.append((step, dict(values)))

    def close(self, ending: Ending) -> None:
        self.endings.append(ending)
        if self._fails_at == -1:
            raise ConnectionError("gone")


def test_a_place_that_fails_is_left_out_and_training_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, bad, last = Sink("good"), Sink("bad", 2), Sink("last", -1)
    reporter = Reporter([good, bad, last])
    with caplog.at_level(logging.WARNING, "codex_forge"):
        for step in (1, 2, 3):
            reporter.entry(step, {"loss": 1.0, "stage": "x", "is_it": True})
        assert reporter.state() == {"good": "run-of-good", "last": "run-of-last"}
        reporter.close()
        reporter.close()
    assert [step for step, _ in good.sent] == [1, 2, 3]
    assert [step for step, _ in bad.sent] == [1]
    assert good.sent[0][1] == {"loss": 1.0}
    assert good.endings == last.endings == ["finished"]
    assert ["bad takes no more" in m or "last was not closed" in m for m in caplog.messages] == [
        True,
        True,
    ]


def test_a_run_that_goes_on_is_not_told_twice() -> None:
    new, old = Sink("new"), Sink("old", is_new=False)
    Reporter([new, old]).replay(ENTRIES)
    assert [step for step, _ in new.sent] == [0, 5, 10, 15]
    assert not old.sent


def test_a_missing_package_is_told_before_torch_is_here(tmp_path: Path) -> None:
    if not _is_missing("wandb"):
        pytest.skip("wandb is installed here")
    (tmp_path / "wandb").mkdir()  # what W&B leaves behind is no package
    lines = (
        "import sys",
        "from codex_forge.config.train import TrainConfig",
        "from codex_forge.errors import ConfigError",
        "from codex_forge.train.report.reporting import check_report_to",
        "check_report_to(TrainConfig(report_to=('tensorboard',)))",
        "try: check_report_to(TrainConfig(report_to=('wandb',)))",
        "except ConfigError as error: print(error)",
        "print({'torch', 'tensorboard', 'transformers'} & sys.modules.keys())",
    )
    found = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{Path(__file__).parents[1]}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    said, modules = found.stdout.splitlines()
    assert "the package wandb is not installed" in said
    assert "pip install wandb" in said
    assert modules == "set()"


def _is_missing(name: str) -> bool:
    try:
        check_report_to(config(name).train)
    except ConfigError:
        return True
    return False


def test_mlflow_has_every_number_and_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    told: dict[str, str] = {}

    def stopped_half_way() -> None:
        with reporting(config("mlflow"), tmp_path) as reporter:
            for entry in ENTRIES[:2]:
                reporter.entry(entry["step"], entry)
            told.update(reporter.state())
            raise Preempted("stopped")

    with pytest.raises(Preempted):
        stopped_half_way()
    run = mlflow.get_run(told["mlflow"])
    assert (run.info.status, run.info.run_name) == ("KILLED", "reported")
    assert run.data.params["train.learning_rate"] == "3e-05"
    with reporting(config("mlflow"), tmp_path, told) as reporter:
        reporter.replay(ENTRIES[:2])
        for entry in ENTRIES[2:]:
            reporter.entry(entry["step"], entry)
    run = mlflow.get_run(told["mlflow"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["dev_ndcg_at_10"] == 0.75
    told_losses = mlflow.MlflowClient().get_metric_history(told["mlflow"], "loss")
    assert [(m.step, m.value) for m in told_losses] == [(5, 2.0), (10, 1.0)]


def test_wandb_needs_no_network_when_off_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", exc_type=ImportError)
    if _is_missing("wandb"):
        pytest.skip("wandb is not installed here")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with reporting(config("wandb"), tmp_path) as reporter:
        reporter.entry(5, ENTRIES[1])
        told = reporter.state()
    with reporting(config("wandb"), tmp_path, told) as reporter:
        reporter.entry(10, ENTRIES[2])
        assert reporter.state() == told
    files = list(tmp_path.rglob(f"run-{told['wandb']}.wandb"))
    assert len(files) == 2
    assert all(b"learning_rate" in file.read_bytes() for file in files)
    assert any(b"dev_ndcg_at_10" in file.read_bytes() for file in files)
