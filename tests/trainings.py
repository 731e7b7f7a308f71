"""Small trainings inside a test: real pairs, a model cut out of MiniLM, and its checkpoints."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from codex_forge.artifact import Artifact, Checkpoints, Draft, Recipe, begin
from codex_forge.config import RunConfig, load_config
from codex_forge.jsonl import read_json
from codex_forge.stopping import stop
from codex_forge.storage import Store
from codex_forge.train.checkpoints import keeping, read_state
from codex_forge.train.ready import Ready, getting_ready
from codex_forge.train.report.reporting import Reporter
from codex_forge.train.report.sinks import Ending
from codex_forge.train.stages import run_stages
from tests.chaos.model import cut_out_model
from tests.conftest import sample_corpus
from tests.made_pairs import done, opened

_NUMBERS = itertools.count()
_WORDS = 6_000
SMALL: dict[str, Any] = {
    "batch_size": 4,
    "num_negatives": 1,
    "max_pairs": 14,  # three batches of four, and one of two
    "logging_steps": 3,
    "learning_rate": 1e-3,
    "precision": "fp32",
    "save_steps": 1,
    "save_minutes": 0,
    "save_total_limit": 99,
    "validation": {"max_questions": 8, "max_chunks": 24},
}


@dataclass
class School:
    """Pairs, a base model, and a folder for what is made of them."""

    folder: Path
    base: Path
    pairs: Artifact
    config_file: Path

    def config(self, *overrides: str, **train: Any) -> RunConfig:
        """A config that trains a little, with these keys."""
        settings = {**SMALL, **train}
        return load_config(self.config_file, [f"train={json.dumps(settings)}", *overrides])

    def room(self) -> Path:
        """A folder that nobody used."""
        found = self.folder / f"room-{next(_NUMBERS)}"
        found.mkdir()
        return found


def school(folder: Path, layers: int = 2, **overrides: Any) -> School:
    """Make the pairs through their door, and cut the model out."""
    base = few_words(cut_out_model(folder / "base", layers))
    corpus = sample_corpus(folder / "corpus", 20)
    split = {"pairs": {"split": {"train": 0.5, "dev": 0.25, "test": 0.25}}}
    path = corpus.write(**{"model": {"base": str(base), "device": "cpu"}, **split, **overrides})
    done("pairs", path)
    done("audit", path)
    return School(folder, base, opened(corpus.folder / "store", folder), path)


def few_words(model: Path) -> Path:
    """Leave a model only the first words of its vocabulary: checkpoints of a megabyte or two."""
    tokenizer = read_json(model / "tokenizer.json")
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {w: i for w, i in vocabulary.items() if i < _WORDS}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (model / "vocab.txt").unlink(missing_ok=True)
    weights = load_file(str(model / "model.safetensors"))
    name = "embeddings.word_embeddings.weight"
    weights[name] = weights[name][:_WORDS].copy()
    save_file(weights, str(model / "model.safetensors"), {"format": "pt"})
    config = {**read_json(model / "config.json"), "vocab_size": _WORDS}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return model


@dataclass
class Run:
    """What came of a training."""

    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    done: list[dict[str, Any]] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    tally: dict[str, int] = field(default_factory=dict)
    resumed_from: int | None = None
    checkpoints: dict[int, Path] = field(default_factory=dict)
    """Folders by their steps, of those that this run stored."""

    @property
    def outcome(self) -> list[dict[str, Any]]:
        """What the stages ended with, without times."""
        return [{k: v for k, v in stage.items() if k != "seconds"} for stage in self.done]


class AtStep:
    """A place to report to that does something when a step is reported; it is none of ours."""

    name = "at-step"
    is_new = True
    errors: tuple[type[Exception], ...] = ()
    run_id = None

    def __init__(self, step: int, signal_number: int = signal.SIGTERM, key: str = "") -> None:
        self._step, self._signal, self._key = step, signal_number, key

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Send the signal to this process."""
        if step == self._step and any(self._key in name for name in values):
            os.kill(os.getpid(), self._signal)

    def close(self, ending: Ending) -> None:
        """Nothing is open."""


def run(
    school: School,
    config: RunConfig,
    checkpoint: Path | None = None,
    *,
    stopped_at: AtStep | None = None,
    before: Callable[[Ready], None] | None = None,
    into: Run | None = None,
) -> Run:
    """Train as `fine_tune` does, up to where the model would be made whole.

    Generators are in another state each time, as in a new process. `before` is called with what is
    ready; `into` also holds what came of a training that raises.
    """
    scratch = school.room()
    number = next(_NUMBERS)
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
    found = into or Run()
    draft = begin(Store(str(scratch / "store")), Recipe("train", "x", {}, {}), scratch, force=False)
    assert isinstance(draft, Draft)
    store = draft.work.checkpoints(99)
    reporter = Reporter([stopped_at] if stopped_at else [])
    try:
        stop.listen()
        with (
            keeping(store) as keeper,
            getting_ready(
                config, school.pairs, school.base, scratch, keeper=keeper, reporter=reporter
            ) as ready,
            stop.held(),
        ):
            if before is not None:
                before(ready)
            try:
                run_stages(ready.course, ready.rows, checkpoint)
            finally:
                _take(found, ready)
    finally:
        stop.listen()  # the next run is another process
        draft.lease.release(0)
        found.checkpoints = fetched(store, scratch / "fetched")
    return found


def _take(found: Run, ready: Ready) -> None:
    course = ready.course
    found.weights = {name: value.clone() for name, value in course.model.state_dict().items()}
    found.history = without_times(course.history.entries)
    found.done, found.memory = course.done, course.tower.memory.state()
    found.tally, found.resumed_from = course.tally.state(), course.resumed_from


def fetched(store: Checkpoints, folder: Path) -> dict[int, Path]:
    """Copies of all checkpoints, by their steps."""
    found = {}
    for checkpoint in store.committed():
        found[checkpoint.step] = folder / str(checkpoint.step)
        store.fetch(checkpoint, found[checkpoint.step])
    return found


def without_times(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A metric history but for what differs from run to run."""
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]


def contents(checkpoint: Path) -> dict[str, Any]:
    """All that a checkpoint holds but for times: tensors by file and name, and the state."""
    found: dict[str, Any] = {}
    for path in checkpoint.iterdir():
        if path.suffix == ".safetensors":  # what it says of shared tensors has no order
            tensors = load_file(str(path))
            found |= {f"{path.name}/{n}": (v.shape, v.tobytes()) for n, v in tensors.items()}
        elif path.name != "state.json":
            found[path.name] = path.read_text()
    state = read_state(checkpoint)
    for volatile in ("clock", "forecast", "reports"):
        state.pop(volatile)
    for begun in state["begun"]:
        begun.pop("seconds")
    state["history"] = without_times(state["history"])
    state["done"] = [{k: v for k, v in stage.items() if k != "seconds"} for stage in state["done"]]
    told = json.loads(found.pop("trainer_state.json"))
    told["log_history"] = [
        {k: v for k, v in entry.items() if k in ("loss", "grad_norm", "step", "epoch")}
        for entry in told["log_history"]
    ]
    told.pop("total_flos")
    return {**found, "state.json": state, "trainer_state.json": told}


def assert_same(one: Run, other: Run) -> None:
    """The same weights bit for bit, the same history and outcome."""
    assert one.weights.keys() == other.weights.keys()
    differ = [n for n, value in one.weights.items() if not torch.equal(value, other.weights[n])]
    assert differ == []
    assert one.history == other.history
    assert one.outcome == other.outcome


def largest_difference(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """Of any two weights of the same name."""
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def gradients_apart(one: Run, other: Run) -> float:
    """Largest difference of the optimizers' averages of gradients, as a share of the largest.

    Adam divides by the size of a gradient: of one that is zero but for rounding it takes the sign,
    so that weights alone tell little.
    """
    averages = [
        {
            name: value
            for name, value in load_file(
                str(run.checkpoints[max(run.checkpoints)] / "optimizer.safetensors")
            ).items()
            if name.endswith(".exp_avg")
        }
        for run in (one, other)
    ]
    first, second = averages
    assert first.keys() == second.keys()
    largest = max(float(np.abs(value).max()) for value in first.values())
    return max(float(np.abs(first[name] - second[name]).max()) for name in first) / largest


def metadata(artifact: Artifact) -> dict[str, Any]:
    """The closing summary of a training."""
    return read_json(artifact.path("metadata.json"))


def removed(folder: Path) -> None:
    """Remove a folder, which must be there."""
    assert folder.exists()
    shutil.rmtree(folder)
