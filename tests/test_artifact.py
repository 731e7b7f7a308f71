"""Artifacts: data first, manifest last, and nothing that is not what its manifest promises."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_forge.artifact import (
    Artifact,
    Block,
    Draft,
    Input,
    Manifest,
    Recipe,
    begin,
    is_whole,
    open_artifact,
)
from codex_forge.errors import EXIT_CHANGE_SOMETHING, InputError, StorageDown
from codex_forge.storage import Store
from codex_forge.storage.faults import PATIENCE_VARIABLE
from tests.conftest import ROOT
from tests.kill import killed_at

CORPUS = Input("file", "c.jsonl", "f" * 64, "d" * 64)
SETTINGS = {"seed": 7, "train": {"epochs": 1.0, "phases": ["easy", "hard"]}}
FILES = {"a.txt": "alpha", "model/b.bin": "beta", "model/deep/c.txt": "gamma"}


def recipe(
    name: str = "small",
    settings: Mapping[str, Any] = SETTINGS,
    inputs: Mapping[str, Input] | None = None,
) -> Recipe:
    return Recipe("train", name, settings, inputs or {"corpus": CORPUS}, {"name": name})


def make(
    store: Store,
    cache: Path,
    wanted: Recipe | None = None,
    files: Mapping[str, str] = FILES,
    *,
    volatile: tuple[str, ...] = (),
    shard: int = 0,
    shards: int = 1,
    force: bool = False,
) -> Manifest:
    """Begin, commit, and let go, with the files given."""
    draft = begin(store, wanted or recipe(), cache, shard=shard, shards=shards, force=force)
    assert isinstance(draft, Draft), draft
    for name, text in files.items():
        draft.path(name).write_text(text)
    made = draft.commit({"files": len(files)}, {"verdict": "pass"}, volatile)
    draft.lease.release(0)
    return made


def place(made: Manifest, name: str = "manifest.json") -> str:
    """Where a file of a version is in the store; the manifest, when none is named."""
    slot = "" if made.shards == 1 else f"shard-{made.shard:05d}-of-{made.shards:05d}/"
    return f"{made.kind}/{made.name}/{slot}{made.version}/{name}"


def left(store: Store, name: str = "small") -> list[str]:
    """All that is there of an artifact but its leases."""
    return [path for path in store.list(f"train/{name}") if "/leases/" not in path]


def opened(store: Store, cache: Path, name: str = "small") -> Artifact:
    return open_artifact(store, "train", name, cache)


def refusal(store: Store, cache: Path, wanted: Recipe) -> str:
    with pytest.raises(InputError) as refused:
        begin(store, wanted, cache, force=False)
    assert refused.value.exit_code == EXIT_CHANGE_SOMETHING
    return str(refused.value)


# --- there and back --------------------------------------------------------------------------


def test_what_is_committed_is_opened(store: Store, cache: Path) -> None:
    made = make(store, cache)
    artifact = opened(store, cache)
    assert artifact.manifest == made
    assert artifact.files == sorted(FILES)
    assert {name: artifact.path(name).read_text() for name in FILES} == FILES
    assert artifact.counts == {"files": 3}
    assert artifact.manifest.summary == {"verdict": "pass"}
    assert artifact.manifest.settings == SETTINGS
    assert artifact.manifest.inputs == {"corpus": CORPUS}
    assert artifact.manifest.versions["codex-forge"]
    assert artifact.url == f"{store.root}/train/small"
    assert artifact.version_url == f"{store.root}/train/small/{made.version}"
    assert artifact.as_input() == Input("train", "small", made.fingerprint, made.digest)
    assert re.fullmatch("v1" if store.is_local else "v1-[0-9a-f]{8}", made.version)
    assert (made.token, made.generation) == (1, 1)
    assert store.list("train/small") == [
        "train/small/leases/000001.json",
        *(place(made, name) for name in ["a.txt", "manifest.json"]),
        *(place(made, name) for name in ["model/b.bin", "model/deep/c.txt"]),
    ]


def test_a_folder_of_an_artifact_is_local_and_whole(store: Store, cache: Path) -> None:
    make(store, cache)
    folder = opened(store, cache).path_of_folder("model")
    assert (folder / "b.bin").read_text() == "beta"
    assert (folder / "deep" / "c.txt").read_text() == "gamma"
    with pytest.raises(InputError, match=r"has no folder mod$"):
        opened(store, cache).path_of_folder("mod")


def test_the_same_thing_has_the_same_hashes_on_any_store(
    local: Store, bucket: str, cache: Path
) -> None:
    here = make(local, cache)
    there = make(Store(bucket), cache, recipe("other"), dict(reversed(FILES.items())))
    assert (here.fingerprint, here.digest) == (there.fingerprint, there.digest)


# --- manifest last ---------------------------------------------------------------------------


def test_without_a_manifest_there_is_nothing(store: Store, cache: Path) -> None:
    with pytest.raises(InputError) as missing:
        opened(store, cache)
    assert str(missing.value) == (
        f"{store.root}/train/small: there is no train artifact 'small'; run python -m jobs.train"
    )
    store.delete(place(make(store, cache)))
    with pytest.raises(InputError, match="there is no train artifact 'small'"):
        opened(store, cache)
    assert not is_whole(store, recipe())
    make(store, cache)
    assert is_whole(store, recipe())


def test_a_manifest_that_cannot_be_written_leaves_no_artifact(local: Store, cache: Path) -> None:
    draft = begin(local, recipe(), cache, force=False)
    assert isinstance(draft, Draft)
    draft.path("a.txt").write_text("alpha")
    blocked = Path(local.url("train/small/v1/manifest.json/in-the-way"))
    blocked.parent.mkdir(parents=True)  # a folder where the manifest is to be
    with pytest.raises(InputError, match="not usable as a store"):
        draft.commit({})
    assert local.read("train/small/v1/a.txt") == b"alpha"
    with pytest.raises(InputError, match="there is no train artifact"):
        opened(local, cache)
    blocked.parent.rmdir()
    draft.commit({})
    draft.lease.release(0)
    assert opened(local, cache).path("a.txt").read_text() == "alpha"


@pytest.mark.parametrize("force", [False, True])
def test_a_process_killed_before_the_manifest_leaves_what_was_there(
    local: Store, cache: Path, force: bool
) -> None:
    before = {"a": "old", "b": "old", "stale": "x"}
    if force:  # replacing: the old one stands until the new one does
        make(local, cache, recipe(settings={"seed": 1}), before)
    program = f"""
import resource, signal
from pathlib import Path
from codex_forge.artifact import Input, Recipe, begin
from codex_forge.storage import Store
wanted = Recipe("train", "small", {SETTINGS!r}, {{"corpus": {CORPUS!r}}})
draft = begin(Store({local.root!r}), wanted, Path({str(cache)!r}), force={force})
for name in "abc":
    draft.path(name).write_text("new" if name != "c" else "new" * 1_000_000)
# From here the kernel kills the process when a file grows beyond 1 MB: within the upload of `c`.
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
draft.commit({{}})
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGXFSZ, done.stderr
    cut_off = "v2" if force else "v1"
    assert local.read(f"train/small/{cut_off}/b") == b"new"
    if force:
        assert contents(opened(local, cache)) == before
    else:
        with pytest.raises(InputError, match="there is no train artifact 'small'"):
            opened(local, cache)
    again = make(local, cache, files={"a": "again", "b": "again"}, force=force)
    assert contents(opened(local, cache)) == {"a": "again", "b": "again"}
    assert left(local) == [place(again, name) for name in ("a", "b", "manifest.json")]


def contents(artifact: Artifact) -> dict[str, str]:
    """What is in all files of an artifact, each checked."""
    return {name: artifact.path(name).read_text() for name in artifact.files}


@pytest.mark.parametrize(
    "store, before, after",
    [
        *(("local", *numbers) for numbers in [(1, 1), (2, 2), (3, 2), (1, 2), (2, 1)]),
        *(("s3", *numbers) for numbers in [(1, 1), (2, 1)]),
    ],
    indirect=["store"],
)
def test_a_replacement_killed_anywhere_leaves_the_old_or_the_new(
    store: Store, tmp_path: Path, before: int, after: int
) -> None:
    """Of a replaced artifact nothing goes before all of the new one is there."""
    cache = tmp_path / "cache"
    cache.mkdir()
    old, new = recipe(settings={"seed": 1}), recipe(settings={"seed": 2})
    files = {seed: {"same": f"{seed}", f"only-{seed}": f"{seed}"} for seed in ("old", "new")}

    def make_all(root: str, what: str, shards: int, force: bool) -> None:
        wanted = old if what == "old" else new
        for shard in range(shards):
            parts = {f"{shard}/{name}": text for name, text in files[what].items()}
            make(Store(root), cache, wanted, parts, shard=shard, shards=shards, force=force)

    def whole(what: str, shards: int) -> dict[str, str]:
        parts = range(shards)
        return {f"{i}/{name}": text for i in parts for name, text in files[what].items()}

    seen: list[str] = []
    killed = True
    while killed:
        root = store.url(f"{len(seen)}")
        make_all(root, "old", before, force=False)
        killed = killed_at(len(seen) + 1, lambda: make_all(root, "new", after, force=True))  # noqa: B023 - called at once
        there = Store(root)
        found = contents(opened(there, cache))
        is_new = is_whole(there, new)
        assert found == (whole("new", after) if is_new else whole("old", before))
        seen.append("new" if is_new else "old")
        if is_new:  # whoever runs it again, without --force, finds it done
            assert isinstance(begin(there, new, cache, force=False), Artifact)
            assert len(left(there)) == after * 3, "it did not tidy up"
        else:
            assert isinstance(begin(there, old, cache, force=False), Artifact)
        make_all(root, "new", after, force=True)
        assert contents(opened(there, cache)) == whole("new", after)
        versions = [path for path in left(there) if path.endswith("/manifest.json")]
        assert len(versions) == after
        assert len(left(there)) == after * 3, "something of the old one was left"
    assert seen == sorted(seen, reverse=True), "once it is new it stays new"
    assert seen.count("old") >= 4 * after
    assert seen.count("new") >= 3


def test_a_reader_during_a_replacement_finds_the_old_or_the_new(store: Store, cache: Path) -> None:
    make(store, cache, files={"a": "0"})
    faults: list[BaseException] = []
    over = threading.Event()

    def read() -> None:
        try:
            while not over.is_set():
                opened(Store(store.root), cache)
        except BaseException as fault:  # noqa: BLE001 - told to the test
            faults.append(fault)

    reader = threading.Thread(target=read)
    reader.start()
    for seed in range(100 if store.is_local else 10):
        make(store, cache, recipe(settings={"seed": seed}), {"a": f"{seed}"}, force=True)
    over.set()
    reader.join()
    assert not faults, faults


# --- again, and otherwise --------------------------------------------------------------------


def test_the_same_recipe_is_a_no_op(store: Store, cache: Path) -> None:
    made = make(store, cache)
    again = begin(store, recipe(), cache, force=False)
    assert isinstance(again, Artifact)
    assert again.manifest == made


@pytest.mark.parametrize(
    "settings, words",
    [
        (
            {"seed": 7, "train": {"epochs": 2.0, "phases": ["easy", "hard"]}},
            "train.epochs was 1.0, now 2.0",
        ),
        (
            {"seed": 7, "train": {"epochs": 1.0, "phases": ["easy"]}},
            "train.phases was ['easy', 'hard'], now ['easy']",
        ),
        ({"seed": 8, "train": SETTINGS["train"]}, "seed was 7, now 8"),
        ({"train": SETTINGS["train"]}, "seed was 7, now None"),
        ({**SETTINGS, "scale": 3}, "scale was None, now 3"),
    ],
)
def test_another_setting_is_named_with_both_values(
    store: Store, cache: Path, settings: dict[str, Any], words: str
) -> None:
    make(store, cache)
    assert refusal(store, cache, recipe(settings=settings)) == (
        f"{store.root}/train/small: holds another train artifact; {words}; "
        "choose another name, or give --force to replace it"
    )


@pytest.mark.parametrize(
    "inputs, changed",
    [
        ({"corpus": replace(CORPUS, digest="e" * 64)}, ["corpus"]),
        ({"corpus": CORPUS, "audit": CORPUS}, ["audit"]),
        ({"audit": CORPUS}, ["audit", "corpus"]),
    ],
)
def test_another_input_is_named_by_its_role(
    local: Store, cache: Path, inputs: dict[str, Input], changed: list[str]
) -> None:
    make(local, cache)
    told = refusal(local, cache, recipe(inputs=inputs))
    assert (
        re.findall(r"its input (\w+) (?:has other content|is new|is no longer given)", told)
        == changed
    )


def test_an_input_of_another_name_and_the_same_content_is_the_same(
    local: Store, cache: Path
) -> None:
    make(local, cache)
    moved = recipe(inputs={"corpus": replace(CORPUS, name="moved/c.jsonl", fingerprint="0" * 64)})
    assert isinstance(begin(local, moved, cache, force=False), Artifact)


def test_force_replaces_and_removes_what_is_stale(store: Store, cache: Path) -> None:
    make(store, cache)
    other = recipe(settings={"seed": 8})
    made = make(store, cache, other, {"a.txt": "new", "d.txt": "delta"}, force=True)
    artifact = opened(store, cache)
    assert artifact.manifest == made
    assert artifact.path("a.txt").read_text() == "new"
    assert store.list("train/small") == [
        "train/small/leases/000002.json",
        *(place(made, name) for name in ["a.txt", "d.txt", "manifest.json"]),
    ]
    assert made.generation == 2


def test_until_the_new_manifest_is_written_force_leaves_the_old_one_whole(
    store: Store, cache: Path
) -> None:
    before = make(store, cache)
    draft = begin(store, recipe(settings={"seed": 8}), cache, force=True)
    assert isinstance(draft, Draft)
    draft.path("a.txt").write_text("new")
    assert opened(store, cache).manifest == before
    store.put(draft.path("a.txt"), f"train/small/{draft.lease.version}/a.txt")
    assert contents(opened(store, cache)) == FILES
    made = draft.commit({})
    draft.lease.release(0)
    assert opened(store, cache).manifest == made
    assert contents(opened(store, cache)) == {"a.txt": "new"}


def test_force_makes_the_same_again(store: Store, cache: Path) -> None:
    before = make(store, cache)
    made = make(store, cache, files={"a.txt": "again"}, force=True)
    assert (made.fingerprint, made.token) == (before.fingerprint, 2)
    assert opened(store, cache).manifest == made
    assert left(store) == [place(made, "a.txt"), place(made)]


def test_an_old_one_that_was_not_yet_removed_is_no_other_artifact(
    local: Store, cache: Path
) -> None:
    """A writer that is killed between the new manifest and the removal of the old one."""
    old = make(local, cache)
    kept = {path: local.read(path) for path in left(local)}
    made = make(local, cache, recipe(settings={"seed": 8}), {"a.txt": "new"}, force=True)
    for path, data in kept.items():
        local.write(path, data)
    assert opened(local, cache).manifest == made
    again = begin(local, recipe(settings={"seed": 8}), cache, force=False)
    assert isinstance(again, Artifact)
    assert again.manifest == made
    assert "seed was 8, now 7" in refusal(local, cache, recipe())
    assert is_whole(local, recipe(settings={"seed": 8}))
    assert not is_whole(local, recipe())
    assert old.generation < made.generation


# --- what was committed before the manifest --------------------------------------------------


def _with_a_block(store: Store, cache: Path, text: str, *, force: bool = False) -> Draft:
    """A draft with one file of its own, and one that was committed as a block."""
    draft = begin(store, recipe(), cache, force=force)
    assert isinstance(draft, Draft)
    blocks = draft.work.blocks("part")
    part = cache / "part.bin"
    part.write_text(text)
    entry = blocks.entry(0, part)
    blocks.put(Block(entry, part))
    draft.path("a.txt").write_text("alpha")
    draft.keep("part-0", entry)
    return draft


def test_a_committed_block_becomes_a_file_where_it_is(store: Store, cache: Path) -> None:
    draft = _with_a_block(store, cache, "first")
    made = draft.commit({})
    draft.lease.release(0)
    assert contents(opened(store, cache)) == {"a.txt": "alpha", "part-0": "first"}
    blocks = [path for path in left(store) if "/blocks/" in path]
    assert left(store) == sorted([place(made, "a.txt"), place(made), *blocks])
    assert len(blocks) == 1
    assert isinstance(begin(store, recipe(), cache, force=False), Artifact)
    store.write(blocks[0], b"f1rst")
    with pytest.raises(InputError, match="part-0 is not what the manifest promises"):
        opened(store, cache / "elsewhere").path("part-0")
    draft = _with_a_block(store, cache, "second", force=True)
    draft.commit({})
    draft.lease.release(0)
    assert contents(opened(store, cache))["part-0"] == "second"
    assert blocks[0] not in left(store)


def test_a_block_that_is_gone_is_never_promised(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.2")
    draft = _with_a_block(store, cache, "lost")
    for path in left(store):
        store.delete(path)
    with pytest.raises(StorageDown, match="shows None; run again"):
        draft.commit({})
    draft.lease.release(75)
    with pytest.raises(InputError, match="there is no train artifact 'small'"):
        opened(store, cache)


# --- damage ----------------------------------------------------------------------------------


def test_one_flipped_byte_is_found(store: Store, cache: Path, tmp_path: Path) -> None:
    made = make(store, cache)
    store.write(place(made, "model/b.bin"), b"bet`")
    promised = next(entry.sha256 for entry in made.files if entry.path == "model/b.bin")
    artifact = opened(store, tmp_path / "elsewhere")
    assert artifact.path("a.txt").read_text() == "alpha"
    reads: list[Callable[[], Path]] = [
        lambda: artifact.path("model/b.bin"),
        lambda: artifact.path_of_folder("model"),
    ]
    for read in reads:
        with pytest.raises(InputError) as damaged:
            read()
        assert f"model/b.bin is not what the manifest promises (sha256 {promised[:12]}" in str(
            damaged.value
        )
        assert str(damaged.value).endswith("make the artifact again with --force")


def test_a_file_that_is_gone_is_missed(store: Store, cache: Path) -> None:
    store.delete(place(make(store, cache), "a.txt"))
    with pytest.raises(InputError, match=r"a\.txt.*(found missing|not found)"):
        opened(store, cache).path("a.txt")
    with pytest.raises(InputError, match="has no file nothing; make it again"):
        opened(store, cache).path("nothing")
    with pytest.raises(InputError, match=r"its file a\.txt is gone; make it again with --force"):
        begin(store, recipe(), cache, force=False)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b"\xff\xfe",
        b"{}",
        b'{"inputs": [], "files": []}',
        b'{"inputs": {}, "files": {"a": 1}}',
        b'{"inputs": {}, "files": [], "from": "the future"}',
    ],
)
def test_a_damaged_manifest_is_explained_and_force_mends_it(
    local: Store, cache: Path, damage: bytes
) -> None:
    path = place(make(local, cache))
    local.write(path, damage)
    where = re.escape(local.url(path))
    words = (
        f"{where}: not a manifest that this version reads .*make the artifact again with --force"
    )
    with pytest.raises(InputError, match=words):
        opened(local, cache)
    with pytest.raises(InputError, match=words):
        begin(local, recipe(), cache, force=False)
    made = make(local, cache, force=True)
    assert opened(local, cache).path("a.txt").read_text() == "alpha"
    assert left(local) == sorted(place(made, name) for name in [*FILES, "manifest.json"])


@pytest.mark.parametrize("shards", [1, 3])
def test_force_mends_a_damaged_manifest_of_another_number_of_shards(
    local: Store, cache: Path, shards: int
) -> None:
    for shard in range(2):
        made = make(local, cache, files={f"part-{shard}": "x"}, shard=shard, shards=2)
    local.write(place(made), b"{")
    for shard in range(shards):
        make(local, cache, files={f"{shard}": "y"}, shard=shard, shards=shards, force=True)
    assert opened(local, cache).files == [f"{shard}" for shard in range(shards)]
    assert len(left(local)) == 2 * shards


@pytest.mark.parametrize(
    "elsewhere", ["v2", "v1-0123abcd", "shard-00000-of-00002/v1", "shard-00001-of-00002/v1"]
)
def test_a_manifest_copied_to_another_place_is_refused(
    local: Store, cache: Path, elsewhere: str
) -> None:
    made = make(local, cache)
    local.write(f"train/small/{elsewhere}/manifest.json", local.read(place(made)))
    with pytest.raises(InputError, match=r"of v1 \(shard 0 of 1\): a copy under another name"):
        opened(local, cache)


def test_an_artifact_copied_to_another_name_is_refused(local: Store, cache: Path) -> None:
    make(local, cache)
    for path in left(local):
        local.write(path.replace("small", "other"), local.read(path))
    with pytest.raises(InputError, match="is of train 'small': a copy under another name"):
        opened(local, cache, "other")


def test_a_manifest_that_lost_a_key_is_refused(local: Store, cache: Path) -> None:
    path = place(make(local, cache))
    tree = json.loads(local.read(path))
    for key in tree:
        less = {other: tree[other] for other in tree if other != key}
        local.write(path, json.dumps(less).encode())
        with pytest.raises(InputError, match=f"not a manifest that this version reads.*{key}"):
            opened(local, cache)


# --- volatile files --------------------------------------------------------------------------


def test_volatile_files_do_not_change_the_digest(store: Store, cache: Path) -> None:
    first = make(store, cache, recipe("one"), {**FILES, "log": "12:00"}, volatile=("log",))
    second = make(store, cache, recipe("two"), {**FILES, "log": "12:01"}, volatile=("log",))
    third = make(store, cache, recipe("three"), {**FILES, "log": "12:01"})
    assert first.digest == second.digest != third.digest
    store.write(place(first, "log"), b"12:02")
    changed = opened(store, cache, "one")
    assert changed.digest == first.digest
    with pytest.raises(InputError, match="log is not what the manifest promises"):
        changed.path("log")


# --- shards ----------------------------------------------------------------------------------


def test_an_artifact_of_shards_is_whole_when_all_are_there(store: Store, cache: Path) -> None:
    for shard in (2, 0):
        make(store, cache, files={f"part-{shard}": str(shard)}, shard=shard, shards=3)
        assert not is_whole(store, recipe())
    with pytest.raises(InputError, match=r"only shards \[0, 2\] of 3 are there; run python -m job"):
        opened(store, cache)
    assert begin(store, recipe(), cache, shard=0, shards=3, force=False) is None
    make(store, cache, files={"part-1": "1"}, shard=1, shards=3)
    assert is_whole(store, recipe())
    artifact = opened(store, cache)
    assert artifact.files == ["part-0", "part-1", "part-2"]
    assert artifact.counts == {"files": 3}
    assert [manifest.shard for manifest in artifact.manifests] == [0, 1, 2]
    assert artifact.path("part-1").read_text() == "1"
    for shard in range(3):
        again = begin(store, recipe(), cache, shard=shard, shards=3, force=False)
        assert isinstance(again, Artifact)


def test_a_whole_artifact_is_whole_for_any_number_of_shards(local: Store, cache: Path) -> None:
    make(local, cache)
    assert isinstance(begin(local, recipe(), cache, shard=1, shards=4, force=False), Artifact)


def test_another_number_of_shards_starts_anew(local: Store, cache: Path) -> None:
    make(local, cache, files={"part-0-of-3": "0"}, shard=0, shards=3)
    make(local, cache, files={"part-1-of-3": "1"}, shard=1, shards=3)
    make(local, cache, files={"part-0-of-2": "0"}, shard=0, shards=2)
    with pytest.raises(InputError, match=r"only shards \[0\] of 2 are there"):
        opened(local, cache)
    make(local, cache, files={"part-1-of-2": "1"}, shard=1, shards=2)
    assert opened(local, cache).files == ["part-0-of-2", "part-1-of-2"]
    assert len(left(local)) == 4, "parts of the old number were left"


def test_a_whole_artifact_stands_until_all_of_another_number_of_shards_are_there(
    store: Store, cache: Path
) -> None:
    for shard in range(3):
        make(store, cache, files={f"old-{shard}": "old"}, shard=shard, shards=3)
    make(store, cache, files={"new-1": "new"}, shard=1, shards=2, force=True)
    assert contents(opened(store, cache)) == {f"old-{shard}": "old" for shard in range(3)}
    make(store, cache, files={"new-0": "new"}, shard=0, shards=2, force=True)
    assert contents(opened(store, cache)) == {"new-0": "new", "new-1": "new"}
    assert len(left(store)) == 4, "parts of the old number were left"
    make(store, cache, files={"one": "new"}, force=True)
    assert contents(opened(store, cache)) == {"one": "new"}
    assert len(left(store)) == 2


def test_shards_that_disagree_are_never_whole(local: Store, cache: Path) -> None:
    """Two tasks that start at once with different settings do not see each other."""
    drafts = [
        begin(local, recipe(settings={"seed": shard}), cache, shard=shard, shards=2, force=False)
        for shard in range(2)
    ]
    kept: dict[str, bytes] = {}
    for draft in drafts:
        assert isinstance(draft, Draft)
        draft.path(f"part-{draft.shard}").write_text("x")
        draft.commit({})
        draft.lease.release(0)
        kept |= {path: local.read(path) for path in left(local)}
    for path, data in kept.items():  # as if none had seen the other when it removed what is old
        local.write(path, data)
    told = "made with different settings, inputs or numbers of shards; run python -m jobs.train --f"
    with pytest.raises(InputError, match=told):
        opened(local, cache)
    with pytest.raises(InputError, match="holds another train artifact; seed was"):
        begin(local, recipe(settings={"seed": 0}), cache, shard=0, shards=2, force=False)


def test_force_on_shards_leaves_the_old_ones_until_all_new_ones_are_there(
    store: Store, cache: Path
) -> None:
    for shard in range(2):
        make(store, cache, files={f"part-{shard}": "old"}, shard=shard, shards=2)
    other = recipe(settings={"seed": 8})
    make(store, cache, other, {"part-0": "new"}, shard=0, shards=2, force=True)
    assert contents(opened(store, cache)) == {"part-0": "old", "part-1": "old"}
    assert not is_whole(store, other)
    make(store, cache, other, {"part-1": "new"}, shard=1, shards=2, force=True)
    assert contents(opened(store, cache)) == {"part-0": "new", "part-1": "new"}
    assert is_whole(store, other)
    assert len(left(store)) == 4, "old parts were left"


# --- the fingerprint -------------------------------------------------------------------------

words = st.text("abc", min_size=1, max_size=2)
leaves = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.5]) | words
trees = st.dictionaries(
    words,
    leaves | st.lists(leaves, max_size=2) | st.dictionaries(words, leaves, max_size=2),
    max_size=3,
)
digests = st.dictionaries(words, st.sampled_from(["x", "y"]), max_size=2)


def _canonical(settings: object, inputs: object) -> str:
    return json.dumps([settings, inputs], sort_keys=True)


def _fingerprint(name: str, settings: dict[str, Any], inputs: dict[str, str]) -> str:
    given_ = {role: Input("file", name, name, digest) for role, digest in inputs.items()}
    return Recipe("train", name, settings, given_, {"store": name}).fingerprint


@given(trees, digests, trees, digests)
def test_the_fingerprint_changes_with_settings_and_inputs_and_nothing_else(
    settings: dict[str, Any], inputs: dict[str, str], others: dict[str, Any], them: dict[str, str]
) -> None:
    same = _canonical(settings, inputs) == _canonical(others, them)
    assert (_fingerprint("a", settings, inputs) == _fingerprint("b", others, them)) == same
    turned = dict(reversed(settings.items())), dict(reversed(inputs.items()))
    assert _fingerprint("a", settings, inputs) == _fingerprint("b", *turned)


@given(trees, words, leaves)
def test_one_changed_setting_changes_the_fingerprint(
    settings: dict[str, Any], key: str, value: object
) -> None:
    changed = {**settings, key: value}
    same = _canonical(changed, {}) == _canonical(settings, {})
    assert (_fingerprint("a", changed, {}) == _fingerprint("a", settings, {})) == same


def test_the_fingerprint_knows_the_kind() -> None:
    assert recipe().fingerprint != replace(recipe(), kind="embed").fingerprint
    assert recipe().fingerprint == replace(recipe(), config={"other": 1}).fingerprint
