"""The doors: each explains itself, and answers a mistake before it moves any furniture."""

from __future__ import annotations

import ast
import importlib
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from codex_forge.artifact import open_artifact
from codex_forge.config import RunConfig, keys_of
from codex_forge.errors import (
    EXIT_CHANGE_SOMETHING,
    EXIT_CODES,
    EXIT_DONE,
    EXIT_GATE_NOT_MET,
)
from codex_forge.job import Door
from codex_forge.storage import Store
from jobs.__main__ import ASKING, LAUNCHERS, MANY, ORDER
from tests.conftest import ROOT, Corpus, Knock, run_module

FILES = sorted({p.stem for p in (ROOT / "jobs").glob("[!_]*.py")} - {*LAUNCHERS, *ASKING})

# What each mode says when the artifact (for `pairs`: the file) that it reads is not there.
MISSING = {
    "pairs": "chunks.jsonl: no such file; check the path in the config",
    "audit": "there is no pairs artifact 'small'; run python -m jobs.pairs",
    "train": "there is no pairs artifact 'small'; run python -m jobs.pairs",
    "embed": "there is no train artifact 'small'; run python -m jobs.train",
    "evaluate": "there is no pairs artifact 'small'; run python -m jobs.pairs",
    "compare": "there is no evaluate artifact 'small-base', 'small'; for small-base run jobs.embed "
    "and then jobs.evaluate with embed.model=base; for small run jobs.evaluate",
    "sweep": "there is no compare artifact 'small'; run the modes up to compare for this config, "
    "or give --no-gate to start all the same",
}


def door_of(mode: str) -> Door:
    door = importlib.import_module(f"jobs.{mode}").DOOR
    assert isinstance(door, Door)
    return door


def test_every_door_is_listed_and_nothing_else() -> None:
    assert sorted((*ORDER, *MANY)) == FILES == sorted(MISSING)


@pytest.mark.parametrize("arguments", [(), ("list",), ("--help",)])
def test_the_modes_are_listed_in_the_order_of_a_run(arguments: tuple[str, ...]) -> None:
    told = run_module("jobs", *arguments)
    assert told.returncode == EXIT_DONE
    assert re.findall(r"^  python -m jobs\.(\w+) +CONFIG\.yaml   \S", told.stdout, re.M) == [
        *ORDER,
        *MANY,
    ]
    assert told.stderr == ""


def test_an_unknown_command_exits_2() -> None:
    told = run_module("jobs", "trian")
    assert told.returncode == EXIT_CHANGE_SOMETHING
    assert "error: unknown command 'trian'" in told.stderr
    assert "python -m jobs.train" in told.stdout


@pytest.mark.parametrize("name", [*ORDER, *MANY, *ASKING])
def test_a_mode_is_a_command_too(name: str) -> None:
    """The entry point of the image: `docker run IMAGE train ...`."""
    command, module = (run_module(*way, "--help") for way in (("jobs", name), (f"jobs.{name}",)))
    assert command.returncode == EXIT_DONE
    assert command.stdout == module.stdout


def test_torchrun_is_a_command_too() -> None:
    told = run_module("jobs", "torchrun", "--nproc-per-node", "none")
    assert told.returncode == EXIT_CHANGE_SOMETHING
    assert "the following arguments are required: training_script" in told.stderr


@pytest.mark.parametrize("mode", FILES)
def test_a_door_is_named_after_its_mode(mode: str) -> None:
    door = door_of(mode)
    assert door.mode == mode
    module, function = door.run.split(":")
    assert module.split(".")[:2] == ["codex_forge", mode]
    path = ROOT / (module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text())
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert set(door.sections) <= set(RunConfig.model_fields)
    assert mode in {*door.sections} or mode not in RunConfig.model_fields


@pytest.mark.parametrize("mode", FILES)
def test_the_docstring_of_a_door_names_its_command(mode: str) -> None:
    told = ast.get_docstring(ast.parse((ROOT / "jobs" / f"{mode}.py").read_text())) or ""
    commands = re.findall(r"^ *python -m jobs\.(\w+) (\S+)((?: \S+=\S+)*)", told, re.M)
    assert commands
    for name, config, overrides in commands:
        assert name == mode
        assert (ROOT / config).is_file()
        for override in overrides.split():
            assert override.split("=")[0] in dict(keys_of(RunConfig))
    assert f"<store>/{mode}/<name>/" in told
    assert "reads " in told
    assert "writes " in told


@pytest.mark.parametrize("mode", FILES)
def test_help_shows_the_keys_of_its_sections_and_the_exit_codes(
    mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        door_of(mode).main(["--help"])
    assert ended.value.code == EXIT_DONE
    told = capsys.readouterr().out
    assert told.startswith(f"usage: python -m jobs.{mode} ")
    shown = set(re.findall(r"^  ([a-z_]+(?:(?:\[\])?\.[a-z_0-9]+)*)  \(", told, re.M))
    sections = {"name", "store", "seed", *door_of(mode).sections}
    assert shown == {key for key, _ in keys_of(RunConfig) if key.split(".")[0] in sections}
    assert "PydanticUndefined" not in told
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in told


@pytest.mark.parametrize("mode", FILES)
def test_a_mistake_is_answered_without_torch_and_nothing_is_written(
    mode: str, tmp_path: Path
) -> None:
    """One process imports every door, then meets a bad config, then a missing input."""
    config = write_config(tmp_path)
    if mode != "pairs":
        (tmp_path / "chunks.jsonl").write_text('{"text": "x", "filename": "x.md"}\n')
    program = f"""
import importlib, json, sys
doors = {{mode: importlib.import_module("jobs." + mode).DOOR for mode in {FILES!r}}}
bad = doors[{mode!r}].main([{str(config)!r}, "train.learning_rat=1"])
missing = doors[{mode!r}].main([{str(config)!r}])
heavy = {{"torch", "transformers", "sentence_transformers", "datasets", "accelerate"}}
print(json.dumps([bad, missing, sorted(heavy & set(sys.modules))]))
"""
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code = EXIT_GATE_NOT_MET if mode == "sweep" else EXIT_CHANGE_SOMETHING
    assert json.loads(told.stdout) == [EXIT_CHANGE_SOMETHING, code, []]
    first, second = told.stderr.splitlines()
    assert first == (
        f"error: {config}: unknown key train.learning_rat; did you mean train.learning_rate?"
    )
    assert second.startswith("error: ")
    assert second.endswith(MISSING[mode])
    assert not (tmp_path / "store").exists()


def test_the_answer_comes_soon(tmp_path: Path) -> None:
    """Times are printed, not judged: machines differ."""
    config = write_config(tmp_path)
    for arguments in (["--help"], [str(config), "trian=1"], [str(config)]):
        seconds = []
        for _ in range(3):
            started = time.monotonic()
            told = run_module("jobs.train", *arguments)
            seconds.append(time.monotonic() - started)
            assert told.returncode == (EXIT_DONE if arguments == ["--help"] else 2)
        print(f"jobs.train {arguments}: median of 3: {statistics.median(seconds):.2f} s")  # noqa: T201


def write_config(folder: Path) -> Path:
    """A config whose values are good, and whose inputs are not there."""
    tree = {
        "name": "small",
        "store": str(folder / "store"),
        "corpus": {"chunks": str(folder / "chunks.jsonl")},
        "model": {"base": str(folder / "no-model")},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_failed_audit_exits_3(corpus: Corpus, knock: Knock) -> None:
    """The one gate that needs no model: more text is cut off than the config allows."""
    config = corpus.write()
    assert knock("pairs", config) == EXIT_DONE
    tight = ["model.max_seq_length=8", "audit.max_truncated_share=0"]
    assert knock("audit", config, *tight) == 3
    audit = open_artifact(Store(str(corpus.folder / "store")), "audit", "small", corpus.folder)
    report = json.loads(audit.path("report.json").read_text())
    assert report["verdict"] == "fail"
