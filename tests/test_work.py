"""Work that is committed before its artifact: blocks and checkpoints, whole or not there at all."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from codex_forge.artifact import Block, Blocks, Checkpoint, Checkpoints, Work, hash_json
from codex_forge.artifact.lease import Lease, acquire
from codex_forge.errors import InputError, TryAgain
from codex_forge.storage import Store
from tests.kill import killed_at
from tests.servers.fault_proxy import Fault, fault_proxy
from tests.servers.s3 import S3Server

SLOT = "train/small"
CHECKPOINTS = f"{SLOT}/checkpoints/recipe"

Files = Mapping[str, bytes]


@pytest.fixture
def lease(request: pytest.FixtureRequest) -> Iterator[Lease]:
    """The lease of the test's store."""
    name = "store" if "store" in request.fixturenames else "local"
    lease = acquire(request.getfixturevalue(name), SLOT, SLOT)
    yield lease
    lease.release(0)


def next_lease(store: Store, before: Lease) -> Lease:
    before.release(0)
    return acquire(store, SLOT, SLOT)


# --- blocks ----------------------------------------------------------------------------------


def blocks_of(store: Store, cache: Path) -> Blocks:
    """The blocks that are there now."""
    return Blocks(store, SLOT, f"{SLOT}/blocks/recipe/part", cache)


def put(store: Store, cache: Path, number: int, content: bytes) -> str:
    """Commit a block; returns its path in the store."""
    local = cache / "block.bin"
    local.write_bytes(content)
    blocks = blocks_of(store, cache)
    entry = blocks.entry(number, local)
    blocks.put(Block(entry, local))
    return f"{SLOT}/{entry.stored}"


def got(store: Store, cache: Path, number: int) -> bytes | None:
    block = blocks_of(store, cache).get(number)
    return block.local.read_bytes() if block else None


def test_a_block_is_there_once_it_is_put(store: Store, cache: Path) -> None:
    contents = {0: b"zero", 1: b"", 2: os.urandom(100_000), 999_999: b"last"}
    paths = {number: put(store, cache, number, content) for number, content in contents.items()}
    blocks = blocks_of(store, cache)
    assert len(blocks) == 4
    for number, content in contents.items():
        block = blocks.get(number)
        assert block is not None
        assert block.local.read_bytes() == content
        assert block.entry.size == len(content)
        assert f"{SLOT}/{block.entry.stored}" == paths[number]
        blocks.forget(block)
        assert store.read(paths[number]) == content
    assert blocks.get(3) is None


def test_a_block_that_was_not_put_whole_is_not_there(store: Store, cache: Path) -> None:
    path = put(store, cache, 0, b"0123456789")
    store.write(path, b"01234")
    blocks = blocks_of(store, cache)
    assert len(blocks) == 0
    assert blocks.get(0) is None
    assert put(store, cache, 0, b"0123456789") == path
    assert got(store, cache, 0) == b"0123456789"


def test_a_damaged_block_is_as_good_as_not_there(
    store: Store, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(store, cache, 0, b"0123456789")
    put(store, cache, 1, b"other")
    store.write(path, b"012345678:")
    assert got(store, cache, 0) is None
    assert "a damaged block is made again" in caplog.text
    assert got(store, cache, 1) == b"other"
    put(store, cache, 0, b"0123456789")
    assert got(store, cache, 0) == b"0123456789"


def test_a_block_that_is_removed_meanwhile_is_not_there(store: Store, cache: Path) -> None:
    path = put(store, cache, 0, b"gone")
    blocks = blocks_of(store, cache)
    store.delete(path)
    assert blocks.get(0) is None


def test_of_two_blocks_of_one_number_a_whole_one_counts(store: Store, cache: Path) -> None:
    paths = [put(store, cache, 0, content) for content in (b"one", b"two")]
    assert len(blocks_of(store, cache)) == 1
    first = got(store, cache, 0)
    assert first in (b"one", b"two")
    assert got(store, cache, 0) == first, "the same one each time"
    store.write(paths[0 if first == b"one" else 1], b"xxx")
    assert got(store, cache, 0) == (b"two" if first == b"one" else b"one")


@pytest.mark.parametrize(
    "name",
    ["note.txt", "000000-3.bin", "000000-3-abc.bin", f"00-3-{'0' * 64}.bin", "deep/x", ".x.part"],
)
def test_what_is_no_block_is_left_alone(local: Store, cache: Path, name: str) -> None:
    local.write(f"{SLOT}/blocks/recipe/part/{name}", b"abc")
    assert len(blocks_of(local, cache)) == 0
    assert blocks_of(local, cache).get(0) is None


def test_a_stage_in_blocks_does_not_do_again_what_is_committed(
    store: Store, cache: Path, lease: Lease
) -> None:
    made: list[Sequence[int]] = []

    def make(path: Path, items: Sequence[int]) -> None:
        made.append(items)
        path.write_text(f"{list(items)}")

    def run(size: int = 2) -> list[str]:
        made.clear()
        work = Work(store, SLOT, "recipe", lease, cache)
        return [b.local.read_text() for b in work.in_blocks("s", range(5), size, make, ".txt")]

    whole = ["[0, 1]", "[2, 3]", "[4]"]
    assert run() == whole
    assert len(made) == 3
    assert run() == whole
    assert made == []
    paths = store.list(f"{SLOT}/blocks/recipe/s-2")
    store.write(paths[0], b"[0, 7]")
    store.delete(paths[2])
    assert run() == whole
    assert [list(items) for items in made] == [[0, 1], [4]]
    assert run(3) == ["[0, 1, 2]", "[3, 4]"], "blocks of another size are others"
    assert run() == whole
    assert made == []


def test_a_stage_that_is_killed_again_and_again_goes_on_where_it_was(
    local: Store, cache: Path, lease: Lease
) -> None:
    def make(path: Path, items: Sequence[int]) -> None:
        path.write_text(f"{list(items)}")

    def run() -> None:
        list(Work(local, SLOT, "recipe", lease, cache).in_blocks("s", range(6), 1, make, ".txt"))

    there = 0
    while killed_at(2, run):  # before its second block
        there += 1
        found = Work(local, SLOT, "recipe", lease, cache).blocks("s-1")
        assert len(found) == there
        assert found.get(there - 1) is not None
    assert there == 5


# --- checkpoints -----------------------------------------------------------------------------


def content(step: int, token: int = 1) -> Files:
    """What is in a checkpoint."""
    return {
        "model.bin": f"weights {step} {token}".encode() * 20,
        "ranks/0.json": b"{}",
        "ranks/1.json": b"{}",
        "state.json": f"{step}".encode(),
    }


def save(checkpoints: Checkpoints, cache: Path, step: int, files: Files) -> None:
    folder = cache / "to-save"
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    checkpoints.save(step, folder)


def latest(store: Store, cache: Path) -> tuple[int, int, Files] | None:
    """Step, token and files of the checkpoint that a new process resumes from."""
    target = cache / "latest"
    shutil.rmtree(target, ignore_errors=True)
    found = Checkpoints(store, CHECKPOINTS, None, 1).latest(target)
    if found is None:
        return None
    checkpoint, folder = found
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return checkpoint.step, checkpoint.token, files


def steps(checkpoints: Checkpoints) -> list[int]:
    return [checkpoint.step for checkpoint in checkpoints.committed()]


def commit_path(step: int, lease: Lease) -> str:
    return f"{CHECKPOINTS}/step-{step:08d}-{lease.version}/commit.json"


def test_what_is_saved_is_resumed(store: Store, cache: Path, lease: Lease) -> None:
    checkpoints = Checkpoints(store, CHECKPOINTS, lease, 2)
    assert latest(store, cache) is None
    for step in (10, 20):
        save(checkpoints, cache, step, content(step))
        assert latest(store, cache) == (step, 1, content(step))
    folder = commit_path(20, lease).removesuffix("/commit.json")
    assert checkpoints.committed()[0] == Checkpoint(folder, 20, 1)


def test_the_last_ones_are_kept_and_no_file_of_the_others(
    store: Store, cache: Path, lease: Lease
) -> None:
    for keep, kept in ((3, [30, 20, 10]), (2, [40, 30]), (1, [50]), (0, [60])):
        checkpoints = Checkpoints(store, CHECKPOINTS, lease, keep)
        for step in range(kept[-1], kept[0] + 10, 10):
            save(checkpoints, cache, step, content(step))
        assert steps(checkpoints) == kept
        assert len(store.list(CHECKPOINTS)) == len(kept) * 5
        assert latest(store, cache) == (kept[0], 1, content(kept[0]))


@pytest.mark.parametrize("keep", [1, 2])
def test_a_save_that_is_killed_anywhere_leaves_a_whole_one(
    store: Store, cache: Path, lease: Lease, keep: int
) -> None:
    save(Checkpoints(store, CHECKPOINTS, lease, keep), cache, 10, content(10))
    lease.release(0)
    reader = Checkpoints(store, CHECKPOINTS, None, keep)
    step, change, killed, before = 10, 0, True, 10
    while killed:
        step, change = step + 10, change + 1

        def save_next(step: int = step) -> None:
            """What the next process does, with a token of its own."""
            there = Store(store.root)
            own = acquire(there, SLOT, SLOT)
            save(Checkpoints(there, CHECKPOINTS, own, keep), cache, step, content(step))
            own.release(0)

        killed = killed_at(change, save_next)
        found = latest(store, cache)
        assert found is not None
        assert found[0] in (before, step)
        assert found[2] == content(found[0])
        before = found[0]
        for checkpoint in reader.committed():  # none is committed and in pieces
            reader.fetch(checkpoint, cache / f"fetched-{change}-{checkpoint.step}")
    assert before == step
    assert change > 8, "the lease, uploads, the commit, and the removal of the oldest"
    assert len(reader.committed()) == keep
    assert len(store.list(CHECKPOINTS)) == keep * 5, "something of those cut off was left"


def test_what_is_uploaded_and_not_committed_is_not_there(
    store: Store, cache: Path, lease: Lease
) -> None:
    checkpoints = Checkpoints(store, CHECKPOINTS, lease, 2)
    for step in (10, 20):
        save(checkpoints, cache, step, content(step))
    store.delete(commit_path(20, lease))
    assert latest(store, cache) == (10, 1, content(10))


def test_to_save_a_step_again_leaves_the_first_one_whole(
    local: Store, cache: Path, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a regular step, and again at once because a signal came: the second may be cut off."""
    checkpoints = Checkpoints(local, CHECKPOINTS, lease, 1)
    save(checkpoints, cache, 10, content(10))

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "write", cut_off)
    save(checkpoints, cache, 10, content(11))
    assert latest(local, cache) == (10, 1, content(10))


@pytest.mark.parametrize("name", ["model.bin", "ranks/1.json", "commit.json"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "gone"])
def test_a_damaged_one_is_passed_over_aloud(
    store: Store,
    cache: Path,
    lease: Lease,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: str,
) -> None:
    checkpoints = Checkpoints(store, CHECKPOINTS, lease, 3)
    for step in (10, 20, 30):
        save(checkpoints, cache, step, content(step))
    path = commit_path(30, lease).replace("commit.json", name)
    data = store.read(path)
    if damage == "gone":
        store.delete(path)
    else:
        changed = {
            "flipped": data[:-1] + bytes([data[-1] ^ 1]),
            "truncated": data[:-1],
            "longer": data + b" x",
        }
        store.write(path, changed[damage])
    assert latest(store, cache) == (20, 1, content(20))
    passed_over = [text for text in caplog.messages if "passing over a checkpoint" in text]
    if (name, damage) == ("commit.json", "gone"):  # then it was never there
        assert passed_over == []
    else:
        assert len(passed_over) == 1
        assert "step-00000030-v1" in passed_over[0]
    if name == "commit.json":
        store.delete(commit_path(20, lease))
    else:
        store.write(commit_path(20, lease), b"{}")
    assert latest(store, cache) == (10, 1, content(10))
    store.delete(commit_path(10, lease))
    assert latest(store, cache) is None


def test_a_storage_that_does_not_answer_is_no_damage(
    s3: S3Server, bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To pass over a checkpoint because of it would throw away the work since the one before."""
    lease = acquire(Store(bucket), SLOT, SLOT)
    checkpoints = Checkpoints(Store(bucket), CHECKPOINTS, lease, 3)
    for step in (10, 20):
        save(checkpoints, cache, step, content(step))
    with fault_proxy(s3.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        S3FileSystem.clear_instance_cache()
        proxy.inject(Fault("status"), method="GET", path="step-00000020.*/model")
        with pytest.raises(TryAgain, match="storage failed"):
            latest(Store(bucket, patience=0.2), cache)
        proxy.clear()
        proxy.inject(Fault("truncate"), method="GET", path="step-00000020.*/model", times=2)
        assert latest(Store(bucket), cache) == (20, 1, content(20))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint_url)
    S3FileSystem.clear_instance_cache()
    lease.release(0)


def test_of_a_later_writer_any_step_comes_first(store: Store, cache: Path, lease: Lease) -> None:
    """It resumed from what was there; what the earlier one did beyond that is another history."""
    save(Checkpoints(store, CHECKPOINTS, lease, 9), cache, 100, content(100))
    second = next_lease(store, lease)
    checkpoints = Checkpoints(store, CHECKPOINTS, second, 9)
    save(checkpoints, cache, 30, content(30, 2))
    assert latest(store, cache) == (30, 2, content(30, 2))
    save(checkpoints, cache, 100, content(100, 2))
    assert latest(store, cache) == (100, 2, content(100, 2))
    assert [(c.step, c.token) for c in checkpoints.committed()] == [(100, 2), (30, 2), (100, 1)]
    second.release(0)


def test_a_writer_that_was_overtaken_neither_saves_nor_removes(
    store: Store, cache: Path, lease: Lease
) -> None:
    first = Checkpoints(store, CHECKPOINTS, lease, 1)
    save(first, cache, 10, content(10))
    second = next_lease(store, lease)
    save(Checkpoints(store, CHECKPOINTS, second, 9), cache, 20, content(20, 2))
    before = store.sizes(CHECKPOINTS)
    with pytest.raises(TryAgain, match="another process has taken over"):
        save(first, cache, 30, content(30))
    assert store.sizes(CHECKPOINTS) == before
    second.release(0)
    store.delete(second.path)  # it does not know: it was overtaken after it last looked
    save(first, cache, 30, content(30))
    assert [(c.step, c.token) for c in first.committed()] == [(20, 2), (30, 1)]
    assert latest(store, cache) == (20, 2, content(20, 2))


def test_readers_cannot_save(local: Store, cache: Path) -> None:
    with pytest.raises(ValueError, match="a reader cannot save"):
        save(Checkpoints(local, CHECKPOINTS, None, 1), cache, 1, content(1))
    assert local.list("") == []


def recommit(store: Store, path: str, change: Callable[[dict[str, object]], object]) -> None:
    """Write another commit, with a sum that fits it."""
    tree = json.loads(store.read(path))
    del tree["sum"]
    change(tree)
    store.write(path, json.dumps({**tree, "sum": hash_json(tree)}).encode())


@pytest.mark.parametrize(
    "name", ["../stolen", "/tmp/stolen", "a/../../stolen", "..", "a\\..\\..\\stolen", "", ".", "./"]
)
def test_a_commit_whose_names_leave_the_folder_is_refused(
    local: Store, cache: Path, lease: Lease, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    checkpoints = Checkpoints(local, CHECKPOINTS, lease, 3)
    for step in (10, 20):
        save(checkpoints, cache, step, content(step))
    local.write(f"{CHECKPOINTS}/stolen", b"x")
    sums = [1, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"]  # of b"x"
    recommit(local, commit_path(20, lease), lambda tree: tree.update(files={name: sums}))
    around = sorted(path for path in cache.parent.rglob("*") if path.is_file())
    assert latest(local, cache) == (10, 1, content(10))
    assert len(caplog.messages) == 1
    for path in cache.rglob("stolen"):
        pytest.fail(f"{path} was written")
    assert not Path("/tmp/stolen").exists()
    assert set(around) <= {path for path in cache.parent.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(step=21),
        lambda tree: tree.update(token=2),
        lambda tree: tree.update(files={}),
        lambda tree: tree.update(files=[]),
        lambda tree: tree.update(files={"model.bin": 1}),
        lambda tree: tree.update(files={"model.bin": [1, 2, 3]}),
        lambda tree: tree.update(files={"model.bin": ["x", "y"]}),
        lambda tree: tree.pop("files"),
        lambda tree: tree.pop("token"),
    ],
)
def test_a_commit_that_says_nothing_of_use_is_refused(
    local: Store,
    cache: Path,
    lease: Lease,
    change: Callable[[dict[str, object]], object],
) -> None:
    checkpoints = Checkpoints(local, CHECKPOINTS, lease, 3)
    for step in (10, 20):
        save(checkpoints, cache, step, content(step))
    recommit(local, commit_path(20, lease), change)
    assert latest(local, cache) == (10, 1, content(10))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"5", b'""', b"\xff", b'{"sum": 1}'])
def test_a_commit_that_cannot_be_read_is_refused(
    local: Store, cache: Path, lease: Lease, data: bytes
) -> None:
    save(Checkpoints(local, CHECKPOINTS, lease, 3), cache, 10, content(10))
    local.write(commit_path(10, lease), data)
    assert latest(local, cache) is None


def test_a_checkpoint_under_the_name_of_another_is_refused(
    local: Store, cache: Path, lease: Lease
) -> None:
    checkpoints = Checkpoints(local, CHECKPOINTS, lease, 3)
    for step in (10, 20):
        save(checkpoints, cache, step, content(step))
    folder = Path(local.url(CHECKPOINTS))
    for name in ("step-00000030-v1", "step-00000020-v2", "step-00000010-v10"):
        shutil.copytree(folder / "step-00000010-v1", folder / name)
    assert latest(local, cache) == (20, 1, content(20))


def test_no_flipped_bit_of_a_commit_is_overlooked(
    local: Store, cache: Path, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that turns the name of a file into that of its twin."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of writes
    save(Checkpoints(local, CHECKPOINTS, lease, 3), cache, 10, content(10))
    reader = Checkpoints(local, CHECKPOINTS, None, 1)
    checkpoint = reader.committed()[0]
    path = Path(local.url(commit_path(10, lease)))
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(InputError):
            reader.fetch(checkpoint, cache / "fetched")


# --- a thousand states of a bucket -----------------------------------------------------------

Objects = dict[str, bytes]
Committed = dict[tuple[int, int], Files]


def _history(folder: Path, rng: random.Random) -> tuple[Objects, Committed]:
    """The objects that several writers left, and what they committed."""
    store, cache = Store(str(folder / "store")), folder / "cache"
    cache.mkdir(parents=True)
    committed: Committed = {}
    for token in range(1, rng.randint(2, 4)):
        lease = acquire(store, SLOT, SLOT)
        assert lease.token == token
        checkpoints = Checkpoints(store, CHECKPOINTS, lease, 9)
        for step in sorted(rng.sample(range(1, 13), rng.randint(1, 3))):
            names = ["model.bin", "state.json", "ranks/0.json", "ranks/1.json"]
            shared = rng.randbytes(rng.randint(0, 3))  # small files of ranks are often the same
            files = {n: rng.choice([shared, rng.randbytes(rng.randint(1, 40))]) for n in names}
            committed[step, token] = files
            save(checkpoints, cache, step, files)
        for step in rng.sample(range(20, 30), rng.randint(0, 2)):  # cut off before the commit
            save(checkpoints, cache, step, content(step))
            store.delete(commit_path(step, lease))
            if rng.random() < 0.5:
                store.delete(commit_path(step, lease).replace("commit.json", "model.bin"))
        lease.release(0)
    return {path: store.read(path) for path in store.list(CHECKPOINTS)}, committed


def _lose(objects: Objects, path: str, _: str, __: random.Random) -> None:
    del objects[path]


def _duplicate(objects: Objects, path: str, other: str, rng: random.Random) -> None:
    objects[rng.choice([other, f"{path}.bak"])] = objects[path]


def _truncate(objects: Objects, path: str, _: str, rng: random.Random) -> None:
    objects[path] = objects[path][: rng.randint(0, len(objects[path]))]


def _flip_a_bit(objects: Objects, path: str, _: str, rng: random.Random) -> None:
    data = bytearray(objects[path] or b"\0")
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    objects[path] = bytes(data)


def _rename(objects: Objects, path: str, other: str, _: random.Random) -> None:
    objects[f"{other.rpartition('/')[0]}/{path.rpartition('/')[2]}"] = objects.pop(path)


def _swap(objects: Objects, path: str, other: str, _: random.Random) -> None:
    objects[path], objects[other] = objects[other], objects[path]


def _copy_a_checkpoint(objects: Objects, path: str, _: str, rng: random.Random) -> None:
    """Or move it, to the name of another step or token, or of another owner of the same."""
    old = path.removeprefix(f"{CHECKPOINTS}/").partition("/")[0]
    step, token = rng.randint(1, 12), rng.randint(1, 4)
    new = rng.choice([f"{old[:16]}-0a1b2c3d", f"step-{step:08d}-v{token}"])
    moves = rng.random() < 0.5
    for source in [name for name in objects if f"/{old}/" in name]:
        data = objects.pop(source) if moves else objects[source]
        objects[source.replace(f"/{old}/", f"/{new}/")] = data


_DAMAGES = (_lose, _duplicate, _truncate, _flip_a_bit, _rename, _swap, _copy_a_checkpoint)


def _newest_intact(objects: Objects, original: Objects, committed: Committed) -> tuple[int, int]:
    """Step and token that are to be resumed from, told from the bytes alone; (0, 0) for none."""
    found = [(0, 0)]
    folders = {
        path.removesuffix("/commit.json") for path in objects if path.endswith("/commit.json")
    }
    for folder in folders:
        name = folder.removeprefix(f"{CHECKPOINTS}/")
        for (step, token), files in committed.items():
            own = f"step-{step:08d}-v{token}"
            if name not in (own, f"{own}-0a1b2c3d"):
                continue
            commit = original[f"{CHECKPOINTS}/{own}/commit.json"]
            whole = all(objects.get(f"{folder}/{n}") == data for n, data in files.items())
            if whole and objects[f"{folder}/commit.json"] == commit:
                found.append((step, token))
    return max(found, key=lambda pair: (pair[1], pair[0]))


def test_whatever_happens_to_a_bucket_the_newest_intact_checkpoint_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that was not committed under that step and token."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of small files
    monkeypatch.setattr(logging.getLogger("codex_forge"), "disabled", True)  # and of warnings
    histories = [_history(tmp_path / f"{i}", random.Random(i)) for i in range(20)]
    resumed = nothing = older = 0
    for seed in range(1000):
        rng = random.Random(seed)
        original, committed = rng.choice(histories)
        objects = dict(original)
        for _ in range(rng.randint(0, 12)):
            if objects:
                path, other = (rng.choice(sorted(objects)) for _ in range(2))
                rng.choice(_DAMAGES)(objects, path, other, rng)
        root = tmp_path / "bucket"
        shutil.rmtree(root, ignore_errors=True)
        _lay_out(root, objects)
        wanted = _newest_intact(objects, original, committed)
        found = latest(Store(str(root)), tmp_path)
        if wanted == (0, 0):
            assert found is None, seed
            nothing += 1
            continue
        assert found == (*wanted, committed[wanted]), seed
        resumed += 1
        older += wanted != max(committed, key=lambda pair: (pair[1], pair[0]))
    assert resumed > 500
    assert older > 100
    assert nothing > 20


def _lay_out(root: Path, objects: Objects) -> None:
    """Write the objects."""
    for path, data in objects.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
