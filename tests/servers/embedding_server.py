"""A server of embeddings on this machine: Ollama's `/api/embed`, and OpenAI's `/v1/embeddings`.

The vector of a text follows from its letters. A script may answer something else first.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from tests.servers.chat_server import Reply
from tests.servers.serving import serving

DIMENSION = 8
Script = Callable[[int, list[str]], Reply | None]
"""(number of the request, texts) -> a reply in place of the vectors."""


def vector_of(text: str) -> list[float]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return [float(number) for number in np.random.default_rng(seed).standard_normal(DIMENSION)]


class EmbeddingServer:
    """What a test sets and sees."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.model, self.digest = "bge-m3:latest", "ab" * 32
        self.key = ""
        """When set, requests without it are refused."""
        self.script: Script = lambda _number, _texts: None
        self.requests: list[list[str]] = []
        """The texts of each request, in the order in which they came."""
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    def has(self, model: str) -> bool:
        """As Ollama understands names."""
        return self.model == (model if ":" in model else f"{model}:latest")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: EmbeddingServer

    def do_GET(self) -> None:
        if self.path != "/api/tags":
            self._send(Reply(404, body="404 page not found"))
            return
        told = {"name": self.served.model, "model": self.served.model, "digest": self.served.digest}
        self._send(Reply(body=json.dumps({"models": [{"name": "x:1", "digest": "0"}, told]})))

    def do_POST(self) -> None:
        served = self.served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = body["input"]
        with served.lock:
            number = len(served.requests)
            served.requests.append(texts)
            served.times.append(time.monotonic())
            served.headers.append(dict(self.headers))
            served.under_way += 1
            served.most_under_way = max(served.most_under_way, served.under_way)
        try:
            self._send(self._reply(number, body, texts))
        finally:
            with served.lock:
                served.under_way -= 1

    def _reply(self, number: int, body: dict[str, Any], texts: list[str]) -> Reply:
        served = self.served
        given = self.headers.get("Authorization", "")
        if served.key and given != f"Bearer {served.key}":
            return Reply(401, body=json.dumps({"error": {"message": f"Incorrect key: {given}"}}))
        if self.path not in ("/api/embed", "/v1/embeddings"):
            return Reply(404, body="404 page not found")
        if not served.has(body["model"]):
            said = f'model "{body["model"]}" not found, try pulling it first'
            return Reply(404, body=json.dumps({"error": said}))
        reply = served.script(number, texts)
        if reply is not None and not reply.is_normal:
            return reply
        answer = _ollama(texts) if self.path == "/api/embed" else _openai(texts)
        return Reply(body=json.dumps(answer), seconds=reply.seconds if reply else 0.0)

    def _send(self, reply: Reply) -> None:
        time.sleep(reply.seconds)
        if reply.hangs_up:
            self.close_connection = True
            return
        data = reply.body.encode()
        with suppress(ConnectionError):
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


def _ollama(texts: list[str]) -> dict[str, Any]:
    return {"model": "bge-m3", "embeddings": [vector_of(text) for text in texts]}


def _openai(texts: list[str]) -> dict[str, Any]:
    """In any order, as each says which text it is of."""
    rows = [{"index": n, "embedding": vector_of(text)} for n, text in enumerate(texts)]
    return {"object": "list", "data": rows[::-1], "usage": {"total_tokens": 1}}


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """A server on a free port; it ends with the context."""
    handler = type("Handler", (_Handler,), {})
    with serving(handler) as url:
        served = EmbeddingServer(url)
        handler.served = served  # type: ignore[attr-defined]
        yield served
