"""Several processes that share a batch learn what one process learns from the whole of it."""

from __future__ import annotations

import gzip
import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from codex_forge.artifact import Artifact
from codex_forge.jsonl import read_jsonl, write_jsonl
from tests.chaos.model import cut_out_model
from tests.conftest import ROOT, run_module
from tests.made_pairs import done, opened
from tests.trainings import few_words, largest_difference, metadata

pytestmark = pytest.mark.usefixtures("one_thread")

NEAR = 1e-6
"""Of weights, which a step moves by 2e-5: two processes add up the same gradients in another order,
and their sub-batches are others. Measured: 2e-7."""
TORCHRUN = ("jobs.torchrun", "--nproc-per-node", "2", "-m", "jobs.train")
ACCELERATE = (
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "-m",
    "jobs.train",
)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
STAGES: list[dict[str, Any]] = [
    {"name": "ranking", "epochs": 1.0, "max_steps": -1, "max_pairs": 22},  # 8, 8 and 6 rows
    {"objective": "cosent", "gradient_accumulation": 2},
    {"objective": "online_contrastive"},
    {"objective": "simcse", "texts": "both"},
    {"objective": "tsdae", "texts": "both"},
    {"objective": "distill_embedding", "matryoshka_dims": [16]},
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose pairs are triplets and scored pairs, and whose store has them."""
    folder = tmp_path_factory.mktemp("ranks")
    with gzip.open(ROOT / "examples" / "manuals" / "triplets.csv.gz", "rt") as lines:
        (folder / "triplets.csv").write_text("".join(itertools.islice(lines, 81)))
    scored = list(itertools.islice(read_jsonl(ROOT / "examples/incidents/pairs.jsonl"), 80))
    for row, unused in zip(scored, itertools.cycle(["label", "score"]), strict=False):
        del row[unused]
    write_jsonl(folder / "scored.jsonl", scored)
    base = few_words(cut_out_model(folder / "base", 2))
    tree = {
        "name": "small",
        "store": str(folder / "store"),
        "model": {"base": str(base), "device": "cpu"},
        "pairs": {
            "data": [
                {"files": str(folder / "triplets.csv")},
                {"files": str(folder / "scored.jsonl")},
            ],
            "split": {"train": 0.7, "dev": 0.15, "test": 0.15},
        },
        "train": {
            "batch_size": 8,
            "max_steps": 2,
            "dropout": 0.0,
            "precision": "fp32",
            "logging_steps": 1,
            "warmup_steps": 0,
            "save_minutes": 0,
            "distillation": {"teachers": [str(base)]},
            "stages": STAGES,
        },
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    done("pairs", path)
    done("audit", path)
    return path


@pytest.fixture
def alone(config: Path, tmp_path: Path) -> Artifact:
    """What one process makes; the whole batch of eight is its own."""
    done("train", config, f"store={store_of(config, tmp_path / 'one')}")
    return opened(tmp_path / "one", tmp_path / "caches" / "one", kind="train")


def store_of(config: Path, folder: Path) -> Path:
    """A store of its own, with the pairs and their audit."""
    for kind in ("pairs", "audit"):
        shutil.copytree(config.parent / "store" / kind, folder / kind)
    return folder


def together(launcher: tuple[str, ...], config: Path, folder: Path, *more: str) -> Artifact:
    """What two processes make, four rows each."""
    store = store_of(config, folder)
    arguments = (*launcher, str(config), f"store={store}", "train.batch_size=4", *more)
    ended = run_module(*arguments, env=ENVIRONMENT)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return opened(folder, folder / "cache", kind="train")


def weights(made: Artifact) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(str(made.path("model/model.safetensors")))
    return found


def history(made: Artifact) -> list[dict[str, Any]]:
    return list(read_jsonl(made.path("metrics.jsonl")))


def assert_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Numbers but for rounding; `seconds` are each run's own."""
    assert one.keys() == other.keys()
    for key in one.keys() - {"seconds"}:
        there, here = one[key], other[key]
        same = (
            there == here
            if isinstance(there, str)
            else math.isclose(there, here, rel_tol=1e-5, abs_tol=3e-6)
        )
        assert same, (one["stage"], one["step"], key, there, here)


def test_two_processes_take_the_steps_of_one(config: Path, alone: Artifact, tmp_path: Path) -> None:
    """Each objective in a stage, on batches of eight rows, four for each process."""
    both = together(TORCHRUN, config, tmp_path / "two")
    apart = largest_difference(weights(alone), weights(both))
    assert apart < NEAR
    mine, base = weights(alone), load_file(str(config.parent / "base" / "model.safetensors"))
    moved = largest_difference(mine, {name: base[name] for name in mine})
    assert moved > 50 * NEAR
    assert len(history(alone)) == len(history(both)) > 15
    for one, other in zip(history(alone), history(both), strict=True):
        assert_alike(one, other)
    here, there = metadata(both), metadata(alone)
    assert (here["ranks"], there["ranks"]) == (2, 1)
    assert here["tokens"] == there["tokens"]
    for shared, whole in zip(here["stages"], there["stages"], strict=True):
        for count in ("rows", "asked", "texts", "tokens"):
            assert shared["tally"][count] == whole["tally"][count], (shared["stage"], count)
        assert (shared["steps"], shared["left_out"]) == (whole["steps"], whole["left_out"])
    assert here["planned"]["steps"] == here["steps"] == there["steps"]


def test_accelerate_starts_them_as_well(config: Path, tmp_path: Path) -> None:
    """Its `--cpu` starts one process, whatever their number; its `--multi_gpu` asks for no GPU."""
    keys = ("train.stages=[]", "train.objective=cosent")
    done("train", config, f"store={store_of(config, tmp_path / 'one')}", *keys)
    one = opened(tmp_path / "one", tmp_path / "caches", kind="train")
    both = together(ACCELERATE, config, tmp_path / "two", *keys)
    assert metadata(both)["ranks"] == 2
    assert largest_difference(weights(one), weights(both)) < NEAR


def test_what_one_of_them_cannot_do_ends_all_with_its_exit_code(
    config: Path, tmp_path: Path
) -> None:
    store = store_of(config, tmp_path / "store")
    arguments = (str(config), f"store={store}", "train.lora.rank=2", "train.freeze_layers=9")
    ended = run_module(*TORCHRUN, *arguments, "train.stages=[]", env=ENVIRONMENT)
    assert ended.returncode == 2, ended.stderr
    assert "train.freeze_layers=9" in ended.stderr
    assert not list(store.glob("train/**/manifest.json"))
