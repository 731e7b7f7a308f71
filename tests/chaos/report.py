"""Tables for people and numbers for machines."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.conftest import ROOT


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns as wide as they must be, numbers to the right."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = (
            cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
            for cell, width in zip(line, widths, strict=True)
        )
        print("  " + "  ".join(cells).rstrip())
    print()


def spread(values: Sequence[float]) -> tuple[str, str]:
    """Median and worst, for a table."""
    if not values:
        return "-", "-"
    return f"{statistics.median(values):.2f}", f"{max(values):.2f}"


def finish(part: str, numbers: Mapping[str, Any], failures: Sequence[str]) -> int:
    """Write `build/chaos/<part>.json`, print what failed; returns the exit status."""
    path = ROOT / "build" / "chaos" / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {**numbers, "failures": list(failures)}
    path.write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")
    for failure in failures:
        print(f"FAILED {failure.splitlines()[0]}")
    print(f"{part}: {len(failures)} failures; all numbers in {path.relative_to(ROOT)}")
    return 1 if failures else 0
