"""The manifests hold to `codex_forge/launching.py`, and to what only an API server would check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from codex_forge.launching import CHAIN, RESOURCES
from tests import manifests
from tests.conftest import ROOT, run_module
from tests.manifests import FOLDERS, K8S, Tree, job, jobs_of, kinds, render

pytestmark = manifests.needs_kubectl

VERSIONS = ["1.31.0", "1.36.0"]
"""The oldest that runs all overlays, and a new one."""

HOURS: dict[str, int] = {}
for _step in CHAIN:
    HOURS[_step.name] = RESOURCES[_step.mode].hours + max(
        (HOURS[before] for before in _step.after), default=0
    )


# --- schemas ----------------------------------------------------------------------------


def as_the_server_knows_it(tree: Tree) -> list[Tree]:
    """A JobSet's schema is not Kubernetes' own, but that of its Jobs is."""
    if tree["kind"] != "JobSet":
        return [tree]
    templates = [part["template"] for part in tree["spec"]["replicatedJobs"]]
    return [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {}} | each for each in templates]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_is_valid(folder: str, version: str) -> None:
    for tree in render(folder):
        for part in as_the_server_knows_it(tree):
            kubernetes_validate.validate(part, version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    tree = yaml.safe_load(yaml.safe_dump(kinds(render("base"), "Job")["train"]))
    tree["spec"]["template"]["spec"]["restartPolice"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(tree, VERSIONS[0], strict=True)


@pytest.mark.parametrize("component", manifests.COMPONENTS)
def test_each_component_changes_jobs_and_stays_valid(component: str, tmp_path: Path) -> None:
    needs = {"jobset": ["multinode", "jobset"]}.get(component, [component])
    trees = manifests.overlay(tmp_path, needs)
    assert jobs_of(trees) != jobs_of(render("base"))
    for tree in trees:
        for part in as_the_server_knows_it(tree):
            kubernetes_validate.validate(part, VERSIONS[0], strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_all_is_in_one_namespace_which_comes_first_and_is_restricted(folder: str) -> None:
    namespace, *others = render(folder)
    assert namespace["kind"] == "Namespace"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {tree["metadata"]["namespace"] for tree in others} == {namespace["metadata"]["name"]}


# --- the chain --------------------------------------------------------------------------


def test_the_base_is_the_chain() -> None:
    found = {each.name: each for each in jobs_of(render("base"))}
    assert set(found) == {step.name for step in CHAIN}
    for step in CHAIN:
        each = found[step.name]
        assert (each.step, each.mode) == (step.name, step.mode)
        shards = ["--shards", str(each.spec["completions"])] if each.is_indexed else []
        assert each.args == [
            step.mode, "/config/run.yaml", *step.overrides, "--await-inputs", *shards,
        ]  # fmt: skip
        assert each.spec["activeDeadlineSeconds"] == HOURS[step.name] * 3600


@pytest.mark.parametrize("folder", sorted({*FOLDERS} - {*manifests.SWEEP}))
def test_each_overlay_is_the_whole_chain(folder: str) -> None:
    assert sorted(each.step for each in jobs_of(render(folder))) == sorted(
        step.name for step in CHAIN
    )


def test_the_script_runs_the_chain() -> None:
    text = (K8S / "run.sh").read_text()
    listed = re.search(r"^STEPS=\((.*)\)$", text, re.MULTILINE)
    assert listed
    assert listed[1].split() == [step.name for step in CHAIN]
    seconds = re.search(r"^TRIAL_SECONDS=(\d+)$", text, re.MULTILINE)
    assert seconds
    assert int(seconds[1]) == RESOURCES["sweep"].hours * 3600


def test_the_script_is_clean() -> None:
    subprocess.run([Path(sys.executable).parent / "shellcheck", K8S / "run.sh"], check=True)


def test_the_config_is_the_demo_s() -> None:
    ours = (K8S / "common" / "run.yaml").read_bytes()
    assert ours == (ROOT / "configs" / "quickstart.yaml").read_bytes()


def test_the_number_of_trials_is_that_of_the_config() -> None:
    done = run_module("jobs.sweep", "k8s/common/run.yaml", "--size")
    sweep = job(render("sweep"), "sweep")
    assert sweep.spec["completions"] == int(done.stdout)
    assert sweep.spec["maxFailedIndexes"] == int(done.stdout) // 2
    turns = -(-sweep.spec["completions"] // sweep.spec["parallelism"])
    assert sweep.spec["activeDeadlineSeconds"] == turns * RESOURCES["sweep"].hours * 3600


def test_trials_and_leaderboard_are_applied_apart() -> None:
    """The leaderboard does not wait for trials: started with them it fails for good."""
    assert [each.step for each in jobs_of(render("sweep"))] == ["sweep"]
    (board,) = jobs_of(render("sweep-collect"))
    assert (board.step, board.args[-1]) == ("sweep-collect", "--collect")


# --- several pods -----------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["overlays/multinode", "overlays/jobset"])
def test_the_ranks_of_a_training_find_each_other(folder: str) -> None:
    trees = render(folder)
    train = job(trees, "train")
    options = dict(arg.split("=", 1) for arg in train.args if "=" in arg)
    host, port = options["--rdzv-endpoint"].split(":")
    assert options["--rdzv-backend"] == "c10d"
    assert options["--max-restarts"] == "0"
    assert train.args[0] == "torchrun"
    assert train.args[-4:] == ["-m", "jobs.train", "/config/run.yaml", "--await-inputs"]
    (waiting,) = train.pod["initContainers"]
    assert waiting["env"] == [{"name": "FIRST", "value": host}]
    assert waiting["image"] == train.container["image"]
    assert host == f"{train.name}-0.train"
    assert {port_["containerPort"] for port_ in train.container["ports"]} == {int(port)}
    policy = kinds(trees, "NetworkPolicy")["train"]["spec"]
    labels = train.spec["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]


def test_a_headless_service_names_the_pods() -> None:
    trees = render("overlays/multinode")
    (service,) = kinds(trees, "Service").values()
    train = job(trees, "train")
    assert service["metadata"]["name"] == train.pod["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    labels = train.spec["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_the_jobset_has_the_job_s_pods() -> None:
    trees = render("overlays/jobset")
    (jobset,) = kinds(trees, "JobSet").values()
    assert "train" not in kinds(trees, "Job")
    assert not kinds(trees, "Service")  # the JobSet makes it
    assert jobset["spec"]["network"] == {
        "enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": "train",
    }  # fmt: skip
    ours, theirs = job(trees, "train"), job(render("overlays/multinode"), "train")
    assert ours.spec["backoffLimit"] == 0  # one failure makes all anew
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == theirs.spec["backoffLimit"]
    assert jobset["spec"]["ttlSecondsAfterFinished"] == theirs.spec["ttlSecondsAfterFinished"]
    assert ours.container | {"args": None} == theirs.container | {"args": None}
    assert ours.spec["podFailurePolicy"] == theirs.spec["podFailurePolicy"]


def test_kueue_alone_says_what_is_suspended() -> None:
    """Applied again, `suspend: true` would stop what Kueue has let go."""
    for each in jobs_of(render("overlays/kueue")):
        assert each.labels["kueue.x-k8s.io/queue-name"] == "codex-forge"
        assert "suspend" not in each.spec


# --- the page ---------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
EXAMPLES = [
    text
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    if text.startswith("# k8s/overlays/")
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_overlays_of_the_page_can_be_rendered(text: str, tmp_path: Path) -> None:
    folder = manifests.copy_of(tmp_path) / "overlays" / "mine"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(text)
    for tree in manifests.kustomize(folder):
        for part in as_the_server_knows_it(tree):
            kubernetes_validate.validate(part, VERSIONS[0], strict=True)


def test_the_page_names_all_that_is_there() -> None:
    assert EXAMPLES
    for name in {*manifests.OVERLAYS, *manifests.COMPONENTS}:
        assert f"`{name}`" in PAGE or f"/{name}" in PAGE, name
