"""The container image, built from the unchanged Dockerfile and run as clusters run it.

Read-only, as its own user, without capabilities, and without a network: that of the S3 tests has
loopback alone, through which the S3 server is reached. `make test-image` runs these.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_forge.errors import EXIT_CHANGE_SOMETHING, EXIT_DONE, EXIT_TRY_AGAIN
from codex_forge.launching import CHAIN
from codex_forge.storage import Store
from tests.conftest import ROOT, SAMPLE, Knock, sample_corpus
from tests.containers import (
    CANARY,
    IMAGE,
    Engine,
    NoEngineError,
    base_image,
    find_engine,
)

pytestmark = [pytest.mark.image, pytest.mark.timeout(3600)]

log = logging.getLogger(__name__)

MOST_BYTES = 2_300_000_000
"""Of the image with PyTorch for CPUs."""
VERSION = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
ONE_THREAD = ("--env", "OMP_NUM_THREADS=1")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine that holds the image, built from what is there now."""
    try:
        found = find_engine()
        base = base_image(found)
    except NoEngineError as error:
        pytest.skip(str(error))
    started = time.monotonic()
    found.build(ROOT, IMAGE, base, VERSION=VERSION, REVISION="0123abc")
    log.info("image built in %.0f s", time.monotonic() - started)
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with `config/` to read and `data/` to write, for whoever the container is."""
    corpus = sample_corpus(tmp_path / "config")
    path = corpus.write(store="/data/store", embed={"chroma": {"path": "/data/chroma"}})
    path.write_text(path.read_text().replace(str(corpus.folder), "/config"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    return tmp_path


def mounted(runs: Path) -> list[str]:
    return ["--volume", f"{runs}/config:/config:ro", "--volume", f"{runs}/data:/data"]


def manifests(store: Store) -> dict[str, dict[str, Any]]:
    names = [name for name in store.list("") if name.endswith("/manifest.json")]
    found = [json.loads(store.read(name)) for name in names]
    return {f"{tree['kind']}/{tree['name']}": tree for tree in found}


def normal(name: str) -> str:
    """A package's name as an index knows it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# --- what it is --------------------------------------------------------------------------------


def test_without_words_it_lists_the_modes(engine: Engine) -> None:
    told = engine.run()
    assert told.returncode == EXIT_DONE, told.stderr
    for step in CHAIN:
        assert f"python -m jobs.{step.mode}" in told.stdout


def test_who_it_is_and_what_it_may_write(engine: Engine) -> None:
    told = engine.shell("id -u; id -g; python -c 'import getpass; print(getpass.getuser())'")
    assert told.split() == ["10001", "10001", "forge"]
    assert engine.inspect(IMAGE)["Config"]["User"] == "10001:10001"
    places = "find / -xdev ! -path '/proc/*' ! -path '/sys/*' -type d"
    tries = 'while read -r d; do (: > "$d/.x") 2>/dev/null && echo "$d"; done'
    written = set(engine.shell(f"{places} 2>/dev/null | {tries}; : > /tmp/.x && echo /tmp").split())
    assert written == {"/tmp"}


def test_it_holds_no_compiler_no_pip_and_nothing_left_over(engine: Engine) -> None:
    script = "for p in gcc cc g++ make ld pip pip3 git curl; do command -v $p; done; true"
    assert engine.shell(script) == ""
    left = engine.shell("find /var/lib/apt/lists /var/cache/apt -type f 2>/dev/null | head; true")
    assert left == ""
    assert engine.shell("find / -xdev -name 'pip.conf' -size +0 2>/dev/null; true") == ""


def test_no_secret_stays_in_it(engine: Engine, tmp_path: Path) -> None:
    """Each build is given a pip.conf with a word that no layer and no line of history may hold."""
    told = json.dumps(engine.inspect(IMAGE)) + engine.must("history", "--no-trunc", IMAGE)
    assert CANARY not in told
    assert not re.search(r"(?i)(secret|password|passwd|token|access_key)[a-z_]*=", told)
    engine.must("save", "--output", str(tmp_path / "image.tar"), IMAGE, timeout=600)
    found = subprocess.run(["grep", "-q", CANARY, tmp_path / "image.tar"], check=False)
    assert found.returncode == 1
    source = subprocess.run(
        ["grep", "-q", "codex_forge/job.py", tmp_path / "image.tar"], check=False
    )
    assert source.returncode == 0  # layers are not packed: the word would have been seen


def test_labels_and_size(engine: Engine) -> None:
    facts = engine.inspect(IMAGE)
    labels = facts["Config"]["Labels"]
    prefix = "org.opencontainers.image"
    assert labels[f"{prefix}.version"] == VERSION
    assert labels[f"{prefix}.revision"] == "0123abc"
    assert labels[f"{prefix}.licenses"] == "Apache-2.0"
    if "+cpu" not in engine.shell("python -c 'import torch; print(torch.__version__)'"):
        pytest.skip("this torch brings CUDA: the bound is that of the CPU's")
    assert 500_000_000 < facts["Size"] < MOST_BYTES


def test_its_versions_are_the_tested_ones(engine: Engine) -> None:
    told = engine.shell(
        "python -c 'import importlib.metadata as m; "
        'print(*(f"{d.name}=={d.version}" for d in m.distributions()), sep="\\n")\''
    )
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    tested = {normal(name): version for name, version in pins.items()}
    there = {normal(n): v for n, v in (line.split("==") for line in told.split())}
    assert there.pop("codex-forge") == VERSION
    assert len(there) > 80
    untested = {name for name in there if name not in tested}
    assert untested <= {"setuptools"}
    changed = {n: v for n, v in there.items() if n in tested and v.split("+")[0] != tested[n]}
    assert changed == {}


def test_a_change_of_the_source_leaves_the_dependencies(engine: Engine, tmp_path: Path) -> None:
    wanted = (ROOT / ".dockerignore").read_text().splitlines()
    for name in ("Dockerfile", ".dockerignore", *(w[1:] for w in wanted if w.startswith("!"))):
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=unwanted)
        else:
            shutil.copy2(ROOT / name, tmp_path / name)
    with (tmp_path / "codex_forge" / "errors.py").open("a") as handle:
        handle.write("CHANGED = True\n")
    project = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(
        project.replace(f'version = "{VERSION}"', 'version = "99.0"')
    )
    started = time.monotonic()
    engine.build(tmp_path, f"{IMAGE}-changed", base_image(engine), VERSION="99.0", REVISION="x")
    log.info("built in %.0f s after a change of the source", time.monotonic() - started)
    try:
        before = engine.inspect(IMAGE)["RootFS"]["Layers"]
        after = engine.inspect(f"{IMAGE}-changed")["RootFS"]["Layers"]
        assert [a == b for a, b in zip(before, after, strict=True)].count(False) == 1
        assert before[-1] != after[-1]
    finally:
        engine.call("rmi", f"{IMAGE}-changed")


# --- what it does ------------------------------------------------------------------------------


def test_the_whole_chain_without_a_network_is_that_of_this_machine(
    engine: Engine, runs: Path, knock: Knock, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """The same YAML gives the same artifacts: fingerprints, and all content that is not times."""
    assert engine.shell("ls /sys/class/net").split() == ["lo"]
    for step in CHAIN:
        words = (step.mode, "/config/run.yaml", *step.overrides)
        done = engine.run(*words, options=[*mounted(runs), *ONE_THREAD])
        assert done.returncode == EXIT_DONE, (step.name, done.stderr[-2000:])
    config = runs / "here.yaml"
    text = (runs / "config" / "run.yaml").read_text()
    config.write_text(text.replace("/config", f"{runs}/config").replace("/data", f"{runs}/here"))
    for step in CHAIN:
        assert knock(step.mode, config, *step.overrides) == EXIT_DONE
    inside = manifests(Store(str(runs / "data" / "store")))
    here = manifests(Store(str(runs / "here" / "store")))
    assert inside.keys() == here.keys()
    assert len(inside) == len(CHAIN)
    for name, tree in inside.items():
        assert tree["fingerprint"] == here[name]["fingerprint"], name
        files = {f["path"]: f["sha256"] for f in tree["files"] if not f["volatile"]}
        assert files == {
            f["path"]: f["sha256"] for f in here[name]["files"] if not f["volatile"]
        }, name


def test_the_demo_runs_in_it_with_a_store_alone(engine: Engine, runs: Path) -> None:
    for mode in ("pairs", "audit"):
        done = engine.run(
            mode, "configs/quickstart.yaml", options=["--volume", f"{runs}/data:/data"]
        )
        assert done.returncode == EXIT_DONE, done.stderr[-2000:]
    made = manifests(Store(str(runs / "data")))
    assert made["pairs/quickstart"]["counts"]["questions_test"] == 780
    assert (SAMPLE / "chunks.jsonl").exists()


def test_a_wrong_config_ends_with_2(engine: Engine, runs: Path) -> None:
    done = engine.run("train", "/config/run.yaml", "train.epoch=2", options=mounted(runs))
    assert done.returncode == EXIT_CHANGE_SOMETHING
    assert "unknown key train.epoch" in done.stderr
    done = engine.run("train", "/config/none.yaml", options=mounted(runs))
    assert done.returncode == EXIT_CHANGE_SOMETHING
    done = engine.run("pairs", "configs/quickstart.yaml")  # nothing is mounted at /data
    assert done.returncode == EXIT_CHANGE_SOMETHING
    assert "/data" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_runs_as_any_user(engine: Engine, runs: Path) -> None:
    options = [*mounted(runs), "--user", "43210:0"]
    done = engine.run("pairs", "/config/run.yaml", options=options)
    assert done.returncode == EXIT_DONE, done.stderr[-2000:]
    told = engine.shell("python -c 'import torch._inductor.codecache, getpass'", "--user", "43210")
    assert told == ""


def test_what_lies_in_the_working_folder_shadows_nothing(engine: Engine, runs: Path) -> None:
    (runs / "config" / "jobs.py").write_text("raise SystemExit(9)\n")
    (runs / "config" / "yaml.py").write_text("raise SystemExit(9)\n")
    options = [*mounted(runs), "--workdir", "/config"]
    done = engine.run("pairs", "run.yaml", options=options)
    assert done.returncode == EXIT_DONE, done.stderr[-2000:]


def test_several_ranks_train_in_one_container(engine: Engine, runs: Path) -> None:
    assert engine.run("pairs", "/config/run.yaml", options=mounted(runs)).returncode == EXIT_DONE
    ranks = ("torchrun", "--nproc-per-node", "2", "-m", "jobs.train", "/config/run.yaml")
    done = engine.run(*ranks, "train.require_audit=false", options=[*mounted(runs), *ONE_THREAD])
    assert done.returncode == EXIT_DONE, done.stderr[-3000:]
    made = manifests(Store(str(runs / "data" / "store")))["train/small"]
    assert made["settings"]["processes"] == 2


# --- with S3, and stopped -----------------------------------------------------------------------


@contextmanager
def running(*command: str) -> Iterator[None]:
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.terminate()


@pytest.fixture
def loopback(engine: Engine, s3: Any, tmp_path: Path) -> Iterator[str]:
    """A network that has loopback alone, and the S3 server at its port there."""
    if os.geteuid() or shutil.which("ip") is None or not engine.is_podman:
        pytest.skip("needs podman, root and iproute2")
    name, port = f"codex-forge-{os.getpid()}", s3.endpoint_url.rpartition(":")[2]
    inside = ["ip", "netns", "exec", name]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        relay = (sys.executable, "-m", "tests.relay")
        pipe = f"unix:{tmp_path}/s3"
        with (
            running(*relay, pipe, f"tcp:{port}"),
            running(*inside, *relay, f"tcp:{port}", pipe),
        ):
            yield f"ns:/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def on_s3(runs: Path, s3: Any, bucket: str) -> list[str]:
    """Options of a container that reads its config from /config, and the store from S3."""
    path = runs / "config" / "run.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["store"] = bucket
    del tree["embed"]
    path.write_text(yaml.safe_dump(tree))
    given = [f"--env={name}={value}" for name, value in s3.environment().items()]
    return [*given, *ONE_THREAD, "--volume", f"{runs}/config:/config:ro"]


def test_modes_run_against_s3_with_nothing_else_in_reach(
    engine: Engine, loopback: str, on_s3: list[str], bucket: str
) -> None:
    for words in (("pairs",), ("audit",), ("train",), ("embed",), ("evaluate",)):
        done = engine.run(*words, "/config/run.yaml", options=on_s3, network=loopback)
        assert done.returncode == EXIT_DONE, done.stderr[-2000:]
    assert manifests(Store(bucket)).keys() == {
        f"{mode}/small" for mode in ("pairs", "audit", "train", "embed", "evaluate")
    }


def test_a_model_comes_from_the_store_and_stays_in_the_cache(
    engine: Engine, loopback: str, on_s3: list[str], bucket: str, runs: Path
) -> None:
    from codex_forge.config.sections import ModelConfig
    from codex_forge.model.locate import locate
    from tests.conftest import MINILM

    folder = locate(ModelConfig(base=MINILM)).folder
    for path in folder.rglob("*"):
        if path.is_file():
            Store(bucket).put(path, f"models/minilm/{path.relative_to(folder).as_posix()}")
    base = f"model.base={bucket}/models/minilm"
    embed = ("embed", "/config/run.yaml", "embed.model=base")
    pairs = engine.run("pairs", "/config/run.yaml", options=on_s3, network=loopback)
    assert pairs.returncode == EXIT_DONE, pairs.stderr[-2000:]
    cache = ["--env=CODEX_FORGE_CACHE=/cache", "--volume"]
    first = engine.run(
        *embed, base, options=[*on_s3, *cache, f"{runs}/data:/cache"], network=loopback
    )
    assert first.returncode == EXIT_DONE, first.stderr[-2000:]
    assert f"copying {bucket}/models/minilm" in first.stderr
    read_only = [*on_s3, *cache, f"{runs}/data:/cache:ro"]
    again = engine.run(*embed, base, "--force", options=read_only, network=loopback)
    assert again.returncode == EXIT_DONE, again.stderr[-2000:]
    assert "copying" not in again.stderr
    packed = engine.run(*embed, options=on_s3, network=loopback)  # the same model from a package
    assert "already done" in packed.stderr


def test_a_signal_ends_it_with_75_and_a_checkpoint_from_which_it_goes_on(
    engine: Engine, loopback: str, on_s3: list[str], bucket: str
) -> None:
    config = "/config/run.yaml"
    done = engine.run("pairs", config, options=on_s3, network=loopback)
    assert done.returncode == EXIT_DONE, done.stderr[-2000:]
    long = ("train", config, "train.max_steps=40", "train.require_audit=false")
    name = f"codex-forge-test-{os.getpid()}"
    options = ["--detach", "--name", name, *on_s3]
    engine.must(*engine.arguments(*options, network=loopback), IMAGE, *long)
    try:
        deadline = time.monotonic() + 120
        while "step 2 of 40" not in (told := _logs(engine, name)):
            assert time.monotonic() < deadline, told
            time.sleep(0.2)
        started = time.monotonic()
        engine.must("kill", "--signal", "TERM", name)
        code = int(engine.must("wait", name, timeout=120))
        log.info("stopped in %.1f s", time.monotonic() - started)
        assert code == EXIT_TRY_AGAIN, _logs(engine, name)
    finally:
        engine.call("rm", "--force", name)
    stored = Store(bucket).list("train/small")
    assert [path for path in stored if path.endswith("/commit.json")]
    assert not [path for path in stored if path.endswith("/manifest.json")]
    on = engine.run(*long, options=on_s3, network=loopback)
    assert on.returncode == EXIT_DONE, on.stderr[-2000:]
    assert "going on from a checkpoint: step-" in on.stderr


def _logs(engine: Engine, name: str) -> str:
    told = engine.call("logs", name)
    return told.stdout + told.stderr
