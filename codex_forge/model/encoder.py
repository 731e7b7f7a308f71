"""Encode queries and documents with an embedding model and its own prompts (imports torch).

Each distinct text is tokenised and encoded once, beside texts of its length: next to nothing is
computed for padding. Sub-batches are small on a CPU, where activations then stay in its caches.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge.model.cutting import OVERHEAD, cut
from codex_forge.model.loading import load_base, load_trained, loading
from codex_forge.model.tokenising import Tokeniser, Tokens

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["BATCH_TOKENS", "Encoder", "Prepared", "Tally", "load_base", "load_trained", "loading"]

log = logging.getLogger("codex_forge")

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BATCH_TOKENS = {"cpu": 2048, "mps": 16_384, "cuda": 131_072}
"""Tokens that are encoded at once, padding included: measured on a CPU, guessed of others."""

_WINDOW = 16_384
"""Distinct texts that are tokenised, and sorted by length, together."""
_FALLBACK = 64
"""Texts in a batch of a model that has to be left to its own way."""
Floats = NDArray[np.float32]


@dataclass
class Tally:
    """What an encoder has encoded."""

    asked: int = 0
    """Texts that it was given."""
    texts: int = 0
    """Texts that ran through the model: repeats are left out."""
    tokens: int = 0
    padded: int = 0
    """Tokens with padding; 0, as `tokens`, for a model that is left to its own way."""


class Prepared(NamedTuple):
    """Texts of one role that wait for the model."""

    role: str
    texts: list[str]
    """Distinct ones."""
    places: NDArray[np.int64] | None
    """Of each text that was given its position in `texts`; None when none repeats."""
    tokens: Tokens | None
    """None for a model that has to be left to its own way."""


class Encoder:
    """A sentence-transformers model that gives unit vectors."""

    def __init__(
        self,
        model: SentenceTransformer,
        batch_tokens: int | None = None,
        precision: str = "fp32",
        engine: str = "torch",
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: its modules run as they are; with `openvino` its transformer is replaced.
            batch_tokens: tokens that run together, padding included; depends on the device when
                not given, and is halved when memory runs out.
            precision: `fp32`, `bf16`, `fp16` (torch only) or `int8` (openvino only): of the
                computation. Vectors are float32.
            engine: `torch` or `openvino`: what computes the transformer.

        Raises:
            ConfigError: OpenVINO is not there, or the model does not convert.
        """
        if engine == "openvino":
            from codex_forge.model.openvino import put_into

            put_into(model, precision)
        self.model, self.precision, self.engine = model, precision, engine
        self.batch_tokens = batch_tokens or _of_device(BATCH_TOKENS, model)
        self.tally = Tally()
        self._tokenisers: dict[str, Tokeniser] = {}
        self._ahead = ThreadPoolExecutor(1)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.model.get_embedding_dimension() or 0)

    def encode_query(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of queries, shape (texts, dimension), with the model's query prompt."""
        return self._encode(texts, "query")

    def encode_document(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of chunks, shape (texts, dimension), with the model's document prompt."""
        return self._encode(texts, "document")

    def prepare(self, texts: Sequence[str], role: str) -> Prepared:
        """Tokenise texts for `finish`; another thread may do that while the model runs."""
        distinct, places = _distinct(texts)
        tokens = self._tokeniser(role)(distinct) if distinct else None
        return Prepared(role, distinct, places, tokens)

    def finish(self, prepared: Prepared) -> Floats:
        """Unit vectors of what was prepared, shape (texts, dimension)."""
        self.tally.texts += len(prepared.texts)
        places = prepared.places
        self.tally.asked += len(prepared.texts if places is None else places)
        if not prepared.texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        if prepared.tokens is None:
            found = self._as_the_library(prepared.texts, prepared.role)
        else:
            found = self._run(prepared.tokens, prepared.role)
        return found if places is None else found[places]

    def _encode(self, texts: Sequence[str], role: str) -> Floats:
        distinct, places = _distinct(texts)
        found = np.concatenate(list(self._in_windows(distinct, role)))
        self.tally.asked += len(texts) - len(distinct)
        return found if places is None else found[places]

    def _in_windows(self, texts: list[str], role: str) -> Iterator[Floats]:
        """Vectors of distinct texts; the next window is tokenised while this one is encoded."""
        prepared = self.prepare(texts[:_WINDOW], role)
        for start in range(_WINDOW, len(texts), _WINDOW):
            following = self._ahead.submit(self.prepare, texts[start : start + _WINDOW], role)
            yield self.finish(prepared)
            prepared = following.result()
        yield self.finish(prepared)

    def _tokeniser(self, role: str) -> Tokeniser:
        if role not in self._tokenisers:
            self._tokenisers[role] = Tokeniser(self.model, role)
        return self._tokenisers[role]

    def _run(self, tokens: Tokens, role: str) -> Floats:
        """Vectors of tokenised texts, in the order of the texts; the longest run first."""
        import torch

        self.model.eval()
        places = torch.from_numpy(tokens.order).to(self.model.device)
        overhead = _of_device(OVERHEAD, self.model)
        waiting = list(cut(tokens.lengths, self.batch_tokens, overhead))[::-1]
        found: torch.Tensor | None = None
        with torch.inference_mode(), self._autocast():  # one region: the weights are cast once
            while waiting:
                part = waiting.pop()
                try:
                    vectors = self._forward(tokens, part, role)
                except torch.OutOfMemoryError:
                    if part.stop - part.start == 1:
                        raise
                    waiting += self._halved(tokens, part)
                    continue
                if found is None:
                    found = vectors.new_empty((len(places), vectors.shape[1]))
                found[places[part]] = vectors
        return np.zeros((0, 0), np.float32) if found is None else found.cpu().numpy()

    def _forward(self, tokens: Tokens, part: slice, role: str) -> torch.Tensor:
        import torch

        features: dict[str, Any] = {
            name: on_device(array, self.model.device) for name, array in tokens.padded(part).items()
        }
        size = part.stop - part.start
        padded = size * int(tokens.lengths[part.start])
        vectors = self.model({**features, **tokens.layout.beside}, task=role)["sentence_embedding"]
        self.tally.tokens += int(tokens.lengths[part].sum())
        self.tally.padded += padded
        if (most := self.model.truncate_dim) is not None:
            vectors = vectors[:, :most]
        return torch.nn.functional.normalize(vectors.float(), dim=1)

    def _halved(self, tokens: Tokens, part: slice) -> list[slice]:
        """Two halves, the first one last, of what the memory does not hold."""
        tried = (part.stop - part.start) * int(tokens.lengths[part.start])
        self.batch_tokens = max(1, min(self.batch_tokens, tried) // 2)
        log.warning("  memory ran out: %d tokens are encoded at once from here", self.batch_tokens)
        middle = (part.start + part.stop) // 2
        return [slice(middle, part.stop), slice(part.start, middle)]

    def _autocast(self) -> AbstractContextManager[Any]:
        """The number format of the computation."""
        import torch

        if self.precision == "fp32" or self.engine != "torch":
            return nullcontext()
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        return torch.autocast(self.model.device.type, dtype=dtype)

    def _as_the_library(self, texts: list[str], role: str) -> Floats:
        """Vectors of a model that does more than its tokenizer tells."""
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        with self._autocast():
            found = encode(
                texts,
                batch_size=_FALLBACK,
                show_progress_bar=False,
                normalize_embeddings=True,
                convert_to_tensor=True,
            )
        vectors: Floats = found.float().cpu().numpy()
        return vectors


def _distinct(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64] | None]:
    """The distinct texts in their order, and of each text its position there if any repeats."""
    position = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    if len(position) == len(texts):
        return list(texts), None
    return list(position), np.fromiter((position[text] for text in texts), np.int64, len(texts))


def _of_device(numbers: dict[str, int], model: SentenceTransformer) -> int:
    return numbers.get(model.device.type, numbers["cuda"])


def on_device(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array as a tensor there; copied to a GPU while that computes."""
    import torch

    found = torch.from_numpy(values)
    if device.type == "cuda":
        return found.pin_memory().to(device, non_blocking=True)
    return found.to(device)
