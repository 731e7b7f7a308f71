"""Each Job of `k8s/`: what ends it, what it is given, what it may do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_forge.launching import (
    GRACE_SECONDS,
    RESOURCES,
    SHARED_MEMORY_GIB,
    SHUTDOWN_SECONDS,
    TREATMENT,
    VARIABLES,
)
from tests import manifests
from tests.manifests import FOLDERS, K8S, Job, amount, jobs_of, kinds, render

pytestmark = manifests.needs_kubectl


def every_job(check: Callable[[str, Job], None]) -> Callable[[str], None]:
    """A test of each folder, which checks all of its Jobs."""

    @pytest.mark.parametrize("folder", FOLDERS)
    def test(folder: str) -> None:
        for each in jobs_of(render(folder)):
            try:
                check(folder, each)
            except AssertionError as error:
                error.add_note(f"Job {each.name} of k8s/{folder}")
                raise

    return test


# --- exit codes, signals, limits --------------------------------------------------------


@every_job
def test_exit_codes_are_treated_as_the_table_says(folder: str, each: Job) -> None:
    never = "FailIndex" if each.step == "sweep" else "FailJob"
    actions = {"done": None, "counted": None, "never": never, "again": "Ignore"}
    for code, treatment in TREATMENT.items():
        assert each.action(code) == actions[treatment], code
    rules = each.spec["podFailurePolicy"]["rules"]
    assert {"type": "DisruptionTarget", "status": "True"} in rules[-1]["onPodConditions"]
    assert rules[-1]["action"] == "Ignore"
    for rule in rules[:-1]:
        values = rule["onExitCodes"]["values"]
        assert values == sorted({*values} - {0})
        assert rule["onExitCodes"]["containerName"] == each.container["name"]


@every_job
def test_a_pod_is_replaced_when_it_has_ended(folder: str, each: Job) -> None:
    assert each.spec["podReplacementPolicy"] == "Failed"
    assert each.pod["restartPolicy"] == "Never"
    assert each.spec["activeDeadlineSeconds"] > 0
    assert (each.kind == "JobSet") != ("ttlSecondsAfterFinished" in each.spec)


@every_job
def test_there_is_time_for_a_checkpoint(folder: str, each: Job) -> None:
    assert each.pod["terminationGracePeriodSeconds"] == GRACE_SECONDS > SHUTDOWN_SECONDS


@every_job
def test_an_indexed_job_is_told_its_number(folder: str, each: Job) -> None:
    spec = each.spec
    if not each.is_indexed:
        assert not {"completions", "parallelism", "backoffLimitPerIndex", "maxFailedIndexes"} & {
            *spec
        }
        assert "--shards" not in each.args
        return
    number = spec["completions"]
    assert 1 <= spec["parallelism"] <= number
    told = ["--shards", str(number)] if each.mode in ("embed", "sweep") else [f"--nnodes={number}"]
    assert " ".join(told) in " ".join(each.args)
    assert len(f"{each.name}-{number - 1}") <= 63  # it is a host name
    if each.mode == "train":  # its pods fail together
        assert spec["parallelism"] == number
        assert spec["successPolicy"]["rules"] == [{"succeededIndexes": "0"}]
    else:
        assert 0 <= spec["maxFailedIndexes"] <= number
        assert spec["backoffLimitPerIndex"] == 4


@every_job
def test_failures_are_counted_in_one_place(folder: str, each: Job) -> None:
    assert ("backoffLimit" in each.spec) != ("backoffLimitPerIndex" in each.spec)


# --- resources --------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["base", *manifests.SWEEP])
def test_resources_are_those_of_the_table(folder: str) -> None:
    for each in jobs_of(render(folder)):
        given = RESOURCES["evaluate" if each.step == "sweep-collect" else each.mode]
        resources = each.container["resources"]
        assert resources["requests"]["cpu"] == resources["limits"]["cpu"] == str(given.cpus)
        assert resources["requests"]["memory"] == f"{given.memory_gib}Gi"
        assert resources["limits"]["memory"] == f"{given.memory_gib}Gi"
        shm = {volume["name"]: volume for volume in each.pod["volumes"]}["shm"]
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": f"{SHARED_MEMORY_GIB}Gi"}


def test_gpus_go_to_the_modes_that_use_them(tmp_path: Path) -> None:
    sweeps = [manifests.overlay(tmp_path / name, ["gpu"], name) for name in manifests.SWEEP]
    for trees in (render("overlays/gpu"), *sweeps):
        for each in jobs_of(trees):
            wanted = 0 if each.step == "sweep-collect" else RESOURCES[each.mode].gpus
            for kind in ("requests", "limits"):
                assert int(each.container["resources"][kind].get("nvidia.com/gpu", 0)) == wanted


@every_job
def test_requests_stay_below_limits(folder: str, each: Job) -> None:
    for container in each.containers:
        requests, limits = (container["resources"][kind] for kind in ("requests", "limits"))
        assert {"cpu", "memory", "ephemeral-storage"} <= {*requests} == {*limits}
        for name in requests:
            assert 0 < amount(requests[name]) <= amount(limits[name])
        if "nvidia.com/gpu" in limits:
            assert limits["nvidia.com/gpu"] == requests["nvidia.com/gpu"]


@every_job
def test_scratch_fits_into_the_limits(folder: str, each: Job) -> None:
    limits = each.container["resources"]["limits"]
    volumes = {volume["name"]: volume for volume in each.pod["volumes"]}
    assert amount(volumes["tmp"]["emptyDir"]["sizeLimit"]) < amount(limits["ephemeral-storage"])
    assert amount(volumes["shm"]["emptyDir"]["sizeLimit"]) < amount(limits["memory"])


@every_job
def test_volumes_and_mounts_belong_together(folder: str, each: Job) -> None:
    volumes = {volume["name"] for volume in each.pod["volumes"]}
    mounts = {mount["name"]: mount for mount in each.container["volumeMounts"]}
    assert {*mounts} == volumes
    assert {mount["mountPath"] for mount in mounts.values()} == {"/config", "/tmp", "/dev/shm"}
    assert mounts["run"]["readOnly"]


# --- what a pod may do ------------------------------------------------------------------


@every_job
def test_pods_are_restricted(folder: str, each: Job) -> None:
    """The profile `restricted` of the Pod Security Standards, and a read-only root."""
    pod = each.pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & {*pod}
    for volume in pod["volumes"]:
        (kind,) = {*volume} - {"name"}
        assert kind in ("configMap", "emptyDir", "persistentVolumeClaim")
    for container in each.containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", ()))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_account_has_no_rights(folder: str) -> None:
    trees = render(folder)
    (account,) = kinds(trees, "ServiceAccount").values()
    assert account["automountServiceAccountToken"] is False
    assert {tree["kind"] for tree in trees} <= {
        "ConfigMap", "Job", "JobSet", "Namespace", "NetworkPolicy", "Service", "ServiceAccount",
    }  # fmt: skip
    for each in jobs_of(trees):
        assert each.pod["serviceAccountName"] == account["metadata"]["name"]
        assert each.pod["automountServiceAccountToken"] is False


@every_job
def test_settings_come_from_a_config_that_stays_and_a_secret_that_may(
    folder: str, each: Job
) -> None:
    config_maps = kinds(render(folder), "ConfigMap")
    volumes = {volume["name"]: volume for volume in each.pod["volumes"]}
    site, secret = each.container["envFrom"]
    for name in (volumes["run"]["configMap"]["name"], site["configMapRef"]["name"]):
        assert name in config_maps
        assert re.fullmatch(r"(run|site)-[a-z0-9]{10}", name)  # new content, new name
    assert secret == {"secretRef": {"name": "codex-forge-s3", "optional": True}}
    assert list(config_maps[volumes["run"]["configMap"]["name"]]["data"]) == ["run.yaml"]


def test_variables_are_known() -> None:
    known = {name for names in VARIABLES for name in names.split(", ")}
    known |= set(re.findall(r"\$\{(\w+)", (K8S / "common" / "run.yaml").read_text()))
    for folder in FOLDERS:
        (site,) = [
            tree for name, tree in kinds(render(folder), "ConfigMap").items() if "site" in name
        ]
        assert {*site["data"]} <= known
        for each in jobs_of(render(folder)):
            assert {variable["name"] for variable in each.container["env"]} <= known


@every_job
def test_labels_are_on_jobs_and_pods(folder: str, each: Job) -> None:
    labels = {
        "app.kubernetes.io/name": "codex-forge",
        "codex-forge/mode": each.mode,
        "codex-forge/step": each.step,
    }
    assert labels.items() <= each.labels.items()
    assert each.spec["template"]["metadata"]["labels"] == labels
    assert "selector" not in each.spec  # the server makes it


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_may_call_a_job(folder: str) -> None:
    policy = kinds(render(folder), "NetworkPolicy")["codex-forge"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "codex-forge"}}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == []
    open_to_all = [rule["ports"] for rule in policy["egress"] if "to" not in rule]
    assert {port["port"] for ports in open_to_all for port in ports} == {53, 443}
