"""The corpus: what cannot be used is named by file, place and field, before anything is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_forge.artifact import open_artifact
from codex_forge.config.sections import CorpusConfig
from codex_forge.corpus import Corpus as Records
from codex_forge.corpus import chunk_id_of, find_files, read_corpus
from codex_forge.errors import EXIT_CHANGE_SOMETHING, EXIT_DONE, InputError
from codex_forge.storage import Store
from tests.conftest import Corpus, Knock

NAMES = ["Perrin Oak", "Loial Reed", "Moiraine Vale", "Egwene Holt", "Thom Ashby", "Lan Stone"]
FILES = {"chunks": "chunks.jsonl", "indexes": "x_index.json", "questions": "questions.json"}


def tiny(folder: Path) -> Corpus:
    """Six entities with a chunk and a question each."""
    chunks = [
        {
            "text": f"{name} keeps house number {i} by the river, near {NAMES[i - 1]}.",
            "filename": f"{i}.md",
            "wiki_type": "character",
            "character_mentions": [name, NAMES[i - 1]],
            "temporal_order": i,
            "chapter": i,
        }
        for i, name in enumerate(NAMES)
    ]
    index = {
        f"e{i}": {"primary_name": name, "aliases": [f"number {i}"], "filename": f"{i}.md"}
        for i, name in enumerate(NAMES)
    }
    questions = [
        {
            "question_id": f"q{i}",
            "question": f"Where does {name} live?",
            "category": "places",
            "expected_topics": [name],
            "relevant": [f"{i}.md"],
        }
        for i, name in enumerate(NAMES)
    ]
    return Corpus(folder, chunks, index, questions)


@pytest.fixture
def small(tmp_path: Path) -> Corpus:
    return tiny(tmp_path / "corpus")


def direct(corpus: Corpus, on_bad_record: str = "fail", **paths: str) -> Records:
    """Read the files without a door."""
    given_ = {role: paths.get(role, str(corpus.folder / name)) for role, name in FILES.items()}
    config = CorpusConfig.model_validate(given_)
    return read_corpus(find_files(config), on_bad_record)


def nothing_written(corpus: Corpus) -> bool:
    return not list((corpus.folder / "store").rglob("manifest.json"))


def line(**fields: Any) -> bytes:
    return json.dumps({"text": "some text", "filename": "0.md", **fields}).encode() + b"\n"


def add_question(**fields: Any) -> Callable[[bytes], bytes]:
    record = {"question": "Who?", "category": "c", "expected_topics": ["x"], **fields}
    kept = {key: value for key, value in record.items() if value is not ...}

    def change(data: bytes) -> bytes:
        tree = json.loads(data)
        tree["questions"].append(kept)
        return json.dumps(tree).encode()

    return change


def add_entity(record: Any) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({**json.loads(data), "bad one": record}).encode()


def append(data: bytes) -> Callable[[bytes], bytes]:
    return lambda before: before + data


def become(data: bytes) -> Callable[[bytes], bytes]:
    return lambda _: data


# Which file is changed, how, and what must be said about it.
BAD: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "chunk: not JSON": ("chunks", append(b"{'text': 1}\n"), ":7: not JSON ("),
    "chunk: cut off": ("chunks", append(line()[:20]), ":7: not JSON ("),
    "chunk: not an object": ("chunks", append(b"[1]\n"), ":7: expected an object, got a list"),
    "chunk: no text": ("chunks", append(b'{"filename": "0.md"}\n'), ":7: text: is missing"),
    "chunk: no filename": ("chunks", append(b'{"text": "x"}\n'), ":7: filename: is missing"),
    "chunk: text is a number": ("chunks", append(line(text=3)), ":7: text: expected text, got a n"),
    "chunk: text is null": ("chunks", append(line(text=None)), ":7: text: expected text, got null"),
    "chunk: blank text": ("chunks", append(line(text=" \n\t ")), ":7: text: is empty"),
    "chunk: blank filename": ("chunks", append(line(filename="")), ":7: filename: is empty"),
    "chunk: mentions are text": (
        "chunks",
        append(line(place_mentions="Tear")),
        ":7: place_mentions: expected a list of texts, got text",
    ),
    "chunk: a mention is a number": (
        "chunks",
        append(line(place_mentions=["Tear", 5])),
        ":7: place_mentions: expected a list of texts, got a number in it",
    ),
    "chunk: a mention is blank": (
        "chunks",
        append(line(place_mentions=["  "])),
        ":7: place_mentions: expected a list of texts, got an empty text in it",
    ),
    "chunk: order is text": (
        "chunks",
        append(line(temporal_order="first")),
        ":7: temporal_order: expected a number, got text",
    ),
    "chunk: order is true": (
        "chunks",
        append(line(temporal_order=True)),
        ":7: temporal_order: expected a number, got true/false",
    ),
    "chunk: NaN": ("chunks", append(b'{"text": "x", "x": NaN}\n'), ":7: NaN is not JSON"),
    "chunk: -Infinity": ("chunks", append(b'{"x": -Infinity}\n'), ":7: -Infinity is not JSON"),
    "chunk: infinite number": (
        "chunks",
        append(b'{"x": 1e999}\n'),
        ":7: the number 1e999 is too l",
    ),
    "chunk: endless number": (
        "chunks",
        append(b'{"x": ' + b"9" * 5000 + b"}\n"),
        ":7: holds a number of too many digits",
    ),
    "chunk: order beyond floats": (
        "chunks",
        append(line(temporal_order=10**400)),
        ":7: temporal_order: the number is too large",
    ),
    "chunk: nested without end": ("chunks", append(b"[" * 100_000), ":7: is nested too deep"),
    "chunk: not UTF-8": ("chunks", append(b'{"text": "caf\xe9"}\n'), ":7: not UTF-8 (byte 13)"),
    "chunk: half a surrogate pair": (
        "chunks",
        append(line(text="\ud800")),
        ":7: holds half of a surrogate pair",
    ),
    "chunk: twice": (
        "chunks",
        lambda data: data + data.splitlines(keepends=True)[1],
        ":7: text: the same chunk as ",
    ),
    "index: not JSON": ("indexes", append(b"}"), ":1: not JSON ("),
    "index: JSON broken on a later line": ("indexes", become(b'{"a":\n{},\n}'), ":3: not JSON ("),
    "index: a list": ("indexes", become(b"[]"), ":1: expected an object of entities, got a list"),
    "index: empty file": ("indexes", become(b""), ":1: not JSON ("),
    "index: not UTF-8": ("indexes", append(b"\xff"), ":1: not UTF-8 (byte "),
    "index: NaN": ("indexes", become(b'{"a": NaN}'), ":1: NaN is not JSON"),
    "index: unknown file": (
        "indexes",
        add_entity({"primary_name": "X", "filename": "nowhere.md"}),
        ":'bad one': filename: 'nowhere.md' is the filename of no chunk",
    ),
    "index: no name": (
        "indexes",
        add_entity({"filename": "0.md"}),
        ":'bad one': primary_name: is missing",
    ),
    "index: aliases are text": (
        "indexes",
        add_entity({"primary_name": "X", "filename": "0.md", "aliases": "Y"}),
        ":'bad one': aliases: expected a list of texts, got text",
    ),
    "index: entity is text": (
        "indexes",
        add_entity("X"),
        ":'bad one': expected an object, got text",
    ),
    "index: half a surrogate pair": (
        "indexes",
        add_entity({"primary_name": "\udc00", "filename": "0.md"}),
        ":'bad one': holds half of a surrogate pair",
    ),
    "questions: a list": (
        "questions",
        become(b"[]"),
        ":1: questions: expected a list of questions",
    ),
    "questions: no list": (
        "questions",
        become(b'{"questions": {}}'),
        ":1: questions: expected a list of questions under this key",
    ),
    "questions: not JSON": ("questions", become(b'{"questions": [}'), ":1: not JSON ("),
    "question: an infinite number": (
        "questions",
        become(b'{"questions": [], "x": -1e999}'),
        ":1: the number -1e999 is too large",
    ),
    "question: not an object": (
        "questions",
        become(b'{"questions": ["Who?"]}'),
        ":questions[0]: expected an object, got text",
    ),
    "question: no text": (
        "questions",
        add_question(question=...),
        ":questions[6]: question: is missing",
    ),
    "question: no category": (
        "questions",
        add_question(category=...),
        ":questions[6]: category: is missing",
    ),
    "question: no topics at all": (
        "questions",
        add_question(expected_topics=...),
        ":questions[6]: expected_topics: is missing",
    ),
    "question: empty topics": (
        "questions",
        add_question(expected_topics=[]),
        ":questions[6]: expected_topics: is empty; name at least one topic",
    ),
    "question: topics are text": (
        "questions",
        add_question(expected_topics="x"),
        ":questions[6]: expected_topics: expected a list of texts, got text",
    ),
    "question: unknown relevant": (
        "questions",
        add_question(relevant=["0.md", "nowhere.md"]),
        ":questions[6]: relevant: 'nowhere.md' is neither the filename nor the id of a chunk",
    ),
    "question: id twice": (
        "questions",
        add_question(question_id="q2"),
        ":questions[6]: question_id: the same as ",
    ),
    "question: id with a space": (
        "questions",
        add_question(question_id="q 2"),
        ":questions[6]: question_id: 'q 2' holds a space, which TREC files cannot carry",
    ),
    "question: id is a list": (
        "questions",
        add_question(question_id=["q"]),
        ":questions[6]: question_id: expected a word or a number, got a list",
    ),
    "question: id is blank": (
        "questions",
        add_question(question_id=" "),
        ":questions[6]: question_id: expected a word or a number, got an empty text",
    ),
    "question: limit is text": (
        "questions",
        add_question(temporal_limit="3"),
        ":questions[6]: temporal_limit: expected a number, got text",
    ),
    "question: half a surrogate pair": (
        "questions",
        add_question(note="\udfff"),
        ":questions[6]: holds half of a surrogate pair",
    ),
}


def spoil(corpus: Corpus, case: str) -> tuple[Path, Path, str]:
    """Write the corpus with one thing wrong; returns config, changed file, and words."""
    config = corpus.write()
    role, change, told = BAD[case]
    file = corpus.folder / FILES[role]
    file.write_bytes(change(file.read_bytes()))
    return config, file, told


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_stops_the_job_before_it_writes(
    case: str, small: Corpus, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    config, file, words = spoil(small, case)
    with pytest.raises(InputError) as refused:
        direct(small)
    assert f"1 bad record, nothing was written:\n  {file}{words}" in str(refused.value)
    assert knock("pairs", config) == EXIT_CHANGE_SOMETHING
    told = capsys.readouterr().err
    assert f"{file}{words}" in told
    assert told.rstrip().endswith(
        "mend them, or set corpus.on_bad_record=reject to go on without them"
    )
    assert "Traceback" not in told
    assert "\n;" not in told
    assert nothing_written(small)


@pytest.mark.parametrize("case", BAD)
def test_reject_goes_on_without_the_bad_record(
    case: str, small: Corpus, knock: Knock, tmp_path: Path
) -> None:
    config, file, words = spoil(small, case)
    whole = direct(tiny_written(tmp_path / "whole"))
    found = direct(small, "reject")
    assert len(found.bad) == 1
    assert str(found.bad[0]).startswith(f"{file}{words}")
    role = BAD[case][0]
    assert found.chunks == whole.chunks
    assert role == "indexes" or found.entities == whole.entities
    assert role == "questions" or found.questions == whole.questions

    assert knock("pairs", config, "corpus.on_bad_record=reject") == EXIT_DONE
    artifact = open_artifact(Store(str(small.folder / "store")), "pairs", "small", tmp_path)
    lines = artifact.path("rejected.jsonl").read_text(encoding="utf-8").splitlines()
    records = [r for r in map(json.loads, lines) if r["kind"] == "record"]
    assert [record["reason"].startswith(f"{file}{words}") for record in records] == [True]
    report = json.loads(artifact.path("report.json").read_text())
    assert report["rejected"]["bad record"] == 1
    assert report["counts"]["rejected"] == len(lines) == artifact.counts["rejected"]


def tiny_written(folder: Path) -> Corpus:
    corpus = tiny(folder)
    corpus.write()
    return corpus


def test_a_rejected_record_is_kept_as_it_was(small: Corpus) -> None:
    spoil(small, "question: id twice")
    [bad] = direct(small, "reject").bad
    assert bad.record["question_id"] == "q2"
    small.write()
    file = small.folder / "chunks.jsonl"
    file.write_bytes(file.read_bytes() + b"\xff not JSON\n")
    [bad] = direct(small, "reject").bad
    assert bad.record == "\ufffd not JSON"


def test_many_bad_records_are_counted_and_the_first_ten_shown(
    small: Corpus, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.write()
    file = small.folder / "chunks.jsonl"
    file.write_bytes(file.read_bytes() + b"nonsense\n" * 25)
    assert knock("pairs", config) == EXIT_CHANGE_SOMETHING
    told = capsys.readouterr().err.splitlines()
    assert "25 bad records, nothing was written:" in "\n".join(told)
    shown = [text for text in told if "not JSON" in text]
    assert [text.strip().split(": ")[0] for text in shown] == [f"{file}:{7 + i}" for i in range(10)]
    assert "  and 15 more" in told
    assert nothing_written(small)
    assert len(direct(small, "reject").bad) == 25


def test_bad_records_of_all_files_are_shown_together(small: Corpus) -> None:
    small.write()
    for name in FILES.values():
        file = small.folder / name
        file.write_bytes(file.read_bytes() + b"}")
    with pytest.raises(InputError, match="3 bad records") as refused:
        direct(small)
    assert all(name in str(refused.value) for name in FILES.values())


@pytest.mark.parametrize("on_bad_record", ["fail", "reject"])
@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "chunks.jsonl: the corpus is empty; give some chunks"),
        (b"\n  \n", "chunks.jsonl: the corpus is empty; give some chunks"),
        (b"nonsense\n", "chunks.jsonl:1: not JSON"),
    ],
)
def test_a_corpus_without_chunks_is_refused(
    content: bytes,
    words: str,
    on_bad_record: str,
    small: Corpus,
    knock: Knock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small.write()
    (small.folder / "chunks.jsonl").write_bytes(content)
    code = knock("pairs", config, f"corpus.on_bad_record={on_bad_record}")
    assert code == EXIT_CHANGE_SOMETHING
    assert words in capsys.readouterr().err
    assert nothing_written(small)


@pytest.mark.parametrize("role", FILES)
@pytest.mark.parametrize("path", ["missing.json", "none*.json", ""])
def test_a_file_that_is_not_there_is_named(
    role: str, path: str, small: Corpus, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.write()
    wanted = str(small.folder / path)
    assert knock("pairs", config, f"corpus.{role}={wanted}") == EXIT_CHANGE_SOMETHING
    told = capsys.readouterr().err
    assert told.strip() == f"error: {wanted}: no such file; check the path in the config"
    with pytest.raises(InputError, match=re.escape(f"{wanted}: no such file")):
        direct(small, **{role: wanted})
    assert nothing_written(small)


# --- what is accepted ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="BOM"),
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda data: b"\n" + data.replace(b"\n", b"\n \t\r\n\n"), id="blank lines"),
        pytest.param(lambda data: data.rstrip(b"\n"), id="no last newline"),
    ],
)
def test_harmless_differences_of_files_change_nothing(
    change: Callable[[bytes], bytes], small: Corpus, tmp_path: Path
) -> None:
    plain = direct(tiny_written(tmp_path / "plain"))
    small.write()
    for name in FILES.values():
        file = small.folder / name
        file.write_bytes(change(file.read_bytes()))
    assert direct(small) == plain


def test_lines_are_counted_as_editors_count_them(small: Corpus) -> None:
    """Blank lines count, and U+2028 within a text does not."""
    small.write()
    odd = json.dumps({"text": "a\u2028b\u0085c", "filename": "odd.md"}, ensure_ascii=False)
    (small.folder / "chunks.jsonl").write_text(f"\n\n{odd}\nnonsense\n", encoding="utf-8")
    found = direct(small, "reject")
    assert found.chunks[0].text == "a\u2028b\u0085c"
    assert found.bad[0].place == "4"


def test_the_fields_of_a_corpus_arrive(small: Corpus) -> None:
    small.questions[0].update(question_id=17, difficulty="hard", temporal_limit=3, entity="e0")
    del small.questions[1]["question_id"]
    small.index["e1"].update(wiki_type="character")
    del small.index["e2"]["aliases"]
    small.write()
    found = direct(small)
    chunk = found.chunks[1]
    assert (chunk.filename, chunk.chunk_type, chunk.temporal_order) == ("1.md", "character", 1.0)
    assert chunk.mentions == (NAMES[1], NAMES[0])
    assert chunk.metadata == {"chapter": 1}
    first, second = found.questions[:2]
    assert (first.query_id, first.difficulty, first.temporal_limit) == ("17", "hard", 3.0)
    assert first.fields == {"entity": "e0"}
    assert first.relevant == ("0.md",)
    assert re.fullmatch(r"q[0-9a-f]{16}", second.query_id)
    assert found.entities[0].names == (NAMES[0], "number 0")
    assert found.entities[1].entity_type == "character"
    assert found.entities[2].aliases == ()
    assert not found.bad


def test_a_relevant_chunk_may_be_named_by_its_id(small: Corpus) -> None:
    wanted = chunk_id_of("3.md", small.chunks[3]["text"])
    small.questions[3]["relevant"] = [wanted, wanted]
    small.write()
    found = direct(small)
    assert found.questions[3].relevant == (wanted,)
    assert found.chunks.named(wanted).tolist() == [3] == found.chunks.named("3.md").tolist()


def test_indexes_and_questions_may_be_left_out(small: Corpus) -> None:
    small.write()
    config = CorpusConfig.model_validate({"chunks": str(small.folder / "chunks.jsonl")})
    found = read_corpus(find_files(config), "fail")
    assert (len(found.chunks), found.entities, found.questions) == (6, [], [])


# --- identity --------------------------------------------------------------------------------


def test_chunk_ids_are_these_for_ever() -> None:
    assert chunk_id_of("a.md", "text") == "4780a23318865344"
    assert chunk_id_of("a.md", "text ") != chunk_id_of("a.md", "text")


@given(st.text(), st.text(), st.text(), st.text())
def test_a_chunk_id_depends_on_filename_and_text(a: str, b: str, c: str, d: str) -> None:
    if "\0" not in a + c:
        assert (chunk_id_of(a, b) == chunk_id_of(c, d)) == ((a, b) == (c, d))
    assert re.fullmatch("[0-9a-f]{16}", chunk_id_of(a, b))


def test_a_chunk_id_does_not_depend_on_anything_else(small: Corpus, tmp_path: Path) -> None:
    before = {c.text: c.chunk_id for c in direct(tiny_written(tmp_path / "before")).chunks}
    small.chunks.reverse()
    for i, chunk in enumerate(small.chunks):
        chunk.update(wiki_type="place", temporal_order=-i, more=i)
    small.chunks = [dict(reversed(chunk.items())) for chunk in small.chunks]
    small.write()
    assert {c.text: c.chunk_id for c in direct(small).chunks} == before
    assert len(set(before.values())) == len(NAMES)


def test_the_record_of_inputs_follows_content_not_place(small: Corpus, tmp_path: Path) -> None:
    def inputs(corpus: Corpus) -> dict[str, str]:
        corpus.write()
        paths = {role: str(corpus.folder / name) for role, name in FILES.items()}
        given_ = find_files(CorpusConfig.model_validate(paths)).inputs()
        return {role: entry.digest for role, entry in given_.items()}

    before = inputs(small)
    assert inputs(tiny(tmp_path / "elsewhere")) == before
    small.questions[0]["category"] = "people"
    after = inputs(small)
    assert {role for role in FILES if before[role] != after[role]} == {"questions"}


def test_a_key_given_twice_is_a_bad_record(
    corpus: Corpus, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    config = corpus.write()
    line = '{"text": "a", "text": "b", "filename": "x.md"}'
    with (corpus.folder / "chunks.jsonl").open("a") as handle:
        handle.write(line + "\n")
    assert knock("pairs", config) == 2
    error = capsys.readouterr().err
    assert f"chunks.jsonl:{len(corpus.chunks) + 1}: text: is given twice" in error
