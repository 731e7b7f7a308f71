"""Sentences of chunks as queries: what a corpus with no questions and no names can train on.

The inverse cloze task (Lee, Chang & Toutanova 2019, "Latent Retrieval for Weakly Supervised Open
Domain Question Answering"): a sentence is the query, and the text around it the positive. In a
share of the pairs the sentence stays in the positive, so that equal words are learnt too.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from codex_forge.config.pairs import SynthesisConfig
from codex_forge.corpus import ChunkTable
from codex_forge.hashes import text_hash
from codex_forge.pairs.query import Query, positions_of
from codex_forge.pairs.titles import heading_end
from codex_forge.progress import progress
from codex_forge.seeded import draw, generator

_FEWEST_WORDS = 4
"""A sentence with fewer says too little, and so does what is left of a chunk."""
_UNSPACED_WORD = 2
"""Characters of Chinese, Japanese, Thai ... that count as a word."""

_SPACED = ".!?\u2026\u203d\u061f\u06d4\u0589\u1362"
_CLOSING = "[\"'\u2019\u201d\u00bb)\\]\u300d\u300f\uff09]*"
_END = re.compile(
    # Signs that end a sentence only before a space: `3.14` and `www.x.org` hold none.
    # A run of them is looked at from its start alone, and white space up to the end of a line.
    f"(?<![{_SPACED}])(?P<spaced>[{_SPACED}]+){_CLOSING}(?=\\s|$)"
    # Full-width signs, dandas and the Khmer and Myanmar signs end it whatever follows.
    f"|[\u3002\uff01\uff1f\uff61\u0964\u0965\u17d4\u17d5\u104b]+{_CLOSING}"
    # So do a blank line, the end of a heading, and the line before a heading or an item of a list.
    r"|\n(?=[^\S\n]*(?:\n|[#*\u2022|>-]|\d{1,3}[.)]\s))|(?<=\n)#[^\n]*\n"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'\u201c])(?:[^\W\d_](?:\.\s?[^\W\d_])*|dr|mrs?|ms|prof|st|vs|etc|cf|jr|sr|sra|mme|"
    r"mlle|bzw|usw|approx|inc|ltd|co)\.$",
    re.IGNORECASE,
)
_BEFORE_A_NUMBER = re.compile(r"(?:^|[\s(])(?:no|nr|fig|vol|art|abb|pp?)\.$", re.IGNORECASE)
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U000323af]"
)


class Sentence(NamedTuple):
    """Where a sentence stands in a text, its closing sign included, white space left out."""

    start: int
    end: int


def sentences_of(text: str) -> list[Sentence]:
    """The sentences of a text in many languages and scripts, in order.

    They end with `.`, `!`, `?` and their like of other scripts (ideographic full stop, Arabic
    question mark, danda ...), and with blank lines. A full stop after a well known abbreviation
    or a single letter, or before a small letter, ends none; other abbreviations are not known.
    A heading in the first line counts as a sentence of its own.
    """
    found = []
    start = 0
    for end in (heading_end(text), *_ends(text), len(text)):
        piece = text[start:end]
        left = start + len(piece) - len(piece.lstrip())
        right = start + len(piece.rstrip())
        if left < right:
            found.append(Sentence(left, right))
        start = end
    return found


def _ends(text: str) -> Iterator[int]:
    for match in _END.finditer(text):
        if match["spaced"] == "." and _goes_on(text, match):
            continue
        yield match.end()


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether a full stop is a part of a sentence."""
    after = text[match.end() : match.end() + 8].lstrip()
    if after[:1].islower():
        return True
    before = text[max(0, match.end("spaced") - 12) : match.end("spaced")]
    counts = after[:1].isdigit() and _BEFORE_A_NUMBER.search(before)
    return bool(counts or _ABBREVIATION.search(before))


def sentence_queries(chunks: ChunkTable, config: SynthesisConfig, seed: int) -> Iterator[Query]:
    """`sentences_per_chunk` queries of each chunk's own sentences, drawn by seed.

    A query's `positive_text` is the chunk without the sentence, except for the share
    `sentence_kept`. Left out are sentences of too few words, or whose rest has too few, and those
    that stand in a chunk twice or in several: they tell nothing about one. It needs neither names
    nor questions. Two passes over the texts; memory is 8 bytes for each of their sentences.
    """
    if not config.sentences_per_chunk:
        return
    common = _common(chunks)
    texts = progress(chunks.texts(), "chunks made sentence queries of", len(chunks))
    for position, text in enumerate(texts):
        chunk_id, number = chunks.chunk_id(position), 0
        drawn = _usable(text)
        generator(seed, "sentence", chunk_id).shuffle(drawn)
        for sentence in drawn:
            if number == config.sentences_per_chunk:
                break
            if _hash(text, sentence) in common:
                continue
            is_kept = draw(seed, "kept", chunk_id, sentence.start) < config.sentence_kept
            yield Query(
                query_id=f"sentence:{chunk_id}:{number}",
                text=_shown(text, sentence),
                topics=(),
                positives=(position,),
                answers=positions_of((position,)),
                source="sentence",
                positive_text=None if is_kept else _without(text, sentence),
            )
            number += 1


def _usable(text: str) -> list[Sentence]:
    """Sentences that can be queries: enough words in them, and in what they leave."""
    heading = heading_end(text)
    found = sentences_of(text)
    counts = [_words_in(text[s.start : s.end]) for s in found]
    most = sum(counts) - _FEWEST_WORDS
    pairs = zip(found, counts, strict=True)
    return [s for s, count in pairs if _FEWEST_WORDS <= count <= most and s.end > heading]


def _words_in(text: str) -> int:
    """Words of a text; in scripts without spaces two characters count as one."""
    if text.isascii():
        return len(text.split())
    spaced, unspaced = _UNSPACED.subn(" ", text)
    return len(spaced.split()) + unspaced // _UNSPACED_WORD


def _shown(text: str, sentence: Sentence) -> str:
    """The sentence on one line."""
    return " ".join(text[sentence.start : sentence.end].split())


def _without(text: str, sentence: Sentence) -> str:
    """The text with the sentence cut out, and no more white space than was there."""
    before, after = text[: sentence.start], text[sentence.end :]
    if not before.strip() or not after.strip():
        return (before + after).strip()
    space = before[len(before.rstrip()) :] or after[: len(after) - len(after.lstrip())]
    return before.rstrip() + space + after.lstrip()


def _common(chunks: ChunkTable) -> frozenset[int]:
    """Hashes of the sentences that stand in the corpus more than once."""
    hashes = array("Q")
    for text in progress(chunks.texts(), "chunks searched for sentences", len(chunks)):
        hashes.extend(_hash(text, s) for s in sentences_of(text))
    if not hashes:
        return frozenset()
    found = np.frombuffer(hashes, dtype=np.uint64)
    found.sort()
    return frozenset(found[1:][found[1:] == found[:-1]].tolist())


def _hash(text: str, sentence: Sentence) -> int:
    return text_hash(_shown(text, sentence).casefold())
