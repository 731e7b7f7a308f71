"""What a language model said, as questions: without its numbering, its quotes and its chatter."""

from __future__ import annotations

import json
import re

from codex_forge.entities import normalise

LONGEST = 300
"""Characters; what is longer is no question that somebody asks."""
_SHORTEST = 2
"""Letters and digits."""

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^[^\S\n]*```\w*[^\S\n]*$", re.MULTILINE)
_LINE_END = re.compile("\r\n|[\r\n\u2028\u2029]")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ufffe\uffff]")
_LEAD = re.compile(
    r"^\s*(?:[-*+\u2022\u2013\u2014\u00b7>#]+\s+|\(?\d{1,3}\s?[.):\u3001\uff0e\uff09]\)?(?:\s+|(?=\D))"
    r"|(?:q|question|query)\s?\d{0,3}\s?[:.)]\s*)+",
    re.IGNORECASE,
)
_QUOTES = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb", "\u201e\u201c",
    "\u201e\u201d", "\u300c\u300d", "\u300e\u300f")  # fmt: skip
_CHATTER = (":", "\uff1a")
"""A line that ends so announces what follows."""


def questions_of(text: str, is_cut: bool, most: int) -> list[str]:
    """The questions in an answer, each once, at most `most`.

    They stand one a line, or in a JSON list of texts. Lines that are too long, or too short, or
    that only announce others are left out, as is the last one of an answer that `is_cut` off.
    """
    found: dict[str, str] = {}
    for line in _lines(_FENCE.sub("", _THOUGHT.sub("", text)).strip(), is_cut):
        question = _plain(line)
        is_some = sum(map(str.isalnum, question)) >= _SHORTEST
        if is_some and len(question) <= LONGEST and not question.endswith(_CHATTER):
            found.setdefault(normalise(question), question)
    return list(found.values())[:most]


def _lines(text: str, is_cut: bool) -> list[str]:
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            listed = None
        if isinstance(listed, list):
            return [item for item in listed if isinstance(item, str)]
    lines = _LINE_END.split(text)
    return lines[:-1] if is_cut else lines


def _plain(line: str) -> str:
    """One question without what stands around it."""
    line = " ".join(_CONTROL.sub(" ", line.replace("**", "")).split())
    line = _LEAD.sub("", line).rstrip(",").strip() if line.startswith('"') else _LEAD.sub("", line)
    for pair in _QUOTES:
        if len(line) > 1 and line[0] == pair[0] and line[-1] == pair[1]:
            return line[1:-1].strip()
    return line
