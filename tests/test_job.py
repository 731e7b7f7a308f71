"""The frame of a job: exit codes, signals, shards, and arguments in any order."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from codex_forge.artifact import open_artifact
from codex_forge.errors import (
    EXIT_BUG,
    EXIT_CHANGE_SOMETHING,
    EXIT_CODES,
    EXIT_DONE,
    EXIT_GATE_NOT_MET,
    EXIT_TRY_AGAIN,
    GateNotMet,
    InputError,
    TryAgain,
)
from codex_forge.job import Door, Job, guarded
from codex_forge.launching import INDEX_VARIABLES, OFFSET_VARIABLE
from codex_forge.storage import Store
from tests.conftest import ROOT, SAMPLE, Corpus, Knock

DOOR = Door("embed", "A door of these tests.", f"{__name__}:record", ("embed",), sharded=True)


def record(job: Job) -> None:
    """A mode that writes down what it was given."""
    told = {
        "shard": job.shard,
        "shards": job.shards,
        "force": job.force,
        "seed": job.config.seed,
        "epochs": job.config.train.epochs,
        "scratch": str(job.scratch),
    }
    assert job.scratch.is_dir()
    job.store.write("told.json", json.dumps(told).encode())


def read_pairs(job: Job) -> None:
    job.open("pairs", job.config.run_name)


def raise_a_bug(_: Job) -> None:
    raise ZeroDivisionError("a bug")


def miss_the_gate(_: Job) -> None:
    raise GateNotMet("the audit failed", do="look at report.json")


def find_storage_down(_: Job) -> None:
    raise TryAgain("storage does not answer")


def refuse_the_input(_: Job) -> None:
    raise InputError("is malformed", where="c.jsonl:3", do="mend it")


def fill_the_disk(_: Job) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/scratch/file")


def fail_to_read(_: Job) -> None:
    raise OSError(errno.EIO, "Input/output error")


def be_interrupted(_: Job) -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No index of a scheduler; signals are afterwards what they were before."""
    for variable in (*INDEX_VARIABLES, OFFSET_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    tree = {
        "name": "small",
        "store": str(tmp_path / "store"),
        "corpus": {"chunks": "none.jsonl"},
        "model": {"base": "none"},
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def told(config: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((config.parent / "store" / "told.json").read_text())
    return found


# --- exit codes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode, code, words",
    [
        (record, EXIT_DONE, "embed: 0."),
        (raise_a_bug, EXIT_BUG, "ZeroDivisionError: a bug"),
        (fail_to_read, EXIT_TRY_AGAIN, "a disk failed ([Errno 5] Input/output error); run again"),
        (refuse_the_input, EXIT_CHANGE_SOMETHING, "error: c.jsonl:3: is malformed; mend it\n"),
        (miss_the_gate, EXIT_GATE_NOT_MET, "error: the audit failed; look at report.json\n"),
        (find_storage_down, EXIT_TRY_AGAIN, "error: storage does not answer\n"),
        (fill_the_disk, EXIT_TRY_AGAIN, "error: /scratch/file: no space left; free disk space"),
        (be_interrupted, 130, "interrupted; run again to continue"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_happens_to_the_mode_is_the_exit_code(
    mode: object, code: int, words: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = getattr(mode, "__name__", "")
    assert replace(DOOR, run=f"{__name__}:{name}").main([str(config)]) == code
    printed = capsys.readouterr()
    assert words in printed.err
    assert ("Traceback" in printed.err) == (code == EXIT_BUG)
    assert printed.out == ""


def test_the_codes_are_those_that_schedulers_are_told() -> None:
    assert (EXIT_DONE, EXIT_BUG, EXIT_CHANGE_SOMETHING) == (0, 1, 2)
    assert (EXIT_GATE_NOT_MET, EXIT_TRY_AGAIN) == (3, 75)
    assert set(EXIT_CODES) == {0, 1, 2, 3, 75}


def test_the_process_ends_with_the_code(config: Path) -> None:
    program = f"import sys; from {__name__} import DOOR; sys.exit(DOOR.main([{str(config)!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", program.replace("import DOOR", "import DOOR, replace")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_DONE, done.stderr
    assert done.stdout == ""
    bug = program.replace(
        "DOOR.main", f"__import__('dataclasses').replace(DOOR, run='{__name__}:raise_a_bug').main"
    )
    done = subprocess.run(
        [sys.executable, "-c", bug], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_BUG
    assert done.stderr.rstrip().endswith("ZeroDivisionError: a bug")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["train.learning_rat=1"], "unknown key train.learning_rat; did you mean train.learning_r"),
        (["train.epochs=0"], "run.yaml: train.epochs: "),
        (["train"], "cannot read the override 'train'; write section.key=value"),
    ],
)
def test_a_bad_config_is_refused_before_anything_is_made(
    arguments: list[str], words: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = replace(DOOR, run="no.such.module:run")  # importing it would be a bug, exit 1
    assert missing.main([str(config), *arguments]) == EXIT_CHANGE_SOMETHING
    assert words in capsys.readouterr().err
    assert not (config.parent / "store").exists()
    assert missing.main([str(config.parent / "no.yaml")]) == EXIT_CHANGE_SOMETHING
    assert "no.yaml: cannot read the config (No such file" in capsys.readouterr().err


def test_the_scratch_folder_is_removed_whatever_happens(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert DOOR.main([str(config)]) == EXIT_DONE
    assert str(told(config)["scratch"]).startswith(str(tmp_path / "tmp" / "codex-forge-embed-"))
    assert replace(DOOR, run=f"{__name__}:raise_a_bug").main([str(config)]) == EXIT_BUG
    assert list((tmp_path / "tmp").iterdir()) == []


# --- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["CONFIG", "seed=8", "train.epochs=3", "--force", "--shards", "4"],
        ["--force", "--shards", "4", "CONFIG", "seed=8", "train.epochs=3"],
        ["CONFIG", "--force", "seed=8", "--shards", "4", "train.epochs=3"],
        ["--shards=4", "CONFIG", "seed=1", "--force", "train.epochs=3", "seed=8"],
    ],
)
def test_options_may_stand_anywhere(
    arguments: list[str], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    given = [str(config) if word == "CONFIG" else word for word in arguments]
    assert DOOR.main(given) == EXIT_DONE
    found = told(config)
    assert (found["seed"], found["epochs"]) == (8, 3.0)
    assert (found["force"], found["shard"], found["shards"]) == (True, 2, 4)


@pytest.mark.parametrize("arguments", [[], ["c.yaml", "--shards", "two"], ["c.yaml", "--forc3"]])
def test_wrong_usage_exits_2_and_shows_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        DOOR.main(arguments)
    assert ended.value.code == EXIT_CHANGE_SOMETHING
    assert "usage: python -m jobs.embed" in capsys.readouterr().err


# --- shards ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment, shards, shard",
    [
        ({}, 1, 0),
        ({"JOB_COMPLETION_INDEX": "0"}, 3, 0),
        ({"JOB_COMPLETION_INDEX": "2"}, 3, 2),
        ({"SLURM_ARRAY_TASK_ID": "1"}, 3, 1),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "1"}, 3, 1),
        ({"SLURM_ARRAY_TASK_ID": "1", OFFSET_VARIABLE: "1000"}, 1002, 1001),
        ({"SLURM_ARRAY_TASK_ID": "1", OFFSET_VARIABLE: ""}, 3, 1),
        ({"SLURM_ARRAY_TASK_ID": "5"}, 1, 0),  # an array of something else: not sharded
    ],
)
def test_the_index_of_a_shard_comes_from_the_scheduler(
    environment: dict[str, str],
    shards: int,
    shard: int,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert DOOR.main([str(config), "--shards", str(shards)]) == EXIT_DONE
    assert (told(config)["shard"], told(config)["shards"]) == (shard, shards)


@pytest.mark.parametrize(
    "variable, value, shards, words",
    [
        ("", "", "3", "--shards 3 needs an index; set JOB_COMPLETION_INDEX or SLURM_ARRAY_TASK_ID"),
        ("JOB_COMPLETION_INDEX", "3", "3", "JOB_COMPLETION_INDEX=3 is not an index below --shards"),
        ("SLURM_ARRAY_TASK_ID", "3", "3", "SLURM_ARRAY_TASK_ID=3 is not an index below --shards 3"),
        ("SLURM_ARRAY_TASK_ID", "-1", "3", "=-1 is not an index below"),
        ("JOB_COMPLETION_INDEX", "", "3", "= is not an index below"),
        ("JOB_COMPLETION_INDEX", "one", "3", "=one is not an index below"),
        ("JOB_COMPLETION_INDEX", "0", "0", "--shards 0 must be at least 1"),
        ("JOB_COMPLETION_INDEX", "0", "-2", "--shards -2 must be at least 1"),
    ],
)
def test_an_index_that_cannot_be_is_refused(
    variable: str,
    value: str,
    shards: str,
    words: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if variable:
        monkeypatch.setenv(variable, value)
    assert DOOR.main([str(config), f"--shards={shards}"]) == EXIT_CHANGE_SOMETHING
    assert words in capsys.readouterr().err
    assert not (config.parent / "store").exists()


def test_a_mode_that_is_not_sharded_says_so(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    whole = replace(DOOR, sharded=False)
    assert whole.main([str(config), "--shards", "2"]) == EXIT_CHANGE_SOMETHING
    assert capsys.readouterr().err == "error: embed cannot be sharded; leave --shards out\n"
    assert whole.main([str(config), "--shards", "1"]) == EXIT_DONE


@pytest.mark.parametrize(
    "offset, words",
    [
        ("2", f"SLURM_ARRAY_TASK_ID=1 + {OFFSET_VARIABLE}=2 is not an index below --shards 3"),
        ("-1", f"SLURM_ARRAY_TASK_ID=1 + {OFFSET_VARIABLE}=-1 is not an index below"),
        ("\u00b2", "is not an index below"),
    ],
)
def test_an_offset_beyond_the_shards_is_refused(
    offset: str,
    words: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv(OFFSET_VARIABLE, offset)
    assert DOOR.main([str(config), "--shards", "3"]) == EXIT_CHANGE_SOMETHING
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, code, ending",
    [
        ([], EXIT_CHANGE_SOMETHING, "; run python -m jobs.pairs\n"),
        (["--await-inputs"], EXIT_TRY_AGAIN, "; it is awaited\n"),
    ],
)
def test_an_input_that_is_not_made_yet_is_awaited_where_that_is_asked(
    flags: list[str], code: int, ending: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    door = replace(DOOR, run=f"{__name__}:read_pairs")
    assert door.main([str(config), *flags]) == code
    said = capsys.readouterr().err
    assert "there is no pairs artifact 'small'" in said
    assert said.endswith(ending)


# --- again -----------------------------------------------------------------------------------


def test_the_same_job_again_is_a_no_op_that_says_so(
    corpus: Corpus, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    config = corpus.write()
    store = corpus.folder / "store"
    assert knock("pairs", config) == EXIT_DONE
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    capsys.readouterr()
    assert knock("pairs", config) == EXIT_DONE
    assert re.search(
        f"already done: {store}/pairs/small, fingerprint [0-9a-f]{{12}}\n", capsys.readouterr().err
    )
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before

    assert knock("pairs", config, "pairs.positives_per_query=1") == EXIT_CHANGE_SOMETHING
    assert "pairs.positives_per_query was 3, now 1; choose another name" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before
    assert knock("pairs", config, "pairs.positives_per_query=1", "--force") == EXIT_DONE
    made = open_artifact(Store(str(store)), "pairs", "small", corpus.folder)
    assert made.manifest.settings["pairs"]["positives_per_query"] == 1
    assert made.manifest.config["pairs"]["positives_per_query"] == 1


# --- signals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_job_that_is_stopped_can_be_run_again(number: signal.Signals, tmp_path: Path) -> None:
    tree = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    tree["store"] = str(tmp_path / "store")
    tree["corpus"] = {
        "chunks": str(SAMPLE / "chunks.jsonl"),
        "indexes": str(SAMPLE / "disease_index.json"),
        "questions": str(SAMPLE / "questions.json"),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "tmp").mkdir()
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs.pairs", str(tmp_path / "run.yaml")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stderr is not None
    with job, job.stderr:
        begun = any("records set aside" in line for line in job.stderr)
        assert begun, "it did not begin"
        job.send_signal(number)
        for again in (signal.SIGTERM, signal.SIGUSR1) * 10:  # a second one does no harm
            job.send_signal(again)
            time.sleep(0.01)
        said = job.stderr.read()
    assert job.returncode == EXIT_TRY_AGAIN, said
    # Of signals that wait together Python takes the lowest number first.
    assert re.search("error: stopped by SIG(TERM|USR1); run again to continue", said), said
    assert "Traceback" not in said
    assert not list((tmp_path / "store").rglob("manifest*"))
    assert list((tmp_path / "tmp").iterdir()) == [], "scratch files were left"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_the_work_where_it_is(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = []

    def work() -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        with suppress(Exception):  # as logging does, and many a library
            time.sleep(20)
        reached.append("the end")

    assert guarded(work) == EXIT_TRY_AGAIN
    os.kill(os.getpid(), signal.SIGTERM)  # ignored: the process is on its way out
    assert not reached
    assert capsys.readouterr().err == f"error: stopped by {number.name}; run again to continue\n"
