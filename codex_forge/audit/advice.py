"""What to set, drawn from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codex_forge.audit.lengths import AllLengths, Reading
from codex_forge.config import RunConfig
from codex_forge.tokens import LengthAudit

_ROOM = 8
_STEP = 16


def covering(audits: Mapping[str, LengthAudit], limit: int) -> int:
    """A `max_seq_length` that holds 99 % of every kind of text; a multiple of 16 up to `limit`."""
    longest = max(audit.percentiles["p99"] for audit in audits.values())
    return min(limit, -(-int(longest + _ROOM) // _STEP) * _STEP)


def advise(
    reading: Reading,
    lengths: AllLengths,
    audits: Mapping[str, LengthAudit],
    memory: Mapping[str, Any] | None,
    config: RunConfig,
) -> list[str]:
    """Sentences: sequence length, size of chunks, size of batches."""
    return [
        *_sequence(audits, reading.limit),
        *_chunks(reading, lengths, audits),
        *_batches(memory, config.train.batch_size),
    ]


def _sequence(audits: Mapping[str, LengthAudit], limit: int) -> list[str]:
    if not audits or (advised := covering(audits, limit)) >= limit:
        return []
    longest = max(audit.percentiles["p99"] for audit in audits.values())
    return [
        f"99 % of every kind of text fit into {int(longest)} tokens: "
        f"model.max_seq_length={advised} cuts few and bounds memory"
    ]


def _chunks(reading: Reading, lengths: AllLengths, audits: Mapping[str, LengthAudit]) -> list[str]:
    """How long chunks may be, in tokens, and in words of this corpus."""
    room = reading.room()
    if room <= 0 or not lengths.tokens_a_word:
        return []
    words = int(room / lengths.tokens_a_word)
    signs = int(room * lengths.signs_a_token)
    size = (
        f"{room} tokens, which are about {words} words or {signs} characters of this corpus "
        f"({lengths.tokens_a_word:.2f} tokens a word)"
    )
    chunk = audits.get("chunk", audits.get("positive"))
    if chunk is not None and chunk.truncated:
        return [
            f"{chunk.truncated} chunks lose their end: cut the corpus into chunks of at most "
            f"{size}, or use a model, or a model.max_seq_length, that reads more"
        ]
    return [f"no chunk is cut; chunks may grow to {size}"]


def _batches(memory: Mapping[str, Any] | None, batch_size: int) -> list[str]:
    if memory is None:
        return []
    fits = ", ".join(f"{n} in {size} GiB" for size, n in memory["batch_sizes"].items())
    return [
        f"train.batch_size={batch_size} needs about {_need(memory, batch_size):.1f} GiB for pairs "
        f"of the longest usual texts; the largest that fits: {fits} ({memory['how']})"
    ]


def _need(memory: Mapping[str, Any], batch_size: int) -> float:
    total: float = memory["fixed_bytes"] + batch_size * memory["bytes_a_pair"]
    return total / 2**30
