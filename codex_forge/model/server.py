"""Requests to the server of an embedding model, with patience and clear refusals."""

from __future__ import annotations

import logging
from http import HTTPStatus
from threading import Event
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, sleep_using_event, wait_random_exponential

from codex_forge.config.sections import ServedConfig
from codex_forge.errors import ConfigError, ForgeError, InputError, StorageDown
from codex_forge.model.http import heals, retry_after, without_key
from codex_forge.model.protocols import PROTOCOLS
from codex_forge.stopping import stop
from codex_forge.storage.faults import seconds_from

log = logging.getLogger("codex_forge")

PATIENCE_VARIABLE = "CODEX_FORGE_SERVED_PATIENCE"
"""Seconds for which a request is tried again while the server does not answer it."""

_PATIENCE = 120.0
_LONGEST_PAUSE = 20.0


class _AgainError(Exception):
    """This attempt failed in a way that another may not."""

    def __init__(self, why: str, pause: float = 0.0) -> None:
        super().__init__(why)
        self.pause = pause
        """Seconds that the server asked to wait."""


class Server:
    """A server of embedding models; may be asked from many threads."""

    def __init__(
        self, config: ServedConfig, url: str, client: httpx.Client, headers: dict[str, str]
    ) -> None:
        """`headers` are those of the client, so that the key in them is never repeated."""
        self.url = url
        self._config, self._client, self._headers = config, client, headers
        self._patience = seconds_from(PATIENCE_VARIABLE, _PATIENCE)

    def get(self, path: str, over: Event) -> Any:
        """The JSON at a path; errors as below."""
        return self._patiently("GET", path, None, over)

    def post(self, path: str, body: dict[str, Any], over: Event) -> Any:
        """The JSON that answers a request; `over` ends the pauses before another attempt.

        Raises:
            TryAgain: there was no answer for the whole patience.
            ConfigError: the key is refused, or there is no such model or address.
            InputError: the request is refused, or the answer is no JSON.
        """
        return self._patiently("POST", path, body, over)

    def no_such_model(self) -> ConfigError:
        """The server does not have the configured model."""
        model = self._config.model
        return ConfigError(
            f"the server has no model {model!r}",
            where=self.url,
            do=PROTOCOLS[self._config.api].to_get(model),
        )

    def _patiently(self, method: str, path: str, body: dict[str, Any] | None, over: Event) -> Any:
        def enough(state: RetryCallState) -> bool:
            pause = _pause_of(state)
            tired = (state.seconds_since_start or 0.0) + pause >= self._patience
            # A first attempt that hangs may outlast the patience: one more is always due.
            is_late = tired and (state.attempt_number > 1 or not self._patience)
            return is_late or pause > self._patience or over.is_set() or stop.requested

        retrying = Retrying(
            retry=_is_worth_it,
            wait=_wait,
            stop=enough,
            before_sleep=_say,
            sleep=sleep_using_event(over),
            reraise=True,
        )

        def attempt() -> Any:
            if over.is_set():
                raise _AgainError("given up, as another request failed")
            return self._once(method, path, body)

        try:
            return retrying(attempt)
        except _AgainError as error:
            raise StorageDown(
                f"the served model does not answer ({error})",
                where=self.url,
                do="run again when it does; what is embedded is kept",
            ) from None

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            response = self._client.request(method, f"{self.url}{path}", json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise self._unusable(f"is no usable URL ({error})") from None
        except httpx.TimeoutException:
            raise _AgainError(f"not in {self._config.timeout:g} s") from None
        except httpx.RequestError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise self._unusable("has a certificate that is not trusted") from None
            raise _AgainError(str(error) or type(error).__name__) from None
        if response.status_code != HTTPStatus.OK:
            raise self._refusal(response)
        try:
            return response.json()
        except ValueError:
            raise self._unusable("answers with what is no JSON") from None

    def _refusal(self, response: httpx.Response) -> Exception:
        """What a status that is not 200 means."""
        status = response.status_code
        said = without_key(response.text, self._headers)
        if "insufficient_quota" in response.text:
            return self._unusable("says that its quota is used up", "raise the quota")
        if heals(status):
            return _AgainError(
                f"HTTP {status}", retry_after(response.headers.get("retry-after", ""))
            )
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return self._no_access(status)
        if status == HTTPStatus.NOT_FOUND:
            if "model" in response.text.lower():
                return self.no_such_model()
            return self._unusable("has no such address (HTTP 404)")
        return InputError(
            f"the served model refuses a request (HTTP {status}: {said})",
            where=self.url,
            do="check embed.served; texts may be too long for the model",
        )

    def _no_access(self, status: int) -> ForgeError:
        variable = self._config.key_variable
        if variable is None:
            do = "put the key into a variable and name it in embed.served.key_variable"
        else:
            do = f"set another key in {variable}"
        return self._unusable(f"refuses access (HTTP {status})", do)

    def _unusable(
        self, what: str, do: str = "check embed.served.url and embed.served.api"
    ) -> ConfigError:
        return ConfigError(f"the server {what}", where=self.url, do=do)


_growing = wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE)


def _wait(state: RetryCallState) -> float:
    """What the server asked for, or a growing random pause."""
    return _pause_of(state) or _growing(state)


def _pause_of(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.pause if isinstance(error, _AgainError) else 0.0


def _is_worth_it(state: RetryCallState) -> bool:
    return state.outcome is not None and isinstance(state.outcome.exception(), _AgainError)


def _say(state: RetryCallState) -> None:
    if state.outcome is not None and state.attempt_number > 1:
        log.warning("  served model: %s; trying again", state.outcome.exception())
