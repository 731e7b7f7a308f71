"""Two nodes: one training on both, and a node that is cut off in the middle of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.made_pairs import done, opened
from tests.slurm_runs import (
    SLURM,
    Runs,
    alone,
    last_step,
    lose_node,
    make_runs,
    process_of,
    real_slurm,
    weights_of,
)
from tests.slurm_site import Site, slurm_site
from tests.test_ranks_training import (  # noqa: F401
    NEAR,
    assert_alike,
    config,
    history,
    store_of,
    weights,
)
from tests.trainings import largest_difference, metadata

pytestmark = real_slurm
BOTH = str(SLURM / "multinode.sbatch")
STEPS = 60
KEYS = (
    "train.stages=[]",
    "train.objective=cosent",
    "train.save_steps=1",
    f"train.max_steps={STEPS}",
)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with slurm_site(("n1", "n2")) as found:
        yield found


@pytest.fixture(scope="module")
def runs(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    found = make_runs(site, tmp_path_factory.mktemp("nodes"))
    done("pairs", found.config)
    done("audit", found.config)
    return found


@pytest.fixture
def store(runs: Runs, request: pytest.FixtureRequest) -> Iterator[Path]:
    yield runs.store(request.node.name)
    runs.site.clear()


def test_two_nodes_take_the_steps_of_one_process(
    site: Site,
    config: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Each has half of the batch. Stopped, both stop at the same step, and both go on from it."""
    runs = Runs(site, config.parent, config)
    quiet = alone(runs, "train", *KEYS, store="quiet")
    store = store_of(config, tmp_path / "both")
    half = (*KEYS, "train.batch_size=4")
    number = runs.submit(BOTH, "train", str(config), f"store={store}", *half)
    runs.wait_for_checkpoints(store)
    site.command("scancel", "--signal=TERM", "--batch", number)
    site.wait(lambda: site.facts(number)["Restarts"] == "1")
    stopped_at = last_step(store)
    assert stopped_at < STEPS
    assert site.ended(number) == ["COMPLETED"], runs.log(number, "multinode.sbatch")
    log = runs.log(number, "multinode.sbatch")
    assert log.count("torchrun was stopped") == 2
    assert "exit code 75; requeued, restart 1 of at most 20" in log
    assert f"going on from a checkpoint: step-{stopped_at:08d}" in log
    assert site.facts(number)["NumNodes"] == "2"
    one, both = (opened(where, tmp_path / where.name, kind="train") for where in (quiet, store))
    assert metadata(both)["ranks"] == 2
    assert len(history(one)) == len(history(both)) >= STEPS
    for here, there in zip(history(one), history(both), strict=True):
        assert_alike(here, there)
    assert largest_difference(weights(one), weights(both)) < NEAR


def test_a_reason_on_two_nodes_is_the_jobs(runs: Runs, store: Path) -> None:
    wrong = ("train.freeze_layers=9", "train.lora.rank=2")
    number = runs.submit(BOTH, "train", str(runs.config), f"store={store}", *wrong)
    assert runs.site.ended(number) == ["FAILED"]
    assert runs.site.facts(number)["ExitCode"] == "2:0", runs.log(number, "multinode.sbatch")


def test_a_node_that_is_cut_off_disturbs_nobody(runs: Runs, store: Path) -> None:
    """The job is started on the other node, and takes over at once; the first goes on, too."""
    job = str(SLURM / "job.sbatch")
    number = runs.submit(job, "train", str(runs.config), f"store={store}")
    runs.wait_for_checkpoints(store)
    lose_node(runs.site, number, process_of("train", store), lambda: runs.log(number))
    assert runs.site.ended(number) == ["COMPLETED"], runs.log(number)
    assert runs.site.facts(number)["Restarts"] == "1", runs.log(number)
    assert weights_of(store) == weights_of(alone(runs, "train", store="quiet"))
