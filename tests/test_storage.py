"""The store: the same promises on a local folder and on a real S3 server, and honest faults."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from codex_forge.errors import (
    EXIT_CHANGE_SOMETHING,
    EXIT_TRY_AGAIN,
    InputError,
    StorageDown,
    TryAgain,
)
from codex_forge.storage import Store, expand, faults, open_text
from codex_forge.storage import store as store_module
from codex_forge.storage.faults import PATIENCE_VARIABLE
from tests.conftest import ROOT
from tests.servers.fault_proxy import Action, Fault, FaultProxy, fault_proxy
from tests.servers.s3 import S3Server, client, make_bucket

BUCKET = "storage-tests"


@pytest.fixture
def aws(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The environment points at the S3 server; s3fs forgets what it knew before and after."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    make_bucket(s3, BUCKET)
    S3FileSystem.clear_instance_cache()
    yield s3
    S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    if request.param == "local":
        return str(tmp_path / "store")
    request.getfixturevalue("aws")
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def store(root: str) -> Store:
    return Store(root)


@pytest.fixture
def proxy(aws: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The environment points at a proxy before the S3 server; no fault yet."""
    with fault_proxy(aws.endpoint_url) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        S3FileSystem.clear_instance_cache()
        yield running


# --- the same on both ------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 40])
def test_what_is_written_is_read(store: Store, data: bytes) -> None:
    store.write("a/b/c.bin", data)
    assert store.read("a/b/c.bin") == data
    store.write("a/b/c.bin", b"other")
    assert store.read("a/b/c.bin") == b"other"


def test_another_process_reads_the_same(store: Store, root: str) -> None:
    store.write("a/x", b"seen from outside")
    program = f"from codex_forge.storage import Store; print(Store({root!r}).read('a/x').decode())"
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "seen from outside"


def test_files_go_there_and_back(store: Store, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "up").write_bytes(content)
    store.put(tmp_path / "up", "big/file")
    store.get("big/file", tmp_path / "deep" / "down")
    assert (tmp_path / "deep" / "down").read_bytes() == content
    (tmp_path / "up").write_bytes(b"short")
    store.put(tmp_path / "up", "big/file")
    assert store.read("big/file") == b"short"


def test_names_may_hold_any_letters(store: Store) -> None:
    name = "é ü/日本 +%20#&?.txt"
    store.write(name, b"u")
    assert store.read(name) == b"u"
    assert store.list("é ü") == [name]


def test_list_shows_all_below_a_folder_and_nothing_beside_it(store: Store) -> None:
    for name in ("a/z", "a/b/c", "a/b/d/e", "ab/x", "a.txt"):
        store.write(name, b"1")
    assert store.list("a") == ["a/b/c", "a/b/d/e", "a/z"]
    assert store.list("a/b") == ["a/b/c", "a/b/d/e"]
    assert store.list("a/z") == []
    assert store.list("none") == []


def test_exists_is_about_objects(store: Store) -> None:
    store.write("a/b", b"1")
    assert store.exists("a/b")
    assert not store.exists("a")
    assert not store.exists("a/c")
    assert not store.exists("a/b/c")


def test_delete_is_final_and_may_be_repeated(store: Store) -> None:
    store.write("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert store.list("a") == []


def test_sizes_are_those_of_all_objects_below_a_folder(store: Store) -> None:
    for name, size in {"a/z": 3, "a/b/c": 0, "ab/x": 1}.items():
        store.write(name, bytes(size))
    assert store.sizes("a") == {"a/z": 3, "a/b/c": 0}
    assert store.sizes() == {"a/z": 3, "a/b/c": 0, "ab/x": 1}
    assert store.sizes("none") == {}
    assert store.list("") == ["a/b/c", "a/z", "ab/x"]


def test_what_does_not_show_at_its_size_does_not_count(root: str) -> None:
    store = Store(root, patience=0.2)
    store.write("a/x", b"123")
    store.check_sizes("a", {"x": 3})
    for sizes, words in (({"x": 4}, "with 4 bytes and shows 3"), ({"y": 1}, "and shows None")):
        with pytest.raises(StorageDown, match=words) as short:
            store.check_sizes("a", sizes)
        assert short.value.exit_code == EXIT_TRY_AGAIN


def test_what_shows_a_little_later_counts(root: str) -> None:
    later = threading.Timer(0.3, lambda: Store(root).write("a/x", b"123"))
    later.start()
    Store(root, patience=20).check_sizes("a", {"x": 3})
    later.join()


def test_an_object_is_created_once(store: Store) -> None:
    assert store.create("a/x", b"mine")
    assert store.create("a/x", b"mine"), "ours, as when the first answer was lost"
    assert not store.create("a/x", b"other")
    assert store.read("a/x") == b"mine"
    assert store.list("a") == ["a/x"]
    store.delete("a/x")
    assert store.create("a/x", b"other")


def test_of_many_who_create_at_once_one_succeeds(root: str) -> None:
    for i in range(5):
        together = threading.Barrier(8)
        won: list[bytes] = []

        def create(data: bytes, path: str, together: threading.Barrier, won: list[bytes]) -> None:
            store = Store(root)
            together.wait(30)
            if store.create(path, data):
                won.append(data)

        arguments = (f"a/{i}", together, won)
        threads = [
            threading.Thread(target=create, args=(f"{n}".encode(), *arguments)) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [Store(root).read(f"a/{i}")]


def test_a_missing_object_is_named(store: Store, root: str, tmp_path: Path) -> None:
    for attempt in (lambda: store.read("a/no"), lambda: store.get("a/no", tmp_path / "no")):
        with pytest.raises(InputError) as missing:
            attempt()
        assert str(missing.value).startswith(f"{root}/a/no: not found; check")
    assert not (tmp_path / "no").exists()
    with pytest.raises(InputError, match="a/no: not found"), open_text(f"{root}/a/no"):
        pass


@pytest.mark.parametrize("path", ["../x", "/abs", "a/../../x", "a\\b", "..", "."])
def test_a_path_never_leaves_the_store(store: Store, tmp_path: Path, path: str) -> None:
    (tmp_path / "local").write_bytes(b"1")
    for attempt in (
        lambda: store.url(path),
        lambda: store.write(path, b"1"),
        lambda: store.read(path),
        lambda: store.put(tmp_path / "local", path),
        lambda: store.get(path, tmp_path / "got"),
        lambda: store.delete(path),
        lambda: store.list(path),
        lambda: store.exists(path),
    ):
        with pytest.raises(InputError, match="leaves its folder; use a plain relative path"):
            attempt()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["local"]


def test_expand_finds_files_by_name_glob_and_nothing_else(store: Store, root: str) -> None:
    for name in ("c/2.jsonl", "c/1.jsonl", "c/note.txt", "c/deep/3.jsonl", "c/deep.jsonl/x"):
        store.write(name, b"1")
    assert expand(f"{root}/c/1.jsonl") == [f"{root}/c/1.jsonl"]
    assert expand(f"{root}/c/*.jsonl") == [f"{root}/c/1.jsonl", f"{root}/c/2.jsonl"]
    assert expand(f"{root}/c/[2-9].json?") == [f"{root}/c/2.jsonl"]
    assert expand(f"{root}/c/**/3.jsonl") == [f"{root}/c/deep/3.jsonl"]
    with open_text(expand(f"{root}/c/1*")[0]) as handle:
        assert handle.read() == b"1"
    for nothing in ("c/9.jsonl", "c/*.parquet", "c", "c/deep*"):
        with pytest.raises(InputError) as missing:
            expand(f"{root}/{nothing}")
        assert str(missing.value) == (
            f"{root}/{nothing}: no such file; check the path in the config"
        )


def test_expand_keeps_paths_below_the_working_folder_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "c.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    assert expand("data/*.jsonl") == ["data/c.jsonl"]
    assert expand("data/c.jsonl") == ["data/c.jsonl"]


# --- local only ------------------------------------------------------------------------------


def test_a_local_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a/x", b"old")
    with pytest.raises(TypeError):
        store.write("a/x", "text, not bytes")  # type: ignore[arg-type]
    with pytest.raises(InputError):
        store.put(tmp_path / "missing", "a/x")
    assert (tmp_path / "a" / "x").read_bytes() == b"old"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x"]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_put_that_ends_half_way_leaves_the_old_file(
    tmp_path: Path, ending: signal.Signals
) -> None:
    store = Store(str(tmp_path / "store"))
    store.write("a/x", b"old")
    pipe = tmp_path / "pipe"  # a source that stops in the middle
    os.mkfifo(pipe)
    program = f"""
import signal
from pathlib import Path
from codex_forge.storage import Store
def stop(number, frame):
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(7)
signal.signal(signal.SIGTERM, stop)
Store({store.root!r}).put(Path({str(pipe)!r}), "a/x")
"""
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    with pipe.open("wb") as feed:
        feed.write(b"n" * 2_000_000)
        feed.flush()
        assert len(_parts(tmp_path / "store" / "a")) == 1
        assert store.read("a/x") == b"old"
        deadline = time.monotonic() + 20
        while child.poll() is None and time.monotonic() < deadline:
            child.send_signal(ending)
            time.sleep(0.05)
        child.kill()
        code = child.wait()
    assert code == (7 if ending == signal.SIGTERM else -signal.SIGKILL)
    assert len(_parts(tmp_path / "store" / "a")) == (0 if ending == signal.SIGTERM else 1)
    assert store.read("a/x") == b"old"
    store.write("a/x", b"later")
    assert store.read("a/x") == b"later"


def _parts(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".part")]


def test_what_is_removed_during_a_listing_is_no_fault(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a/stays", b"1")
    over = time.monotonic() + 1.5

    def churn() -> None:
        while time.monotonic() < over:
            store.write("a/b/c/d", b"1")
            store.delete("a/b/c/d")  # and the folders that it leaves empty

    churning = threading.Thread(target=churn)
    churning.start()
    seen = set()
    while time.monotonic() < over:
        seen.add(tuple(store.list("a")))
        store.debris()
    churning.join()
    assert seen == {("a/stays",), ("a/b/c/d", "a/stays")}


def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one() -> None:
    program = """
import os, tempfile
from pathlib import Path
from codex_forge.errors import InputError
from codex_forge.storage import Store

with tempfile.TemporaryDirectory() as folder:
    store = Store(folder)
    store.write("a/b/x", b"1")
    os.chmod(folder, 0o755)
    os.chmod(f"{folder}/a/b", 0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # root may read anything
    try:
        print(store.list("a"))
    except InputError as refused:
        print(refused)
    os.seteuid(before)
    os.chmod(f"{folder}/a/b", 0o755)
"""
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "access refused; check the folder's permissions" in told.stdout


def test_what_cut_off_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a/x", b"1")
    (tmp_path / "a" / ".cut-off.part").write_bytes(b"half")
    old, new = tmp_path / "a" / ".old.part", tmp_path / "a" / ".cut-off.part"
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert [name for name, _ in store.debris()] == [str(new), str(old)]
    assert store.list("a") == ["a/x"]
    assert store.sweep(older_than=60) == 1
    assert sorted(tmp_path.rglob("*.part")) == [new]
    assert store.sweep(older_than=-1) == 1
    assert store.debris() == []
    assert store.list("") == ["a/x"]


def test_where_files_cannot_be_linked_one_is_created_once_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    store = Store(str(tmp_path))
    assert store.create("a/x", b"mine")
    assert not store.create("a/x", b"other")
    assert store.read("a/x") == b"mine"
    assert _parts(tmp_path / "a") == []


def test_a_file_where_a_folder_must_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(str(tmp_path / "file"))
    with pytest.raises(InputError, match="file/a: not usable as a store"):
        store.write("a", b"1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="not usable as a store"):
        Store(str(tmp_path)).read("folder")


def test_files_of_a_store_can_be_read_by_others(tmp_path: Path) -> None:
    Store(str(tmp_path)).write("a", b"1")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/")
    store.write("a", b"1")
    assert store.is_local
    assert (tmp_path / "a").read_bytes() == b"1"
    assert store.url("a") == f"{tmp_path}/a"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_a_reason_to_try_again(tiny_disk: Path, tmp_path: Path) -> None:
    store = Store(str(tiny_disk))
    store.write("a/x", b"old")
    (tmp_path / "big").write_bytes(bytes(4_000_000))
    attempts: list[Callable[[], object]] = [
        lambda: store.write("a/x", bytes(4_000_000)),
        lambda: store.put(tmp_path / "big", "a/x"),
    ]
    for attempt in attempts:
        with pytest.raises(TryAgain) as full:
            attempt()
        assert full.value.exit_code == EXIT_TRY_AGAIN
        assert str(full.value) == (f"{tiny_disk}/a/x: no space left; free disk space and run again")
    assert store.read("a/x") == b"old"
    assert _parts(tiny_disk / "a") == []


@pytest.mark.parametrize(
    "error, kind, words",
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), TryAgain, "no space left; free disk space"),
        (OSError(errno.EIO, "Input/output error"), TryAgain, "storage failed"),
        (PermissionError(errno.EACCES, "Permission denied"), InputError, "access refused; check"),
        (
            OSError(errno.EROFS, "Read-only file system"),
            InputError,
            "refused .read-only file system.; check",
        ),
        (FileNotFoundError(errno.ENOENT, "gone"), InputError, "not found; check the path"),
        (InputError("already ours"), InputError, "already ours"),
        (KeyError("a bug"), KeyError, "a bug"),
    ],
)
def test_faults_become_errors_that_know_what_to_do(
    error: Exception, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words), faults("here"):
        raise error


# --- S3 only ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable, value, cure",
    [
        ("AWS_SECRET_ACCESS_KEY", "not-the-secret", "AWS_SECRET_ACCESS_KEY and the bucket's"),
        ("AWS_ACCESS_KEY_ID", "NOBODY", "AWS_SECRET_ACCESS_KEY and the bucket's"),
        ("", "", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod a role"),
    ],
)
def test_wrong_credentials_are_never_taken_for_an_empty_store(
    aws: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    cure: str,
) -> None:
    if variable and aws.kind == "moto":
        pytest.skip("moto checks no signatures: any secret passes")
    if variable:
        monkeypatch.setenv(variable, value)
    else:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    (tmp_path / "local").write_bytes(b"1")
    url = f"s3://{BUCKET}/secret"
    store = Store(url)
    for attempt in (
        lambda: store.read("a"),
        lambda: store.write("a", b"1"),
        lambda: store.put(tmp_path / "local", "a"),
        lambda: store.get("a", tmp_path / "got"),
        lambda: store.list("a"),
        lambda: store.exists("a"),
        lambda: store.delete("a"),
        lambda: expand(f"{url}/a"),
        lambda: expand(f"{url}/*"),
    ):
        with pytest.raises(InputError) as refused:
            attempt()
        assert refused.value.exit_code == EXIT_CHANGE_SOMETHING
        assert str(refused.value).startswith(url)
        assert cure in str(refused.value)
        assert "not-the-secret" not in str(refused.value)
    assert not (tmp_path / "got").exists()


@pytest.mark.usefixtures("aws")
def test_a_missing_bucket_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"1")
    store = Store("s3://no-such-bucket-anywhere/prefix")
    for attempt in (
        lambda: store.list("pairs/small"),
        lambda: store.read("a"),
        lambda: store.write("a", b"1"),
        lambda: store.put(tmp_path / "local", "a"),
    ):
        with pytest.raises(InputError, match=r"s3://no-such-bucket-anywhere/.*the bucket") as told:
            attempt()
        assert told.value.exit_code == EXIT_CHANGE_SOMETHING
    assert not store.exists("a")


@pytest.mark.usefixtures("aws")
def test_a_name_that_is_no_bucket_is_refused() -> None:
    with pytest.raises(InputError, match="not a usable S3 URL"):
        Store("s3://Not A Bucket!/prefix").write("a", b"1")


def test_a_dead_endpoint_is_a_reason_to_try_again_soon(
    monkeypatch: pytest.MonkeyPatch, aws: S3Server
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv(PATIENCE_VARIABLE, "1")
    store = Store(f"s3://{BUCKET}/prefix")
    for attempt in (lambda: store.list("a"), lambda: store.exists("a")):
        started = time.monotonic()
        with pytest.raises(TryAgain) as dead:
            attempt()
        assert 1 <= time.monotonic() - started < 15, "it waits as long as it was told, not longer"
        assert dead.value.exit_code == EXIT_TRY_AGAIN
        assert f":{port}" in str(dead.value)
        assert str(dead.value).endswith("check AWS_ENDPOINT_URL, or run again")
    assert aws.endpoint_url != f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("action", ["status", "reset_before", "reset_mid", "reset_after"])
def test_a_storage_that_stumbles_is_tried_again(
    proxy: FaultProxy, tmp_path: Path, action: Action
) -> None:
    store = Store(f"s3://{BUCKET}/{tmp_path.name}")
    (tmp_path / "local").write_bytes(b"content")
    attempts: list[tuple[str, Callable[[], object], object]] = [
        ("PUT", lambda: store.write("a/x", b"1"), None),
        ("PUT", lambda: store.put(tmp_path / "local", "a/y"), None),
        ("PUT", lambda: store.create("a/z", b"3"), True),
        ("GET", lambda: store.read("a/x"), b"1"),
        ("GET", lambda: store.get("a/y", tmp_path / "got"), None),
        ("GET", lambda: store.list("a"), ["a/x", "a/y", "a/z"]),
        ("HEAD", lambda: store.exists("a/x"), True),
        ("DELETE", lambda: store.delete("a/x"), None),
        ("POST", lambda: store.delete("a/y"), None),
    ]
    for method, attempt, wanted in attempts:
        proxy.clear()
        proxy.inject(Fault(action), method=method, times=2)
        assert attempt() == wanted, method
    proxy.clear()
    assert (tmp_path / "got").read_bytes() == b"content"
    assert store.list("a") == ["a/z"]


def test_an_answer_that_is_cut_off_is_never_taken_for_the_object(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    store = Store(f"s3://{BUCKET}/{tmp_path.name}")
    content = os.urandom(300_000)
    store.write("a/x", content)
    for after in (0, 1, 150_000, 299_999):
        proxy.clear()
        proxy.inject(Fault("truncate", after=after), method="GET", times=1)
        assert store.read("a/x") == content
        proxy.clear()
        proxy.inject(Fault("truncate", after=after), method="GET", times=1)
        store.get("a/x", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == content


def test_a_lost_answer_is_no_other_who_created_it(proxy: FaultProxy, tmp_path: Path) -> None:
    store = Store(f"s3://{BUCKET}/{tmp_path.name}")
    for path in ("a/first", "a/second"):  # the first finds out whether conditions are kept
        proxy.clear()
        proxy.inject(Fault("reset_after"), method="PUT", times=1)
        assert store.create(path, b"mine")
        assert not Store(store.root).create(path, b"other")
        assert store.read(path) == b"mine"


@pytest.mark.parametrize("code", ["IncompleteBody", "BadDigest", "RequestTimeout"])
def test_a_request_that_was_spoilt_on_its_way_is_no_store_without_conditions(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(store_module, "_SETTLE_SECONDS", -1)  # to sleep so long is an error
    proxy.inject(Fault("status", status=400, code=code), method="PUT", times=1)
    store = Store(f"s3://{BUCKET}/{tmp_path.name}")
    assert store.create("a/x", b"mine")
    assert not store.create("a/x", b"other")


def test_who_is_hasty_does_not_wait(proxy: FaultProxy) -> None:
    proxy.down = True
    started = time.monotonic()
    with pytest.raises(StorageDown):
        Store(f"s3://{BUCKET}/prefix").hasty().write("a", b"1")
    assert time.monotonic() - started < 5


def test_an_outage_shorter_than_the_patience_is_outlasted(proxy: FaultProxy) -> None:
    store = Store(f"s3://{BUCKET}/outage", patience=30)
    proxy.down = True

    def up() -> None:
        proxy.down = False

    later = threading.Timer(1.0, up)
    later.start()
    store.write("a", b"1")
    later.join()
    assert store.read("a") == b"1"


def test_unfinished_uploads_are_swept_and_not_those_of_a_neighbour(
    aws: S3Server, tmp_path: Path
) -> None:
    s3 = client(aws)
    for name in ("store", "store-2"):
        key = f"{tmp_path.name}/{name}/big"
        s3.create_multipart_upload(Bucket=BUCKET, Key=key)
    store, neighbour = (Store(f"s3://{BUCKET}/{tmp_path.name}/{n}") for n in ("store", "store-2"))
    store.write("a", b"1")
    assert store.list("") == ["a"]
    assert len(store.debris()) == 1
    assert f"{tmp_path.name}/store/big (unfinished upload" in store.debris()[0][0]
    assert store.sweep(older_than=3600) == 0
    assert store.sweep(older_than=-60) == 1
    assert store.debris() == []
    assert len(neighbour.debris()) == 1
    assert neighbour.sweep(older_than=-60) == 1


def test_what_consoles_leave_in_a_bucket_is_no_file(aws: S3Server, tmp_path: Path) -> None:
    root = f"{tmp_path.name}/store"
    s3 = client(aws)
    for key in (f"{root}/a/", f"{root}/a/b/", f"{root}/a/x", f"{root}/a"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    assert Store(f"s3://{BUCKET}/{root}").list("a") == ["a/x"]
    s3.put_object(Bucket=BUCKET, Key=f"{root}/only", Body=b"")
    assert Store(f"s3://{BUCKET}/{root}").list("only") == []


def test_what_others_do_meanwhile_is_seen(aws: S3Server, tmp_path: Path) -> None:
    root = f"{tmp_path.name}/store"
    store = Store(f"s3://{BUCKET}/{root}")
    store.write("a/first", b"1")
    assert store.list("a") == ["a/first"]
    assert not store.exists("a/second")
    client(aws).put_object(Bucket=BUCKET, Key=f"{root}/a/second", Body=b"2")
    assert store.list("a") == ["a/first", "a/second"]
    assert store.exists("a/second")
    assert store.read("a/second") == b"2"
    client(aws).delete_object(Bucket=BUCKET, Key=f"{root}/a/first")
    assert store.list("a") == ["a/second"]
    assert not store.exists("a/first")
    assert expand(f"{store.root}/a/*") == [f"{store.root}/a/second"]


def _write_in_child(root: str) -> None:
    Store(root).write("from/child", b"hello")


def test_a_child_process_opens_a_store_of_its_own(store: Store, root: str) -> None:
    store.write("from/parent", b"1")  # the parent's event loop and connections are in use
    child = multiprocessing.get_context("fork").Process(target=_write_in_child, args=(root,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert store.read("from/child") == b"hello"
