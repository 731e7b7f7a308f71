"""Stages follow one another, each ends as it should, and the artifact tells all of it."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from codex_forge.artifact import Artifact
from codex_forge.jsonl import read_jsonl
from codex_forge.train.dev.dev_reading import read_dev_set
from codex_forge.train.dev.dev_set import DevSet
from tests.conftest import ROOT
from tests.made_pairs import done, opened
from tests.trainings import (
    SMALL,
    Run,
    School,
    largest_difference,
    metadata,
    run,
    school,
)

FORGETFUL = {
    "learning_rate": 0.05,
    "schedule": "constant_with_warmup",
    "warmup_ratio": 0.0,
    "logging_steps": 1,
    "save_steps": 0,
}
"""It soon forgets all that it knew: later measurements are worse."""


pytestmark = pytest.mark.usefixtures("one_thread")


def measured(found: Run, stage: str) -> dict[int, float]:
    """What chose the best weights, by the step of the run."""
    return {
        entry["step"]: entry["dev_ndcg@10"]
        for entry in found.history
        if entry["stage"] == stage and "dev_ndcg@10" in entry
    }


# --- stages ------------------------------------------------------------------------------------


def test_a_stage_that_ends_early_hands_its_best_weights_to_the_next(small: School) -> None:
    stages = [{"name": "one", "max_steps": 12}, {"name": "two", "max_steps": 2}]
    validation = {"every_steps": 1, "patience": 2, "max_chunks": 24}
    config = small.config(**{**FORGETFUL, "save_steps": 1}, stages=stages, validation=validation)
    found = run(small, config)
    one, two = found.done
    values = measured(found, "one")
    best = max((step for step in values if step), key=lambda step: (values[step], -step))
    assert one["best"]["best_step"] == best
    assert one["best"]["stopped_early"]
    assert one["steps"] == best + 2 < 12
    assert [(s["stage"], s["steps"]) for s in found.done] == [("one", best + 2), ("two", 2)]
    began = measured(found, "two")[one["steps"]]
    assert began == values[best] != values[one["steps"]]
    assert two["best"]["start"] == began
    assert sorted(found.checkpoints) == list(range(1, one["steps"] + 3))


def test_it_may_keep_the_last_weights_instead(small: School) -> None:
    validation = {"every_steps": 1, "patience": 2, "max_chunks": 24, "keep": "last"}
    config = small.config(**{**FORGETFUL, "save_steps": 1}, max_steps=12, validation=validation)
    found = run(small, config)
    (stage,) = found.done
    assert stage["best"]["best_step"] == stage["steps"] - 2
    last = load_file(str(found.checkpoints[stage["steps"]] / "model.safetensors"))
    own = {name.removeprefix("model."): value for name, value in last.items()}
    assert largest_difference(own, {name: found.weights[name] for name in own}) == 0


@pytest.mark.parametrize(
    "every, train, expected",
    [
        (0, {"epochs": 2.0}, [0, 4, 8]),
        (0, {"epochs": 1.5}, [0, 4, 6]),
        (3, {"epochs": 2.0}, [0, 3, 6, 8]),
        (2, {"max_steps": 4}, [0, 2, 4]),
        (0, {"epochs": 2.0, "gradient_accumulation": 3}, [0, 2, 4]),
    ],
)
def test_it_measures_at_the_end_of_epochs_or_every_few_steps(
    small: School, every: int, train: dict[str, Any], expected: list[int]
) -> None:
    validation = {**SMALL["validation"], "every_steps": every}
    found = run(small, small.config(**train, validation=validation, save_steps=0))
    assert list(measured(found, "multiple_negatives_ranking")) == expected


def test_stages_have_keys_of_their_own(small: School) -> None:
    stages = [
        {"name": "soft", "max_steps": 2, "learning_rate": 1e-5, "batch_size": 2},
        {"name": "whole", "epochs": 1.0, "max_pairs": 6, "schedule": "cosine"},
        {
            "name": "hard",
            "max_steps": 1,
            "max_pairs": 12,
            "objective": "triplet",
            "gradient_accumulation": 2,
        },
    ]
    found = run(small, small.config(stages=stages, logging_steps=1, warmup_steps=0, save_steps=0))
    assert [s["steps"] for s in found.done] == [2, 2, 1]
    assert [s["rows"] for s in found.done] == [14, 6, 12]
    assert [s["tally"]["rows"] for s in found.done] == [4, 6, 8]
    rates = {(e["stage"], e["step"]): e["learning_rate"] for e in found.history if "loss" in e}
    assert list(rates) == [("soft", 1), ("soft", 2), ("whole", 3), ("whole", 4), ("hard", 5)]
    assert rates["soft", 1] == 1e-5
    assert rates["whole", 4] == pytest.approx(5e-4)
    assert rates["hard", 5] == 1e-3


# --- the artifact ------------------------------------------------------------------------------


def store_of(small: School, folder: Path) -> Path:
    """A store of its own, with the pairs and their audit."""
    shutil.copytree(small.folder / "corpus" / "store", folder)
    return folder


def arguments(store: Path, **train: Any) -> list[str]:
    """What the door of `train` is told."""
    return [f"store={store}", f"train={json.dumps({**SMALL, 'save_steps': 0, **train})}"]


def ndcg(model: SentenceTransformer, dev: DevSet) -> float:
    """The mean over the dev questions, by the plain library and by hand."""
    ids = list(dev.chunks)
    chunks = model.encode_document(list(dev.chunks.values()), normalize_embeddings=True)
    asked = model.encode_query([q.text for q in dev.questions], normalize_embeddings=True)
    values = []
    for question, scores in zip(dev.questions, asked @ chunks.T, strict=True):
        grades = dev.qrels[question.query_id]
        ranked = sorted(range(len(ids)), key=lambda i: (scores[i], ids[i]), reverse=True)
        gain = sum(grades.get(ids[i], 0) / math.log2(p + 2) for p, i in enumerate(ranked[:10]))
        ideal = sorted(grades.values(), reverse=True)[:10]
        values.append(gain / sum(grade / math.log2(p + 2) for p, grade in enumerate(ideal)))
    return float(np.mean(values))


@pytest.mark.parametrize(
    "more",
    [{}, {"freeze_layers": 1}, {"lora": {"rank": 4}, "learning_rate": 0.02}],
    ids=["whole", "frozen", "lora"],
)
def test_the_saved_model_is_the_best_and_all_is_told(
    small: School, more: dict[str, Any], tmp_path: Path
) -> None:
    store = store_of(small, tmp_path / "store")
    validation = {"every_steps": 2, "max_chunks": 24}
    stages = [{"name": "one", "max_steps": 4}, {"name": "two", "max_steps": 6}]
    train = {"stages": stages, "validation": validation, "learning_rate": 0.01, **more}
    done("train", small.config_file, *arguments(store, **train))
    made = opened(store, tmp_path, kind="train")
    summary, history = metadata(made), list(read_jsonl(made.path("metrics.jsonl")))
    model = SentenceTransformer(str(made.path_of_folder("model")), device="cpu")
    dev = read_dev_set(small.pairs, small.config(**train).train.validation, 7)
    values = {e["step"]: e["dev_ndcg@10"] for e in history if "dev_ndcg@10" in e}
    best = summary["dev"]["best_step"]
    assert values[best] == summary["dev"]["best"] == max(v for s, v in values.items() if s > 4)
    assert ndcg(model, dev) == pytest.approx(summary["dev"]["best"], abs=1e-5)
    base = SentenceTransformer(str(small.base), device="cpu")
    assert ndcg(base, dev) == pytest.approx(summary["dev"]["base"], abs=1e-5)
    assert values[0] == summary["dev"]["base"]
    check_summary(summary, history, made)
    assert {path for path in made.files if not path.startswith("model/")} == {
        "dev.svg",
        "loss.svg",
        "metadata.json",
        "metrics.jsonl",
        "training.log",
    }
    card = made.path("model/README.md").read_text()
    assert f"{summary['dev']['best']:.4f}"[:5] in card
    said = made.path("training.log").read_text()
    assert "stage 2 of 2: two" in said
    assert "step 10 of 10 (two)" in said
    assert "<svg" in made.path("loss.svg").read_text()


def check_summary(summary: dict[str, Any], history: list[dict[str, Any]], made: Artifact) -> None:
    """Numbers add up."""
    stages = summary["stages"]
    assert summary["steps"] == sum(s["steps"] for s in stages) == made.counts["steps"] == 10
    assert made.counts["pairs"] == sum(s["rows"] for s in stages)
    assert summary["tokens"] == sum(s["tally"]["tokens"] for s in stages)
    assert summary["planned"]["steps"] == 10
    assert summary["seconds"] == pytest.approx(sum(summary["seconds_by_phase"].values()), abs=0.1)
    inside = [summary["seconds_by_phase"].get(p, 0) for p in ("train", "validate", "checkpoint")]
    assert sum(s["seconds"] for s in stages) <= sum(inside) + 0.3
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert (losses[0], losses[-1]) == (summary["first_loss"], summary["final_loss"])
    assert all(math.isfinite(loss) for loss in losses)
    assert summary["resumed_from_step"] is None
    assert made.manifest.summary["micro_batch"] == summary["micro_batch"]


def test_without_dev_data_nothing_is_measured(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    split = {"split": {"train": 0.7, "dev": 0.0, "test": 0.3}}
    blind = school(tmp_path_factory.mktemp("blind"), pairs=split)
    store = store_of(blind, tmp_path / "store")
    done("train", blind.config_file, *arguments(store, max_steps=3))
    made = opened(store, tmp_path, kind="train")
    assert metadata(made)["dev"] is None
    assert [stage["best"] for stage in metadata(made)["stages"]] == [None]
    assert not [e for e in read_jsonl(made.path("metrics.jsonl")) if "loss" not in e]
    assert "dev.svg" not in made.files
    assert "nothing is measured" in made.path("training.log").read_text()
    saved = load_file(str(made.path("model/model.safetensors")))
    base = load_file(str(blind.base / "model.safetensors"))
    moved = [name for name in saved if not torch.equal(saved[name], base[name])]
    assert moved
    assert SentenceTransformer(str(made.path_of_folder("model")), device="cpu").encode(["x"]).size
    done("train", blind.config_file, *arguments(store, max_steps=3))  # done already


# --- a real process ----------------------------------------------------------------------------


def test_a_process_that_is_stopped_in_a_stage_goes_on_there(small: School, tmp_path: Path) -> None:
    stages = [
        {"name": "one", "objective": "tsdae", "texts": "queries", "max_steps": 2},
        {"name": "two", "max_steps": 80},
        {"name": "three", "max_steps": 2, "objective": "triplet"},
    ]
    train = {"stages": stages, "logging_steps": 1, "validation": {"every_steps": 50}}
    undisturbed = store_of(small, tmp_path / "undisturbed")
    done("train", small.config_file, *arguments(undisturbed, **train))
    expected = opened(undisturbed, tmp_path / "first", kind="train")
    store = store_of(small, tmp_path / "store")
    code, said = stopped_at("step 5 of 82", small.config_file, *arguments(store, **train))
    assert code == 75, said
    assert "stopped by SIGTERM at step" in said
    assert "is on the store; run again" in said
    done("train", small.config_file, *arguments(store, **train))
    made = opened(store, tmp_path / "second", kind="train")
    assert made.digest == expected.digest
    assert metadata(made)["resumed_from_step"] >= 5
    assert "stage 1 of 3" not in made.path("training.log").read_text()
    steps = [e["step"] for e in read_jsonl(made.path("metrics.jsonl")) if "loss" in e]
    assert steps == list(range(1, 85))


def stopped_at(sign: str, config: Path, *more: str) -> tuple[int, str]:
    """Start the door in a process, and stop it when it has said this."""
    command = [sys.executable, "-m", "jobs.train", str(config), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said, deadline = "", time.monotonic() + 120
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            said += line
            assert time.monotonic() < deadline, said
            if sign in line:
                process.send_signal(signal.SIGTERM)
                sign = "\0"
    return process.returncode, said
