"""The answer of `why` as plain text, at most 96 columns wide."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Any

_WIDTH = 96
_COLUMN = 46
_LINES_OF_TEXT = 2
_SAID = {
    "trained_chunk": "an answer was trained on",
    "unseen_chunk": "no answer was trained on",
}
_FIRST = ("rubric", "ndcg@10", "mrr@10", "recall@5", "recall@10")
"""Measures that are told; all are in the JSON."""

Told = Mapping[str, Any]


def in_words(told: Told) -> str:
    """Everything that `why` found, for a terminal."""
    parts = (_question, _scores, _topics, _retrieved, _taught, _settings)
    return "\n".join(line for part in parts for line in ["", *part(told)]) + "\n"


def _question(told: Told) -> Iterator[str]:
    yield from wrap(_plain(told["question"]), _WIDTH)
    about = [told["query_id"], told.get("category"), told.get("difficulty")]
    if "fold" in told:
        about.append(f"fold {told['fold']}")
    about.append(_SAID.get(told.get("exposure", "")))
    yield "  " + " · ".join(_plain(str(each)) for each in about if each)


def _scores(told: Told) -> Iterator[str]:
    names = [told["baseline"], told["candidate"]]
    wide = max(12, *(len(name) for name in names))
    yield f"  {'':<12}{names[0]:>{wide}}   {names[1]:>{wide}}"
    for name in _FIRST:
        if name in told["measures"]:
            before, after = (told["measures"][name][side] for side in ("baseline", "candidate"))
            change = "" if before is None or before == after else f"   {after - before:+.2f}"
            yield f"  {name:<12}{_number(before):>{wide}}   {_number(after):>{wide}}{change}"


def _topics(told: Told) -> Iterator[str]:
    if not told["topics"]:
        return
    yield "Topics, and where each side found them"
    for topic, found in told["topics"].items():
        yield f"  {_plain(topic)}"
        for side in ("baseline", "candidate"):
            yield from _wrapped(_where(found[side]), f"    {side:<11}")


def _where(found: Told | None) -> str:
    if found is None:
        return "not found"
    return f"as “{_plain(found['name'])}” in {found['rank']}. {_plain(found['filename'])}"


def _retrieved(told: Told) -> Iterator[str]:
    yield "Retrieved (✓ relevant, + covers a topic; new, gone: not among those of the other side)"
    sides = ("baseline", "candidate")
    heads = [_fitted(f"{side}: {told[side]}") for side in sides]
    yield f"  {heads[0]} {heads[1]}".rstrip()
    for both in zip_longest(*(told["retrieved"][side] for side in sides)):
        cells = [list(_cell(chunk)) if chunk else [] for chunk in both]
        for left, right in zip_longest(*cells, fillvalue=_fitted("")):
            yield f"  {left} {right}".rstrip()


def _cell(chunk: Told) -> Iterator[str]:
    """One chunk: its rank and move, its file, and the beginning of its text."""
    signs = ("✓" if chunk["relevant"] else "") + ("+" if chunk["covers"] else "")
    head = f"{chunk['rank']}. {chunk['score']:.3f} {signs:<2} {chunk['move'] or 'same':<7}"
    yield _fitted(f"{head} {_plain(chunk['filename'])}")
    text = _plain(chunk["text"])
    lines = wrap(text, _COLUMN - 4, max_lines=_LINES_OF_TEXT, placeholder=" …")
    yield from (_fitted(f"   {line}") for line in lines)


def _taught(told: Told) -> Iterator[str]:
    if not told["train_pairs"]:
        yield "The candidate learned from no pairs"
        return
    rows: Sequence[Told] = told["taught"]
    total = f"{told['train_pairs']:,} train pairs"
    if not rows:
        yield f"None of {total} led to a chunk that rose, shares a topic or its rare words"
        return
    yield f"The nearest to it of {total}"
    for number, row in enumerate(rows, start=1):
        yield from _wrapped(f"“{_plain(row['query'])}”", f"  {number}. ")
        template = f", template “{_plain(row['template'])}”" if row.get("template") else ""
        made = f"from {row['source'] or 'given pairs'}{template}; phase {row['phase'] or 'none'}"
        yield from _wrapped(made, "     ")
        yield from _wrapped(row["why"], "     why: ")
        yield from _wrapped(f"{row['text']} [{row['chunk_id'] or 'no chunk'}]", "     answer: ")


def _settings(told: Told) -> Iterator[str]:
    if not told["settings"]:
        return
    yield "Made with (what differs from the default, and what matters most)"
    for row in told["settings"]:
        known = row["default"] is not None and row["default"] != row["value"]
        otherwise = f"   (default {_value(row['default'])})" if known else ""
        yield from _wrapped(f"{row['key']}: {_value(row['value'])}{otherwise}", "  ")


def _wrapped(text: str, first: str) -> list[str]:
    """Lines of a text, the first one after `first`, the others below its beginning."""
    return wrap(_plain(text), _WIDTH, initial_indent=first, subsequent_indent=" " * len(first)) or [
        first.rstrip()
    ]


def _fitted(text: str) -> str:
    """A text as wide as a column; letters of the Far East take two places."""
    shown, wide = "", 0
    for sign in text:
        places = 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        places = 0 if unicodedata.combining(sign) else places
        if wide + places > _COLUMN:
            break
        shown, wide = shown + sign, wide + places
    return shown + " " * (_COLUMN - wide)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _plain(text: str) -> str:
    """Text from the data as one line that cannot steer a terminal."""
    return " ".join("".join(s if s.isprintable() else " " for s in text).split())


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
