"""A proxy before the tests' S3 server that breaks requests on order, and nothing else.

The promise: inside ``with fault_proxy(server.endpoint_url) as proxy`` every request sent to
``proxy.url`` reaches the server byte for byte, and its answer the client, until a fault is asked
for: by a rule (``proxy.inject``), at random but repeatable (``proxy.weather``), or for everything
at once (``proxy.down``).  A fault strikes one request at the place that its name tells: what the
server must not see it does not see, and what it was to do it has done before the client is told
otherwise.  ``proxy.log`` has the outcome of a request before its client can know it.  After the
block no thread, socket or connection of the proxy is left.

Signatures stay valid because the Host header passes through as all else does: a client of the
proxy signs for the proxy's address, which the server then reads.  Only loopback is served.
Every request gets a connection of its own to the server, so a broken one spoils no other; the
client's connection stays open as HTTP has it.  Bodies are passed on piece by piece.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar
from urllib.parse import urlsplit

Action = Literal["status", "reset_before", "reset_mid", "reset_after", "truncate", "delay", "hang"]

BREAKING: tuple[Action, ...] = ("status", "reset_before", "reset_mid", "reset_after", "truncate")
THREAD = "fault-proxy"
PIECE_BYTES = 64 * 1024
WAIT_SECONDS = 10.0  # for the proxy's own thread
FLUSH_SECONDS = 0.05  # a reset overtakes what the kernel has not handed over yet
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TROUBLE = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)  # a peer left, or talks rot

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    - ``status``: it is answered with ``status`` and the S3 error ``code``; the server does not
      see it.
    - ``reset_before``: its connection is reset; the server does not see it.
    - ``reset_mid``: the server gets its head and ``after`` bytes of its body, never the end of it;
      then both connections are reset.  Without a body it is ``reset_before``.
    - ``reset_after``: the server has done it and answered; the client gets a reset instead.
    - ``truncate``: the client gets the answer's head and ``after`` bytes of its body, never the
      end of it; then a reset.  Where the answer has no body it is ``reset_after``.
    - ``delay``: it goes on after ``seconds``, even if its client has given up by then.
    - ``hang``: it is never answered; the server does not see it.

    ``after`` left out means half of the body; of a body that does not tell its length, nothing.
    """

    action: Action
    status: int = 503
    code: str = "SlowDown"
    after: int | None = None
    seconds: float = 0.2


class Exchange(NamedTuple):
    """A request and its outcome.

    That is the action of the fault that struck it, or else the status with which the server
    answered, or ``"broken"`` where client or server left before that.
    """

    method: str
    path: str
    outcome: str


@contextmanager
def fault_proxy(upstream_url: str) -> Iterator[FaultProxy]:
    """Run a proxy before the server at ``upstream_url``, such as ``http://127.0.0.1:8000``."""
    upstream = _loopback_address(upstream_url)
    with _loop_in_thread() as loop:
        proxy = FaultProxy(upstream, loop)
        proxy.start()
        try:
            yield proxy
        finally:
            proxy.stop()


class FaultProxy:
    """A running proxy; its methods may be called from any thread but its own."""

    def __init__(self, upstream: tuple[str, int], loop: asyncio.AbstractEventLoop) -> None:
        self.log: list[Exchange] = []
        self._upstream = upstream
        self._loop = loop
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._connections: set[asyncio.Task[Any]] = set()
        self._rules: tuple[_Rule, ...] = ()
        self._weather: _Weather | None = None
        self._down = False

    @property
    def url(self) -> str:
        """The endpoint to give to a client."""
        return f"http://127.0.0.1:{self._port}"

    def inject(
        self,
        fault: Fault,
        *,
        method: str | None = None,
        path: str = "",
        times: int | None = None,
        skip: int = 0,
    ) -> None:
        """Strike requests of the method whose target, with its query, the regex ``path`` finds.

        The first ``skip`` of them pass, the next ``times`` are struck (all, when left out).
        Where several rules fit, the one injected first decides.
        """
        self._rules = (*self._rules, _Rule(fault, method, re.compile(path), times, skip))

    def weather(
        self,
        seed: int,
        rate: float,
        actions: Sequence[Action | Fault] = BREAKING,
        most_in_a_row: int = 2,
    ) -> None:
        """Strike each request that no rule strikes with probability ``rate``.

        The same requests in the same order suffer the same under the same seed.  Never are more
        than ``most_in_a_row`` struck in a row, neither of all requests nor of those with the same
        method and path: who tries once more than that gets through.
        """
        faults = [Fault(each) if isinstance(each, str) else each for each in actions]
        self._weather = _Weather(random.Random(seed), rate, faults, most_in_a_row)

    def clear(self) -> None:
        """End rules, weather and outage; the log stays, and what hangs goes on hanging."""
        self._rules = ()
        self._weather = None
        self.down = False

    @property
    def down(self) -> bool:
        """Whether every connection, old or new, is reset; settable."""
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._call(self._set_down(down))

    def start(self) -> None:
        """Listen on a free port."""
        self._listener = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512))
        self._port = self._listener.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening, reset what is connected, and wait until it is gone."""
        self._call(self._close())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._set_down(True)
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:  # just being accepted
            await asyncio.wait(rest)

    async def _set_down(self, down: bool) -> None:
        self._down = down
        if down:
            await asyncio.sleep(0)  # a task that has not begun would not close its connection
            connections = list(self._connections)
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Peer(reader, writer)
        if self._down:
            client.reset()
            return
        connection = self._loop.create_task(self._serve(client))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, client: _Peer) -> None:
        """Treat the requests of one connection, one after the other."""
        with suppress(*TROUBLE):
            async with client:
                while (request := await client.head()) is not None:
                    fault = self._choose(request.method, request.path)
                    handling = _Handling(request, fault, client, self._upstream, self.log)
                    if not await handling.run():
                        return

    def _choose(self, method: str, path: str) -> Fault | None:
        for rule in self._rules:
            if rule.strikes(method, path):
                return rule.fault
        return self._weather.draw(method, path) if self._weather else None


@dataclass
class _Rule:
    """An explicit order; it counts the requests that it fits."""

    fault: Fault
    method: str | None
    path: re.Pattern[str]
    times: int | None
    skip: int
    fitted: int = 0

    def strikes(self, method: str, path: str) -> bool:
        if self.method not in (None, method) or not self.path.search(path):
            return False
        self.fitted += 1
        return self.skip < self.fitted and (
            self.times is None or self.fitted <= self.skip + self.times
        )


@dataclass
class _Weather:
    """Faults at random; every request takes the same number of draws, so none shifts the next."""

    draws: random.Random
    rate: float
    faults: Sequence[Fault]
    most_in_a_row: int
    rows: Counter[tuple[str, str] | None] = field(default_factory=Counter)  # None: all requests

    def draw(self, method: str, path: str) -> Fault | None:
        struck, fault = self.draws.random() < self.rate, self.draws.choice(self.faults)
        counted = (None, (method, path))
        if struck and all(self.rows[each] < self.most_in_a_row for each in counted):
            self.rows.update(counted)
            return fault
        for each in counted:
            self.rows[each] = 0
        return None


class _Injected(ConnectionError):
    """The connections that this passes through are to be reset, as ordered."""


@dataclass
class _Handling:
    """What is done with one request."""

    request: _Head
    fault: Fault | None
    client: _Peer
    upstream: tuple[str, int]
    log: list[Exchange]
    noted: bool = False

    async def run(self) -> bool:
        """Pass the request or strike it; return whether its connection may bring another."""
        try:
            return await self._treat()
        except (*TROUBLE, asyncio.CancelledError):
            self._note("broken")
            raise

    def _note(self, outcome: str) -> None:
        """Log the outcome; only the first counts."""
        if not self.noted:
            self.log.append(Exchange(self.request.method, self.request.path, outcome))
        self.noted = True

    async def _treat(self) -> bool:
        match self.fault:
            case Fault(action="status") as fault:
                return await self._refuse(fault)
            case Fault(action="reset_before") as fault:
                self._reset(fault)
            case Fault(action="reset_mid") as fault:
                await self._reset_mid(fault)
            case Fault(action="hang") as fault:
                await self._hang(fault)
            case Fault(action="delay") as fault:
                await asyncio.sleep(fault.seconds)
        return await self._forward()

    def _reset(self, fault: Fault) -> NoReturn:
        self._note(fault.action)
        raise _Injected(fault.action)

    async def _hang(self, fault: Fault) -> NoReturn:
        self._note(fault.action)
        await _exhaust(_bytes(self.client.reader))
        raise _Injected(fault.action)

    async def _refuse(self, fault: Fault) -> bool:
        """Answer in the server's place; who waits to be asked for the body is not asked."""
        if not self.request.awaits_continue:
            await _exhaust(self.request.request_body(self.client.reader).pieces())
        self._note(fault.action)
        await self.client.send(_error_answer(fault, self.request.method))
        return self.request.persists

    async def _reset_mid(self, fault: Fault) -> NoReturn:
        body = self.request.request_body(self.client.reader)
        if body.size == 0:
            self._reset(fault)
        async with self._connected() as server:
            await server.send(self.request.raw)
            if self.request.awaits_continue:
                await self.client.send(CONTINUE)
            async for piece in body.beginning(fault.after):
                await server.send(piece)
            await asyncio.sleep(FLUSH_SECONDS)
            self._reset(fault)

    async def _forward(self) -> bool:
        """Pass the request on, and what the fault leaves of the answer back."""
        async with self._connected() as server:
            await server.send(self.request.raw)
            async with self._uploading(server):
                answer = await self._final_head(server)
                body = answer.answer_body(server.reader, self.request.method)
                await self._deliver(answer, body)
        return answer.persists and self.request.persists and body.ends_itself

    async def _final_head(self, server: _Peer) -> _Head:
        """Return the head of the answer; interim ones, as ``100 Continue``, go to the client."""
        while (answer := await server.head()) is not None:
            if answer.status >= 200:
                return answer
            await self.client.send(answer.raw)
        raise EOFError("the server left without an answer")

    async def _deliver(self, answer: _Head, body: _Body) -> None:
        action = self.fault.action if self.fault else str(answer.status)
        if action == "reset_after" or (action == "truncate" and body.size == 0):
            await _exhaust(body.pieces())
            self._note(action)
            raise _Injected(action)
        self._note(action)
        await self.client.send(answer.raw)
        if action == "truncate" and self.fault:
            async for piece in body.beginning(self.fault.after):
                await self.client.send(piece)
            await asyncio.sleep(FLUSH_SECONDS)
            raise _Injected(action)
        async for piece in body.pieces():
            await self.client.send(piece)

    @asynccontextmanager
    async def _uploading(self, server: _Peer) -> AsyncIterator[None]:
        """Pass the request's body on alongside the block, for a server may answer before its end.

        The client sends its body to the end even so, unless it waited in vain to be asked for it.
        """
        begun = asyncio.Event()
        upload = asyncio.create_task(self._upload(server, begun))
        try:
            yield
            if begun.is_set() or not self.request.awaits_continue:
                await upload
        finally:
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)

    async def _upload(self, server: _Peer, begun: asyncio.Event) -> None:
        try:
            async for piece in self.request.request_body(self.client.reader).pieces():
                begun.set()
                if not server.writer.is_closing():  # else it has answered, or its silence will tell
                    with suppress(OSError):
                        await server.send(piece)
        except TROUBLE:
            server.reset()  # so that nobody waits for the answer to half a request
            raise

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Peer]:
        async with _Peer(*await asyncio.open_connection(*self.upstream)) as server:
            yield server


class _Peer(AbstractAsyncContextManager["_Peer"]):
    """One end of a connection: closed after its block, reset when an error leaves the block."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        writer.transport.set_write_buffer_limits(0)  # what was sent is the kernel's

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.reset()
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def head(self) -> _Head | None:
        """Return the next head, or None where the peer has closed instead."""
        try:
            return _Head.parse(await self.reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError as end:
            if end.partial:
                raise
            return None

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    def reset(self) -> None:
        """Close at once, the kernel's way of telling the other end that something broke."""
        now = struct.pack("ii", 1, 0)
        with suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, now
            )
        self.writer.transport.abort()


@dataclass(frozen=True)
class _Head:
    """The head of a request or an answer, as it came and parsed."""

    raw: bytes
    start: tuple[str, str, str]
    headers: dict[str, str]

    @classmethod
    def parse(cls, raw: bytes) -> _Head:
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        one, two, three = f"{first} ".split(" ", 2)  # an answer's phrase may be missing
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return cls(raw, (one, two, three.strip()), headers)

    @property
    def method(self) -> str:
        return self.start[0]

    @property
    def path(self) -> str:
        return self.start[1]

    @property
    def status(self) -> int:
        return int(self.start[1])

    @property
    def awaits_continue(self) -> bool:
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def persists(self) -> bool:
        """Whether the connection outlives the exchange, so far as this side says."""
        wish = self.headers.get("connection", "").lower()
        return wish == "keep-alive" or (wish != "close" and "HTTP/1.1" in self.start)

    def request_body(self, reader: asyncio.StreamReader) -> _Body:
        return _Body(reader, self._size(untold=0), self._is_chunked())

    def answer_body(self, reader: asyncio.StreamReader, method: str) -> _Body:
        if method == "HEAD" or self.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            return _Body(reader, 0, chunked=False)
        return _Body(reader, self._size(untold=None), self._is_chunked())

    def _is_chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    def _size(self, untold: int | None) -> int | None:
        if self._is_chunked():
            return None
        return int(self.headers["content-length"]) if "content-length" in self.headers else untold


class _Body(NamedTuple):
    """A body yet to be read; one of no told size is chunked or ends with the connection."""

    reader: asyncio.StreamReader
    size: int | None
    chunked: bool

    @property
    def ends_itself(self) -> bool:
        return self.chunked or self.size is not None

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Return the whole body as it is on the wire, the frames of chunks included."""
        if self.chunked:
            return _chunks(self.reader)
        return _bytes(self.reader, self.size)

    async def beginning(self, after: int | None) -> AsyncGenerator[bytes, None]:
        """Give ``after`` bytes (see `Fault`) of the body, but never its end."""
        left = (self.size or 0) // 2 if after is None else after
        if self.size is not None:
            left = min(left, self.size - 1)
        held = b""  # what may turn out to be the end
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                yield held
                if len(piece) > left:
                    yield piece[:left]
                    return
                held = piece
                left -= len(piece)


async def _bytes(
    reader: asyncio.StreamReader, count: int | None = None
) -> AsyncGenerator[bytes, None]:
    """Give so many bytes, or all until the connection ends."""
    left = count
    while left != 0:
        piece = await reader.read(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
        if piece:
            yield piece
        elif left is None:
            return
        else:
            raise EOFError(f"{left} bytes short")
        left = left and left - len(piece)


async def _chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """Give all chunks; the empty one that ends them comes in one piece with its trailers."""
    while size := int((line := await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        yield line
        async for piece in _bytes(reader, size + len(b"\r\n")):
            yield piece
    end = [line]
    while end[-1] != b"\r\n":
        end.append(await reader.readuntil(b"\r\n"))
    yield b"".join(end)


async def _exhaust(pieces: AsyncIterator[bytes]) -> None:
    async for _ in pieces:
        pass


def _error_answer(fault: Fault, method: str) -> bytes:
    """Return a whole answer, head and body, in S3's form."""
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>"
    )
    body = b"" if method == "HEAD" else document.encode()
    head = (
        f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}\r\n"
        f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _loopback_address(url: str) -> tuple[str, int]:
    """Return host and port; a name would have to be looked up, and could lead elsewhere."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    with suppress(ValueError):
        if parts.scheme == "http" and port and ipaddress.ip_address(host).is_loopback:
            return host, port
    raise ValueError(f"{url!r} is not like http://127.0.0.1:8000")


@contextmanager
def _loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=THREAD, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_SECONDS)
        loop.close()
