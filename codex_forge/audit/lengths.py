"""Token lengths of every text that training and embedding will see, each distinct text once.

A chunk is usually a positive and a negative too, behind the same prompt: its length is looked up by
hash and not counted again. Memory: a hash and a number a distinct text, never the texts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codex_forge.config.sections import ModelConfig
from codex_forge.errors import InputError
from codex_forge.hashes import Seen, text_hash
from codex_forge.model import locate
from codex_forge.tokens import BATCH, LengthAudit, Lengths, TokenCounter

KINDS = ("chunk", "query", "positive", "negative", "text_a", "text_b")
"""Of texts, in the order of reports."""
_AS_QUERIES = ("query", "text_a", "text_b")
"""The others are read as chunks."""


@dataclass(frozen=True)
class Reading:
    """How a model reads: its tokenizer, how much of a text it keeps, what is put before."""

    count: TokenCounter
    limit: int
    query_prompt: str
    document_prompt: str

    def prompt(self, kind: str) -> str:
        """What is put before a text of this kind."""
        return self.query_prompt if kind in _AS_QUERIES else self.document_prompt

    def room(self) -> int:
        """Tokens of its own that a chunk may have, beside its prompt and the special tokens."""
        return self.limit - self.count([self.document_prompt])[0]


def reading_of(config: ModelConfig, folder: Path, count: TokenCounter) -> Reading:
    """How the model in `folder` reads under a `model` section.

    Raises:
        InputError: neither the section nor the model says how many tokens are kept.
    """
    limit = config.max_seq_length or locate.max_seq_length(folder)
    if limit is None:
        raise InputError(
            "the model does not say how many tokens it keeps",
            where=folder,
            do="set model.max_seq_length",
        )
    own = locate.prompts(folder)
    return Reading(
        count,
        limit,
        config.query_prompt or own.get("query", ""),
        config.document_prompt or own.get("document", ""),
    )


class AllLengths:
    """Lengths by kind of text, gathered from a stream."""

    def __init__(self, reading: Reading, worst: int) -> None:
        """`worst` texts of each kind are named."""
        self._reading = reading
        self._found = {kind: Lengths(reading.limit, worst) for kind in KINDS}
        self._seen = {kind: Seen() for kind in KINDS}
        self._waiting: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self._known = Seen()
        self._around = reading.limit - reading.room()
        self._cut: dict[str, set[int]] = {kind: set() for kind in KINDS}
        self.tokens, self.seconds = 0, 0.0
        """Counted by the tokenizer, and how long that took."""
        self._words, self._signs, self._chunk_tokens = 0, 0, 0

    def add(self, kind: str, text: str) -> None:
        """Take in one text; the same text of the same kind counts once."""
        waiting = self._waiting[kind]
        waiting.append(text)
        if len(waiting) >= BATCH:
            self._flush(kind)

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Take in the texts of one row of pairs, or of scored pairs."""
        for kind in KINDS[1:]:
            value = row.get("negatives") if kind == "negative" else row.get(kind)
            for text in value if isinstance(value, list) else (value,):
                if isinstance(text, str):
                    self.add(kind, text)

    def audits(self) -> dict[str, LengthAudit]:
        """What was measured, by kind; kinds without a text are left out."""
        for kind in KINDS:
            self._flush(kind)
        found = {kind: lengths.audit() for kind, lengths in self._found.items()}
        return {kind: audit for kind, audit in found.items() if audit.texts}

    def is_cut(self, kind: str, text: str) -> bool:
        """Whether a text of this kind, taken in before, is longer than the model reads."""
        return bool(self._cut[kind]) and text_hash(text) in self._cut[kind]

    @property
    def tokens_a_word(self) -> float:
        """Tokens a word of the chunks, words parted by white space; 0 when there are none."""
        return self._chunk_tokens / self._words if self._words else 0.0

    @property
    def signs_a_token(self) -> float:
        """Characters a token of the chunks; 0 when there are none."""
        return self._signs / self._chunk_tokens if self._chunk_tokens else 0.0

    def _flush(self, kind: str) -> None:
        batch = self._waiting[kind]
        self._waiting[kind] = []
        new = self._seen[kind].new([text_hash(text) for text in batch])
        texts = [text for text, is_new in zip(batch, new, strict=True) if is_new]
        if not texts:
            return
        lengths = self._counted(self._reading.prompt(kind), texts)
        self._found[kind].add(texts, lengths)
        limit = self._reading.limit
        self._cut[kind].update(
            text_hash(text)
            for text, length in zip(texts, lengths, strict=True)
            if length > limit and kind in ("query", "positive")
        )
        if kind in ("chunk", "positive"):
            self._words += sum(len(text.split()) for text in texts)
            self._signs += sum(map(len, texts))
            self._chunk_tokens += sum(lengths) - len(texts) * self._around

    def _counted(self, prompt: str, texts: Sequence[str]) -> list[int]:
        """Lengths behind a prompt, counted where they are not known yet."""
        keys = np.array([text_hash(prompt, text) for text in texts], dtype=np.uint64)
        lengths = self._known.find(keys)
        new = lengths < 0
        if new.any():
            begun = time.perf_counter()
            counted = self._reading.count(
                [prompt + text for text, is_new in zip(texts, new, strict=True) if is_new]
            )
            self.seconds += time.perf_counter() - begun
            self.tokens += sum(counted)
            lengths[new] = counted
            self._known.add(keys[new], lengths[new])
        found: list[int] = lengths.tolist()
        return found


def as_report(audits: Mapping[str, LengthAudit]) -> dict[str, dict[str, Any]]:
    """Lengths as `report.json` holds them; the longest texts stand apart."""
    return {
        kind: {k: v for k, v in asdict(audit).items() if not k.startswith("worst")}
        for kind, audit in audits.items()
    }


def worst_of(audits: Mapping[str, LengthAudit]) -> dict[str, list[dict[str, Any]]]:
    """The longest texts by kind: tokens, and how they begin."""
    return {
        kind: [
            {"tokens": tokens, "begins": begins}
            for (_, tokens), begins in zip(audit.worst, audit.worst_begin, strict=True)
        ]
        for kind, audit in audits.items()
    }
