"""How values are written on the page: the filters of its templates."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from codex_forge.compare.page.scales import known

_LEAST_P = 0.001
_MINUS = "\u2212"
NONE = "\u2013"
"""Stands for a value that is not there."""
_STEP = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_ROW_FIELDS = ("query_id", "question", "category", "difficulty")
_ROW_NUMBERS = ("baseline", "candidate", "difference")


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash when there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:.{digits}f}"
    if not float(text):
        text = text.lstrip("-")
    return text.replace("-", _MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """A difference: plus or minus in front, nothing in front of zero."""
    text = number(value, digits)
    if value is not None and value > 0 and text[0].isdigit() and float(text):
        return f"+{text}"
    return text


def p_value(value: float | None) -> str:
    """Three decimals, and `< 0.001` below that."""
    if value is None or not math.isfinite(value):
        return NONE
    return "< 0.001" if value < _LEAST_P else f"{value:.3f}"


def thousands(value: float | None) -> str:
    """A whole number, thousands apart by a thin space."""
    return NONE if value is None else f"{value:,.0f}".replace(",", "\u202f")


def size(count: float | None) -> str:
    """Bytes in the unit that suits them."""
    if count is None:
        return NONE
    power = 0
    while count >= _STEP and power < len(_UNITS) - 1:
        count, power = count / _STEP, power + 1
    return f"{count:.{1 if power else 0}f}\u00a0{_UNITS[power]}"


def plain(value: object) -> str:
    """A setting as people write it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def marked(text: str, names: Iterable[str]) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is one of the names."""
    wanted = sorted({name for name in names if name.strip()}, key=len, reverse=True)
    if not wanted:
        return [(text, False)]
    pattern = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in wanted)
    pieces = re.split(f"({pattern})", text, flags=re.IGNORECASE)
    return [(piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece]


def csp_hash(script: str) -> str:
    """The source expression that lets a Content-Security-Policy allow this one script."""
    digest = hashlib.sha256(str(script).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def rows_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as JSON that cannot end the element around it: no `<`, `>` or `&` is left."""
    table = [
        [str(row.get(field) or "") for field in _ROW_FIELDS]
        + [row[field] if known(row, field) else None for field in _ROW_NUMBERS]
        for row in rows
    ]
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def breakable(name: str) -> str:
    """A name that may go on in the next line after each `_`."""
    from markupsafe import Markup, escape

    return Markup("_<wbr>").join(escape(name).split("_"))


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "signed": signed,
    "p": p_value,
    "thousands": thousands,
    "size": size,
    "plain": plain,
    "marked": marked,
    "breakable": breakable,
    "csp_hash": csp_hash,
}
