"""An embedding model behind HTTP: Ollama's `/api/embed`, or OpenAI's `/v1/embeddings`.

Texts go in batches, several requests at a time, and come back in order. What may heal is tried
again with growing pauses, or after `Retry-After`. The key comes from the environment, goes into one
header to the configured server alone, and is in no message, log or manifest.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import numpy as np
from numpy.typing import NDArray

from codex_forge.artifact import Input, hash_json
from codex_forge.config.sections import ServedConfig
from codex_forge.errors import ConfigError, InputError
from codex_forge.model.http import bearer
from codex_forge.model.protocols import PROTOCOLS, Ollama
from codex_forge.model.server import Server

Vectors = NDArray[np.float32]

_TINY = 1e-12


class ServedEncoder:
    """A served model that gives unit vectors, as `Encoder` does."""

    def __init__(self, config: ServedConfig) -> None:
        """Reads the key from the environment; asks nothing yet.

        Raises:
            ConfigError: the variable of the key holds none.
        """
        self.config = config
        self._protocol = PROTOCOLS[config.api]
        self._server = _server(config)
        self._dimension: int | None = None

    @property
    def dimension(self) -> int:
        """Length of a vector; the server is asked once."""
        if self._dimension is None:
            self._encode(["dimension"], "")
        return self._dimension or 0

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of queries, shape (texts, dimension), after `query_prompt`.

        Raises:
            TryAgain: the server does not answer.
            ConfigError: it refuses the key, or has no such model.
            InputError: it refuses a text, or what it answers are no vectors of one length.
        """
        return self._encode(texts, self.config.query_prompt)

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of chunks, shape (texts, dimension), after `document_prompt`; as above."""
        return self._encode(texts, self.config.document_prompt)

    def _encode(self, texts: Sequence[str], prompt: str) -> Vectors:
        size = self.config.batch_size
        whole = [prompt + text for text in texts]
        batches = [whole[start : start + size] for start in range(0, len(whole), size)]
        if not batches:
            return np.zeros((0, self.dimension), dtype=np.float32)
        over = Event()
        with ThreadPoolExecutor(min(self.config.requests, len(batches))) as pool:
            try:
                parts = list(pool.map(lambda batch: self._batch(batch, over), batches))
            finally:
                over.set()  # ends the pauses of the others
        widths = {part.shape[1] for part in parts} | {self._dimension or parts[0].shape[1]}
        if len(widths) > 1:
            raise self._wrong(f"vectors of different lengths ({sorted(widths)})")
        self._dimension = widths.pop()
        return _of_unit_length(np.concatenate(parts))

    def _batch(self, texts: list[str], over: Event) -> NDArray[np.float64]:
        """Vectors of one request, shape (texts, dimension)."""
        body = self._protocol.body(self.config.model, texts)
        tree = self._server.post(self._protocol.path, body, over)
        try:
            found = np.array(self._protocol.vectors(tree), dtype=np.float64)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise self._wrong(f"no embeddings ({type(error).__name__})") from error
        if found.ndim != 2 or not found.shape[1] or len(found) != len(texts):  # noqa: PLR2004
            raise self._wrong(f"embeddings of shape {found.shape} for {len(texts)} texts")
        if not np.isfinite(found).all():
            raise self._wrong("numbers that are not finite")
        if not found.any(axis=1).all():
            raise self._wrong("vectors of length 0")
        return found

    def _wrong(self, what: str) -> InputError:
        return InputError(
            f"the served model {self.config.model!r} answers with {what}",
            where=self._server.url,
            do="check embed.served.api and .model",
        )


def identity(config: ServedConfig) -> Input:
    """What artifacts record of a served model: Ollama's digest of it, else its API and name.

    The address is left out: the same model elsewhere is the same.

    Raises:
        ConfigError: the server has no such model.
        TryAgain: it does not answer.
    """
    digest = hash_json([config.api, config.model])
    if config.api == "ollama":
        server = _server(config)
        told = Ollama.digest(server.get("/api/tags", Event()), config.model)
        if told is None:
            raise server.no_such_model()
        digest = hash_json([config.api, told])
    return Input("served", config.model, digest, digest)


def _server(config: ServedConfig) -> Server:
    headers = bearer(config.key_variable) if config.key_variable else {}
    if config.key_variable and not headers:
        raise ConfigError(
            "the environment has no such variable",
            where=f"embed.served.key_variable={config.key_variable}",
            do="put the key into it, or leave key_variable out",
        )
    protocol = PROTOCOLS[config.api]
    client = httpx.Client(
        headers=headers,
        timeout=config.timeout,
        limits=httpx.Limits(max_connections=config.requests),
    )
    server = Server(config, protocol.base(config.url), client, headers)
    weakref.finalize(server, client.close)
    return server


def _of_unit_length(vectors: NDArray[np.float64]) -> Vectors:
    largest = abs(vectors).max(axis=1, keepdims=True)
    scaled = vectors / largest  # squares of very large numbers are no numbers
    found: Vectors = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
    return found
