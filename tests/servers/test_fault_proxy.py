"""The fault proxy keeps its promise: it breaks what it was told to break, and nothing else."""

from __future__ import annotations

import hashlib
import http.client
import io
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import botocore.exceptions
import pytest
import s3fs

from .fault_proxy import BREAKING, CONTINUE, THREAD, Action, Fault, FaultProxy, fault_proxy
from .s3 import S3Server, client, make_bucket

BUCKET = "fault-proxy"
BIG = 30 * 1000**2
Failures = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)


@pytest.fixture(scope="module")
def running(s3: S3Server) -> Iterator[FaultProxy]:
    """Run a proxy before the server."""
    make_bucket(s3, BUCKET)
    with fault_proxy(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def proxy(running: FaultProxy) -> Iterator[FaultProxy]:
    """Return the proxy without a fault or a log."""
    running.log.clear()
    yield running
    running.clear()


@pytest.fixture(scope="module")
def through(s3: S3Server, running: FaultProxy) -> Iterator[Any]:
    """Return a client, of one attempt, that goes through the proxy."""
    with closing(client(s3._replace(endpoint_url=running.url))) as made:
        yield made


@pytest.fixture(scope="module")
def direct(s3: S3Server) -> Iterator[Any]:
    """Return a client of the server itself."""
    with closing(client(s3)) as made:
        yield made


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """Name an object after the test."""
    return str(request.node.name)


def test_what_is_not_struck_passes(through: Any, proxy: FaultProxy, key: str) -> None:
    name = {"Bucket": BUCKET, "Key": key}
    tag = through.put_object(**name, Body=b"content")["ETag"]
    assert through.head_object(**name)["ContentLength"] == 7
    assert through.get_object(**name, Range="bytes=1-3")["Body"].read() == b"ont"
    with pytest.raises(botocore.exceptions.ClientError, match="304"):
        through.get_object(**name, IfNoneMatch=tag)
    listed = through.list_objects_v2(Bucket=BUCKET, Prefix=key)["Contents"]
    assert [row["Key"] for row in listed] == [key]
    through.delete_object(**name)
    with pytest.raises(botocore.exceptions.ClientError, match="404"):
        through.head_object(**name)
    outcomes = [f"{each.method} {each.outcome}" for each in proxy.log]
    assert outcomes == [
        *("PUT 200", "HEAD 200", "GET 206", "GET 304", "GET 200", "DELETE 204", "HEAD 404")
    ]


@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "expect-continue"])
def test_large_body_passes_unharmed(through: Any, direct: Any, key: str, as_file: bool) -> None:
    content = os.urandom(BIG)
    body = io.BytesIO(content) if as_file else content  # of a file, botocore asks first
    through.put_object(Bucket=BUCKET, Key=key, Body=body)
    assert digest(direct.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == digest(content)
    assert digest(through.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == digest(content)


def test_large_parts_of_s3fs_pass_unharmed(s3: S3Server, proxy: FaultProxy, key: str) -> None:
    content = os.urandom(BIG)
    fs = file_system(s3, proxy)
    with fs.open(f"{BUCKET}/{key}", "wb", block_size=6 * 1024**2) as target:
        target.write(content)
    assert digest(fs.cat_file(f"{BUCKET}/{key}")) == digest(content)
    assert {each.outcome for each in proxy.log} <= {"200", "206"}


def test_status_is_answered_in_the_place_of_the_server(
    through: Any, direct: Any, proxy: FaultProxy, key: str
) -> None:
    proxy.inject(Fault("status"), method="PUT")
    proxy.inject(Fault("status", status=500, code="InternalError"), method="GET", times=1)
    for body in (b"content", io.BytesIO(b"content"), bytes(BIG)):
        with pytest.raises(botocore.exceptions.ClientError) as slow:
            through.put_object(Bucket=BUCKET, Key=key, Body=body)
        assert code_of(slow) == "SlowDown"
        assert slow.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    with pytest.raises(botocore.exceptions.ClientError) as internal:
        through.get_object(Bucket=BUCKET, Key=key)
    assert code_of(internal) == "InternalError"
    assert not is_there(direct, key)
    with pytest.raises(through.exceptions.NoSuchKey):
        through.get_object(Bucket=BUCKET, Key=key)
    assert [each.outcome for each in proxy.log] == ["status"] * 4 + ["404"]


@pytest.mark.parametrize("size", [7, 5_000_000])
@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "expect-continue"])
@pytest.mark.parametrize("action", ["reset_before", "reset_mid", "reset_after"])
def test_reset_of_a_write(
    through: Any, direct: Any, proxy: FaultProxy, action: Action, as_file: bool, size: int
) -> None:
    key = f"{action}-{as_file}-{size}"
    content = os.urandom(size)
    proxy.inject(Fault(action), method="PUT", times=1)
    with pytest.raises(Failures) as told:
        through.put_object(Bucket=BUCKET, Key=key, Body=io.BytesIO(content) if as_file else content)
    assert not isinstance(told.value, botocore.exceptions.ClientError), "the server answered"
    assert proxy.log[-1].outcome == action
    if action == "reset_after":
        assert direct.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content
    else:
        time.sleep(0.1)  # were it to come late
        assert not is_there(direct, key)
    through.put_object(Bucket=BUCKET, Key=key, Body=b"again")
    assert direct.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"again"


@pytest.mark.parametrize("action", ["reset_before", "reset_mid", "reset_after"])
def test_reset_of_what_has_no_body(
    through: Any, direct: Any, proxy: FaultProxy, key: str, action: Action
) -> None:
    direct.put_object(Bucket=BUCKET, Key=key, Body=b"content")
    proxy.inject(Fault(action), method="DELETE")
    with pytest.raises(Failures):
        through.delete_object(Bucket=BUCKET, Key=key)
    assert is_there(direct, key) == (action != "reset_after")


@pytest.mark.parametrize("after", [None, 0, 100_000, BIG])
def test_truncated_answer_is_short(
    through: Any, direct: Any, proxy: FaultProxy, key: str, after: int | None
) -> None:
    size = 200_000
    content = os.urandom(size)
    direct.put_object(Bucket=BUCKET, Key=key, Body=content)
    proxy.inject(Fault("truncate", after=after), method="GET", times=1)
    answer = through.get_object(Bucket=BUCKET, Key=key)
    assert answer["ContentLength"] == size
    got = bytearray()
    with pytest.raises(botocore.exceptions.HTTPClientError):  # noqa: PT012
        for piece in iter(lambda: answer["Body"].read(1_000), b""):
            got += piece
    told = size // 2 if after is None else min(after, size - 1)
    assert told - 1_000 < len(got) <= told
    assert content.startswith(got)
    assert through.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content


def test_truncated_listing_is_an_error(through: Any, proxy: FaultProxy) -> None:
    proxy.inject(Fault("truncate"), path="list-type")
    with pytest.raises(Failures):
        through.list_objects_v2(Bucket=BUCKET)


def test_truncated_answer_without_a_body_is_lost(
    through: Any, direct: Any, proxy: FaultProxy, key: str
) -> None:
    proxy.inject(Fault("truncate"))
    with pytest.raises(Failures):
        through.put_object(Bucket=BUCKET, Key=key, Body=b"content")
    with pytest.raises(Failures):
        through.head_object(Bucket=BUCKET, Key=key)
    assert is_there(direct, key)


def test_delay_lets_the_request_go_on(through: Any, proxy: FaultProxy, key: str) -> None:
    proxy.inject(Fault("delay", seconds=0.3), method="PUT")
    begin = time.monotonic()
    through.put_object(Bucket=BUCKET, Key=key, Body=b"content")
    assert 0.3 <= time.monotonic() - begin < 20
    assert through.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"content"
    assert [each.outcome for each in proxy.log] == ["delay", "200"]


def test_delayed_write_comes_after_its_client_gave_up(
    through: Any, direct: Any, proxy: FaultProxy, key: str
) -> None:
    proxy.inject(Fault("delay", seconds=0.6), method="PUT")
    with pytest.raises(TimeoutError):
        put_impatiently(through, proxy, key)
    assert not is_there(direct, key)
    wait_for(lambda: is_there(direct, key))


def test_hang_is_never_answered(through: Any, direct: Any, proxy: FaultProxy, key: str) -> None:
    proxy.inject(Fault("hang"), method="PUT")
    with pytest.raises(TimeoutError):
        put_impatiently(through, proxy, key)
    assert [each.outcome for each in proxy.log] == ["hang"]
    assert not is_there(direct, key)


def test_hang_is_left_by_s3fs(s3: S3Server, proxy: FaultProxy, key: str) -> None:
    fs = file_system(s3, proxy, read_timeout=0.3)
    fs.pipe_file(f"{BUCKET}/{key}", b"content")
    proxy.inject(Fault("hang"), times=1)
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        fs.cat_file(f"{BUCKET}/{key}")
    assert fs.cat_file(f"{BUCKET}/{key}") == b"content"


def test_rules_choose_by_method_path_and_count(through: Any, proxy: FaultProxy) -> None:
    proxy.inject(Fault("status"), method="PUT", path=r"/chosen-\d$", skip=1, times=2)
    proxy.inject(Fault("status", status=500, code="InternalError"), path=r"/chosen-2$")
    for name in ("other", "chosen-1", "chosen-x", "chosen-2", "chosen-3", "chosen-4", "chosen-2"):
        try:
            through.put_object(Bucket=BUCKET, Key=name, Body=b"")
        except botocore.exceptions.ClientError as error:
            proxy.log[-1] = proxy.log[-1]._replace(outcome=error.response["Error"]["Code"])
    assert [each.outcome for each in proxy.log] == [
        *("200", "200", "200", "SlowDown", "SlowDown", "200", "InternalError")
    ]
    proxy.clear()
    through.put_object(Bucket=BUCKET, Key="chosen-2", Body=b"")


def test_same_seed_gives_the_same_weather(s3: S3Server) -> None:
    make_bucket(s3, BUCKET)
    first, again, other = (weather(s3, seed=seed, rate=0.4) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert set(BREAKING) <= {*first, *other}
    assert 0.2 < sum(outcome != "200" for outcome in first) / len(first) < 0.5


def test_faults_end_where_they_were_to_end(s3: S3Server) -> None:
    make_bucket(s3, BUCKET)
    for most in (1, 3):
        rows = [
            len(list(row))
            for struck, row in itertools.groupby(
                weather(s3, seed=1, rate=1.0, most_in_a_row=most), lambda each: each != "200"
            )
            if struck
        ]
        assert set(rows) == {most}


def test_who_tries_again_gets_through_any_weather(s3: S3Server, proxy: FaultProxy) -> None:
    """Requests of many at once: what counts is how often each of them is struck in a row."""
    proxy.weather(seed=5, rate=0.7, most_in_a_row=2)
    made = client(s3._replace(endpoint_url=proxy.url))
    lost: list[str] = []

    def write(key: str) -> None:
        for _ in range(3):
            try:
                made.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
            except Failures:
                continue
            return
        lost.append(key)

    threads = [threading.Thread(target=write, args=(f"many-{number}",)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.close()
    assert lost == []
    assert len(proxy.log) > 60, "hardly a fault"


def test_weather_leaves_the_requests_of_a_rule_alone(through: Any, proxy: FaultProxy) -> None:
    proxy.inject(Fault("delay", seconds=0), path="ruled")
    proxy.weather(seed=1, rate=1.0, actions=(Fault("status", status=429, code="Often"),))
    through.put_object(Bucket=BUCKET, Key="ruled", Body=b"")
    with pytest.raises(botocore.exceptions.ClientError) as often:
        through.put_object(Bucket=BUCKET, Key="else", Body=b"")
    assert code_of(often) == "Often"


def test_down_resets_all_until_it_ends(through: Any, proxy: FaultProxy, key: str) -> None:
    proxy.inject(Fault("hang"), method="DELETE")
    through.put_object(Bucket=BUCKET, Key=key, Body=b"content")
    failed: list[BaseException] = []

    def wait_in_vain() -> None:
        try:
            through.delete_object(Bucket=BUCKET, Key=key)
        except Failures as error:
            failed.append(error)

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    wait_for(lambda: proxy.log[-1].outcome == "hang")
    proxy.down = True
    waiting.join(5)
    assert len(failed) == 1, "what was under way went on"
    for _ in range(3):
        with pytest.raises(Failures):
            through.get_object(Bucket=BUCKET, Key=key)
    assert [each.outcome for each in proxy.log] == ["200", "hang"]
    proxy.down = False
    assert through.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"content"


def test_s3fs_gets_through_bad_weather(s3: S3Server, proxy: FaultProxy) -> None:
    fs = file_system(s3, proxy, retries={"total_max_attempts": 4, "mode": "standard"})
    proxy.weather(seed=2, rate=0.3, actions=("status", "reset_before", "reset_mid"))
    for number in range(4):
        fs.pipe_file(f"{BUCKET}/s3fs-{number}", f"content {number}".encode())
        assert fs.cat_file(f"{BUCKET}/s3fs-{number}") == f"content {number}".encode()
    assert any(each.outcome != "200" for each in proxy.log)


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n"
WIRE = {
    "no body": (
        b"GET /a%20b?c=d HTTP/1.1\r\nhOsT: somewhere:1\r\nX-Odd:\t a  b \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    "chunks": (
        b"PUT /chunks HTTP/1.1\r\n" + CHUNKED + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"Trailer: 1\r\n\r\n",
    ),
    "head": (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    "204": (b"DELETE / HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n"),
    "refused before its body": (
        b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 412 No\r\nContent-Length: 2\r\n\r\nno",
    ),
}


@pytest.mark.parametrize("name", WIRE)
def test_bytes_pass_unchanged_and_the_connection_stays(name: str) -> None:
    asked, answered = WIRE[name]
    with scripted(asked, answered) as upstream, fault_proxy(upstream) as proxy:
        with connected(proxy) as wire:
            for _ in range(3):
                wire.sendall(asked)
                assert exactly(wire, len(answered)) == answered
        assert len(proxy.log) == 3


def test_answer_without_a_length_ends_with_its_connection() -> None:
    asked, answered = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nas long as it is"
    with scripted(asked, answered) as upstream, fault_proxy(upstream) as proxy:
        assert ask(proxy, asked) == answered


def test_server_may_answer_before_the_end_of_the_body() -> None:
    head = f"PUT / HTTP/1.1\r\nContent-Length: {BIG}\r\n\r\n".encode()
    answered = b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"
    read: list[int] = []

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            server, _ = listener.accept()
            with server, server.makefile("rb") as stream:
                stream.read(len(head))
                server.sendall(answered)
                read.append(len(stream.read(BIG)))

    with listening(serve) as (upstream, serving), fault_proxy(upstream) as proxy:
        with connected(proxy) as wire:
            for _ in range(2):
                wire.sendall(head)
                assert exactly(wire, len(answered)) == answered
                wire.sendall(bytes(BIG))
            serving.join(10)
        assert [each.outcome for each in proxy.log] == ["403", "403"]
    assert read == [BIG, BIG]


def test_chunked_request_never_ends_for_the_server_when_reset_midway() -> None:
    head = b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"5\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n"
    got: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        server, _ = listener.accept()
        with server, suppress(ConnectionResetError):
            while piece := server.recv(1_000):
                got.append(piece)

    with listening(serve) as (upstream, serving), fault_proxy(upstream) as proxy:
        proxy.inject(Fault("reset_mid", after=1_000))
        with connected(proxy) as wire:
            wire.sendall(head)
            assert exactly(wire, len(CONTINUE)) == CONTINUE
            wire.sendall(body)
            with pytest.raises(ConnectionResetError):
                wire.recv(1)
        serving.join(5)
    assert b"".join(got) == head + b"5\r\nhello\r\n"


def test_chunked_answer_never_ends_for_the_client_when_truncated() -> None:
    asked, answered = WIRE["chunks"]
    with scripted(asked, answered) as upstream, fault_proxy(upstream) as proxy:
        proxy.inject(Fault("truncate", after=1_000))
        with connected(proxy) as wire:
            wire.sendall(asked)
            whole, _, _ = answered.partition(b"0\r\nTrailer")
            assert exactly(wire, len(whole)) == whole
            with pytest.raises(ConnectionResetError):
                wire.recv(1)


def test_reset_after_waits_for_the_end_of_the_answer() -> None:
    """S3 may send the head of its answer while it still works, and the end when it has done."""
    asked = b"POST / HTTP/1.1\r\n\r\n"
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        server, _ = listener.accept()
        with server:
            exactly(server, len(asked))
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n ")
            time.sleep(0.2)
            done.set()
            server.sendall(b"end")

    with listening(serve) as (upstream, _), fault_proxy(upstream) as proxy:
        proxy.inject(Fault("reset_after"))
        with pytest.raises(ConnectionResetError):
            ask(proxy, asked)
        assert done.is_set()


def test_connection_stays_after_a_status() -> None:
    asked = b"PUT / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
    answered = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with scripted(asked, answered) as upstream, fault_proxy(upstream) as proxy:
        proxy.inject(Fault("status", code="Here"), times=1)
        with connected(proxy) as wire:
            wire.sendall(asked)
            with wire.makefile("rb") as stream:
                lines = iter(stream.readline, b"\r\n")
                sizes = [int(line[15:]) for line in lines if line.startswith(b"Content-Length:")]
                assert b"<Code>Here</Code>" in stream.read(sizes[0])
            wire.sendall(asked)
            assert exactly(wire, len(answered)) == answered


def test_server_that_is_gone_breaks_the_request() -> None:
    asked = b"GET / HTTP/1.1\r\n\r\n"
    with scripted(asked, b"") as upstream, fault_proxy(upstream) as proxy:
        with pytest.raises(ConnectionResetError):
            ask(proxy, asked)
        assert proxy.log == [("GET", "/", "broken")]
    with fault_proxy(upstream) as proxy, pytest.raises(ConnectionResetError):
        ask(proxy, asked)  # nobody listens there now


def test_client_that_is_gone_takes_its_half_a_request_along() -> None:
    asked = b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"
    ends: list[BaseException] = []

    def serve(listener: socket.socket) -> None:
        server, _ = listener.accept()
        with server:
            exactly(server, len(asked))
            try:
                server.recv(1)
            except ConnectionResetError as end:
                ends.append(end)

    with listening(serve) as (upstream, serving), fault_proxy(upstream) as proxy:
        with connected(proxy) as wire:
            wire.sendall(asked)
        serving.join(5)
        assert len(ends) == 1
        wait_for(lambda: proxy.log == [("PUT", "/", "broken")])


def test_body_is_not_held_in_memory() -> None:
    """The server of a client that does not read can send no more than sockets hold."""
    size = 128 * 1000**2
    sent: list[int] = []

    def serve(listener: socket.socket) -> None:
        server, _ = listener.accept()
        with server:
            server.recv(1_000)
            server.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            server.settimeout(0.5)
            with suppress(TimeoutError):
                while sum(sent) < size:
                    sent.append(server.send(bytes(100_000)))

    with (
        listening(serve) as (upstream, serving),
        fault_proxy(upstream) as proxy,
        connected(proxy) as wire,
    ):
        wire.sendall(b"GET / HTTP/1.1\r\n\r\n")
        serving.join(10)
    assert 0 < sum(sent) < size / 2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_nothing_is_left_after_the_block() -> None:
    half = b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"
    begun = threading.Event()

    def serve(listener: socket.socket) -> None:
        server, _ = listener.accept()
        with server, suppress(ConnectionResetError):
            exactly(server, len(half))
            begun.set()
            server.recv(1)

    with listening(serve) as (upstream, _):
        threads, before = set(threading.enumerate()), descriptors()
        with pytest.raises(ZeroDivisionError), fault_proxy(upstream) as proxy:  # noqa: PT012
            proxy.inject(Fault("hang"), method="GET")
            wires = [connected(proxy) for _ in range(3)]  # the first of them stays idle
            wires[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
            wires[2].sendall(half)
            assert begun.wait(5)
            wait_for(lambda: proxy.log == [("GET", "/", "hang")])
            assert [each.name for each in set(threading.enumerate()) - threads] == [THREAD]
            raise ZeroDivisionError
        for wire in wires:
            with wire, pytest.raises(ConnectionResetError):
                wire.recv(1)
        assert set(threading.enumerate()) <= threads
        assert descriptors() <= before


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:80", "http://example.org:80", "https://127.0.0.1:1", "127.0.0.1:1"]
)
def test_only_loopback_is_served(url: str) -> None:
    with pytest.raises(ValueError, match="is not like"), fault_proxy(url):
        pass


def test_every_action_has_a_test() -> None:
    assert set(BREAKING) | {"delay", "hang"} == set(get_args(Action))


def weather(server: S3Server, seed: int, rate: float, most_in_a_row: int = 2) -> list[str]:
    """Return the outcomes of forty like requests."""
    with fault_proxy(server.endpoint_url) as proxy:
        proxy.weather(seed, rate, most_in_a_row=most_in_a_row)
        with closing(client(server._replace(endpoint_url=proxy.url))) as made:
            for number in range(40):
                try:
                    made.put_object(Bucket=BUCKET, Key=f"weather-{number}", Body=b"content")
                except Failures:
                    continue
        return [each.outcome for each in proxy.log]


def file_system(server: S3Server, proxy: FaultProxy, **config: Any) -> s3fs.S3FileSystem:
    """Return an s3fs that goes through the proxy; that it tries once is up to ``config``."""
    fs = s3fs.S3FileSystem(
        key=server.access_key,
        secret=server.secret_key,
        endpoint_url=proxy.url,
        config_kwargs={"retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"}}
        | config,
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    fs.retries = 1
    return fs


def put_impatiently(through: Any, proxy: FaultProxy, key: str) -> None:
    """Write an object, waiting a quarter of a second for the answer."""
    url = through.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": key})
    address = proxy.url.removeprefix("http://")
    with closing(http.client.HTTPConnection(address, timeout=0.25)) as connection:
        connection.request("PUT", url.removeprefix(proxy.url), body=b"content")
        connection.getresponse()


def is_there(direct: Any, key: str) -> bool:
    """Return whether the server has the object."""
    listed = direct.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])
    return key in [row["Key"] for row in listed]


def code_of(told: pytest.ExceptionInfo[botocore.exceptions.ClientError]) -> str:
    """Return the S3 error code that a client was told."""
    return str(told.value.response["Error"]["Code"])


def digest(content: bytes) -> str:
    """Return what stands for content too long for a message."""
    return hashlib.sha256(content).hexdigest()


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait for the condition, or fail after five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def connected(proxy: FaultProxy) -> socket.socket:
    """Return a bare connection to the proxy."""
    return socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), timeout=5)


def ask(proxy: FaultProxy, asked: bytes) -> bytes:
    """Send a request as it is and return what comes until the connection ends."""
    with connected(proxy) as wire, wire.makefile("rb") as stream:
        wire.sendall(asked)
        return stream.read()


def exactly(wire: socket.socket, size: int) -> bytes:
    """Return so many bytes, or fewer where the connection ends."""
    with wire.makefile("rb", buffering=0) as stream:
        got = b""
        while len(got) < size and (piece := stream.read(size - len(got))):
            got += piece
    return got


Serve = Callable[[socket.socket], None]


@contextmanager
def listening(serve: Serve) -> Iterator[tuple[str, threading.Thread]]:
    """Run ``serve`` on a listening socket, in a thread; give its URL and the thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", thread
        finally:
            with socket.socket() as last:  # wakes who still waits for a connection
                last.connect(listener.getsockname())
            thread.join(10)


@contextmanager
def scripted(asked: bytes, answered: bytes) -> Iterator[str]:
    """Run a server that answers just these bytes with those, and anything else with nothing."""

    def serve(listener: socket.socket) -> None:
        while True:
            server, _ = listener.accept()
            with server:
                server.settimeout(5)
                if not (got := exactly(server, len(asked))):
                    return
                server.sendall(answered if got == asked else b"")

    with listening(serve) as (url, _):
        yield url
