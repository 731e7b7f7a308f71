"""What `status` says of a store, and what `gc` takes: only what nothing needs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact, places
from codex_forge.artifact import leftovers as leftovers_module
from codex_forge.artifact.lease import Holder, encode, lease_path
from codex_forge.artifact.places import KINDS
from codex_forge.errors import EXIT_CHANGE_SOMETHING, EXIT_DONE
from codex_forge.storage import Store
from codex_forge.upkeep import describe, garbage, remove_garbage, size_text, status
from jobs.__main__ import MANY, ORDER
from tests.conftest import run_module


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def recipe(name: str = "wiki", seed: int = 7) -> Recipe:
    return Recipe("train", name, {"seed": seed}, {})


def draft_of(
    store: Store, cache: Path, wanted: Recipe, shard: int = 0, shards: int = 1, force: bool = False
) -> Draft:
    draft = begin(store, wanted, cache, shard=shard, shards=shards, force=force)
    assert isinstance(draft, Draft)
    return draft


def make(store: Store, cache: Path, wanted: Recipe, shard: int = 0, shards: int = 1) -> None:
    draft = draft_of(store, cache, wanted, shard, shards)
    draft.path(f"part-{shard}").write_text("content")
    draft.commit({})


def checkpoint(draft: Draft, step: int) -> None:
    folder = draft.folder.parent / f"step-{step}"
    folder.mkdir()
    (folder / "weights").write_text("weights")
    draft.work.checkpoints(2).save(step, folder)


def told(store: Store) -> str:
    return "\n".join(describe(status(store)))


def test_an_empty_store_has_nothing(store: Store) -> None:
    assert status(store) == []
    assert garbage(store, partial=True) == []


def test_each_state_has_its_word(store: Store, tmp_path: Path) -> None:
    make(store, tmp_path, recipe("whole"))
    make(store, tmp_path, recipe("shards"), shard=1, shards=3)
    stopped = draft_of(store, tmp_path, recipe("stopped"))
    checkpoint(stopped, 120)
    stopped.lease.release(75, "stopped by SIGTERM")
    make(store, tmp_path, recipe("damaged"))
    store.write("train/damaged/v1/manifest.json", b"{")
    make(store, tmp_path, recipe("short"))
    store.write("train/short/v1/part-0", b"")
    store.write("notes/of/people.txt", b"hello")
    assert {report.folder: report.state for report in status(store)} == {
        "train/damaged": "damaged",
        "train/shards": "partial",
        "train/short": "damaged",
        "train/stopped": "unfinished",
        "train/whole": "whole",
    }
    text = told(store)
    assert "1 of 3 shards" in text
    assert "kept to go on from: checkpoint of step 120" in text
    assert "last exit 75" in text
    assert "stopped by SIGTERM" in text
    assert store.url("train/whole/v1") in text


def test_a_writer_is_named(store: Store, tmp_path: Path) -> None:
    draft = draft_of(store, tmp_path, recipe())
    assert f"being made by process {os.getpid()} on" in told(store)
    gone = replace(Holder.this_process(), process=2**22 + 1)  # above the largest process number
    store.write(lease_path("train/wiki", 1), encode(gone))
    assert "left by process 4194305" in told(store)
    draft.lease.release(0)


def test_gc_takes_what_nothing_needs_and_nothing_else(store: Store, tmp_path: Path) -> None:
    make(store, tmp_path, recipe())
    before = set(store.list("train"))
    assert garbage(store) == []
    store.write("train/wiki/v9/half", b"never finished")
    store.write("train/wiki/leases/000000.json", b"{}")
    store.write("train/wiki/notes.txt", b"not ours")
    store.write("train/lettings/leases/12.json", b"not a lease of this program's")
    store.write("models/llama/checkpoints/step/weights", b"not ours")
    store.write("api/users/v1/schema.json", b"not ours")
    found = garbage(store)
    assert {item.path for item in found} == {
        "train/wiki/v9/half",
        "train/wiki/leases/000000.json",
    }
    assert set(remove_garbage(store, partial=True)) == set(found)
    others = {"train/wiki/notes.txt", "train/lettings/leases/12.json"}
    assert set(store.list("train")) == before | others
    assert len(store.list("models") + store.list("api")) == 2
    assert open_artifact(store, "train", "wiki", tmp_path).path("part-0").read_text() == "content"


def test_gc_leaves_what_a_job_would_go_on_from_unless_told(store: Store, tmp_path: Path) -> None:
    stopped = draft_of(store, tmp_path, recipe())
    checkpoint(stopped, 3)
    assert garbage(store, partial=True) == []  # it is being written
    stopped.lease.release(75)
    assert garbage(store) == []
    # All but the last word of the last writer: tokens go on from there.
    taken = {item.path for item in garbage(store, partial=True)}
    assert set(store.list("train")) - taken == {lease_path("train/wiki", 1)}


def test_gc_leaves_the_work_on_a_replacement(store: Store, tmp_path: Path) -> None:
    make(store, tmp_path, recipe())
    forced = draft_of(store, tmp_path, recipe(seed=8), force=True)
    checkpoint(forced, 3)
    forced.lease.release(75)
    assert [g for g in garbage(store) if "checkpoints" in g.path] == []
    assert [g for g in garbage(store, partial=True) if "checkpoints" in g.path] != []
    assert open_artifact(store, "train", "wiki", tmp_path).manifest.settings == {"seed": 7}


def test_the_commands_show_first_and_delete_when_told(store: Store, tmp_path: Path) -> None:
    make(store, tmp_path, recipe())
    store.write("train/wiki/v9/half", b"never finished")
    shown = run_module("jobs", "status", store.root)
    assert (shown.returncode, shown.stderr) == (EXIT_DONE, "")
    assert "train/wiki" in shown.stdout
    tree = json.loads(run_module("jobs", "status", store.root, "--json").stdout)
    assert [report["state"] for report in tree] == ["whole"]
    dry = run_module("jobs", "gc", store.root)
    assert "v9/half" in dry.stdout
    assert "nothing removed" in dry.stdout
    assert store.exists("train/wiki/v9/half")
    wet = run_module("jobs", "gc", store.root, "--delete")
    assert "removed 1 objects" in wet.stdout
    assert not store.exists("train/wiki/v9/half")
    (tmp_path / "empty").mkdir()
    assert "no artifacts" in run_module("jobs", "status", str(tmp_path / "empty")).stdout
    slip = run_module("jobs", "status", str(tmp_path / "slip"))
    assert slip.returncode == EXIT_CHANGE_SOMETHING
    assert "there is no such folder" in slip.stderr
    assert run_module("jobs", "status").returncode == EXIT_CHANGE_SOMETHING
    wrong = run_module("jobs", "gc", "ftp://somewhere")
    assert wrong.returncode == EXIT_CHANGE_SOMETHING
    assert "ftp:// is not supported" in wrong.stderr


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB")]
)
def test_sizes_are_for_people(size: float, text: str) -> None:
    assert size_text(size) == text


def test_gc_leaves_what_it_cannot_read(store: Store, tmp_path: Path) -> None:
    """A later program's artifact, or one whose manifest is refused at this moment, may be whole."""
    make(store, tmp_path, recipe())
    tree = json.loads(store.read("train/wiki/v1/manifest.json"))
    store.write("train/wiki/v1/manifest.json", json.dumps({**tree, "more": 1}).encode())
    assert [report.state for report in status(store)] == ["damaged"]
    assert garbage(store, partial=True) == []


def test_gc_and_a_writer_that_commits_meanwhile(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was listed as unfinished is finished by the time it would be removed."""
    make(store, tmp_path, recipe())
    forced = draft_of(store, tmp_path, recipe(), force=True)
    forced.path("part-0").write_text("new")
    store.write(f"train/wiki/{forced.lease.version}/part-0", b"new")
    real: Any = places.versions
    committed: list[Any] = []

    def committing(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        if not committed:
            committed.append(forced.commit({}))
        return found

    monkeypatch.setattr(leftovers_module, "versions", committing)
    remove_garbage(store)
    monkeypatch.undo()
    made = open_artifact(store, "train", "wiki", tmp_path)
    assert made.path("part-0").read_text() == "new"
    assert isinstance(begin(store, recipe(), tmp_path, force=False), Artifact)


def test_the_kinds_of_artifacts_are_the_modes() -> None:
    assert (*ORDER, *MANY) == KINDS
