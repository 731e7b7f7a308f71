"""Jobs on a real Slurm come back when they should, as what they were, and stay away otherwise."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_forge.launching import CHAIN
from tests.slurm_runs import (
    SLURM,
    TRAIN,
    Runs,
    alone,
    last_step,
    make_runs,
    process_of,
    real_slurm,
    refusing,
    weights_of,
)
from tests.slurm_site import Site, slurm_site

pytestmark = real_slurm
JOB = str(SLURM / "job.sbatch")
PREEMPTION = "PriorityTier=1\nPartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    preempting = {"PreemptType": "preempt/partition_prio", "PreemptMode": "CANCEL"}
    with slurm_site(("n1",), PREEMPTION, MaxArraySize="4", **preempting) as found:
        yield found


@pytest.fixture(scope="module")
def runs(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """With the chain done, by Slurm."""
    found = make_runs(site, tmp_path_factory.mktemp("slurm"))
    numbers = found.pipeline()
    assert list(numbers) == [step.name for step in CHAIN]
    assert set(site.ended(*numbers.values())) == {"COMPLETED"}, found.log(numbers["pairs"], "pairs")
    times = {name: site.facts(number) for name, number in numbers.items()}
    for step in CHAIN:
        for before in step.after:
            assert times[step.name]["StartTime"] >= times[before]["EndTime"]
    return found


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> str:
    """The weights of a training that nobody disturbed, here and not by Slurm."""
    return weights_of(alone(runs, "train", store="quiet"))


@pytest.fixture
def store(runs: Runs, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A store with pairs and audit; what is left of the test's jobs is cancelled."""
    yield runs.store(request.node.name)
    runs.site.clear()


def after(runs: Runs, number: str) -> str:
    """A job that waits for another, as those of a chain do."""
    options = ("--job-name=after", "--cpus-per-task=1", "--kill-on-invalid-dep=yes")
    return runs.submit(*options, f"--dependency=afterok:{number}", "--wrap=true")


def caught(runs: Runs, store: Path, *options: str, **env: str) -> tuple[str, str]:
    """A training in the middle of its steps, and a job that waits for it."""
    number = runs.submit(*options, JOB, "train", str(runs.config), f"store={store}", **env)
    waiting = after(runs, number)
    runs.wait_for_checkpoints(store)
    assert last_step(store) < TRAIN["max_steps"]
    return number, waiting


def test_the_chain_leaves_what_the_same_yaml_leaves_elsewhere(runs: Runs, undisturbed: str) -> None:
    assert weights_of(runs.folder / "store") == undisturbed
    [report] = (runs.folder / "store").glob("compare/small/v*/report.json")
    assert "verdict" in json.loads(report.read_text())


@pytest.mark.parametrize("name", ["TERM", "USR1"])
def test_a_signal_requeues_and_the_job_goes_on(
    runs: Runs, undisturbed: str, store: Path, name: str
) -> None:
    number, waiting = caught(runs, store)
    runs.site.command("scancel", f"--signal={name}", "--batch", number)
    assert runs.site.ended(number, waiting) == ["COMPLETED", "COMPLETED"], runs.log(number)
    log = runs.log(number)
    assert "stopped by SIGUSR1" in log
    assert "exit code 75; requeued, restart 1 of at most 20" in log
    assert runs.site.facts(number)["Restarts"] == "1"
    assert "taking over" not in log
    assert weights_of(store) == undisturbed


def test_a_signal_to_every_process_stops_the_ranks_of_a_node_together(
    runs: Runs, store: Path
) -> None:
    """As when a job is preempted: torchrun and its ranks are told by Slurm, and by the script."""
    number, waiting = caught(runs, store, "--gres=gpu:2")
    runs.site.command("scancel", "--signal=TERM", "--full", number)
    runs.site.wait(lambda: runs.site.facts(number)["Restarts"] == "1")
    stopped_at = last_step(store)
    assert runs.site.ended(number, waiting) == ["COMPLETED", "COMPLETED"], runs.log(number)
    log = runs.log(number)
    assert "exit code 75; requeued, restart 1 of at most 20" in log
    assert f"going on from a checkpoint: step-{stopped_at:08d}" in log
    assert "ranks: 2" in log


def test_a_process_that_is_killed_is_started_again(
    runs: Runs, undisturbed: str, store: Path
) -> None:
    number, _ = caught(runs, store)
    os.kill(process_of("train", store), signal.SIGKILL)
    assert runs.site.ended(number) == ["COMPLETED"], runs.log(number)
    assert "exit code 137; requeued, restart 1 of at most 3" in runs.log(number)
    assert weights_of(store) == undisturbed


def test_a_job_that_may_not_be_requeued_is(runs: Runs, undisturbed: str, store: Path) -> None:
    number, waiting = caught(runs, store, "--no-requeue")
    runs.site.command("scancel", "--signal=TERM", "--batch", number)
    assert runs.site.ended(number, waiting) == ["COMPLETED", "COMPLETED"], runs.log(number)
    assert weights_of(store) == undisturbed


def test_a_job_that_cannot_be_requeued_is_submitted_anew(
    runs: Runs, undisturbed: str, store: Path, tmp_path: Path
) -> None:
    path = refusing(tmp_path / "bin", "scontrol", "requeue")
    options = ("--cpus-per-task=3", "--mem=5G", "--time=77", "--gres=gpu:1", "--job-name=mine")
    number = runs.submit(*options, JOB, "train", str(runs.config), f"store={store}", **path)
    waiting = after(runs, number)
    runs.wait_for_checkpoints(store)
    before = runs.site.facts(number)
    runs.site.command("scancel", "--signal=TERM", "--batch", number)
    assert runs.site.ended(number) == ["FAILED"]
    log = runs.log(number, "mine")
    anew = log.split("it goes on as job ")[1].split()[0]
    same = ("CPUs/Task", "MinMemoryNode", "TimeLimit", "TresPerNode", "JobName", "Partition")
    now = runs.site.facts(anew)
    assert [now[key] for key in same] == [before[key] for key in same]
    assert runs.site.ended(anew, waiting) == ["COMPLETED", "COMPLETED"]
    assert f"job {waiting} waits for it" in log
    assert weights_of(store) == undisturbed


def test_a_preempted_job_comes_back_where_slurm_would_cancel_it(
    runs: Runs, undisturbed: str, store: Path
) -> None:
    number, waiting = caught(runs, store)
    runs.submit("--partition=urgent", "--cpus-per-task=16", "--wrap=sleep 1")
    runs.site.wait(lambda: runs.site.facts(number)["Restarts"] == "1")
    assert "DUE TO PREEMPTION" in runs.log(number)
    assert runs.site.ended(number, waiting) == ["COMPLETED", "COMPLETED"], runs.log(number)
    assert weights_of(store) == undisturbed


def test_a_job_that_its_user_cancels_stays_away(runs: Runs, store: Path) -> None:
    number, waiting = caught(runs, store)
    runs.site.command("scancel", number)
    assert runs.site.ended(number, waiting) == ["CANCELLED", "CANCELLED"]
    assert "exit code 75; this job was cancelled" in runs.log(number)
    assert runs.site.facts(number)["Restarts"] == "0"
    assert not weights_of(store)


def test_restarts_come_to_an_end(runs: Runs, store: Path) -> None:
    number, waiting = caught(runs, store, CODEX_FORGE_MAX_RESTARTS="0")
    runs.site.command("scancel", "--signal=TERM", "--batch", number)
    assert runs.site.ended(number, waiting) == ["FAILED", "CANCELLED"]
    assert "started again 0 times already, which is enough" in runs.log(number)
    assert runs.site.facts(number)["ExitCode"] == "75:0"


@pytest.mark.parametrize(
    ("code", "mode", "override"),
    [
        (2, "train", "train.epoch=3"),
        (3, "compare", "compare.gate.enforce=true"),
    ],
)
def test_what_must_be_changed_first_is_not_tried_again(
    runs: Runs, code: int, mode: str, override: str
) -> None:
    number = runs.submit(JOB, mode, str(runs.config), override, "--force")
    waiting = after(runs, number)
    assert runs.site.ended(number, waiting) == ["FAILED", "CANCELLED"]
    told = runs.site.facts(number)
    assert (told["ExitCode"], told["Restarts"]) == (f"{code}:0", "0"), runs.log(number)


def test_an_array_above_the_sites_limit_is_cut(runs: Runs, store: Path) -> None:
    """Four indexes are allowed here; six shards are two arrays, and two of them two once more."""
    arguments = ("embed", str(runs.config), "embed.model=base", f"store={store}", "--shards", "6")
    numbers = runs.run("array.sbatch", *arguments, ARRAY_LIMIT="2")
    assert len(numbers) == 2
    tasks = [f"{numbers[0]}_{i}" for i in range(4)] + [f"{numbers[1]}_{i}" for i in range(2)]
    assert set(runs.site.ended(*tasks)) == {"COMPLETED"}
    assert len(list(store.glob("embed/small-base/**/manifest.json"))) == 6
    again = runs.run("array.sbatch", *arguments, INDEXES="3,5")
    assert set(runs.site.ended(f"{again[0]}_3", f"{again[1]}_1")) == {"COMPLETED"}
    assert "already done" in runs.log(f"{again[1]}_1", "embed")
    assert runs.run("array.sbatch", *arguments, INDEXES="") == []
