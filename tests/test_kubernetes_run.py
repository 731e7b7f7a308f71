"""k8s/run.sh: what it applies, in which order, what it awaits, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_forge.launching import CHAIN, RESOURCES
from tests.conftest import ROOT
from tests.manifests import OVERLAYS, copy_of, needs_kubectl

KUBECTL = shutil.which("kubectl")
SCRIPT = ROOT / "k8s" / "run.sh"

pytestmark = needs_kubectl

STEPS = [step.name for step in CHAIN]


class Cluster:
    """A folder that stands for a cluster, and the script run against it."""

    script = SCRIPT

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cluster"
        self.folder.mkdir()
        self.programs = folder / "bin"
        self.programs.mkdir()
        fake = self.programs / "kubectl"
        fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/fake_kubectl.py" "$@"\n')
        fake.chmod(0o755)

    def fates(self, **fates: list[dict[str, Any]]) -> None:
        """How the Jobs of these names end, one run after another; all others complete."""
        (self.folder / "fates.json").write_text(json.dumps(fates))

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.script, *arguments],
            env={
                **os.environ,
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "REAL_KUBECTL": str(KUBECTL),
                "FAKE_CLUSTER": str(self.folder),
                "PYTHON": sys.executable,
                "POLL": "0",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def runs(self, tree: dict[str, Any]) -> None:
        """There is a Job that somebody else has started, and that runs for some looks more."""
        state = {"tree": tree, "looks": -9, "fate": {"type": "Complete"}}
        path = self.folder / f"{tree['kind']}-{tree['metadata']['name']}.json"
        path.write_text(json.dumps(state))

    def calls(self, verb: str) -> list[str]:
        lines = (self.folder / "calls.txt").read_text().splitlines()
        return [line.removeprefix(f"{verb} ") for line in lines if line.startswith(f"{verb} ")]

    def is_there(self, name: str, kind: str = "Job") -> bool:
        return (self.folder / f"{kind}-{name}.json").exists()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def failed(code: int, reason: str = "PodFailurePolicy") -> dict[str, Any]:
    said = f"Container codex-forge for pod x/y failed with exit code {code} matching FailJob rule"
    return {
        "type": "Failed",
        "reason": reason,
        "message": said,
        "pods": [["y", str(code), "Error"]],
    }


def test_the_chain_runs_in_order_after_all_that_it_needs(cluster: Cluster) -> None:
    done = cluster.run("pipeline")
    assert done.returncode == 0, done.stderr
    rest, *jobs = cluster.calls("apply")
    assert jobs == STEPS
    assert rest.startswith("codex-forge codex-forge run-")  # the namespace comes first
    assert cluster.is_there("codex-forge", "NetworkPolicy")
    assert "compare: active 0, succeeded 1, failed 0" in done.stdout
    assert "log of" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("code", [2, 3])
def test_it_ends_with_the_exit_code_of_the_job_that_failed(cluster: Cluster, code: int) -> None:
    cluster.fates(audit=[failed(code)])
    done = cluster.run("pipeline")
    assert done.returncode == code
    assert cluster.calls("apply")[1:] == ["pairs", "audit"]
    assert f"pod y ended with {code} (Error)" in done.stderr
    assert "log of -n codex-forge y" in done.stderr


@pytest.mark.parametrize(
    ("fate", "code"),
    [
        ({"reason": "DeadlineExceeded", "message": "Job was active longer"}, 75),
        ({"reason": "BackoffLimitExceeded", "pods": [["a", "137", "OOMKilled"]]}, 1),
        (
            {"reason": "BackoffLimitExceeded", "pods": [["a", "75", "Error"], ["b", "1", "Error"]]},
            1,
        ),
        ({"reason": "FailedIndexes", "pods": [["a", "75", "Error"], ["b", "3", "Error"]]}, 3),
    ],
)
def test_other_failures_have_an_exit_code_too(
    cluster: Cluster, fate: dict[str, Any], code: int
) -> None:
    cluster.fates(pairs=[{"type": "Failed", **fate}])
    assert cluster.run("pipeline").returncode == code


def test_what_has_ended_is_made_anew_and_what_runs_is_awaited(cluster: Cluster) -> None:
    cluster.fates(audit=[failed(2)])
    assert cluster.run("pipeline").returncode == 2
    assert cluster.calls("delete") == []
    assert cluster.run("pipeline").returncode == 0
    assert cluster.calls("delete") == ["pairs", "audit"]
    assert cluster.run("pipeline").returncode == 0
    assert cluster.calls("delete")[2:] == STEPS


def test_a_job_that_runs_with_other_settings_is_left_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    other = {"kind": "Job", "metadata": {"name": "pairs", "namespace": "codex-forge"}}
    cluster.runs(other)
    done = cluster.run("pipeline")
    assert done.returncode == 2
    assert "kubectl delete -n codex-forge job pairs" in done.stderr
    assert cluster.calls("delete") == []


@pytest.mark.parametrize("step", ["pairs", "embed"])
def test_a_job_that_runs_is_awaited_and_not_applied_again(cluster: Cluster, step: str) -> None:
    """Since it was made, a queue or a person may have suspended, resumed or resized it."""
    cluster.runs(shown(cluster, "pipeline", OVERLAY="kueue")[f"Job/{step}"])
    done = cluster.run("pipeline", OVERLAY="kueue")
    assert done.returncode == 0, done.stderr
    assert cluster.calls("apply")[1:] == [name for name in STEPS if name != step]
    assert cluster.calls("check") == [step]
    assert f"{step}: active 1, succeeded 0, failed 0" in done.stdout


def test_a_cluster_that_does_not_answer_means_again(cluster: Cluster) -> None:
    (cluster.folder / "down").touch()
    assert cluster.run("pipeline").returncode == 75
    (cluster.folder / "down").unlink()
    assert cluster.run("pipeline").returncode == 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_chain_runs_in_order_with_each_overlay(cluster: Cluster, overlay: str) -> None:
    cluster.fates(train=[{"type": "Completed" if overlay == "jobset" else "Complete"}])
    done = cluster.run("pipeline", OVERLAY=overlay)
    assert done.returncode == 0, done.stderr
    assert cluster.calls("apply")[1:] == STEPS
    assert cluster.is_there("train", "Service") == (overlay == "multinode")


@pytest.mark.parametrize("overlay", sorted({*OVERLAYS} - {"jobset"}))
def test_a_sweep_runs_with_each_overlay(cluster: Cluster, overlay: str) -> None:
    done = cluster.run("sweep", OVERLAY=overlay)
    assert done.returncode == 0, done.stderr
    rest, *jobs = cluster.calls("apply")
    assert jobs == ["sweep", "sweep-collect"]
    assert cluster.is_there("codex-forge", "NetworkPolicy")
    assert [name.split("-")[0] for name in rest.split()].count("run") == 1  # one config for both


@pytest.mark.parametrize("what", ["sweep", "sweep-collect"])
def test_a_sweep_has_no_training_that_a_jobset_could_stand_for(cluster: Cluster, what: str) -> None:
    done = cluster.run("show", what, OVERLAY="jobset")
    assert done.returncode == 2
    assert "overlays/jobset: jobset makes a JobSet of the step train" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_jobset_stands_for_the_training(cluster: Cluster) -> None:
    cluster.fates(train=[{"type": "Completed"}])
    assert cluster.run("pipeline", OVERLAY="jobset").returncode == 0
    assert cluster.is_there("train", "JobSet")
    assert not cluster.is_there("train")


def shown(cluster: Cluster, what: str, **variables: str) -> dict[str, Any]:
    done = cluster.run("show", what, **variables)
    assert done.returncode == 0, done.stderr
    trees = [tree for tree in yaml.safe_load_all(done.stdout) if tree]
    return {f"{t['kind']}/{t['metadata']['name'].split('-')[0]}": t for t in trees} | {
        f"{t['kind']}/{t['metadata']['name']}": t for t in trees
    }


def container(job: dict[str, Any]) -> dict[str, Any]:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_config_image_and_shards_are_put_in(cluster: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "my config.yaml"
    config.write_text("name: mine\n")
    image = "registry.example:5000/forge@sha256:" + "0" * 64
    trees = shown(cluster, "pipeline", CONFIG=str(config), IMAGE=image, SHARDS="16", OVERLAY="gpu")
    assert trees["ConfigMap/run"]["data"] == {"run.yaml": "name: mine\n"}
    embed = trees["Job/embed-base"]
    assert embed["spec"]["completions"] == embed["spec"]["parallelism"] == 16
    assert container(embed)["args"][-2:] == ["--shards", "16"]
    assert {container(trees[f"Job/{step}"])["image"] for step in STEPS} == {image}


@pytest.mark.parametrize("image", ["forge", "forge:1.2", "registry.example:5000/a/forge:1.2"])
def test_an_image_may_have_a_tag(cluster: Cluster, image: str) -> None:
    trees = shown(cluster, "pipeline", IMAGE=image, OVERLAY="multinode")
    train = trees["Job/train"]["spec"]["template"]["spec"]
    images = {each["image"] for each in train["containers"] + train["initContainers"]}
    assert images == {image if ":" in image else f"{image}:latest"}


def test_the_number_of_trials_is_that_of_the_config(cluster: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    tree = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    config.write_text(yaml.safe_dump({**tree, "sweep": {"grid": {"seed": [1, 2, 3, 4, 5]}}}))
    trees = shown(cluster, "sweep", CONFIG=str(config), PARALLEL="2", OVERLAY="gpu")
    spec = trees["Job/sweep"]["spec"]
    assert (spec["completions"], spec["parallelism"], spec["maxFailedIndexes"]) == (5, 2, 2)
    assert spec["activeDeadlineSeconds"] == 3 * RESOURCES["sweep"].hours * 3600
    assert container(trees["Job/sweep"])["args"] == ["sweep", "/config/run.yaml", "--shards", "5"]
    assert container(trees["Job/sweep"])["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert not {"Job/sweep-collect", "Job/train"} & {*trees}
    board = shown(cluster, "sweep-collect", CONFIG=str(config), OVERLAY="gpu")
    assert "nvidia.com/gpu" not in container(board["Job/sweep-collect"])["resources"]["limits"]
    assert board["ConfigMap/run"] == trees["ConfigMap/run"]
    assert {tree["metadata"]["name"] for tree in board.values() if tree["kind"] == "Job"} == {
        "sweep-collect"
    }


def test_parallel_counts_without_a_config_too(cluster: Cluster) -> None:
    spec = shown(cluster, "sweep", PARALLEL="8")["Job/sweep"]["spec"]
    assert (spec["completions"], spec["parallelism"]) == (27, 8)
    assert spec["activeDeadlineSeconds"] == 4 * RESOURCES["sweep"].hours * 3600


def test_more_words_go_to_trials_and_leaderboard(cluster: Cluster) -> None:
    """In the words of the command line; choosing without some is for the leaderboard alone."""
    words = ['model.base="a\\\\b"', "sweep.grid={seed:[1,2]}", "--force"]
    given = {"ARGS": f"  {' '.join(words)} --accept-missing ", "OVERLAY": "gpu"}
    trials = container(shown(cluster, "sweep", **given)["Job/sweep"])["args"]
    assert trials == ["sweep", "/config/run.yaml", "--shards", "2", *words]
    board = container(shown(cluster, "sweep-collect", **given)["Job/sweep-collect"])["args"]
    assert board == ["sweep", "/config/run.yaml", "--collect", *words, "--accept-missing"]


OWN_IMAGE = """\
resources: [../../base]
images: [{name: codex-forge, newName: registry.example/ours, newTag: "7"}]
"""


def test_an_image_that_an_overlay_hides_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    mine = copy_of(tmp_path) / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(OWN_IMAGE)
    cluster.script = tmp_path / "k8s" / "run.sh"
    done = cluster.run("pipeline", OVERLAY="mine", IMAGE="forge:8")
    assert done.returncode == 2
    assert "IMAGE=forge:8 has no effect" in done.stderr
    assert "(registry.example/ours:7)" in done.stderr
    assert not (cluster.folder / "calls.txt").exists()
    for image in ("", "registry.example/ours:7"):
        trees = shown(cluster, "pipeline", OVERLAY="mine", IMAGE=image)
        assert container(trees["Job/pairs"])["image"] == "registry.example/ours:7"


@pytest.mark.parametrize(
    ("trials", "board", "code"), [(None, None, 0), (2, None, 2), (2, 3, 2), (None, 3, 3)]
)
def test_a_sweep_is_collected_though_a_trial_failed(
    cluster: Cluster, trials: int | None, board: int | None, code: int
) -> None:
    fates = {
        "sweep": trials and failed(trials, "FailedIndexes"),
        "sweep-collect": board and failed(board),
    }
    cluster.fates(**{name: [fate] for name, fate in fates.items() if fate})
    done = cluster.run("sweep")
    assert done.returncode == code, done.stderr
    assert cluster.calls("apply")[1:] == ["sweep", "sweep-collect"]
    assert ("log of" in done.stdout) == (board is None)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OVERLAY": "none"}, "there is no such overlay"),
        ({"CONFIG": "none.yaml"}, "there is no such file"),
        ({"SHARDS": "two"}, "not 'two'"),
        ({"SHARDS": "0"}, "numbers above 0"),
        ({"ARGS": "--force"}, "ARGS goes with sweep"),
    ],
)
def test_a_slip_of_the_pen_ends_with_2_before_anything_starts(
    cluster: Cluster, variables: dict[str, str], says: str
) -> None:
    done = cluster.run("pipeline", **variables)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (cluster.folder / "calls.txt").exists()


def test_without_a_command_it_explains_itself(cluster: Cluster) -> None:
    done = cluster.run()
    assert done.returncode == 2
    assert "k8s/run.sh pipeline" in done.stderr
    assert "set -euo" not in done.stderr
