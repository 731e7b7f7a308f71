"""Trials killed at random moments and started twice: every trial once, the same leaderboard.

Real processes and signals over a real store; only the modes are made up (tests/sweep_world.py). A
scheduler of a few lines starts a trial again by its exit code, as Slurm and Kubernetes are told to.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codex_forge.errors import EXIT_DONE, EXIT_TRY_AGAIN
from codex_forge.launching import TREATMENT
from codex_forge.storage import Store
from codex_forge.sweep.plan import plan_of
from tests.sweep_world import config_of, knock, leaderboard, make_run, steady, write_config

KILLED, TWICE = 0.30, 0.05
"""Shares of starts that are killed, and that are made twice."""
LATEST = 0.8
"""Seconds after a start within which it is killed."""
AT_ONCE = 6


@dataclass
class Scheduler:
    """Starts every trial until it has ended well, and disturbs some."""

    config: Path
    size: int
    draws: random.Random
    waiting: list[int] = field(default_factory=list)
    running: dict[int, int] = field(default_factory=dict)
    """Process -> trial."""
    kills: list[tuple[float, int, int]] = field(default_factory=list)
    """When, which process, which signal."""
    told: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Until nothing waits and nothing runs."""
        self.waiting = list(range(self.size))
        self.draws.shuffle(self.waiting)
        while self.waiting or self.running:
            while self.waiting and len(self.running) < AT_ONCE:
                self._start(self.waiting.pop(0))
            self._kill()
            self._collect()
            time.sleep(0.005)

    def _start(self, trial: int) -> None:
        twice = self.draws.random() < TWICE
        self.told["duplicates"] += twice
        for _ in range(1 + twice):
            process = _forked(self.config, trial, self.size)
            self.running[process] = trial
            self.told["starts"] += 1
            if self.draws.random() < KILLED:
                number = self.draws.choice((signal.SIGKILL, signal.SIGTERM))
                when = time.monotonic() + self.draws.uniform(0.0, LATEST)
                self.kills.append((when, process, number))

    def _kill(self) -> None:
        now = time.monotonic()
        for when, process, number in list(self.kills):
            if when <= now:
                self.kills.remove((when, process, number))
                if process in self.running:
                    os.kill(process, number)
                    self.told["kills"] += 1

    def _collect(self) -> None:
        for process in list(self.running):
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended:
                continue
            trial, code = self.running.pop(process), os.waitstatus_to_exitcode(status)
            self.told[f"exit {code}"] += 1
            lost = code in (-signal.SIGKILL, -signal.SIGTERM)  # as a node that is gone
            if lost or TREATMENT[code] == "again":
                self.waiting.append(trial)
            else:
                assert code == EXIT_DONE, f"trial {trial} ended with {code}"


def _forked(config: Path, trial: int, size: int) -> int:
    """A process of its own for one start; what it needs is imported already."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.environ["SLURM_ARRAY_TASK_ID"] = str(trial)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = knock("one", config, "--shards", str(size))
    finally:
        os._exit(code)


def _grid(size: int) -> dict[str, dict[str, list[float]]]:
    assert size % 4 == 0
    rates = [1e-5 * (i + 1) for i in range(size // 4)]
    return {"grid": {"train.learning_rate": rates, "train.epochs": [1, 2, 3, 4]}}


@pytest.fixture
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that finds another at work watches it for a renewal, and ends."""
    monkeypatch.setenv("CODEX_FORGE_LEASE_SECONDS", "2")


def disturbed_and_undisturbed(folder: Path, size: int, seed: int) -> Counter[str]:
    """Run the same sweep twice, once disturbed, and compare the leaderboards."""
    calm = write_config(folder / "calm", sweep=_grid(size))
    make_run(calm)
    assert knock("every", calm) == EXIT_DONE
    assert knock("board", calm) == EXIT_DONE

    wild = write_config(folder / "wild", sweep=_grid(size))
    make_run(wild)
    scheduler = Scheduler(wild, size, random.Random(seed))
    scheduler.run()
    assert knock("board", wild) == EXIT_DONE
    board = leaderboard(wild)
    assert [trial["index"] for trial in board["trials"]] == list(range(size))
    assert len({trial["name"] for trial in board["trials"]}) == size
    assert {trial["state"] for trial in board["trials"]} == {"done"}
    assert steady(board) == steady(leaderboard(calm))
    _check_each_once(wild)
    return scheduler.told


def _check_each_once(config: Path) -> None:
    """One version of every artifact of every trial, and none of anything else."""
    read = config_of(config)
    store = Store(read.store)
    names = {trial.name for trial in plan_of(read).trials}
    for kind, ending in (("train", ""), ("embed", ""), ("evaluate", "-dev")):
        manifests = [p for p in store.list(kind) if p.endswith("/manifest.json")]
        count = Counter(path.split("/")[1] for path in manifests)
        assert {name: count[f"{name}{ending}"] for name in names} == dict.fromkeys(names, 1)


@pytest.mark.usefixtures("_short_leases")
def test_16_trials_with_kills_and_duplicates(tmp_path: Path) -> None:
    told = disturbed_and_undisturbed(tmp_path, 16, seed=7)
    print(dict(told))  # noqa: T201 - shown with -s
    assert told["kills"] >= 3
    assert told[f"exit {EXIT_TRY_AGAIN}"] >= 1


@pytest.mark.slow
@pytest.mark.usefixtures("_short_leases")
def test_128_trials_with_kills_and_duplicates(tmp_path: Path) -> None:
    told = disturbed_and_undisturbed(tmp_path, 128, seed=11)
    print(dict(told))  # noqa: T201 - shown with -s
    assert told["starts"] > 128
    assert told["kills"] > 20
    assert told["duplicates"] >= 3
    assert told[f"exit {-signal.SIGKILL}"] > 5
    assert told[f"exit {EXIT_TRY_AGAIN}"] > 5
