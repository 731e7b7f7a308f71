"""The manifests on a real cluster: the one that KUBECONFIG names.

    KUBECONFIG=... CODEX_FORGE_TEST_IMAGE=registry.example/codex-forge:latest \\
    AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... \\
    CODEX_FORGE_TEST_S3_URL=http://s3.example:9000 CODEX_FORGE_TEST_STORE=s3://bucket/prefix \\
    make test-cluster

The image must be known to the cluster, the S3 server reachable from its pods, and the bucket there.
A namespace is made for the tests and deleted after them. Without an image only the API server is
asked.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_forge.launching import CHAIN
from tests import manifests
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(3600),
    manifests.needs_kubectl,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster"),
]

IMAGE, ENDPOINT = (
    os.environ.get("CODEX_FORGE_TEST_IMAGE"),
    os.environ.get("CODEX_FORGE_TEST_S3_URL"),
)
STORE = os.environ.get("CODEX_FORGE_TEST_STORE", "s3://codex-forge")
needs_image = pytest.mark.skipif(
    not (IMAGE and ENDPOINT),
    reason="CODEX_FORGE_TEST_IMAGE and CODEX_FORGE_TEST_S3_URL are not set",
)


def kubectl(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A restricted namespace of the tests' own, with the Secret of the S3 server."""
    name = f"codex-forge-test-{secrets.token_hex(3)}"
    labels = {f"pod-security.kubernetes.io/{word}": "restricted" for word in ("enforce", "warn")}
    tree = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    assert kubectl("create", "-f", "-", given=json.dumps(tree)).returncode == 0
    facts = {key: os.environ.get(key, "") for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    facts |= {
        "AWS_ENDPOINT_URL": ENDPOINT or "",
        "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "CODEX_FORGE_STORE": f"{STORE}/{name}",
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "codex-forge-s3", "namespace": name},
        "stringData": facts,
    }
    assert kubectl("create", "-f", "-", given=json.dumps(secret)).returncode == 0
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def launcher(folder: Path, namespace: str) -> Path:
    """A copy of `k8s/` whose objects go into the namespace of the tests; its script."""
    copied = manifests.copy_of(folder)
    for path in copied.rglob("*"):
        if path.suffix in (".yaml", ".env"):
            text = path.read_text()
            path.write_text(text.replace("namespace: codex-forge", f"namespace: {namespace}"))
    (folder / "jobs").symlink_to(ROOT / "jobs")  # where the script counts trials
    (folder / "codex_forge").symlink_to(ROOT / "codex_forge")
    return copied / "run.sh"


def run(script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    given = {"IMAGE": IMAGE or "", "PYTHON": sys.executable, "POLL": "2", **variables}
    return subprocess.run(
        [script, *arguments],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )


def config(folder: Path, **changes: Any) -> str:
    """The demo's config with few steps."""
    tree = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    tree["train"] |= {"max_steps": 4, "max_pairs": 256}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**tree, **changes}, sort_keys=False))
    return str(path)


@pytest.mark.parametrize("folder", manifests.FOLDERS)
def test_the_server_takes_every_object(folder: str, namespace: str, tmp_path: Path) -> None:
    copied = launcher(tmp_path, namespace).parent
    trees = manifests.kustomize(copied / folder)
    if "JobSet" in {tree["kind"] for tree in trees} and not has_jobsets():
        pytest.skip("the cluster knows no JobSets")
    text = yaml.safe_dump_all(trees)
    done = kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", given=text
    )
    assert done.returncode == 0, done.stderr
    assert "would violate PodSecurity" not in done.stderr


def has_jobsets() -> bool:
    return "jobsets" in kubectl("api-resources", "--api-group=jobset.x-k8s.io", "-o", "name").stdout


def test_the_server_refuses_what_it_should(namespace: str, tmp_path: Path) -> None:
    copied = launcher(tmp_path, namespace).parent
    path = copied / "common" / "job.yaml"
    path.write_text(path.read_text().replace("values: [2, 3]", "values: [3, 2]"))
    text = yaml.safe_dump_all(manifests.kustomize(copied / "base"))
    done = kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", given=text)
    assert done.returncode != 0
    assert "onExitCodes" in done.stderr


@needs_image
def test_the_chain_comes_through_all_at_once(namespace: str, tmp_path: Path) -> None:
    script = launcher(tmp_path, namespace)
    shown = run(script, "show", "pipeline", CONFIG=config(tmp_path, name="at-once"))
    assert kubectl("apply", "-f", "-", given=shown.stdout).returncode == 0
    names = [f"job/{step.name}" for step in CHAIN]
    waited = kubectl("wait", "-n", namespace, "--for=condition=Complete", "--timeout=50m", *names)
    assert waited.returncode == 0, kubectl("get", "jobs,pods", "-n", namespace).stdout
    assert kubectl("delete", "-n", namespace, "--cascade=foreground", *names).returncode == 0


@needs_image
def test_the_chain_runs_in_order_and_a_sweep_after_it(namespace: str, tmp_path: Path) -> None:
    """One trial's model does not exist: it alone fails, and at once."""
    script = launcher(tmp_path, namespace)
    grid = {"grid": {"train.max_steps": [2, 3]}, "trials": [{"model.base": "/none"}]}
    gate = {"gate": {"min_tier": "minimal", "require_improved": False}}
    path = config(tmp_path, name="in-order", sweep={**grid, **gate})
    done = run(script, "pipeline", CONFIG=path)
    assert done.returncode == 0, done.stderr
    assert "verdict" in done.stdout
    swept = run(script, "sweep", CONFIG=path, PARALLEL="2")
    assert swept.returncode == 2, swept.stderr
    found = kubectl("get", "job", "sweep", "-n", namespace, "-o", "json")
    status = json.loads(found.stdout)["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,1", "2")


@needs_image
def test_a_wrong_config_ends_with_2(namespace: str, tmp_path: Path) -> None:
    path = config(tmp_path, name="wrong", trian={})
    done = run(launcher(tmp_path, namespace), "pipeline", CONFIG=path)
    assert done.returncode == 2
    assert "trian" in done.stderr


@needs_image
@pytest.mark.parametrize("overlay", ["multinode", "jobset"])
def test_two_pods_train_together(overlay: str, namespace: str, tmp_path: Path) -> None:
    if overlay == "jobset" and not has_jobsets():
        pytest.skip("the cluster knows no JobSets")
    script = launcher(tmp_path, namespace)
    done = run(script, "pipeline", CONFIG=config(tmp_path, name=f"two-{overlay}"), OVERLAY=overlay)
    assert done.returncode == 0, done.stderr
    logs = kubectl("logs", "-n", namespace, "-l", "codex-forge/step=train", "--tail=-1").stdout
    assert "wrote " in logs
