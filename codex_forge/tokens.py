"""Token lengths with the model's real tokenizer, prompt and special tokens; torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.errors import ConfigError
from codex_forge.progress import progress

_BATCH = 1024
PERCENTILES = (50, 90, 95, 99)

Count = Callable[[Sequence[str]], list[int]]


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


def load_tokenizer(folder: Path) -> Count:
    """A function that counts the tokens of texts as the model in `folder` sees them, untruncated.

    Raises:
        ConfigError: the folder has no tokenizer.json.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError("the model has no tokenizer.json", where=folder, do="save it as `fast`")
    tokenizer: Any = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(found) for found in tokenizer.encode_batch_fast(list(texts))]

    return count


def audit_lengths(
    texts: Iterable[str],
    count: Count,
    limit: int,
    *,
    prompt: str = "",
    what: str = "texts",
    worst: int = 10,
) -> LengthAudit:
    """Measure the token lengths of any texts, in batches, with a progress bar.

    Args:
        texts: the texts, without prompt.
        count: from `load_tokenizer`, or any function from texts to token counts.
        limit: tokens that the model keeps.
        prompt: put before every text, as the model will.
        what: names the texts in the progress bar.
        worst: how many of the longest texts to name.
    """
    lengths = _lengths(texts, count, prompt, what)
    over = int((lengths > limit).sum())
    order = np.argsort(-lengths, kind="stable")[:worst]
    counts, edges = np.histogram(lengths, bins=_edges(lengths))
    return LengthAudit(
        texts=len(lengths),
        limit=limit,
        maximum=int(lengths.max(initial=0)),
        mean=round(float(lengths.mean()), 2) if len(lengths) else 0.0,
        percentiles={
            f"p{p}": float(np.percentile(lengths, p)) if len(lengths) else 0.0 for p in PERCENTILES
        },
        truncated=over,
        truncated_share=over / len(lengths) if len(lengths) else 0.0,
        histogram={"edges": [int(e) for e in edges], "counts": [int(c) for c in counts]},
        worst=[(int(i), int(lengths[i])) for i in order],
    )


def _lengths(texts: Iterable[str], count: Count, prompt: str, what: str) -> NDArray[np.int64]:
    parts = [
        np.array(count([prompt + text for text in batch]), dtype=np.int64)
        for batch in progress(_batches(texts), f"{what} counted (batches of {_BATCH})")
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH)):
        yield batch


def _edges(lengths: NDArray[np.int64]) -> list[int]:
    """About 20 whole-number bins from 0 to the maximum."""
    step = max(1, -(-int(lengths.max(initial=1)) // 20))
    return list(range(0, int(lengths.max(initial=1)) + 2 * step, step))
