"""The store: the same promises on a local folder and on a real S3 server, and honest faults."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from codex_forge.errors import EXIT_CHANGE_SOMETHING, EXIT_TRY_AGAIN, InputError, TryAgain
from codex_forge.storage import Store, expand, faults, open_text
from tests.conftest import ROOT
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
    store = Store(f"s3://{BUCKET}/prefix")
    for attempt in (lambda: store.list("a"), lambda: store.exists("a")):
        started = time.monotonic()
        with pytest.raises(TryAgain) as dead:
            attempt()
        assert time.monotonic() - started < 60, "a job must not hang on a storage that is down"
        assert dead.value.exit_code == EXIT_TRY_AGAIN
        assert f":{port}" in str(dead.value)
        assert str(dead.value).endswith("check AWS_ENDPOINT_URL, or run again")
    assert aws.endpoint_url != f"http://127.0.0.1:{port}"


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
