"""Token lengths with the model's real tokenizer, prompt and special tokens; torch-free.

from codex_forge.tokens import audit_lengths
print(audit_lengths(texts, "path/of/a/model").truncated_share)
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.errors import ConfigError
from codex_forge.model import locate
from codex_forge.progress import progress

BATCH = 1024
PERCENTILES = (50, 90, 95, 99)

Count = Callable[[Sequence[str]], list[int]]
"""From texts to their numbers of tokens, special tokens included."""

_BEGINNING = 120
_BINS = 20
_THREADS = 16


@dataclass(frozen=True)
class LengthAudit:
    """What was measured on one kind of text. Lengths are in tokens, special tokens included."""

    texts: int
    limit: int
    maximum: int
    mean: float
    percentiles: dict[str, float]
    truncated: int
    truncated_share: float
    histogram: dict[str, list[int]]
    """`edges` (n + 1) and `counts` (n)."""
    worst: list[tuple[int, int]]
    """(position, length) of the longest texts, longest first."""
    worst_begin: list[str]
    """How those texts begin, in the same order."""


class Lengths:
    """Gathers the lengths of one kind of text: four bytes a text, and how the longest begin."""

    def __init__(self, limit: int, worst: int = 10) -> None:
        """`limit` tokens are kept of a text; the `worst` longest are named."""
        self._limit, self._most = limit, worst
        self._parts: list[NDArray[np.int32]] = []
        self._total = 0
        self._worst: list[tuple[int, int, str]] = []

    def add(self, texts: Sequence[str], lengths: Sequence[int]) -> None:
        """Take in a batch of texts and their lengths in tokens."""
        for position, (text, length) in enumerate(
            zip(texts, lengths, strict=True), start=self._total
        ):
            if len(self._worst) < self._most or length > self._worst[0][0]:
                place = heapq.heappush if len(self._worst) < self._most else heapq.heappushpop
                place(self._worst, (length, -position, text[:_BEGINNING]))
        self._parts.append(np.array(lengths, dtype=np.int32))
        self._total += len(lengths)

    def audit(self) -> LengthAudit:
        """What was measured so far."""
        lengths = np.concatenate([*self._parts, np.zeros(0, dtype=np.int32)])
        self._parts = [lengths]
        over = int((lengths > self._limit).sum())
        counts, edges = np.histogram(lengths, bins=_edges(lengths))
        worst = sorted(self._worst, key=lambda item: (-item[0], -item[1]))
        return LengthAudit(
            texts=len(lengths),
            limit=self._limit,
            maximum=int(lengths.max(initial=0)),
            mean=round(float(lengths.mean()), 2) if len(lengths) else 0.0,
            percentiles={
                f"p{p}": float(np.percentile(lengths, p)) if len(lengths) else 0.0
                for p in PERCENTILES
            },
            truncated=over,
            truncated_share=over / len(lengths) if len(lengths) else 0.0,
            histogram={"edges": [int(e) for e in edges], "counts": [int(c) for c in counts]},
            worst=[(-place, length) for length, place, _ in worst],
            worst_begin=[text for _, _, text in worst],
        )


class TokenCounter:
    """Counts tokens as a model sees them, untruncated; tells where the model stops reading."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a `tokenizers.Tokenizer`; a copy of it is used."""
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special_tokens = int(self._tokenizer.num_special_tokens_to_add(is_pair=False))
        self._threads = min(_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads)

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones included."""
        size = max(16, -(-len(texts) // (4 * self._threads)))
        parts = [texts[at : at + size] for at in range(0, len(texts), size)]
        # The library lets go of the interpreter while it works, so that threads share a batch.
        return [length for part in self._pool.map(self._count, parts) for length in part]

    def cut(self, text: str, limit: int, prompt: str = "") -> int | None:
        """The character of `text` where a model that keeps `limit` tokens stops reading.

        None when the model reads it all. The prompt before the text takes its share of the limit.
        """
        found = self._tokenizer.encode(prompt + text, add_special_tokens=False)
        room = max(0, limit - self.special_tokens)
        if len(found.ids) <= room:
            return None
        end = max((end for _, end in found.offsets[:room]), default=0)
        return max(0, end - len(prompt))

    def _count(self, texts: Sequence[str]) -> list[int]:
        return [len(found) for found in self._tokenizer.encode_batch_fast(list(texts))]


def load_tokenizer(folder: Path) -> TokenCounter:
    """Counts the tokens of texts as the model in `folder` sees them, untruncated.

    Raises:
        ConfigError: the folder has no tokenizer.json.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError("the model has no tokenizer.json", where=folder, do="save it as `fast`")
    return TokenCounter(Tokenizer.from_file(str(path)))


def audit_lengths(
    texts: Iterable[str],
    tokenizer: Any,
    limit: int | None = None,
    *,
    prompt: str = "",
    what: str = "texts",
    worst: int = 10,
) -> LengthAudit:
    """Measure the token lengths of any texts, in batches, with a progress bar.

    Args:
        texts: the texts, without prompt; read once, never held together.
        tokenizer: the folder of a model, a tokenizer of `transformers` or `tokenizers`, or any
            function from texts to token counts.
        limit: tokens that the model keeps; what the model's folder, or its tokenizer, says when
            not given.
        prompt: put before every text, as the model will.
        what: names the texts in the progress bar.
        worst: how many of the longest texts to name.

    Raises:
        ConfigError: the limit is not given and not told, or the tokenizer is none.
    """
    count = as_count(tokenizer)
    known = limit if limit is not None else _limit_of(tokenizer)
    if known is None:
        raise ConfigError("the tokenizer does not say how many tokens are kept", do="give `limit`")
    gathered = Lengths(known, worst)
    for batch in _batches(progress(texts, f"{what} counted")):
        gathered.add(batch, count([prompt + text for text in batch]))
    return gathered.audit()


def as_count(tokenizer: Any) -> Count:
    """A function that counts tokens, from whatever can count them.

    Raises:
        ConfigError: it cannot, or a folder has no tokenizer.json.
    """
    if isinstance(tokenizer, str | Path):
        return _loaded(Path(tokenizer))
    if hasattr(tokenizer, "encode_batch_fast"):
        return TokenCounter(tokenizer)
    if hasattr(tokenizer, "backend_tokenizer"):
        return TokenCounter(tokenizer.backend_tokenizer)
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "model_max_length"):
        return lambda texts: [len(ids) for ids in tokenizer(list(texts))["input_ids"]]
    if callable(tokenizer):
        count: Count = tokenizer
        return count
    raise ConfigError(
        f"{type(tokenizer).__name__} does not count tokens",
        do="give the folder of a model, or its tokenizer",
    )


@lru_cache(maxsize=4)
def _loaded(folder: Path) -> TokenCounter:
    return load_tokenizer(folder)


def _limit_of(tokenizer: Any) -> int | None:
    if isinstance(tokenizer, str | Path):
        return locate.max_seq_length(Path(tokenizer))
    told = getattr(tokenizer, "model_max_length", None)
    return told if isinstance(told, int) and told < 10**6 else None


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, BATCH)):
        yield batch


def _edges(lengths: NDArray[np.int32]) -> list[int]:
    """About 20 whole-number bins from 0 to the maximum."""
    step = max(1, -(-int(lengths.max(initial=1)) // _BINS))
    return list(range(0, int(lengths.max(initial=1)) + 2 * step, step))
