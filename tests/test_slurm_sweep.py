"""A sweep as an array on two nodes, one task killed and one node lost: the board of a quiet one."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_forge.config import load_config
from codex_forge.sweep.plan import plan_of
from tests.conftest import run_module
from tests.made_pairs import done
from tests.slurm_runs import (
    SLURM,
    TRAIN,
    Runs,
    last_step,
    lose_node,
    make_runs,
    process_of,
    real_slurm,
)
from tests.slurm_site import Site, slurm_site
from tests.sweep_world import steady

pytestmark = real_slurm
SWEEP = {
    "trials": [
        {"train.learning_rate": 2e-3},
        {"train.learning_rate": 3e-3},
        {"train.learning_rate": 4e-3},
        {"train.scale": 30},
        {"train.num_negatives": 0},
        {"train.max_steps": 100},
    ],
    "gate": {"require_improved": False, "min_tier": "minimal"},
}
LOW = {"resamples": 500, "tiers": [{"name": "minimal", "at_least": 0.01}]}
"""A model of a few numbers is no good one."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with slurm_site(("n1", "n2")) as found:
        yield found


@pytest.fixture(scope="module")
def runs(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """With the run as it stands done."""
    folder = tmp_path_factory.mktemp("sweep")
    found = make_runs(site, folder, 60, train=TRAIN, sweep=SWEEP, compare=LOW)
    for mode in ("pairs", "audit"):
        done(mode, found.config)
    for mode in ("embed", "evaluate"):
        done(mode, found.config, "embed.model=base")
    for mode in ("train", "embed", "evaluate", "compare"):
        done(mode, found.config)
    return found


def copied(runs: Runs, name: str) -> Path:
    return Path(shutil.copytree(runs.folder / "store", runs.folder / name))


def board(store: Path) -> dict[str, Any]:
    [found] = store.glob("sweep/small/v*/leaderboard.json")
    tree: dict[str, Any] = json.loads(found.read_text())
    return tree


def test_a_killed_task_and_a_lost_node_leave_no_trace(runs: Runs) -> None:
    site, store = runs.site, copied(runs, "disturbed")
    trials = [trial.name for trial in plan_of(load_config(runs.config)).trials]
    assert len(trials) == 6
    arguments = ("sweep", str(runs.config), f"store={store}", "--shards", "6")
    one_a_node = {"ARRAY_LIMIT": "2", "OPTIONS": "--cpus-per-task=16"}
    [array] = runs.run("array.sbatch", *arguments, **one_a_node)
    tasks = [f"{array}_{index}" for index in range(6)]

    runs.wait_for_checkpoints(store, trials[0])
    os.kill(process_of("sweep", store, "0"), signal.SIGKILL)
    site.wait(lambda: last_step(store, trials[5]) > 3, 400)
    lose_node(site, tasks[5], process_of("sweep", store, "5"), lambda: runs.log(tasks[5], "sweep"))

    assert set(site.ended(*tasks, seconds=600)) == {"COMPLETED"}, site.states()
    assert [site.facts(task)["Restarts"] for task in tasks] == ["1", "0", "0", "0", "0", "1"]
    assert "exit code 137; requeued" in runs.log(tasks[0], "sweep")
    told = run_module("jobs.sweep", str(runs.config), f"store={store}", "--missing")
    assert (told.returncode, told.stdout.strip()) == (0, "")
    collect = ("sweep", str(runs.config), f"store={store}", "--collect")
    number = runs.submit(str(SLURM / "job.sbatch"), *collect)
    assert site.ended(number) == ["COMPLETED"], runs.log(number)

    quiet = copied(runs, "quiet")
    numbers = runs.pipeline(f"store={quiet}", SWEEP="1")
    assert site.ended(numbers["sweep-collect"], seconds=600) == ["COMPLETED"]
    assert [trial["state"] for trial in board(store)["trials"]] == ["done"] * 6
    assert steady(board(store)) == steady(board(quiet))
