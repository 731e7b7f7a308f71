"""What can be wrong with a text by itself: too little of it, or damage on the way here.

The signs of damage are those that undamaged prose does not show: byte sequences of UTF-8 read as
Windows-1252, replacement and control characters, tags and entities of HTML, JSON escapes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from codex_forge.entities import normalise
from codex_forge.hashes import text_hash
from codex_forge.search import words

# What the bytes 0x80 to 0xBF become in Windows-1252, or stay in Latin-1.
_TAIL = "[\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152" + (
    "\u017d\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
_MOJIBAKE = re.compile(
    f"[\u00c2\u00c3]{_TAIL}"
    f"|\u00e2(?:\u20ac|\u0080){_TAIL}"
    f"|(?:[\u00ce\u00cf\u00d0\u00d1\u00d7\u00d8\u00d9]{_TAIL}){{3,}}"
    f"|(?:[\u00e0\u00e3-\u00e9]{_TAIL}{{2}}){{2,}}"
    "|\u00ef\u00bb\u00bf"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
_HTML = re.compile(
    r"</?(?:p|div|span|br|hr|a|li|ul|ol|dl|dt|dd|table|tbody|thead|td|tr|th|b|i|u|em|strong|h[1-6]"
    r"|img|script|style|sup|sub|ref|html|head|body|section|article|font|center)(?:\s+[\w:-]+\s*=[^<>]*)?\s*/?>"
    r"|&(?:nbsp|amp|lt|gt|quot|apos|mdash|ndash|hellip|[lr]squo|[lr]dquo|eacute|uuml|copy|#\d{2,6}"
    r"|#x[0-9a-fA-F]{2,5});",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}")
_PLACEHOLDER = re.compile(r"\{\{?\s*[A-Za-z_]+\s*\}\}?|%\([a-z_]+\)s")
_LETTERS = 4
_SAMPLED = 400
_FEW_WORDS, _VARIED = 20, 0.2
_FEW_SIGNS, _TELLING = 20, 0.4
_SCRIPTS = (
    ("latin", 0x0041, 0x024F),
    ("greek", 0x0370, 0x03FF),
    ("cyrillic", 0x0400, 0x052F),
    ("armenian", 0x0530, 0x058F),
    ("hebrew", 0x0590, 0x05FF),
    ("arabic", 0x0600, 0x077F),
    ("indic", 0x0900, 0x0DFF),
    ("thai", 0x0E00, 0x0E7F),
    ("georgian", 0x10A0, 0x10FF),
    ("korean", 0x1100, 0x11FF),
    ("latin", 0x1E00, 0x1EFF),
    ("greek", 0x1F00, 0x1FFF),
    ("east asian", 0x3040, 0x30FF),
    ("east asian", 0x3400, 0x9FFF),
    ("korean", 0xAC00, 0xD7AF),
)


plain = lru_cache(maxsize=1024)(normalise)
"""A text as names are compared. Chunks come again and again: the last ones are remembered."""


def either_way(one: str, other: str, *kind: str) -> int:
    """A hash of two texts, the same in either order; `kind` sets kinds of pairs apart."""
    return text_hash(*kind, *sorted((plain(one), plain(other))))


def amount(text: str, enough: int) -> int:
    """How many letters and digits a text has; counting stops at `enough`."""
    found = 0
    for sign in text:
        if sign.isalnum():
            found += 1
            if found >= enough:
                break
    return found


@lru_cache(maxsize=1024)
def damage(text: str) -> tuple[tuple[str, str], ...]:
    """(kind, what was seen) of every sign of damage in a text."""
    return tuple(_damage(text))


def _damage(text: str) -> Iterator[tuple[str, str]]:
    if not text.isascii():
        if match := _MOJIBAKE.search(text):
            yield "mojibake", _around(text, match.start())
        if "\ufffd" in text:
            yield "replacement_character", _around(text, text.index("\ufffd"))
    if match := _CONTROL.search(text):
        yield "control_characters", f"U+{ord(match[0]):04X} at character {match.start() + 1}"
    if ("<" in text or "&" in text) and (match := _HTML.search(text)):
        yield "html_remains", _around(text, match.start())
    if "\\" in text and (match := _ESCAPE.search(text)):
        yield "escape_left_over", _around(text, match.start())
    yield from _monotony(text)


def _monotony(text: str) -> Iterator[tuple[str, str]]:
    found = text.split(maxsplit=_SAMPLED)[:_SAMPLED]
    if len(found) >= _FEW_WORDS and len(set(found)) < _VARIED * len(found):
        yield "repetitive_text", f"{len(set(found))} different words of {len(found)}: {text[:60]!r}"
    if len(text) >= _FEW_SIGNS and not text[:_FEW_SIGNS].isalnum():
        signs = "".join(found)
        telling = sum(map(str.isalnum, signs))
        if len(signs) >= _FEW_SIGNS and telling < _TELLING * len(signs):
            yield "mostly_symbols", f"{telling} letters and digits in {len(signs)} signs"


def placeholder(text: str) -> str | None:
    """A template's placeholder that was never filled, such as `{name}`."""
    match = _PLACEHOLDER.search(text) if "{" in text or "%(" in text else None
    return match[0] if match else None


def main_script(text: str) -> str | None:
    """The script of nearly all letters of a text; None when it is mixed, or has few letters."""
    if text.isascii():
        return "latin" if amount(text, _LETTERS) >= _LETTERS else None
    counts = Counter(_script(ord(sign)) for sign in text[:_SAMPLED] if sign.isalpha())
    total = sum(counts.values())
    if total < _LETTERS:
        return None
    name, most = counts.most_common(1)[0]
    return name if name and most >= 0.9 * total else None


def _script(code: int) -> str:
    return next((name for name, low, high in _SCRIPTS if low <= code <= high), "")


@lru_cache(maxsize=1024)
def bare(text: str) -> str:
    """A normalised text as its words alone: what two texts share that differ in case and signs."""
    return " ".join(words(text))


def quoted(text: str, most: int = 80) -> str:
    """The beginning of a text in quotes, on one line."""
    return repr(text if len(text) <= most else f"{text[: most - 1]}\u2026")


def _around(text: str, at: int) -> str:
    return quoted(text[max(0, at - 15) : at + 45])
