"""A language model behind an OpenAI-compatible endpoint: many requests at once, with patience.

What may heal (429, 5xx, time-outs, broken connections) is tried again with growing random pauses,
and after `Retry-After` by all requests together. The key comes from the environment, goes into one
header, and is in no message: what an endpoint says about it is not repeated.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Future
from http import HTTPStatus
from types import TracebackType
from typing import Any, NamedTuple

import httpx
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from codex_forge.config.pairs import GeneratorConfig
from codex_forge.errors import ForgeError, InputError, TryAgain
from codex_forge.model.http import bearer, heals, retry_after, without_key
from codex_forge.storage.faults import seconds_from

log = logging.getLogger("codex_forge")

PATIENCE_VARIABLE = "CODEX_FORGE_GENERATOR_PATIENCE"
"""Seconds for which requests are tried again while the endpoint answers none of them."""

_PATIENCE = 120.0
_LONGEST_PAUSE = 20.0
_ATTEMPTS = 6
"""At one request, while others are answered."""
_REFUSALS = {400, 413, 422}
"""Statuses that may be due to this one text, such as a text that is too long."""
_LONGEST_RESPONSE = 16 << 20
"""Bytes; a chat completion of a model's longest answer has fewer."""
_BYTES_OF_A_TOKEN = 3
"""For endpoints that do not count: rather too many tokens than too few."""


class Answer(NamedTuple):
    """What the model said, or why there is nothing."""

    text: str
    tokens: int
    """As the endpoint counts them, those of the prompt included; a guess when it does not."""
    is_cut: bool = False
    """The model was stopped before its end."""
    problem: str = ""
    """Why there is no text; empty when there is one."""


class _AgainError(Exception):
    """This attempt failed in a way that another may not."""

    def __init__(self, why: str, pause: float = 0.0) -> None:
        super().__init__(why)
        self.pause = pause
        """Seconds that the endpoint asked to wait."""


class Endpoint:
    """Asks one model; a context, in whose end requests under way are given up."""

    def __init__(self, config: GeneratorConfig) -> None:
        """Reads the key from the environment; connects to nothing yet.

        Raises:
            ConfigError: what the environment holds can be no key.
        """
        self._config = config
        self._url = f"{config.url}/chat/completions"
        self._headers = bearer(config.api_key_variable)
        self._patience = seconds_from(PATIENCE_VARIABLE, _PATIENCE)
        self._answered = time.monotonic()
        self._not_before = 0.0

    def __enter__(self) -> Endpoint:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = httpx.AsyncClient(
            headers=self._headers,
            timeout=self._config.timeout,
            limits=httpx.Limits(max_connections=self._config.concurrency),
        )
        self._answered = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, prompt: str) -> Future[Answer]:
        """Send one prompt.

        The future holds an answer, perhaps with a `problem` that is this text's own, or raises:
            InputError: the endpoint refuses the key, or is none.
            TryAgain: it has answered no request for the whole patience.
        """
        return asyncio.run_coroutine_threadsafe(self._patiently(prompt), self._loop)

    async def _close(self) -> None:
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _patiently(self, prompt: str) -> Answer:
        started = time.monotonic()

        def enough(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            # A first attempt that hangs may outlast the patience: a second one is always due.
            is_dead = self._is_dead(error) and (state.attempt_number > 1 or not self._patience)
            is_stuck = self._answered > started and state.attempt_number >= _ATTEMPTS
            return is_dead or is_stuck or _pause_of(error) > self._patience

        retrying = AsyncRetrying(
            retry=_is_worth_it, wait=_pause, stop=enough, before_sleep=_say, reraise=True
        )
        try:
            return await retrying(self._once, prompt)
        except _AgainError as error:
            if self._answered > started and not self._is_dead(error):
                return Answer("", 0, problem=f"no answer in {_ATTEMPTS} attempts ({error})")
            raise TryAgain(
                f"the generator does not answer ({error})",
                where=self._url,
                do="run again when it does; what it answered is kept",
            ) from error

    def _is_dead(self, error: BaseException | None) -> bool:
        """Whether there will have been no answer to anything for too long at the next attempt."""
        return time.monotonic() + _pause_of(error) - self._answered > self._patience

    async def _once(self, prompt: str) -> Answer:
        while (wait := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        try:
            async with asyncio.timeout(self._config.timeout):
                response = await self._received(prompt)
        except TimeoutError as error:
            raise _AgainError(f"not in {self._config.timeout:g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise self._unusable(f"is no usable URL ({error})") from error
        except httpx.RequestError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise self._unusable("has a certificate that is not trusted") from error
            raise _AgainError(str(error) or type(error).__name__) from error
        return self._judged(response, prompt)

    async def _received(self, prompt: str) -> httpx.Response:
        """The response, as far as it is no longer than an answer can be."""
        async with self._client.stream("POST", self._url, json=self._body(prompt)) as response:
            parts, size = [], 0
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > _LONGEST_RESPONSE:
                    break
        # Unpacked already, and cut off where it is too long: then it is no JSON.
        headers = [(k, v) for k, v in response.headers.raw if k.lower() == b"retry-after"]
        return httpx.Response(response.status_code, headers=headers, content=b"".join(parts))

    def _body(self, prompt: str) -> dict[str, Any]:
        return {
            "model": self._config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self._config.temperature,
        }

    def _judged(self, response: httpx.Response, prompt: str) -> Answer:
        status = response.status_code
        if status == HTTPStatus.OK:
            self._answered = time.monotonic()
            return _answer_of(response, prompt)
        if status in _REFUSALS:
            self._answered = time.monotonic()
            said = without_key(response.text, self._headers)
            log.warning("  generator: refused (HTTP %d): %s", status, said)
            return Answer("", 0, problem=f"refused (HTTP {status})")
        if heals(status):
            if "insufficient_quota" in response.text:
                raise self._unusable("says that its quota is used up", "raise the quota")
            pause = retry_after(response.headers.get("retry-after", ""))
            self._not_before = max(self._not_before, time.monotonic() + pause)
            raise _AgainError(f"HTTP {status}", pause)
        raise self._refusal(status)

    def _refusal(self, status: int) -> ForgeError:
        variable = self._config.api_key_variable
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            how = "another key in" if self._headers else "the key in"
            return self._unusable(f"refused access (HTTP {status})", f"set {how} {variable}")
        return self._unusable(
            f"knows no such address or model (HTTP {status})",
            f"check pairs.synthesis.generator.url and .model ({self._config.model})",
        )

    def _unusable(self, what: str, do: str = "check pairs.synthesis.generator.url") -> InputError:
        return InputError(f"the generator {what}", where=self._url, do=do)


def _answer_of(response: httpx.Response, prompt: str) -> Answer:
    """The text of a chat completion."""
    try:
        tree = response.json()
        choice = tree["choices"][0]
        text = choice["message"]["content"] or ""
        usage = tree.get("usage") or {}
        tokens = usage.get("total_tokens") or 0
        if not isinstance(text, str) or not isinstance(tokens, int) or isinstance(tokens, bool):
            raise TypeError("not the types of a chat completion")
        text = text.encode("utf-8", "replace").decode()  # no half of a surrogate pair
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return Answer("", 0, problem="not a chat completion")
    size = len(prompt.encode("utf-8", "replace")) + len(text.encode())
    counted = tokens if tokens > 0 else size // _BYTES_OF_A_TOKEN
    return Answer(text, counted, choice.get("finish_reason") == "length")


_growing = wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE)


def _pause(state: RetryCallState) -> float:
    """What the endpoint asked for, or a growing random pause."""
    return _pause_of(state.outcome.exception() if state.outcome else None) or _growing(state)


def _pause_of(error: BaseException | None) -> float:
    return error.pause if isinstance(error, _AgainError) else 0.0


def _is_worth_it(state: RetryCallState) -> bool:
    return state.outcome is not None and isinstance(state.outcome.exception(), _AgainError)


def _say(state: RetryCallState) -> None:
    if state.outcome is not None and state.attempt_number > 1:
        log.warning("  generator: %s; trying again", state.outcome.exception())
