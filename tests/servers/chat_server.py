"""A language model's endpoint on this machine: speaks the OpenAI chat-completions protocol.

It answers from a rule, or from a script of failures first, and remembers what it was asked.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.serving import serving

Rule = Callable[[str], str]
"""Prompt -> what the model says."""


@dataclass(frozen=True)
class Reply:
    """One answer that is not the rule's."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    seconds: float = 0.0
    """Before it is sent."""
    hangs_up: bool = False
    """The connection is closed without a word."""
    is_normal: bool = False
    """The rule's answer after all, only later."""


Script = Callable[[int, str], Reply | None]
"""(number of the request, prompt) -> a reply in place of the rule's."""


class ChatServer:
    """What a test sets and sees."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rule: Rule = _two_questions
        self.script: Script = lambda _number, _prompt: None
        self.key = ""
        """When set, requests without it are refused."""
        self.tokens: int | None = 100
        """That each answer is said to have taken; None leaves `usage` out."""
        self.prompts: list[str] = []
        """Of every request, in the order in which they came."""
        self.times: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def count(self) -> int:
        """Requests so far."""
        return len(self.prompts)


def _two_questions(prompt: str) -> str:
    word = prompt.split()[-1]
    return f"1. What of {word}?\n2. Why {word}?"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: ChatServer

    def do_POST(self) -> None:
        chat = self.chat
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with chat.lock:
            number = len(chat.prompts)
            chat.prompts.append(prompt)
            chat.times.append(time.monotonic())
            chat.bodies.append(body)
            chat.under_way += 1
            chat.most_under_way = max(chat.most_under_way, chat.under_way)
        try:
            self._answer(chat, number, prompt)
        finally:
            with chat.lock:
                chat.under_way -= 1

    def _answer(self, chat: ChatServer, number: int, prompt: str) -> None:
        if chat.key and self.headers.get("Authorization") != f"Bearer {chat.key}":
            given = self.headers.get("Authorization", "")
            self._send(Reply(401, body=json.dumps({"error": f"no such key: {given}"})))
            return
        if self.path != "/v1/chat/completions":
            self._send(Reply(404, body='{"error": "not here"}'))
            return
        reply = chat.script(number, prompt)
        if reply is None or reply.is_normal:
            seconds = reply.seconds if reply else 0.0
            reply = Reply(body=_completion(chat, prompt), seconds=seconds)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        time.sleep(reply.seconds)
        if reply.hangs_up:
            self.close_connection = True
            return
        data = reply.body.encode()
        with suppress(ConnectionError):  # the client may have been killed
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


def _completion(chat: ChatServer, prompt: str) -> str:
    message = {"role": "assistant", "content": chat.rule(prompt)}
    tree: dict[str, Any] = {"choices": [{"message": message, "finish_reason": "stop"}]}
    if chat.tokens is not None:
        tree["usage"] = {"total_tokens": chat.tokens}
    return json.dumps(tree)


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A server on a free port; it ends with the context."""
    handler = type("Handler", (_Handler,), {})
    with serving(handler) as url:
        chat = ChatServer(f"{url}/v1")
        handler.chat = chat  # type: ignore[attr-defined]
        yield chat
