"""The server under the S3 tests keeps its own promise: a real answer, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
import s3fs

from . import s3
from .s3 import S3Server

Start = Callable[[Path], AbstractContextManager[S3Server]]

needs_ceph = pytest.mark.skipif(
    s3.choose_kind({})[0] != "rados-gateway", reason=f"no gateway: {s3.choose_kind({})[1]}"
)
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run the server that the rest of the suite would get."""
    with s3.s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(server: S3Server, request: pytest.FixtureRequest) -> str:
    """Make a bucket named after the test."""
    return s3.make_bucket(server, request.node.name.replace("_", "-"))


@pytest.fixture
def fs(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> s3fs.S3FileSystem:
    """Return an s3fs that knows the server by the environment alone."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)


def test_wrong_secret_is_refused(server: S3Server) -> None:
    if server.kind == "moto":
        pytest.skip("moto checks no signatures: any secret passes")
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        s3.client(server, secret_key="not the secret").list_buckets()
    assert s3.answers(server)
    assert not s3.answers(server._replace(access_key="NOBODY"))


def test_bucket_may_be_made_twice(server: S3Server, bucket: str) -> None:
    assert s3.make_bucket(server, bucket) == bucket
    assert bucket in [row["Name"] for row in s3.client(server).list_buckets()["Buckets"]]


def test_multipart_round_trips(server: S3Server, bucket: str, fs: s3fs.S3FileSystem) -> None:
    content = os.urandom(20 * 1024**2)
    with fs.open(f"{bucket}/large", "wb", block_size=5 * 1024**2) as target:
        target.write(content)
    tag: str = s3.client(server).head_object(Bucket=bucket, Key="large")["ETag"]
    assert "-" in tag, "written in one part"
    assert fs.cat_file(f"{bucket}/large") == content
    first, last = 5 * 1024**2 - 10, 5 * 1024**2 + 10  # across the seam of two parts
    assert fs.cat_file(f"{bucket}/large", start=first, end=last) == content[first:last]


def test_conditional_put_is_refused_the_second_time(server: S3Server, bucket: str) -> None:
    client = s3.client(server)
    client.put_object(Bucket=bucket, Key="lock", Body=b"first", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client.put_object(Bucket=bucket, Key="lock", Body=b"second", IfNoneMatch="*")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert client.get_object(Bucket=bucket, Key="lock")["Body"].read() == b"first"


def test_listing_is_whole(server: S3Server, bucket: str, fs: s3fs.S3FileSystem) -> None:
    names = [f"many/{number:04}" for number in range(1_100)]
    client = s3.client(server)

    def put(name: str) -> None:
        client.put_object(Bucket=bucket, Key=name, Body=name.encode())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, names))
    assert client.list_objects_v2(Bucket=bucket)["IsTruncated"], "one page: the test tells nothing"
    assert sorted(fs.find(f"{bucket}/many")) == [f"{bucket}/{name}" for name in names]


def test_choice_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3.choose_kind({s3.CHOICE: "moto"})[0] == "moto"
    assert s3.choose_kind({s3.CHOICE: "rados-gateway"})[0] == "rados-gateway"
    with pytest.raises(ValueError, match="minio"):
        s3.choose_kind({s3.CHOICE: "minio"})
    monkeypatch.setenv("PATH", "/nonexistent")
    kind, reason = s3.choose_kind({})
    assert kind == "moto"
    assert "ceph-osd" in reason


def test_gateway_asked_for_but_absent_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv(s3.CHOICE, "rados-gateway")
    with pytest.raises(s3.ServerError, match="ceph-mon"), s3.s3_server(tmp_path):
        pass


def test_fallback_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto")
    monkeypatch.setenv(s3.CHOICE, "moto")
    with pytest.warns(s3.FallbackWarning, match="emulator"), s3.s3_server(tmp_path) as server:
        assert server.kind == "moto"


@needs_proc
@pytest.mark.parametrize(
    "start", [pytest.param(s3.rados_gateway, marks=needs_ceph), s3.moto_server]
)
def test_nothing_is_left_after_the_block(start: Start, tmp_path: Path) -> None:
    if start is s3.moto_server:
        pytest.importorskip("moto")
    folder = tmp_path / ("long-" * 30)
    with pytest.raises(ZeroDivisionError), start(folder) as server:  # noqa: PT012
        assert processes_of(folder)
        s3.make_bucket(server, "some-bucket")
        raise ZeroDivisionError
    assert processes_of(folder) == []
    assert not s3.answers(server)
    assert {path.suffix for path in folder.iterdir()} <= {".log", ".conf", ""}
    assert not (folder / "osd").exists()
    assert start is s3.moto_server or not socket_folder(folder).exists()


@needs_proc
@needs_ceph
def test_start_that_fails_half_way_quotes_the_log_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / "radosgw-admin"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho the reason of the trouble\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    folder = tmp_path / "s3"
    trouble = r"status 3(.|\n)*the reason of the trouble"
    with pytest.raises(s3.ServerError, match=trouble), s3.rados_gateway(folder):
        pass
    assert processes_of(folder) == []
    assert not socket_folder(folder).exists()


@needs_proc
@needs_ceph
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_owner_is_ended(ending: signal.Signals, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from {s3.__name__} import rados_gateway
with rados_gateway(Path({str(tmp_path)!r})):
    raise SystemExit("came up before the signal")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", script]
    owner = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: any("ceph-osd" in line for line in processes_of(tmp_path)))
        owner.send_signal(ending)
        _, told = owner.communicate(timeout=20)
    finally:
        owner.kill()
    assert b"came up" not in told
    wait_for(lambda: processes_of(tmp_path) == [])
    if ending == signal.SIGINT:
        assert not (tmp_path / "osd").exists()
    shutil.rmtree(socket_folder(tmp_path), ignore_errors=True)  # a killed owner cannot


def socket_folder(folder: Path) -> Path:
    """Return where the gateway with this folder has, or had, its sockets."""
    lines = (folder / "ceph.conf").read_text().splitlines()
    return Path(next(line.removeprefix("run dir = ") for line in lines if "run dir" in line))


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait for the condition, or fail after ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of the processes that a server with this folder started."""
    mark = f"{s3.MARK}={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found
