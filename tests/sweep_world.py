"""A store with a run that passed its gate, and modes without models that write real artifacts.

The modes take their time and keep checkpoints, so that a trial can be killed anywhere; what they
write follows from the trial's settings alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_forge.artifact import Artifact, Draft, Input, open_artifact
from codex_forge.config import RunConfig, load_config
from codex_forge.corpus import find_files
from codex_forge.errors import ConfigError, Preempted
from codex_forge.job import Door, Job
from codex_forge.jsonl import read_json, read_jsonl, write_json, write_jsonl
from codex_forge.pair_files import rows
from codex_forge.storage import Store
from codex_forge.sweep import collect, run
from codex_forge.sweep.plan import plan_of
from codex_forge.sweep.states import States
from tests.conftest import MINILM

QUESTIONS = {"dev": 40, "test": 60}
GROUP = 2
"""Questions that hang together."""
STEPS = 4
PAUSE = 0.02
"""Seconds of a step."""

GRID: dict[str, list[Any]] = {"train.learning_rate": [1e-5, 2e-5, 5e-5], "train.epochs": [1, 2]}
SIX = 6
"""Points of that grid."""


def write_config(folder: Path, **overrides: Any) -> Path:
    """A config of a run in `folder`; its corpus is never read."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = {
        "name": "run",
        "store": str(folder / "store"),
        "corpus": {"chunks": str(folder / "chunks.jsonl")},
        "model": {"base": MINILM},
        "compare": {"resamples": 200},
        "sweep": {"grid": GRID},
        **overrides,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


# --- modes ---------------------------------------------------------------------------------------


def fake_pairs(job: Job) -> None:
    """Questions alone."""
    job.config.use.refuse_to_make("pairs")
    made = job.config.pairs.model_dump(mode="json")
    settings = {"seed": job.config.seed, "pairs": made}
    has_corpus = Path(job.config.corpus.chunks[0]).exists()
    inputs = find_files(job.config.corpus).inputs(("chunks",)) if has_corpus else {}
    draft = job.begin(job.recipe(job.config.run_name, settings, inputs))
    if isinstance(draft, Draft):
        for part, count in QUESTIONS.items():
            found = [
                {
                    "query_id": f"{part}-{job.config.pairs.split.by}-{i}",
                    "group": f"{part}-{i // GROUP}",
                }
                for i in range(count)
            ]
            write_jsonl(draft.path(f"questions-{part}.jsonl"), found)
        write_jsonl(draft.path("pairs-train.jsonl"), [made["negatives"]])
        draft.commit({f"questions_{part}": count for part, count in QUESTIONS.items()})


def fake_audit(job: Job) -> None:
    """Always passes."""
    job.config.use.refuse_to_make("audit")
    pairs = job.open("pairs", job.config.pairs_name)
    settings = {"audit": job.config.audit.model_dump(mode="json")}
    draft = job.begin(job.recipe(job.config.run_name, settings, {"pairs": pairs.as_input()}))
    if isinstance(draft, Draft):
        write_json(draft.path("report.json"), {"verdict": "pass"})
        draft.commit({}, {"verdict": "pass"})


def fake_train(job: Job) -> None:
    """Takes a few steps, each with a checkpoint; the weights follow from the settings."""
    config = job.config
    pairs, audit = (job.open("pairs", config.pairs_name), job.open("audit", config.audit_name))
    assert audit.manifest.inputs["pairs"].digest == pairs.digest
    settings = {"seed": config.seed, "train": config.train.model_dump(mode="json")}
    recipe = job.recipe(config.run_name, settings, {"pairs": pairs.as_input()})
    if config.train.margin == 13:  # one that is refused before anything is begun
        raise ConfigError("no pair is so far apart", where="train.margin")
    draft = job.begin(recipe)
    if not isinstance(draft, Draft):
        return
    if config.train.margin == 14:  # a library makes an error of its own of a stop
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except Preempted as stopped:
            raise RuntimeError("Error calling __set_name__") from stopped
    if config.train.margin == 15:  # Ctrl-C
        raise KeyboardInterrupt
    if config.train.scale == 13:  # the setting that no model bears
        raise ValueError("the loss is not a number")
    started = time.monotonic()
    checkpoints = draft.work.checkpoints(2)
    found = checkpoints.latest(job.scratch / "resume")
    weights = (found[1] / "weights").read_text() if found else ""
    for step in range(len(weights) // 64, STEPS):
        time.sleep(PAUSE)
        weights += hashlib.sha256(f"{recipe.fingerprint}{weights}".encode()).hexdigest()
        local = draft.folder.parent / f"step-{step}"
        local.mkdir()
        (local / "weights").write_text(weights)
        checkpoints.save(step + 1, local)
    draft.path("model/weights").write_text(weights)
    write_json(draft.path("metadata.json"), {"seconds": round(time.monotonic() - started, 3)})
    draft.commit({}, volatile=("metadata.json",))


def fake_embed(job: Job) -> None:
    """One file that follows from the model."""
    config = job.config
    model = _model(job)
    settings = {"embed.dtype": config.embed.dtype}
    draft = job.begin(job.recipe(config.embed_name, settings, {"model": model}))
    if isinstance(draft, Draft):
        time.sleep(PAUSE)
        draft.path("vectors").write_text(model.digest)
        draft.commit({"chunks": 1})


def fake_evaluate(job: Job) -> None:
    """Scores of every question, by the vectors; latencies differ from run to run."""
    config = job.config
    part = config.evaluate.part
    pairs, embedded = (
        job.open("pairs", config.pairs_name),
        job.open("embed", config.embed_name),
    )
    settings = {"evaluate": config.evaluate.model_dump(mode="json", exclude={"latency_queries"})}
    inputs = {"pairs": pairs.as_input(), "embed": embedded.as_input()}
    draft = job.begin(job.recipe(config.evaluate_name, settings, inputs))
    if not isinstance(draft, Draft):
        return
    time.sleep(PAUSE)
    vectors = embedded.path("vectors").read_text()
    found = [
        {**row, "measures": {"rubric": _score(vectors, row["query_id"]), "recall@1": 0.5}}
        for row in rows(pairs, f"questions-{part}")
    ]
    write_jsonl(draft.path("per_question.jsonl"), found)
    mean = sum(row["measures"]["rubric"] for row in found) / max(1, len(found))
    report: dict[str, Any] = {
        "part": part,
        "metrics": {"rubric": round(mean, 6), "recall@1": 0.5},
        "pairs": None,
        "latency_ms": time.monotonic(),
    }
    write_json(draft.path("report.json"), report)
    draft.commit({"questions": len(found)}, volatile=("report.json",))


def fake_compare(
    job: Job,
    verdict: str = "improved",
    tier: str = "good",
    inputs: Mapping[str, Input] | None = None,
) -> None:
    """The verdict that the test wants."""
    names = {"baseline": job.config.baseline_name, "candidate": job.config.candidate_name}
    if inputs is None:
        inputs = {role: job.open("evaluate", name).as_input() for role, name in names.items()}
    settings = {"verdict": verdict, "tier": tier}
    draft = job.begin(job.recipe(job.config.compare_name, settings, inputs))
    if isinstance(draft, Draft):
        report: dict[str, Any] = {
            "verdict": verdict,
            "tier": tier,
            "measure_tier": None,
            "must_pass": {"candidate": []},
            "metrics": {"rubric": {}, "recall@1": {}},
            "pairs": None,
        }
        write_json(draft.path("report.json"), report)
        draft.commit({}, {"verdict": verdict, "tier": tier}, volatile=("report.json",))


FAKES: dict[str, Any] = {
    "pairs": fake_pairs,
    "audit": fake_audit,
    "train": fake_train,
    "embed": fake_embed,
    "evaluate": fake_evaluate,
}


def _model(job: Job) -> Input:
    if job.config.embed.model == "base":
        return Input("model", job.config.model.base, "b" * 64, "b" * 64)
    return job.open("train", job.config.run_name).as_input()


def _score(vectors: str, query_id: str) -> float:
    """0 to 5, better for some models than for others."""
    skill = int(hashlib.sha256(vectors.encode()).hexdigest()[:4], 16) / 0xFFFF
    luck = int(hashlib.sha256(f"{vectors}{query_id}".encode()).hexdigest()[:4], 16) / 0xFFFF
    return round(min(5.0, 1.0 + skill + 3.0 * luck), 1)


# --- doors ---------------------------------------------------------------------------------------


def one(job: Job) -> None:
    """The trial of the index."""
    run.run_one(job, FAKES)


def every(job: Job) -> None:
    """All trials."""
    run.run(job, FAKES)


def one_ungated(job: Job) -> None:
    """The trial of the index, whatever the gate would say."""
    run.run_one_without_gate(job, FAKES)


def every_ungated(job: Job) -> None:
    """All trials, whatever the gate would say."""
    run.run_without_gate(job, FAKES)


def board(job: Job) -> None:
    """The leaderboard."""
    collect.collect(job, FAKES)


def board_of_what_is_there(job: Job) -> None:
    """The leaderboard, with trials missing."""
    collect.collect_what_is_there(job, FAKES)


def missing(job: Job) -> None:
    """What is to be started."""
    run.show_missing(job)


def knock(function: str, config: Path, *arguments: str) -> int:
    """Start a function of the mode as its door would; returns the exit code."""
    door = Door("sweep", "", f"tests.sweep_world:{function}", (), sharded=True)
    return door.main([str(config), *arguments])


def make_run(config: Path, *overrides: str, **verdict: Any) -> None:
    """The run as it stands: everything up to `compare`."""
    base = ("embed.model=base",)
    chain = [("pairs", ()), ("audit", ()), ("embed", base), ("evaluate", base)]
    chain += [("train", ()), ("embed", ()), ("evaluate", ())]
    for mode, own in chain:
        do(config, mode, FAKES[mode], *overrides, *own)
    do(config, "compare", lambda job: fake_compare(job, **verdict), *overrides)


def do(config: Path, mode: str, function: Any, *overrides: str) -> None:
    """Run one mode."""
    read = load_config(config, overrides)
    (config.parent / "scratch").mkdir(exist_ok=True)
    scratch = tempfile.mkdtemp(dir=config.parent / "scratch")
    job = Job(mode, read, Store(read.store), Path(scratch))
    function(job)
    job.close(0)


def words_of(config: Path, *overrides: str) -> list[str]:
    """The states of all trials."""
    read = config_of(config, *overrides)
    states = States(Store(read.store), config.parent / "copies").of_all(plan_of(read))
    return [state.word for state in states]


def said_of(config: Path, index: int, *overrides: str) -> tuple[str, int | None, str]:
    """The state of one trial, its exit code and why."""
    read = config_of(config, *overrides)
    state = States(Store(read.store), config.parent / "copies").of(plan_of(read).trials[index])
    return state.word, state.exit_code, state.said


def start(
    config: Path,
    index: int,
    monkeypatch: pytest.MonkeyPatch,
    *more: str,
    size: int = SIX,
    door: str = "one",
) -> int:
    """Start one trial by its index."""
    monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
    return knock(door, config, "--shards", str(size), *more)


def config_of(path: Path, *overrides: str) -> RunConfig:
    """The config as doors read it."""
    return load_config(path, overrides)


def opened(path: Path, kind: str, name: str) -> Artifact:
    """An artifact of the run's store."""
    return open_artifact(Store(load_config(path).store), kind, name, path.parent / "copies")


def leaderboard(path: Path) -> dict[str, Any]:
    """The leaderboard that is there."""
    return read_json(opened(path, "sweep", "run").path("leaderboard.json"))


def steady(tree: Mapping[str, Any]) -> str:
    """A leaderboard without the seconds, which differ between equal runs."""
    trials = [{**trial, "seconds": None} for trial in tree["trials"]]
    return json.dumps({**tree, "trials": trials}, indent=1, sort_keys=True)


def scores_of(path: Path, name: str) -> list[float]:
    """The rubric of every dev question of a trial."""
    found = read_jsonl(opened(path, "evaluate", f"{name}-dev").path("per_question.jsonl"))
    return [row["measures"]["rubric"] for row in found]
