"""What the image is made from, as far as that can be seen without building it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"\\\n", " ", re.sub(r"(?m)^ *#.*\n", "", DOCKERFILE)).splitlines()


def last(word: str) -> str:
    return [line for line in INSTRUCTIONS if line.startswith(f"{word} ")][-1]


def final_stage() -> list[str]:
    start = max(n for n, line in enumerate(INSTRUCTIONS) if line.startswith("FROM "))
    return INSTRUCTIONS[start:]


def test_hadolint_has_no_complaint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    told = subprocess.run(
        [hadolint, "--failure-threshold", "style", "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.stdout, told.returncode) == ("", 0)
    ignored = re.findall(r"hadolint ignore=(\S+)", DOCKERFILE)
    assert set(ignored) == {"DL3008"}  # the one that is explained there


def test_it_starts_a_job_as_nobody_special() -> None:
    told = '["/usr/bin/tini", "--", "/opt/venv/bin/python", "-m", "jobs"]'
    assert last("ENTRYPOINT") == f"ENTRYPOINT {told}"  # no shell: signals reach the job
    assert last("USER") == "USER 10001:10001"  # a number: Kubernetes sees that it is not root
    words = {line.split()[0] for line in INSTRUCTIONS if line}
    assert not words & {"HEALTHCHECK", "VOLUME", "EXPOSE", "ADD", "CMD", "SHELL", "ONBUILD"}


def test_every_cache_is_in_tmp() -> None:
    (env,) = (line for line in final_stage() if line.startswith("ENV "))
    found = dict(pair.split("=", 1) for pair in env.removeprefix("ENV ").split())
    caches = {name for name in found if name == "HOME" or name.endswith(("_HOME", "CACHE_DIR"))}
    assert {"HOME", "HF_HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR"} <= caches
    for name in (*caches, "MPLCONFIGDIR", "CODEX_FORGE_CHROMA"):
        assert found[name].startswith("/tmp"), name
    assert found["HF_HUB_OFFLINE"] == "1"


def test_dependencies_come_before_the_source() -> None:
    copied = [line.split()[-1] for line in final_stage() if line.startswith("COPY --from")]
    assert copied == ["/opt/venv", "/opt/codex-forge"]
    install = next(n for n, line in enumerate(INSTRUCTIONS) if "--requirement" in line)
    source = next(n for n, line in enumerate(INSTRUCTIONS) if "/src/codex_forge" in line)
    assert install < source
    assert "--constraint /constraints.txt" in INSTRUCTIONS[install]


def test_labels_come_last_and_say_what_pyproject_says() -> None:
    assert final_stage()[-1].startswith("LABEL ")
    label = last("LABEL")
    project = (ROOT / "pyproject.toml").read_text()
    for key, pattern in (
        ("source", r'Documentation = "([^"#]+)'),
        ("licenses", r'^license = "(.+)"$'),
    ):
        told = re.search(pattern, project, re.MULTILINE)
        assert told
        assert f'org.opencontainers.image.{key}="{told[1]}"' in label


@pytest.mark.parametrize("name", [".git", "artifacts", ".venv", "tests", "build", ".env"])
def test_the_context_holds_no_more_than_is_copied(name: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert name not in let_in
    wanted = set()
    for line in INSTRUCTIONS:
        if line.startswith("COPY ") and "--from" not in line:
            wanted |= {source.rstrip("/") for source in line.split()[1:-1]}
    assert let_in == wanted
    assert all((ROOT / source).exists() for source in wanted)


def test_all_that_the_package_reads_is_installed_with_it() -> None:
    """Templates, styles and scripts: from the source tree they are always there."""
    package = ROOT / "codex_forge"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["codex_forge"]
    files = (p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    names = [p.relative_to(package).as_posix() for p in files if p.suffix != ".py"]
    assert len(names) > 20
    assert [n for n in names if not any(fnmatch(n, pattern) for pattern in patterns)] == []
