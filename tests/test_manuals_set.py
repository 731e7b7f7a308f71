"""The manuals set at the project's size: in the sample's shape, and nothing twice."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.manuals_set import CONFIG, overrides, write_set
from codex_forge.config import load_config
from codex_forge.errors import InputError
from codex_forge.ready_made import find_ready, read_ready
from tests.conftest import ROOT


def _rows(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_set_has_the_samples_shape_and_no_text_twice(tmp_path: Path) -> None:
    rows = _rows(write_set(tmp_path, 4010))
    assert len(rows) == len({row["query"] for row in rows}) == 4010
    answers = {row["positive"] for row in rows}
    assert len(answers) == 4010
    assert all(row["negative"] in answers - {row["positive"]} for row in rows)
    shares = Counter(row["domain"] for row in rows)
    assert len(shares) == 6
    assert max(shares.values()) - min(shares.values()) <= 1
    assert not [text for row in rows for text in row.values() if "{" in text]


def test_the_same_bytes_every_time_and_a_smaller_set_asks_the_same(tmp_path: Path) -> None:
    whole, again = write_set(tmp_path / "a", 1200), write_set(tmp_path / "b", 1200)
    assert whole.read_bytes() == again.read_bytes()
    fewer = _rows(write_set(tmp_path / "c", 200))
    assert [row["query"] for row in fewer] == [row["query"] for row in _rows(whole)[:200]]


@pytest.mark.parametrize("count", [0, 143, 4177])
def test_what_cannot_be_made_is_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="between 144 and 4176"):
        write_set(tmp_path, count)


def test_the_printed_overrides_put_it_into_the_config(tmp_path: Path) -> None:
    file = write_set(tmp_path / "a folder, with signs", 144)
    config = load_config(ROOT / CONFIG, overrides(file, 144))
    assert config.name == "manuals-144"
    records = list(read_ready(find_ready(config.pairs.data)))
    assert len(records) == 144
