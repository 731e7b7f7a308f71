"""JSON files that machines write: one object a line, or one object a file; stable bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def line_of(record: Mapping[str, Any]) -> str:
    """One record as a line, its end included."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Write records, one a line; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as handle:
        for record in records:
            handle.write(line_of(record))
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read records that `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as handle:
        for line in handle:
            yield json.loads(line)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one object, indented, for machines and for a look."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read one object."""
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree
