"""Where collections are: a folder of this machine, or a server; and what it means when they fail.

A folder has one writer at a time. A server may have many; the token for it comes from the
environment, goes into two headers, and is in no message.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from codex_forge.chroma.answers import TOKEN_VARIABLE, judged
from codex_forge.errors import ConfigError, ForgeError, InputError, NotFound
from codex_forge.storage import faults
from codex_forge.storage.faults import patiently

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

KEPT = "the Parquet is safe; run the same command again when it answers"
"""What a writer does about a database that is away."""

_SECONDS = 60.0
"""That one request to a server may take."""
_OF_OTHERS = {404, 405, 501}
"""What a web server that is no database says to a question for its heartbeat."""

NAME = "codex-forge"
"""Begins the names of the embedding functions of our collections."""

T = TypeVar("T")


class Place:
    """A folder or a server, with patience: what fails and may heal is tried again.

    As a context it is closed in the end; collections of it can then not be used.
    """

    def __init__(self, place: str, do: str = KEPT) -> None:
        """Connect to a folder or an http URL; `do` is what to do when it does not answer.

        Raises:
            ConfigError: what the environment holds can be no token.
            InputError: there is no usable database.
            StorageDown: the server does not answer.
        """
        self.place, self.do = place, do
        # Of a collection whose function nobody has registered, as nobody asks it with texts.
        warnings.filterwarnings("ignore", f"Could not reconstruct embedding function {NAME}-")
        self.is_server = place.startswith(("http://", "https://"))
        self.client: ClientAPI = self.ask(self._connected) if self.is_server else _embedded(place)
        self.most_rows: int = self.ask(self.client.get_max_batch_size)
        """Rows that the database takes at once."""

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and connections."""
        self.client.close()
        for session in _sessions_of(self.client):
            session.close()

    def ask(self, action: Callable[[], T]) -> T:
        """Do what may be done twice without harm, again while the database does not answer.

        Raises:
            StorageDown: it still does not.
            InputError: it refuses.
            NotFound: there is no such collection.
        """

        def attempt() -> T:
            with self._faults():
                return action()

        return patiently(attempt, self.place)

    def find(self, name: str) -> Any | None:
        """The collection of this name, if there is one; asks for no vectors by itself."""
        try:
            return self.ask(lambda: self.client.get_collection(name, embedding_function=None))
        except NotFound:
            return None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """In a folder: one writer at a time on this machine."""
        if self.is_server:
            yield
            return
        with (Path(self.place) / ".codex-forge.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _connected(self) -> ClientAPI:
        import chromadb

        headers = _headers()
        # The client itself would wait for ever, and take any web server for a database.
        beat = httpx.get(f"{self.place}/api/v2/heartbeat", headers=headers, timeout=_SECONDS)
        is_other = beat.is_success and "nanosecond heartbeat" not in beat.text
        if is_other or beat.status_code in _OF_OTHERS:
            raise InputError("is no Chroma server", where=self.place, do="check embed.chroma.url")
        beat.raise_for_status()
        client = chromadb.HttpClient(
            self.place, ssl=self.place.startswith("https:"), headers=headers, settings=_settings()
        )
        for session in _sessions_of(client):
            session.timeout = httpx.Timeout(_SECONDS)
        return client

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except ForgeError:
            raise
        except Exception as error:
            known = judged(error, self.place, self.do)
            if known is None:
                raise
            raise known from None  # the cause may hold the request's headers


def _sessions_of(client: ClientAPI) -> list[httpx.Client]:
    """The connections of a server's client, which has no way to limit or to close them."""
    clients = (client, getattr(client, "_admin_client", None))
    found = [getattr(getattr(each, "_server", None), "_session", None) for each in clients]
    return [session for session in found if isinstance(session, httpx.Client)]


def _embedded(path: str) -> ClientAPI:
    import chromadb
    from chromadb.errors import ChromaError

    with faults(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    try:
        return chromadb.PersistentClient(path, settings=_settings())
    except (ChromaError, OSError, ValueError, sqlite3.Error) as error:
        raise InputError(
            f"not usable as a ChromaDB folder ({error})", where=path, do="see embed.chroma.path"
        ) from error


def _settings() -> Any:
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)


def _headers() -> dict[str, str]:
    """Both headers in which servers, and proxies before them, look for a token."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        return {}
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("holds signs that no token has", where=TOKEN_VARIABLE, do="set it anew")
    return {"X-Chroma-Token": token, "Authorization": f"Bearer {token}"}
