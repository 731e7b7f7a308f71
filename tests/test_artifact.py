"""Artifacts: data first, manifest last, and nothing that is not what its manifest promises."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3fs import S3FileSystem

from codex_forge.artifact import (
    Artifact,
    Draft,
    Input,
    Manifest,
    Recipe,
    begin,
    is_whole,
    open_artifact,
)
from codex_forge.errors import EXIT_CHANGE_SOMETHING, InputError
from codex_forge.storage import Store
from tests.conftest import ROOT
from tests.servers.s3 import S3Server, make_bucket

BUCKET = "artifact-tests"
CORPUS = Input("file", "c.jsonl", "f" * 64, "d" * 64)
SETTINGS = {"seed": 7, "train": {"epochs": 1.0, "phases": ["easy", "hard"]}}
FILES = {"a.txt": "alpha", "model/b.bin": "beta", "model/deep/c.txt": "gamma"}


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store on the S3 server."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    yield f"s3://{make_bucket(s3, BUCKET)}/{tmp_path.name}"
    S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return Store(request.getfixturevalue("bucket"))
    return Store(str(tmp_path / "store"))


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


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
    """Begin and commit, with the files given."""
    draft = begin(store, wanted or recipe(), cache, shard=shard, shards=shards, force=force)
    assert isinstance(draft, Draft), draft
    for name, text in files.items():
        draft.path(name).write_text(text)
    return draft.commit({"files": len(files)}, {"verdict": "pass"}, volatile)


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
    assert artifact.as_input() == Input("train", "small", made.fingerprint, made.digest)
    assert store.list("train/small") == [
        *(f"train/small/{name}" for name in ["a.txt", "manifest.json"]),
        *(f"train/small/{name}" for name in ["model/b.bin", "model/deep/c.txt"]),
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
    make(store, cache)
    store.delete("train/small/manifest.json")
    with pytest.raises(InputError, match="there is no train artifact 'small'"):
        opened(store, cache)
    assert not is_whole(store, recipe())
    make(store, cache)
    assert is_whole(store, recipe())


def test_a_manifest_that_cannot_be_written_leaves_no_artifact(local: Store, cache: Path) -> None:
    draft = begin(local, recipe(), cache, force=False)
    assert isinstance(draft, Draft)
    draft.path("a.txt").write_text("alpha")
    blocked = Path(local.url("train/small/manifest.json/in-the-way"))
    blocked.parent.mkdir(parents=True)  # a folder where the manifest is to be
    with pytest.raises(InputError, match="not usable as a store"):
        draft.commit({})
    assert local.read("train/small/a.txt") == b"alpha"
    with pytest.raises(InputError, match="there is no train artifact"):
        opened(local, cache)
    blocked.parent.rmdir()
    draft.commit({})
    assert opened(local, cache).path("a.txt").read_text() == "alpha"


@pytest.mark.parametrize("force", [False, True])
def test_a_process_killed_before_the_manifest_leaves_no_artifact(
    local: Store, cache: Path, tmp_path: Path, force: bool
) -> None:
    if force:  # replacing: neither the old nor the new may be taken for whole
        make(local, cache, recipe(settings={"seed": 1}), {"a": "old", "b": "old", "stale": "x"})
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
    assert local.read("train/small/b") == b"new"
    with pytest.raises(InputError, match="there is no train artifact 'small'"):
        opened(local, cache)
    make(local, cache, files={"a": "again", "b": "again"})
    assert opened(local, cache).path("a").read_text() == "again"


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
    assert re.findall(r"its input (\w+) has other content", told) == changed


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
    assert [path.removeprefix("train/small/") for path in store.list("train/small")] == [
        "a.txt",
        "d.txt",
        "manifest.json",
    ]


def test_force_makes_the_same_again(local: Store, cache: Path) -> None:
    make(local, cache)
    assert isinstance(begin(local, recipe(), cache, force=True), Draft)


# --- damage ----------------------------------------------------------------------------------


def test_one_flipped_byte_is_found(store: Store, cache: Path, tmp_path: Path) -> None:
    made = make(store, cache)
    store.write("train/small/model/b.bin", b"bet`")
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
    make(store, cache)
    store.delete("train/small/a.txt")
    with pytest.raises(InputError, match=r"a\.txt.*(found missing|not found)"):
        opened(store, cache).path("a.txt")
    with pytest.raises(InputError, match="has no file nothing; make it again"):
        opened(store, cache).path("nothing")


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
    make(local, cache)
    local.write("train/small/manifest.json", damage)
    where = re.escape(local.url("train/small/manifest.json"))
    words = (
        f"{where}: not a manifest that this version reads .*make the artifact again with --force"
    )
    with pytest.raises(InputError, match=words):
        opened(local, cache)
    with pytest.raises(InputError, match=words):
        begin(local, recipe(), cache, force=False)
    make(local, cache, force=True)
    assert opened(local, cache).path("a.txt").read_text() == "alpha"


def test_a_manifest_that_lost_a_key_is_refused(local: Store, cache: Path) -> None:
    make(local, cache)
    tree = json.loads(local.read("train/small/manifest.json"))
    for key in tree:
        less = {other: tree[other] for other in tree if other != key}
        local.write("train/small/manifest.json", json.dumps(less).encode())
        with pytest.raises(InputError, match=f"not a manifest that this version reads.*{key}"):
            opened(local, cache)


# --- volatile files --------------------------------------------------------------------------


def test_volatile_files_do_not_change_the_digest(store: Store, cache: Path) -> None:
    first = make(store, cache, recipe("one"), {**FILES, "log": "12:00"}, volatile=("log",))
    second = make(store, cache, recipe("two"), {**FILES, "log": "12:01"}, volatile=("log",))
    third = make(store, cache, recipe("three"), {**FILES, "log": "12:01"})
    assert first.digest == second.digest != third.digest
    store.write("train/one/log", b"12:02")
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
    assert len(local.list("train/small")) == 4, "parts of the old number were left"


def test_shards_that_disagree_are_never_whole(local: Store, cache: Path) -> None:
    """Two tasks that start at once with different settings do not see each other."""
    drafts = [
        begin(local, recipe(settings={"seed": shard}), cache, shard=shard, shards=2, force=False)
        for shard in range(2)
    ]
    manifests = []
    for draft in drafts:
        assert isinstance(draft, Draft)
        draft.path(f"part-{draft.shard}").write_text("x")
        draft.commit({})
        manifests.append(local.read(f"train/small/manifest-{draft.shard:05d}-of-00002.json"))
    local.write("train/small/manifest-00000-of-00002.json", manifests[0])
    told = "made with different settings, inputs or numbers of shards; run python -m jobs.train --f"
    with pytest.raises(InputError, match=told):
        opened(local, cache)
    with pytest.raises(InputError, match="holds another train artifact; seed was"):
        begin(local, recipe(settings={"seed": 0}), cache, shard=0, shards=2, force=False)


def test_force_on_shards_replaces_them_one_by_one(local: Store, cache: Path) -> None:
    for shard in range(2):
        make(local, cache, files={f"part-{shard}": "old"}, shard=shard, shards=2)
    other = recipe(settings={"seed": 8})
    make(local, cache, other, {"part-0": "new"}, shard=0, shards=2, force=True)
    with pytest.raises(InputError, match=r"only shards \[0\] of 2 are there"):
        opened(local, cache)
    make(local, cache, other, {"part-1": "new"}, shard=1, shards=2)
    artifact = opened(local, cache)
    assert [artifact.path(name).read_text() for name in artifact.files] == ["new", "new"]


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
