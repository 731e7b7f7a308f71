"""Tables that people open, as CSV or Markdown: text from the data is shown and does nothing."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet would compute (OWASP, CSV injection)."""


def write_table(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table; what a spreadsheet would take for a formula gets an apostrophe before it."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([safe_cell(name) for name in header])
        writer.writerows([safe_cell(cell) for cell in row] for row in rows)


def markdown_cell(text: str) -> str:
    """Text as one harmless cell of a Markdown table."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def safe_cell(value: object) -> object:
    """A value that a spreadsheet shows and does not run; numbers stay numbers."""
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value
    return "" if value is None else value
