"""What kustomize makes of the folders in `k8s/`, as Python values."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

Tree = dict[str, Any]

K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir() if path.is_dir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir() if path.is_dir())
SWEEP = ["sweep", "sweep-collect"]
FOLDERS = ["base", *SWEEP, *(f"overlays/{name}" for name in OVERLAYS)]

KUBECTL_MINOR = 28
"""The oldest kubectl whose kustomize renders `k8s/`, as far as was tried: 1.28."""


def _has_kubectl() -> bool:
    if shutil.which("kubectl") is None:
        return False
    told = subprocess.run(
        ["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=False
    )
    version = json.loads(told.stdout or "{}").get("clientVersion", {"minor": "0"})
    return int(re.sub(r"\D", "", version["minor"])) >= KUBECTL_MINOR


needs_kubectl = pytest.mark.skipif(
    not _has_kubectl(), reason=f"kubectl 1.{KUBECTL_MINOR} or later is not installed"
)


@dataclass(frozen=True)
class Job:
    """A Job, or the Job within a JobSet."""

    kind: str
    name: str
    labels: dict[str, str]
    spec: Tree

    @property
    def step(self) -> str:
        return self.labels["codex-forge/step"]

    @property
    def mode(self) -> str:
        return self.labels["codex-forge/mode"]

    @property
    def pod(self) -> Tree:
        return dict(self.spec["template"]["spec"])

    @property
    def container(self) -> Tree:
        (found,) = self.pod["containers"]
        return dict(found)

    @property
    def args(self) -> list[str]:
        return list(self.container["args"])

    @property
    def containers(self) -> list[Tree]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def is_indexed(self) -> bool:
        return self.spec.get("completionMode") == "Indexed"

    def action(self, code: int) -> str | None:
        """What the first rule that takes this exit code does; None: it counts."""
        for rule in self.spec["podFailurePolicy"]["rules"]:
            if code in rule.get("onExitCodes", {}).get("values", ()):
                return str(rule["action"])
        return None


def kustomize(folder: Path) -> list[Tree]:
    """All objects of a folder."""
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [tree for tree in yaml.safe_load_all(done.stdout) if tree]


@cache
def render(folder: str) -> list[Tree]:
    """All objects of a folder of `k8s/`."""
    return kustomize(K8S / folder)


def copy_of(folder: Path) -> Path:
    """A copy of `k8s/` within `folder`."""
    return Path(shutil.copytree(K8S, folder / "k8s"))


def overlay(copy_at: Path, components: list[str], start: str = "base") -> list[Tree]:
    """All objects of an overlay that a user might write, in a copy of `k8s/`."""
    mine = copy_of(copy_at) / "overlays" / "mine"
    mine.mkdir()
    tree = {
        "resources": [f"../../{start}"],
        "components": [f"../../components/{name}" for name in components],
    }
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(tree))
    return kustomize(mine)


def jobs_of(trees: list[Tree]) -> list[Job]:
    """All Jobs, those of JobSets included."""
    return list(_jobs(trees))


def _jobs(trees: list[Tree]) -> Iterator[Job]:
    for tree in trees:
        name, labels = tree["metadata"]["name"], tree["metadata"].get("labels", {})
        if tree["kind"] == "Job":
            yield Job("Job", name, labels, tree["spec"])
        if tree["kind"] == "JobSet":
            for part in tree["spec"]["replicatedJobs"]:
                yield Job("JobSet", f"{name}-{part['name']}-0", labels, part["template"]["spec"])


def job(trees: list[Tree], step: str) -> Job:
    """The Job of a step."""
    (found,) = [each for each in jobs_of(trees) if each.step == step]
    return found


def kinds(trees: list[Tree], kind: str) -> dict[str, Tree]:
    """The objects of a kind by name."""
    return {tree["metadata"]["name"]: tree for tree in trees if tree["kind"] == kind}


_UNITS = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def amount(quantity: str | int) -> float:
    """A quantity as Kubernetes writes it: 250m, 4Gi, 2."""
    found = re.fullmatch(r"([0-9.]+)(m|[KMGT]i)?", str(quantity))
    assert found, quantity
    return float(found[1]) * _UNITS[found[2] or ""]
