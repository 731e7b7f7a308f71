"""Chunks on disk: a table gives back exactly what went in, and memory holds little of it."""

from __future__ import annotations

import gc
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_forge.config.sections import CorpusConfig
from codex_forge.corpus import BadRecord, BadRecords, chunk_id_of, find_files, read_corpus, table_of
from codex_forge.corpus.bad import BadRecordError
from codex_forge.corpus.strict_json import parse, parse_line, refuse_half_characters, refuse_nul
from codex_forge.entities import normalise
from codex_forge.records import Chunk
from tests.conftest import run_module

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.sampled_from(["a.md", "b/ü.md", "Ärger", "arger", "ARGER ", "😀", "x" * 300])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=8
)


def chunk(
    text: str,
    filename: str = "a.md",
    mentions: tuple[str, ...] = (),
    kind: str = "",
    time: float | None = None,
    metadata: dict[str, Any] | None = None,
) -> Chunk:
    return Chunk(chunk_id_of(filename, text), text, filename, mentions, kind, time, metadata or {})


CHUNKS = st.lists(
    st.builds(
        chunk,
        text=WORDS | st.just("long " * 300_000),
        filename=NAMES,
        mentions=st.lists(NAMES | WORDS, max_size=4, unique=True).map(tuple),
        kind=st.sampled_from(["", "place", "person"]),
        time=st.none() | st.floats(allow_nan=False),
        metadata=st.dictionaries(WORDS, VALUES, max_size=3),
    ),
    max_size=12,
    unique_by=lambda c: c.chunk_id,
)


def same(a: Chunk, b: Chunk) -> bool:
    """Equal, and of equal types: 1, 1.0 and True are three values."""
    return a == b and json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


@settings(deadline=None)
@given(CHUNKS, st.slices(12))
def test_a_table_gives_back_exactly_the_chunks_that_went_in(
    chunks: list[Chunk], piece: slice
) -> None:
    table = table_of(chunks)
    assert len(table) == len(chunks)
    assert table == chunks
    assert all(map(same, table, chunks))
    assert all(same(table[i], c) and same(table[i - len(chunks)], c) for i, c in enumerate(chunks))
    assert list(table.texts()) == [table.text(i) for i in range(len(chunks))]
    assert list(table.texts()) == [c.text for c in chunks]
    assert list(table[piece]) == chunks[piece]
    assert list(table[piece].texts()) == [c.text for c in chunks[piece]]
    assert list(table[piece][::-2]) == chunks[piece][::-2]


@settings(deadline=None)
@given(CHUNKS)
def test_the_columns_say_the_same_as_the_chunks(chunks: list[Chunk]) -> None:
    table = table_of(chunks)
    assert [table.files[n] for n in table.file_of] == [c.filename for c in chunks]
    assert [table.types[n] for n in table.type_of] == [c.chunk_type for c in chunks]
    assert table.files == list(dict.fromkeys(c.filename for c in chunks))
    assert [None if math.isnan(t) else t for t in table.times] == [c.temporal_order for c in chunks]
    assert [table.chunk_id(i) for i in range(len(table))] == [c.chunk_id for c in chunks]
    shown: dict[str, str] = {}
    for i, c in enumerate(chunks):
        keys = [key for key in dict.fromkeys(map(normalise, c.mentions)) if key]
        mine = table.mention_of[table.mention_ptr[i] : table.mention_ptr[i + 1]]
        assert [table.mentions[n] for n in mine] == keys
        for mention in c.mentions:
            if normalise(mention):
                shown.setdefault(normalise(mention), mention)
    assert dict(zip(table.mentions, table.mention_shown, strict=True)) == shown
    for name in {c.filename for c in chunks}:
        wanted = [i for i, c in enumerate(chunks) if c.filename == name]
        assert table.named(name).tolist() == wanted
        assert table.knows(name)
    for i, c in enumerate(chunks):
        assert table.named(c.chunk_id).tolist() == [i]
        assert table.position(c.chunk_id) == i
        assert table.knows(c.chunk_id)


def test_names_that_are_not_there_lead_nowhere() -> None:
    table = table_of([chunk("one")])
    for name in ("", "b.md", "f" * 16, "0" * 16, "é" * 16, chunk("one").chunk_id.upper() + "A"):
        assert table.named(name).tolist() == []
        assert not table.knows(name)
        with pytest.raises(KeyError):
            table.position(name)
    with pytest.raises(IndexError):
        table[1]
    with pytest.raises(IndexError):
        table.text(1)


def test_a_file_named_like_a_chunk_leads_to_both() -> None:
    first = chunk("one")
    table = table_of([chunk("zero", "z.md"), first, chunk("two", first.chunk_id)])
    assert table.named(first.chunk_id).tolist() == [1, 2]
    assert table.named(first.chunk_id).dtype == np.int32


def test_the_same_chunk_is_not_taken_twice() -> None:
    with pytest.raises(ValueError, match="is there already"):
        table_of([chunk("one"), chunk("two"), chunk("one")])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_of_a_table(tmp_path: Path) -> None:
    gc.collect()
    before = open_files()
    table = table_of([chunk("some text")], tmp_path)
    assert open_files() == before + 1
    piece = table[:1]
    del table
    gc.collect()
    assert piece[0].text == "some text"
    assert list(tmp_path.iterdir()) == []
    del piece
    gc.collect()
    assert open_files() == before


# --- what is bad ----------------------------------------------------------------------------------


def test_bad_records_are_kept_on_disk_as_they_were(tmp_path: Path) -> None:
    records = [
        BadRecord("a.jsonl", str(i), "\ud800", f"reason {i}", {"text": "\udfff", "n": [i, None]})
        for i in range(50)
    ]
    kept = BadRecords(tmp_path)
    assert not kept
    for record in records:
        kept.append(record)
    assert list(kept) == records
    assert (len(kept), kept[3], kept[-1], kept[40:]) == (50, records[3], records[-1], records[40:])
    with pytest.raises(IndexError):
        kept[50]


@pytest.mark.parametrize("kind", ["good", "bad", "the same"])
def test_memory_follows_the_number_of_chunks_not_their_length(kind: str, tmp_path: Path) -> None:
    """200 MB of records are read in a few megabytes more than 2 MB are."""

    def peak(length: int) -> int:
        file = tmp_path / f"{length}.jsonl"
        with file.open("w") as handle:
            for i in range(2_000):
                text = "same" if kind == "the same" else f"{i} "
                record = {"text": text + "x" * length, "filename": "f.md", "note": "y" * 50}
                handle.write(("]" if kind == "bad" and i else "") + json.dumps(record) + "\n")
        done = run_module("tests.corpus_peak", str(file))
        file.unlink()
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert peak(100_000) - peak(1_000) < 30_000_000


# --- the fast parser and the strict one -----------------------------------------------------------

TRICKY = [
    '{"a": 1, "a": 2}',
    '{"a": 1, "\\u0061": 2}',
    '{"a" : 1, "a": 2, "t": 3}',
    '{"a" : 1, "a": 2, "t": ":"}',
    '{"x": {"a": 1, "b": [{"c": 1, "c": 1}]}}',
    '{"t": "she said \\":", "a" :1}',
    '{"t": ["a", ":b", {"c": "d"}], "x": {}}',
    '{"n": 18446744073709551616}',
    '{"n": -9223372036854775809}',
    '{"n": [123456789012345678901234567890]}',
    '{"n": 1e20, "m": -0, "k": -0.0, "f": 5e-324}',
    '{"n": 1e999}',
    '{"n": NaN}',
    '{"n": [-Infinity]}',
    '{"n": 01}',
    '{"n": 1.}',
    '{"t": "\\ud83d\\ude00 \\/ \u2028"}',
    '{"t": "\x01"}',
    '{"t": "\\ud83d"}',
    '{"t": "a\\u0000b"}',
    '{"t": "a\\\\u0000b"}',
    '{"\\u0000": 1}',
    "[" * 100 + "]" * 100,
    "[" * 101 + "]" * 101,
    "[" * 101 + '{"a":1, "a":1}' + "]" * 101,
    "\ufeff{}",
    "{} {}",
    "",
    "[1,]",
    "'a'",
]


@pytest.mark.parametrize("text", TRICKY)
def test_the_fast_parser_takes_what_the_strict_one_takes(text: str) -> None:
    assert outcome(text.encode()) == strict_outcome(text)


@given(VALUES, st.sampled_from(['"a":', '"a" :', "]", "9" * 20, "\\u0000"]), st.integers(0, 60))
def test_so_it_does_for_any_text(value: Any, piece: str, place: int) -> None:
    text = json.dumps({"a": 1, "v": value}, ensure_ascii=False)
    spoiled = text[:place] + piece + text[place:]
    for each in (text, spoiled):
        assert outcome(each.encode()) == strict_outcome(each)


def outcome(line: bytes) -> str:
    try:
        return json.dumps(parse_line(line)[0])
    except BadRecordError as problem:
        return f"refused: {problem.field} {problem.reason}"


def strict_outcome(text: str) -> str:
    """What the strict parser alone says, with the two checks that come after it."""
    try:
        value = parse(text.removeprefix("\ufeff"))
        refuse_half_characters(value)
        refuse_nul(value)
    except BadRecordError as problem:
        return f"refused: {problem.field} {problem.reason}"
    return json.dumps(value)


def test_numbers_of_any_size_come_back_from_a_corpus(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    numbers = [2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40, 1e22, 1.0, 1, True, -0.0]
    file.write_text(json.dumps({"text": "x", "filename": "f", "numbers": numbers}) + "\n")
    found = read_corpus(find_files(CorpusConfig(chunks=(str(file),))), "fail").chunks[0]
    assert json.dumps(found.metadata["numbers"]) == json.dumps(numbers)
