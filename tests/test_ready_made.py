"""Ready-made data: every format gives the same records; what is bad is named; no text leaks."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_forge.config.pairs import ReadyData, SplitConfig
from codex_forge.corpus import chunk_id_of
from codex_forge.entities import normalise
from codex_forge.errors import Damaged, InputError
from codex_forge.ready_made import (
    ReadyMade,
    chunk_records,
    find_ready,
    questions_of,
    read_ready,
    split_ready,
)
from codex_forge.ready_made.json_text import json_rows
from codex_forge.records import ReadyPair, ScoredPair
from codex_forge.storage import Store
from tests.servers.s3 import S3Server

Row = dict[str, Any]

PAIRS: list[Row] = [
    {
        "query": f'where is "{name}", and why?',
        "positive": f"{name} lies\nin valley {i}",
        "negative": f"nobody knows {i}",
        "domain": "north" if i % 2 else "süd",
        "phase": ("easy", "medium", "hard")[i % 3],
    }
    for i, name in enumerate(["Orm", "Lhûn", "Tarn", "Vale", "Esk", "Wye", "Ure"])
]


def as_csv(rows: Sequence[Row], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: Sequence[Row]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink, row_group_size=3)
    return sink.getvalue()


def as_jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


FORMATS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    "a.jsonl": as_jsonl,
    "a.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "b.json": lambda rows: json.dumps({"v": {"of": [1]}, "rows": rows, "z": 1}).encode(),
    "a.csv": as_csv,
    "b.csv": lambda rows: as_csv(rows, ";"),
    "a.tsv": lambda rows: as_csv(rows, "\t"),
    "a.parquet": as_parquet,
    "a.jsonl.gz": lambda rows: gzip.compress(as_jsonl(rows), mtime=0),
    "a.json.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "a.csv.gz": lambda rows: gzip.compress(as_csv(rows), mtime=0),
    "a.tsv.gz": lambda rows: gzip.compress(as_csv(rows, "\t"), mtime=0),
    "a.parquet.gz": lambda rows: gzip.compress(as_parquet(rows), mtime=0),
    "bom.csv": lambda rows: b"\xef\xbb\xbf" + as_csv(rows),
    "bom.json": lambda rows: b"\xef\xbb\xbf" + json.dumps(rows).encode(),
    "wide.csv": lambda rows: as_csv(rows).decode().encode("utf-16"),
    "wide.jsonl": lambda rows: as_jsonl(rows).decode().encode("utf-16"),
    "wide.json": lambda rows: json.dumps(rows).encode("utf-32"),
}


def read(
    path: Path, data: bytes, *, on_bad_record: str = "fail", encoding: str = "auto", **entry: Any
) -> ReadyMade:
    path.write_bytes(data)
    files = find_ready([ReadyData(files=(str(path),), **entry)])
    return read_ready(files, encoding, on_bad_record)


def pairs_of(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    keys = ("query", "positive", "negative", "domain", "phase")
    return [tuple(row[key] for key in keys) for row in rows]


def content(ready: ReadyMade) -> list[tuple[Any, ...]]:
    assert all(isinstance(record, ReadyPair) for record in ready)
    return [
        (r.query, r.positive, *r.negatives, r.domain, r.phase)
        for r in ready
        if isinstance(r, ReadyPair)
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_records(name: str, tmp_path: Path) -> None:
    ready = read(tmp_path / name, FORMATS[name](PAIRS))
    assert content(ready) == pairs_of(PAIRS)
    assert (len(ready), ready.pairs, ready.scored, len(ready.bad)) == (7, 7, 0, 0)
    again = [record.pair_id for record in ready]
    other = read(tmp_path / "other.jsonl", as_jsonl(PAIRS))
    assert again == [record.pair_id for record in other]
    assert len(set(again)) == len(PAIRS)


def test_a_store_on_s3_is_read_too(bucket: str, s3: S3Server) -> None:
    Store(bucket).write("a.parquet", as_parquet(PAIRS))
    Store(bucket).write("b.csv.gz", gzip.compress(as_csv(PAIRS), mtime=0))
    files = find_ready([ReadyData(files=(f"{bucket}/*.*",))])
    assert content(read_ready(files)) == pairs_of(PAIRS) * 2


def test_columns_are_mapped(tmp_path: Path) -> None:
    rows = [{"frage": "q?", "antwort": "a", "neg2": "n2", "negative_1": "n1", "query": "other"}]
    columns = {"query": "frage", "positive": "antwort", "negative_2": "neg2"}
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        (record,) = read(tmp_path / name, FORMATS[name](rows), columns=columns)
        assert isinstance(record, ReadyPair)
        assert (record.query, record.positive, record.negatives) == ("q?", "a", ("n1", "n2"))


def test_negatives_come_from_all_their_columns_in_order(tmp_path: Path) -> None:
    first = {"query": "q", "positive": "p", "negative_10": "x", "negative_2": "b", "negative": "a"}
    second = {"query": "r", "positive": "p", "negatives": ["c", "d", "c"], "negative_2": ""}
    found = [r.negatives for r in read(tmp_path / "a.jsonl", as_jsonl([first, second]))]  # type: ignore[union-attr]
    assert found == [("a", "b", "x"), ("c", "d")]
    cell = [{"query": "q", "positive": "p", "negatives": '["c", "d"]', "negative_1": "a"}]
    (record,) = read(tmp_path / "a.csv", as_csv(cell))
    assert isinstance(record, ReadyPair)
    assert record.negatives == ("a", "c", "d")


def test_scores_are_brought_to_0_and_1_and_labels_are_words_or_numbers(tmp_path: Path) -> None:
    table = [("0", ""), ("5", "no"), ("2.5", "TRUE"), ("", "1"), ("1", "0")]
    rows = [
        {"text_a": f"a{i}", "text_b": f"b{i}", "score": score, "label": label}
        for i, (score, label) in enumerate(table)
    ]
    ready = read(tmp_path / "a.csv", as_csv(rows), score_range=(0, 5))
    found = [(r.score, r.label) for r in ready if isinstance(r, ScoredPair)]
    assert found == [(0.0, None), (1.0, 0), (0.5, 1), (None, 1), (0.2, 0)]
    assert ready.scored == len(rows)
    plain = [{"text_a": "x", "text_b": "y", "label": value} for value in (True, 0, 1.0)]
    labels = [r.label for r in read(tmp_path / "a.jsonl", as_jsonl(plain))]  # type: ignore[union-attr]
    assert labels == [1, 0, 1]


BAD: list[tuple[Row, str, str]] = [
    ({"query": ""}, "query", "is empty"),
    ({"query": None}, "query", "is missing"),
    ({"positive": 5}, "positive", "expected text, got a number"),
    ({"positive": ["x"]}, "positive", "expected text, got a list"),
    ({"negative": {"a": 1}}, "negative", "expected text, got an object"),
    ({"negatives": ["a", None]}, "negatives", "expected a list of texts"),
    ({"negatives": "a"}, "negatives", "expected a list of texts"),
    ({"phase": "tough"}, "phase", "expected one of easy, medium, hard"),
    ({"part": "eval"}, "part", "expected one of train, dev, test"),
    ({"id": "a b"}, "id", "holds a space"),
    ({"domain": 1.5}, "domain", "expected text, got a number"),
    ({"query": "a\0b"}, "query", "NUL"),
]


@pytest.mark.parametrize("change, field, reason", BAD)
def test_a_bad_value_is_named(change: Row, field: str, reason: str, tmp_path: Path) -> None:
    good = {"query": "q", "positive": "p"}
    data = as_jsonl([good, {**good, **change}])
    with pytest.raises(InputError, match="1 bad record, nothing was written"):
        read(tmp_path / "a.jsonl", data)
    ready = read(tmp_path / "a.jsonl", data, on_bad_record="reject")
    (bad,) = ready.bad
    assert (bad.file, bad.place, bad.field) == (str(tmp_path / "a.jsonl"), "2", field)
    assert reason in bad.reason
    assert len(list(ready)) == len(ready) == 1


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"score": 7}, "expected a score from 0 to 5"),
        ({"score": "high"}, "expected a number, got 'high'"),
        ({"score": True}, "expected a number, got true/false"),
        ({"score": "1_0"}, "expected a number"),
        ({"score": "nan"}, "expected a number"),
        ({"label": "maybe"}, "expected 0 or 1, true or false, yes or no; got 'maybe'"),
        ({"label": 2}, "expected 0 or 1"),
        ({"score": None}, "is missing, and there is no label either"),
    ],
)
def test_a_bad_score_is_named(change: Row, reason: str, tmp_path: Path) -> None:
    good = {"text_a": "a", "text_b": "b", "score": 3}
    data = as_jsonl([good, {**good, **change}])
    ready = read(tmp_path / "a.jsonl", data, on_bad_record="reject", score_range=(0, 5))
    assert [bad.place for bad in ready.bad] == ["2"]
    assert reason in ready.bad[0].reason


def test_rows_of_a_broken_table_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    data = b'query,positive\na,b\nc\n"d"x,e\n\nf,"g\ng"\nh,i,j\nk,\xff\nl,m\n'
    ready = read(tmp_path / "a.csv", data, on_bad_record="reject")
    assert [record.query for record in ready] == ["a", "f", "l"]  # type: ignore[union-attr]
    said = [(bad.place, bad.field) for bad in ready.bad]
    assert said == [("3", ""), ("4", ""), ("8", ""), ("9", "positive")]
    assert "expected 2 fields, got 1" in ready.bad[0].reason
    with pytest.raises(InputError, match=r"(?s)4 bad records.*a\.csv:3: expected 2 fields"):
        read(tmp_path / "a.csv", data)


def test_only_ten_of_many_bad_records_are_shown(tmp_path: Path) -> None:
    data = as_jsonl([{"query": "", "positive": "p"}] * 25 + [{"query": "q", "positive": "p"}])
    with pytest.raises(InputError, match="25 bad records") as caught:
        read(tmp_path / "a.jsonl", data)
    assert str(caught.value).count("is empty") == 10
    assert "and 15 more" in str(caught.value)


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    data = as_csv([{"query": "wo?", "positive": "im süden"}]).decode().encode("cp1252")
    with pytest.raises(InputError, match=r"positive: holds what is no text"):
        read(tmp_path / "a.csv", data)
    (record,) = read(tmp_path / "a.csv", data, encoding="cp1252")
    assert isinstance(record, ReadyPair)
    assert record.positive == "im süden"
    with pytest.raises(InputError, match="bad record"):
        read(tmp_path / "a.jsonl", '{"query": "q", "positive": "ü"}\n'.encode("cp1252"))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.json"])
def test_a_missing_column_is_one_error_with_what_is_there(name: str, tmp_path: Path) -> None:
    rows = [{"Question": f"q{i}", "answer": f"a{i}"} for i in range(50)]
    data = FORMATS[name](rows)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name, data, columns={"query": "question", "positive": "answer"})
    said = str(caught.value)
    assert said.count("has no column 'question' for query. Did you mean 'Question'?") == 1
    assert "Its columns are: Question, answer" in said
    with pytest.raises(InputError, match="has neither query and positive, nor text_a, text_b"):
        read(tmp_path / name, data)
    with pytest.raises(InputError, match="has neither"):
        read(tmp_path / name, data, on_bad_record="reject")


def test_all_files_with_wrong_columns_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(as_csv([{"x": "1"}]))
    with pytest.raises(InputError) as caught:
        read_ready(find_ready([ReadyData(files=(str(tmp_path / "*.csv"),))]))
    assert "a.csv: has neither" in str(caught.value)
    assert "b.csv: has neither" in str(caught.value)


def test_an_optional_column_of_json_may_come_late_but_must_come(tmp_path: Path) -> None:
    rows: list[Row] = [{"query": f"q{i}", "positive": "p"} for i in range(1500)]
    rows[-1]["topic"] = "late"
    columns = {"category": "topic"}
    ready = read(tmp_path / "a.jsonl", as_jsonl(rows), columns=columns)
    assert [r.category for r in ready if r.category] == ["late"]
    with pytest.raises(InputError, match="1 bad record") as caught:
        read(tmp_path / "a.jsonl", as_jsonl(rows[:-1]), columns=columns)
    assert "topic: no record has it" in str(caught.value)


def test_both_kinds_in_one_file_are_refused(tmp_path: Path) -> None:
    row = {"query": "q", "positive": "p", "text_a": "a", "text_b": "b", "score": 1}
    with pytest.raises(InputError, match="holds both query and positive, and text_a and text_b"):
        read(tmp_path / "a.jsonl", as_jsonl([row]))


def test_an_id_belongs_to_one_record(tmp_path: Path) -> None:
    row = {"query": "q", "positive": "p", "id": 7}
    ready = read(
        tmp_path / "a.jsonl", as_jsonl([row, row, {**row, "query": "r"}]), on_bad_record="reject"
    )
    assert [record.pair_id for record in ready] == ["7", "7"]
    assert "7 is the id of another record as well" in str(ready.bad[0])


@pytest.mark.parametrize(
    "name, data, error, reason",
    [
        ("a.parquet", b"PAR1 but not really", Damaged, "is no Parquet"),
        ("a.parquet.gz", gzip.compress(b"nothing", mtime=0), Damaged, "is no Parquet"),
        (
            "a.json.gz",
            gzip.compress(as_jsonl(PAIRS) * 99, mtime=0)[:90],
            InputError,
            "gzip|cut off",
        ),
        (
            "a.csv.gz",
            gzip.compress(as_csv(PAIRS) * 99, mtime=0)[:90],
            InputError,
            "cut off|damaged",
        ),
        ("a.xlsx", b"PK", InputError, r"cannot be told from its name; call it \.jsonl"),
        ("a.csv", b"", InputError, "is empty"),
        ("a.csv", b"query,positive,query\n", InputError, "has two columns 'query'"),
        ("a.csv", b"query,positive\n", InputError, "no usable ready-made record"),
        ("a.jsonl", b"\n\n", InputError, "no usable ready-made record"),
        ("a.json", b'{"query": "q"}', InputError, "expected a list, or an object that holds one"),
        ("a.json", b'{"a": [], "b": []}', InputError, "holds two lists, a and b"),
        ("a.json", as_jsonl(PAIRS), InputError, r"a record a line is called \.jsonl"),
        ("a.json", b'[{"query": "q",\n "positive" "p"}]', InputError, "a.json:2: not JSON"),
        ("a.json", b'[{"query": "q", "positive": "p"}', InputError, "a.json:1: not JSON"),
        ("a.json", b'[{"query": "q", "positive": "p"}, 5]', InputError, r"\[1\]: expected an obj"),
        ("a.json", b'[{"query": "q", "query": "p"}]', InputError, "given twice"),
    ],
)
def test_a_broken_file_is_named(
    name: str, data: bytes, error: type[InputError], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason) as caught:
        read(tmp_path / name, data)
    assert name in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


class Drops(io.StringIO):
    """A text that comes a few signs at a time."""

    def read(self, size: int | None = -1, /) -> str:
        return super().read(3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.text(), VALUES)), st.sampled_from([None, 1]), st.booleans())
def test_a_list_is_parsed_as_python_does(
    records: list[Row], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(records, indent=indent, ensure_ascii=ascii_only)
    for source in (Drops(text), io.StringIO(text)):
        rows = list(json_rows(source))
        assert [row.values for row in rows] == records
        assert [row.place for row in rows] == [f"[{i}]" for i in range(len(records))]


def test_a_long_list_is_never_in_memory_whole(tmp_path: Path) -> None:
    rows = [
        {"query": f"question {i} " * 20, "positive": f"answer {i} " * 20} for i in range(20_000)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows))
    size = path.stat().st_size
    del rows
    ready = read_ready(find_ready([ReadyData(files=(str(path),))]))
    tracemalloc.start()
    assert sum(1 for _ in ready) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 8_000_000
    assert peak < size / 3


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_jsonl(PAIRS))
    data = [ReadyData(files=(str(path),))]
    before = find_ready(data).inputs()["data"]
    assert find_ready(data).inputs()["data"] == before
    path.write_bytes(as_jsonl(PAIRS[1:]))
    assert find_ready(data).inputs()["data"].digest != before.digest
    assert find_ready([]).inputs() == {}
    with pytest.raises(InputError, match="no such file"):
        find_ready([ReadyData(files=(str(tmp_path / "none.csv"),))])


# The split.


def pair(i: int, query: str = "", positive: str = "", **facts: Any) -> ReadyPair:
    return ReadyPair(f"p{i}", query or f"question {i}", positive or f"answer {i}", **facts)


def scored(i: int, a: str, b: str, **facts: Any) -> ScoredPair:
    return ScoredPair(f"s{i}", a, b, 0.5, **facts)


SPLIT = SplitConfig(train=0.5, dev=0.2, test=0.3)


def chained() -> list[ReadyPair | ScoredPair]:
    """300 records of 3 domains, of which many share a query, a positive or a text."""
    draw = random.Random(5)
    records: list[ReadyPair | ScoredPair] = []
    for i in range(300):
        facts = {"domain": "abc"[i % 3], "category": "xy"[i % 2]}
        one = f"{facts['domain']}{draw.randrange(150)}"
        if i % 5:
            records.append(pair(i, f"Query {one}!", f"positive {i - i % 2}", **facts))
        else:
            records.append(scored(i, f"query  {one}!", f"other {i}", **facts))
    return records


def texts(record: ReadyPair | ScoredPair) -> tuple[str, str]:
    if isinstance(record, ScoredPair):
        return normalise(record.text_a), normalise(record.text_b)
    return normalise(record.query), normalise(record.positive)


def test_no_text_stands_on_two_sides() -> None:
    records = [pair(1000 + i, domain="abc"[i % 3]) for i in range(600)] + chained()
    found = split_ready(records, SPLIT, seed=7)
    sides: dict[str, set[str]] = {}
    for record, part in zip(records, found.parts, strict=True):
        for text in texts(record):
            sides.setdefault(text, set()).add(part)
    assert all(len(parts) == 1 for parts in sides.values())
    assert found.largest_group > 1
    shares = Counter(found.parts)
    assert {part: round(n / len(records), 1) for part, n in shares.items()} == {
        "train": 0.5,
        "dev": 0.2,
        "test": 0.3,
    }


def test_every_domain_category_and_phase_is_in_every_part() -> None:
    phases = ("easy", "medium", "hard")
    records = [
        pair(i, domain=f"d{i % 5}", category=f"c{i % 2}", phase=phases[i % 3]) for i in range(1200)
    ]
    parts = split_ready(records, SPLIT, seed=3).parts
    wanted = {"train": 0.5, "dev": 0.2, "test": 0.3}
    for name in ("domain", "category", "phase"):
        total = Counter(getattr(record, name) for record in records)
        met = Counter(
            (getattr(record, name), part) for record, part in zip(records, parts, strict=True)
        )
        for value, count in total.items():
            for part, share in wanted.items():
                assert met[value, part] / count == pytest.approx(share, abs=0.02)


def test_the_split_follows_the_seed_and_not_the_order() -> None:
    records = [pair(i) for i in range(200)]
    parts = split_ready(records, SPLIT, seed=7).parts
    by_id = {r.pair_id: part for r, part in zip(records, parts, strict=True)}
    backwards = split_ready(records[::-1], SPLIT, seed=7).parts
    assert backwards == [by_id[record.pair_id] for record in records[::-1]]
    assert split_ready(records, SPLIT, seed=8).parts != parts


def test_a_given_part_wins_and_takes_its_kin_along() -> None:
    records = [
        pair(0, "shared", part="train"),
        pair(1, "shared", part="test"),
        pair(2, "Shared"),
        pair(3, part="dev"),
        *[pair(i) for i in range(4, 100)],
    ]
    found = split_ready(records, SPLIT, seed=7)
    assert found.parts[:4] == ["train", "test", "test", "dev"]
    assert found.given == 3
    assert Counter(found.parts[4:])["train"] == pytest.approx(48, abs=2)


def test_a_chain_that_is_too_long_to_hold_out_is_trained_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chain = [scored(i, f"text {i}", f"text {i + 1}") for i in range(60)]
    records = [*chain, *[scored(100 + i, f"a {i}", f"b {i}") for i in range(40)]]
    found = split_ready(records, SPLIT, seed=7)
    assert set(found.parts[:60]) == {"train"}
    assert {"dev", "test"} <= set(found.parts[60:])
    assert "60 ready-made records hang together" in caplog.text


def test_whole_domains_are_held_out_when_asked() -> None:
    records = [pair(i, domain=f"d{i % 10}") for i in range(500)]
    config = SplitConfig(train=0.5, dev=0.2, test=0.3, group_by=("domain",))
    parts = split_ready(records, config, seed=7).parts
    sides = {(r.domain, part) for r, part in zip(records, parts, strict=True)}
    assert len(sides) == 10
    assert len(set(parts)) == 3


def test_folds_hold_every_record_out_once() -> None:
    records = [pair(i) for i in range(100)]
    held_out: Counter[str] = Counter()
    for fold in range(5):
        config = SplitConfig(folds=5, fold=fold)
        parts = split_ready(records, config, seed=7).parts
        assert set(parts) == {"train", "dev", "test"}
        held_out.update(r.pair_id for r, p in zip(records, parts, strict=True) if p == "test")
    assert set(held_out.values()) == {1}
    assert len(held_out) == 100


def test_nothing_is_split_into_nothing() -> None:
    assert split_ready([], SPLIT, seed=7).parts == []


# Pairs as a corpus.


def test_pairs_are_chunks_and_questions() -> None:
    records: list[ReadyPair | ScoredPair] = [
        pair(1, "Who?", "he", negatives=("she", "it"), domain="d", category="c", phase="hard"),
        pair(2, "who?", "they", negatives=("he",)),
        scored(3, "a", "b"),
        pair(4, "Where?", "it", domain="e"),
    ]
    chunks = list(chunk_records(records))
    assert [chunk["text"] for chunk in chunks] == ["he", "she", "it", "they"]
    assert all(c["chunk_id"] == chunk_id_of(c["filename"], c["text"]) for c in chunks)
    assert [chunk.get("domain") for chunk in chunks] == ["d", None, None, None]
    ids = {chunk["text"]: chunk["chunk_id"] for chunk in chunks}
    who, where = questions_of(records)
    assert (who.query_id, who.text, who.category, who.difficulty) == ("p1", "Who?", "c", "hard")
    assert who.relevant == (ids["he"], ids["they"])
    assert who.fields == {"domain": "d"}
    assert (where.category, where.relevant) == ("e", (ids["it"],))
