"""Small runs on a Slurm of the tests' own: a corpus, a config, and what came of the jobs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.model import cut_out_model
from tests.conftest import ROOT, run_module, sample_corpus
from tests.slurm_site import Site, missing
from tests.trainings import few_words

SLURM = ROOT / "slurm"
real_slurm = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=missing() or "a Slurm can be started"),
]
SPLIT = {"split": {"train": 0.5, "dev": 0.25, "test": 0.25}}
TRAIN: dict[str, Any] = {
    "max_steps": 80,
    "batch_size": 4,
    "num_negatives": 1,
    "learning_rate": 1e-3,
    "precision": "fp32",
    "save_steps": 1,  # checkpoints often, so that a job can be caught between two
    "save_minutes": 0,
    "save_total_limit": 3,
    "validation": {"max_questions": 8, "max_chunks": 24},
}


@dataclass
class Runs:
    """A folder, as a user has it: a config, and what the jobs leave."""

    site: Site
    folder: Path
    config: Path

    def submit(self, *words: str, **env: str) -> str:
        """`sbatch WORDS` from the folder; returns the job's number."""
        told = self.site.command("sbatch", "--parsable", *words, cwd=self.folder, env=self.env(env))
        return told.stdout.strip()

    def run(self, script: str, *words: str, **env: str) -> list[str]:
        """A script of `slurm/` that submits; returns what it prints."""
        told = self.site.command(SLURM / script, *words, cwd=self.folder, env=self.env(env))
        return told.stdout.splitlines()

    def pipeline(self, *words: str, **env: str) -> dict[str, str]:
        """Submit the chain; returns the number of each step."""
        printed = self.run("pipeline.sh", str(self.config), *words, **env)
        pairs = (line.split("  ") for line in printed)
        return {name: number for number, name in pairs}

    def env(self, more: dict[str, str]) -> dict[str, str]:
        return {"OMP_NUM_THREADS": "1", "CODEX_FORGE_HOME": str(ROOT), **more}

    def log(self, number: str, name: str = "job.sbatch") -> str:
        """What a job has printed."""
        path = self.folder / f"{name}-{number}.out"
        return path.read_text() if path.exists() else ""

    def store(self, name: str) -> Path:
        """A store of its own, with the pairs and their audit."""
        found = self.folder / name
        for kind in ("pairs", "audit"):
            shutil.copytree(self.folder / "store" / kind, found / kind)
        return found

    def wait_for_checkpoints(self, store: Path, name: str = "*") -> None:
        """Wait until a training has committed some steps, and is in the middle of them."""
        self.site.wait(lambda: last_step(store, name) > 3, 180, 0.05)


def make_runs(site: Site, folder: Path, entities: int = 20, **overrides: Any) -> Runs:
    """A small corpus and model in a folder whose name has a space, with pairs and audit made."""
    folder = folder / "my runs"
    base = few_words(cut_out_model(folder / "base", 2))
    model = {"base": str(base), "device": "cpu"}
    config = sample_corpus(folder, entities).write(
        **{"model": model, "pairs": SPLIT, "train": TRAIN, **overrides}
    )
    return Runs(site, folder, config)


def alone(runs: Runs, mode: str, *words: str, store: str) -> Path:
    """Run a mode here, without Slurm and undisturbed; returns its store."""
    found = runs.folder / store
    if not found.exists():
        runs.store(store)
    arguments = (str(runs.config), f"store={found}", *words)
    ended = run_module(f"jobs.{mode}", *arguments, env=runs.env({}))
    assert ended.returncode == 0, ended.stderr
    return found


def last_step(store: Path, name: str = "*") -> int:
    """The last step of a training whose checkpoint is committed."""
    found = store.glob(f"train/{name}/checkpoints/*/step-*/commit.json")
    steps = [re.match(r"step-(\d+)", path.parent.name) for path in found]
    return max((int(step[1]) for step in steps if step), default=0)


def weights_of(store: Path) -> str:
    """sha256 of the trained model; empty when there is none."""
    for path in store.glob("train/*/v*/manifest.json"):
        files = json.loads(path.read_text())["files"]
        return str(next(f["sha256"] for f in files if f["path"] == "model/model.safetensors"))
    return ""


def process_of(mode: str, store: Path, task: str = "") -> int:
    """The Python that runs a mode on this store, on whichever node."""
    wanted = {b"-m", b"jobs", mode.encode(), f"store={store}".encode()}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            env = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        is_task = not task or f"SLURM_ARRAY_TASK_ID={task}".encode() in env
        if words[0].endswith(b"python") and wanted <= set(words) and is_task:
            return int(folder.name)
    raise AssertionError(f"no {mode} on {store}")


def lose_node(site: Site, job: str, process: int, log: Callable[[], str]) -> None:
    """Cut off the node of a job, whose process sleeps until the job has started elsewhere.

    Then it goes on, as if nothing had happened, and learns that its time is over.
    """
    os.kill(process, signal.SIGSTOP)
    node = site.facts(job)["NodeList"]
    site.cable(node, up=False)
    site.wait(lambda: "taking over from" in log(), 300)
    assert site.facts(job)["NodeList"] != node
    os.kill(process, signal.SIGCONT)
    site.wait(lambda: "another process has taken over" in log())
    site.cable(node, up=True)


def refusing(folder: Path, program: str, word: str) -> dict[str, str]:
    """A PATH on which a program of Slurm refuses one of its verbs, as a site may have it."""
    folder.mkdir()
    real = shutil.which(program)
    script = folder / program
    script.write_text(
        f'#!/bin/sh\n[ "$1" != {word} ] || {{ echo "{word} is disabled" >&2; exit 1; }}\n'
        f'exec {real} "$@"\n'
    )
    script.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}
