"""A container engine of the tests' own: it builds the unchanged Dockerfile and runs the image.

Docker where it answers, else podman. Podman as root keeps everything below build/containers, so
that layers are there at the next run; `make clean` removes them. Where no registry can be asked,
the base image is made from Debian's packages. What this machine needs to reach a package index
(its pip settings, its certificates) comes in from outside and stays out of the image.
"""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

HOME = ROOT / "build" / "containers"
BASE = "localhost/codex-forge-base:bookworm"
IMAGE = "localhost/codex-forge:test"
CANARY = "canary-8d1f0c52"
"""Stands in the pip.conf of each build, which must leave no trace in an image."""
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class NoEngineError(RuntimeError):
    """No container can run here; says why."""


@dataclass(frozen=True)
class Engine:
    """`docker` or `podman`, as it works on this machine."""

    program: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_podman(self) -> bool:
        return self.program == "podman"

    def call(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def must(self, *arguments: str, timeout: float = 120) -> str:
        done = self.call(*arguments, timeout=timeout)
        if done.returncode:
            raise RuntimeError(f"{self.program} {' '.join(arguments)}: {done.stderr[-3000:]}")
        return done.stdout

    def inspect(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.must("image", "inspect", image))[0]
        return found

    def build(self, context: Path, tag: str, base: str, **arguments: str) -> str:
        """Build the folder's Dockerfile; returns what was said."""
        HOME.mkdir(parents=True, exist_ok=True)
        pip_conf = HOME / "pip.conf"
        pip_conf.write_text(f"# {CANARY}\n[global]\n{_pip_settings()}")
        given = {"BASE_IMAGE": base, **arguments}
        command = ["build", "--network", "host", "--secret", f"id=pip.conf,src={pip_conf}"]
        command += [f"--build-arg={name}={value}" for name, value in given.items()]
        if self.is_podman:
            command += ["--format", "docker", "--layers", "--pull=never", *_mounts()]
        done = self.call(*command, "--tag", tag, str(context), timeout=3000)
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr)[-5000:])
        return done.stdout + done.stderr

    def arguments(self, *options: str, network: str = "none") -> list[str]:
        """How the tests run a container: nothing can be written but /tmp, nothing can be gained."""
        hard = ["--read-only", "--tmpfs", "/tmp:rw,mode=1777", "--cap-drop", "ALL"]
        hard += ["--security-opt", "no-new-privileges", "--network", network]
        if self.is_podman:
            hard += ["--read-only-tmpfs=false", "--pull", "never"]  # no more than docker gives
        return ["run", *hard, *options]

    def run(
        self, *words: str, options: Sequence[str] = (), network: str = "none", timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run the image with these words after its entry point."""
        command = self.arguments("--rm", *options, network=network)
        return self.call(*command, IMAGE, *words, timeout=timeout)

    def shell(self, script: str, *options: str) -> str:
        """What a shell in the image says."""
        command = self.arguments("--rm", "--entrypoint", "sh", *options)
        return self.must(*command, IMAGE, "-c", script)


def find_engine() -> Engine:
    """The engine of this machine.

    Raises:
        NoEngineError: there is none that works.
    """
    if shutil.which("docker") and Engine("docker").call("info").returncode == 0:
        return Engine("docker")
    if shutil.which("podman") is None:
        raise NoEngineError("neither docker nor podman works here")
    engine = Engine("podman", _settings() if os.geteuid() == 0 else {})
    done = engine.call("info")
    if done.returncode:
        raise NoEngineError(f"podman does not work here: {done.stderr.strip()[-300:]}")
    return engine


def base_image(engine: Engine) -> str:
    """The base to build on: BASE_IMAGE of the environment, or a Debian made from its packages.

    Raises:
        NoEngineError: neither can be had.
    """
    if given := os.environ.get("BASE_IMAGE"):
        return given
    if engine.call("image", "inspect", BASE).returncode == 0:
        return BASE
    if os.geteuid() or shutil.which("mmdebstrap") is None:
        raise NoEngineError("set BASE_IMAGE, or be root and install mmdebstrap")
    HOME.mkdir(parents=True, exist_ok=True)
    tar = HOME / "base.tar"
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
    command += ["--include=ca-certificates", "bookworm", str(tar)]
    subprocess.run(command, check=True, timeout=1200)
    engine.must("import", "--change", 'CMD ["/bin/bash"]', str(tar), BASE, timeout=300)
    tar.unlink()
    return BASE


def _settings() -> dict[str, str]:
    """Podman's settings for root: a storage of the tests' own, and what small machines allow."""
    HOME.mkdir(parents=True, exist_ok=True)
    storage = f'graphroot = "{HOME}/storage"\nrunroot = "{HOME}/run"\n'
    (HOME / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\n{storage}')
    limits = ", ".join(
        f'"{name}={most}:{most}"'
        for name, most in {
            "nofile": _at_most(resource.RLIMIT_NOFILE, 1_048_576),
            "nproc": _at_most(resource.RLIMIT_NPROC, _largest_pid()),
        }.items()
    )
    engine = 'events_logger = "file"\n'
    if not Path("/run/systemd/system").exists():
        engine += 'cgroup_manager = "cgroupfs"\n'
    if shutil.which("runc"):
        engine += 'runtime = "runc"\n'
    containers = f'default_ulimits = [{limits}]\nlog_driver = "k8s-file"\n'
    (HOME / "containers.conf").write_text(f"[containers]\n{containers}[engine]\n{engine}")
    return {
        "CONTAINERS_STORAGE_CONF": str(HOME / "storage.conf"),
        "CONTAINERS_CONF": str(HOME / "containers.conf"),
    }


def _at_most(limit: int, most: int) -> int:
    hard = resource.getrlimit(limit)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def _largest_pid() -> int:
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def _pip() -> dict[str, str]:
    """How pip works on this machine, from its files and its environment."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = {}
    for line in sorted(told.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    return found


def _pip_settings() -> str:
    return "".join(f"{name} = {' '.join(value.split())}\n" for name, value in _pip().items())


def _mounts() -> list[str]:
    """Folders and certificates of this machine that pip is told to use."""
    paths = {Path(path) for path in re.findall(r"(?<![\w:/])/[^\s]+", " ".join(_pip().values()))}
    for url in re.findall(r"file://(/[^\s]+)", " ".join(_pip().values())):
        paths.add(Path(url).parent)  # an index names files beside it
    if _CERTIFICATES.exists():
        paths.add(_CERTIFICATES)
    return [f"--volume={path}:{path}:ro" for path in sorted(paths) if path.exists()]
