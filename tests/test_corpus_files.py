"""Real files as they come: packed, in other encodings, in any script, and of the wrong form."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from codex_forge import chroma, embeddings
from codex_forge.artifact import Artifact, Draft, Input, Recipe, begin, open_artifact
from codex_forge.config.sections import ChromaConfig, CorpusConfig, EmbedConfig
from codex_forge.corpus import Chunks, Corpus, CorpusFiles, chunk_id_of, find_files, read_corpus
from codex_forge.embeddings import EmbeddingsWriter
from codex_forge.errors import ConfigError, InputError
from codex_forge.storage import Store

ODD = {
    "emoji": "👩‍👩‍👧‍👦 and 🏳️‍🌈",
    "right to left": "שלום עולם, مرحبا بالعالم \u202e abc",
    "combining": "e\u0301 n\u0303 ﬁ ㎏",
    "controls": "a\tb\nc\r\nd\x0be\x7f\u0085\u2028\u2029f",
    "private and last": "\ue000 \U0010ffff \ufffe \ufeff",
    "colons and quotes": '":": "{\\"a\\":1}" [":"]',
    "long": "x" * 100_000,
    "long and wide": "鋼" * 100_000,
}

NAME = "Zoë Brontë"
CHUNKS = [
    {"text": f"{NAME} says “naïve” in café no. {i}.", "filename": f"{i}.md", "n": i}
    for i in range(30)
]
INDEX = {"z": {"primary_name": NAME, "filename": "1.md"}}
QUESTIONS = {
    "questions": [{"question": f"Who is {NAME}?", "category": "p", "expected_topics": [NAME]}]
}


def text_of(records: Any) -> str:
    if isinstance(records, list):
        return "".join(json.dumps(r, ensure_ascii=False) + "\r\n" for r in records)
    return json.dumps(records, ensure_ascii=False, indent=1)


def write(folder: Path, change: Callable[[str], bytes], suffix: str = "") -> dict[str, str]:
    """The three files, each as `change` makes it; returns them by role."""
    found = {}
    for role, records in (("chunks", CHUNKS), ("indexes", INDEX), ("questions", QUESTIONS)):
        path = folder / f"{role}{suffix}"
        path.write_bytes(change(text_of(records)))
        found[role] = str(path)
    return found


def files_of(paths: dict[str, str], encoding: str = "auto") -> CorpusFiles:
    return find_files(CorpusConfig.model_validate({**paths, "encoding": encoding}))


def read(paths: dict[str, str], encoding: str = "auto", on_bad_record: str = "fail") -> Corpus:
    return read_corpus(files_of(paths, encoding), on_bad_record)


def one(folder: Path, data: bytes, encoding: str = "auto", on_bad_record: str = "fail") -> Corpus:
    """A corpus of one file of chunks."""
    path = folder / "chunks.jsonl"
    path.write_bytes(data)
    return read({"chunks": str(path)}, encoding, on_bad_record)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return read(write(tmp_path_factory.mktemp("plain"), str.encode))


# --- packed ---------------------------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def two_members(data: bytes) -> bytes:
    """As `cat a.gz b.gz` makes, cut within a line."""
    return gzip.compress(data[:77]) + gzip.compress(data[77:])


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".two.gz": two_members,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("suffix", PACKED)
def test_packed_files_are_read_as_the_plain_ones(
    suffix: str, plain: Corpus, tmp_path: Path
) -> None:
    pack = PACKED[suffix]
    assert read(write(tmp_path, lambda text: pack(text.encode()), suffix)) == plain
    assert read(write(tmp_path, lambda text: pack(text.encode()))) == plain
    wide = write(tmp_path, lambda text: pack(text.encode("utf-16")), suffix)
    assert read(wide) == plain


@pytest.mark.parametrize("role", ["chunks", "indexes", "questions"])
@pytest.mark.parametrize("suffix", PACKED)
def test_a_packed_file_that_is_cut_off_is_named(suffix: str, role: str, tmp_path: Path) -> None:
    pack = PACKED[suffix]
    paths = write(tmp_path, lambda text: pack(text.encode()), suffix)
    whole = Path(paths[role]).read_bytes()
    for end in (len(whole) - 2, len(whole) // 2):
        Path(paths[role]).write_bytes(whole[:end])
        with pytest.raises(
            InputError, match=r"are cut off or damaged .*; copy the file again"
        ) as e:
            read(paths, on_bad_record="reject")
        assert e.value.where == paths[role]


def test_a_packed_file_is_read_from_a_store_of_objects(bucket: str, plain: Corpus) -> None:
    store = Store(bucket)
    data = gzip.compress(text_of(CHUNKS).encode())
    store.write("whole.gz", data)
    store.write("cut.gz", data[:-9])
    assert read({"chunks": store.url("whole.gz")}).chunks == plain.chunks
    with pytest.raises(InputError, match=r"cut\.gz: its compressed data are cut off"):
        read({"chunks": store.url("cut.gz")})


# --- encodings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("named", ["auto", "utf-8", "cp1252"])
def test_a_byte_order_mark_says_the_encoding(
    encoding: str, named: str, plain: Corpus, tmp_path: Path
) -> None:
    assert read(write(tmp_path, lambda text: text.encode(encoding)), named) == plain


def test_the_marks_of_the_other_byte_order(plain: Corpus, tmp_path: Path) -> None:
    for mark, encoding in (
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ):
        assert read(write(tmp_path, lambda t, m=mark, e=encoding: m + t.encode(e))) == plain  # type: ignore[misc]


@pytest.mark.parametrize(
    "encoding, named",
    [
        ("cp1252", "cp1252"),
        ("cp1252", "Windows-1252"),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32-be", "utf-32"),
        ("utf-8", "utf8"),
        ("gb18030", "gb18030"),
    ],
)
def test_a_named_encoding_is_used(encoding: str, named: str, plain: Corpus, tmp_path: Path) -> None:
    assert read(write(tmp_path, lambda text: text.encode(encoding)), named) == plain


def test_the_wrong_encoding_is_said_with_its_byte_and_a_cure(tmp_path: Path) -> None:
    paths = write(tmp_path, lambda text: text.encode("cp1252"))
    with pytest.raises(InputError, match="32 bad records") as refused:
        read(paths)
    at = text_of(CHUNKS).encode("cp1252").index(b"\xeb")
    assert f"{paths['chunks']}:1: not UTF-8 (byte {at}): found 0xeb; " in str(refused.value)
    assert "set corpus.encoding to its name, such as cp1252" in str(refused.value)
    last = list(read({**paths, "chunks": write_utf8(tmp_path)}, on_bad_record="reject").bad)
    assert [bad.file for bad in last] == [paths["indexes"], paths["questions"]]
    assert all("not UTF-8 (byte " in bad.reason and "0xeb" in bad.reason for bad in last)


def write_utf8(folder: Path) -> str:
    path = folder / "good.jsonl"
    path.write_text(text_of(CHUNKS), encoding="utf-8")
    return str(path)


def test_a_byte_that_a_named_encoding_does_not_have(tmp_path: Path) -> None:
    good = text_of(CHUNKS[:2]).encode("cp1252")
    bad = good.replace(b"\xeb", b"\x81", 1)
    [found] = one(tmp_path, bad + text_of(CHUNKS[2:]).encode("cp1252"), "cp1252", "reject").bad
    assert found.place == "1"
    assert found.reason.startswith(f"not cp1252 (byte {bad.index(0x81)}): found 0x81; ")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_characters_without_a_mark_are_one_error(encoding: str, tmp_path: Path) -> None:
    wide = encoding[:6]
    with pytest.raises(
        InputError,
        match=f"chunks.jsonl: looks like {wide} without a .* mark; set corpus.encoding={wide}",
    ):
        one(tmp_path, text_of(CHUNKS).encode(encoding), on_bad_record="reject")


def test_a_wide_file_that_is_cut_within_a_character_says_after_which_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not utf-16 after line 29: found 0a \(truncated data\)"):
        one(tmp_path, text_of(CHUNKS).encode("utf-16")[:-1], on_bad_record="reject")


@pytest.mark.parametrize("name", ["latin-99", "rot13", "hex", "idna", "undefined", "", "a\0b"])
def test_an_unknown_encoding_is_a_mistake_of_the_config(name: str, tmp_path: Path) -> None:
    paths = write(tmp_path, str.encode)
    with pytest.raises(ConfigError, match=r"^corpus\.encoding: .* is no encoding; give auto"):
        files_of(paths, name)


def test_the_encoding_is_part_of_what_was_read(tmp_path: Path) -> None:
    paths = write(tmp_path, str.encode)
    digests = {e: files_of(paths, e).inputs()["chunks"].digest for e in ("auto", "cp1252", "utf-8")}
    assert len(set(digests.values())) == 3
    assert files_of(paths, "windows-1252").inputs()["chunks"].digest == digests["cp1252"]


# --- scripts and signs ----------------------------------------------------------------------------


def stored(folder: Path, chunks: Chunks) -> Artifact:
    """An embed artifact of the chunks, each with a vector of its own."""
    recipe = Recipe("embed", "odd", {}, {"model": Input("model", "m", "m", "m")})
    draft = begin(Store(str(folder / "store")), recipe, folder, force=False)
    assert isinstance(draft, Draft)
    vectors = np.eye(len(chunks), dtype=np.float32)
    with EmbeddingsWriter(draft.path("part.parquet"), len(chunks)) as writer:
        writer.write(chunks, vectors)
    draft.commit({"chunks": len(chunks)}, {})
    return open_artifact(Store(str(folder / "store")), "embed", "odd", folder)


def test_texts_of_any_script_arrive_and_go_on_unchanged(tmp_path: Path) -> None:
    """From JSON through the table to Parquet and ChromaDB."""
    nested = {"a": [1, {"b": None}], "c": {"d": {}}}
    records = [
        {
            "text": t,
            "filename": f"{n}/{t[:9]}.md",
            "note": t[:50],
            "deep": nested,
            "x_mentions": [t],
        }
        for n, t in ODD.items()
    ]
    found = one(tmp_path, text_of(records).encode()).chunks
    assert [c.text for c in found] == list(ODD.values())
    assert [c.filename for c in found] == [r["filename"] for r in records]
    assert [c.mentions for c in found] == [(t,) for t in ODD.values()]
    assert all(c.metadata == {"note": c.text[:50], "deep": nested} for c in found)

    odd = stored(tmp_path, found)
    texts = [t for batch in embeddings.batches(odd) for t in batch.column("text").to_pylist()]
    assert texts == list(ODD.values())
    place = ChromaConfig(path=str(tmp_path / "chroma"), batch_size=3)
    chroma.keep_collection(EmbedConfig(chroma=place), odd)
    kept = chroma.open_collection(str(tmp_path / "chroma"), "odd").get()
    rows = zip(kept["ids"], kept["documents"], kept["metadatas"], strict=True)
    assert {(i, text, fields["note"]) for i, text, fields in rows} == {
        (c.chunk_id, c.text, c.text[:50]) for c in found
    }


@pytest.mark.parametrize(
    "record, field",
    [
        ({"text": "a\0b", "filename": "x"}, "text"),
        ({"text": "ab", "filename": "x\0"}, "filename"),
        ({"text": "ab", "filename": "x", "y_mentions": ["\0"]}, "y_mentions"),
        ({"text": "ab", "filename": "x", "more": [{"deep": {"k\0": 1}}]}, "more"),
    ],
)
def test_a_nul_character_is_refused(record: dict[str, Any], field: str, tmp_path: Path) -> None:
    """C libraries and databases take it for the end of a text."""
    data = text_of([*CHUNKS, record, {"text": "spelled \\u0000 only", "filename": "y"}]).encode()
    found = one(tmp_path, data, on_bad_record="reject")
    assert len(found.chunks) == len(CHUNKS) + 1
    assert [(bad.place, bad.field) for bad in found.bad] == [("31", field)]
    assert found.bad[0].reason.startswith("holds a NUL character")


def test_a_nul_character_in_an_index_or_a_question_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, str.encode)
    index = {"a\0": INDEX["z"], "b": {"primary_name": "\0", "filename": "1.md"}, **INDEX}
    Path(paths["indexes"]).write_text(json.dumps(index))
    asked = QUESTIONS["questions"][0]
    Path(paths["questions"]).write_text(
        json.dumps({"questions": [{**asked, "question_id": "q\0"}, {**asked, "note": "\0"}, asked]})
    )
    found = read(paths, on_bad_record="reject")
    assert (len(found.entities), len(found.questions)) == (1, 1)
    assert [bad.field for bad in found.bad] == ["a\0", "primary_name", "question_id", "note"]
    assert all("\0" not in str(bad) for bad in found.bad)


def test_nesting_is_taken_up_to_a_hundred_levels(tmp_path: Path) -> None:
    def record(levels: int) -> bytes:
        deep = "[" * levels + "]" * levels
        return f'{{"text": "{levels}", "filename": "f", "deep": {deep}}}\n'.encode()

    found = one(tmp_path, record(99) + record(100) + record(5_000), on_bad_record="reject")
    assert [chunk.text for chunk in found.chunks] == ["99"]
    assert [bad.reason for bad in found.bad] == ["is nested too deep (more than 100 levels)"] * 2


# --- form -----------------------------------------------------------------------------------------

WHOLE: dict[str, Callable[[], str]] = {
    "a list": lambda: json.dumps(CHUNKS),
    "a list over many lines": lambda: json.dumps(CHUNKS, indent=1),
    "an empty list": lambda: "[]",
    "an object": lambda: json.dumps({"chunks": CHUNKS}),
    "an object over many lines": lambda: json.dumps({"chunks": CHUNKS}, indent=2),
    "a chunk over many lines": lambda: "\n".join(json.dumps(c, indent=2) for c in CHUNKS),
}


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_json_document_is_one_error_with_a_cure(form: str, encoding: str, tmp_path: Path) -> None:
    data = ("\n " + WHOLE[form]()).encode(encoding)
    for on_bad_record in ("fail", "reject"):
        with pytest.raises(InputError, match="holds one JSON document, not a chunk a line") as e:
            one(tmp_path, data, on_bad_record=on_bad_record)
        assert "; write an object a line, as jq does: jq -c" in str(e.value)
        assert "\n" not in str(e.value)


def test_a_chunk_twice_is_named_with_its_first_place_in_any_file(tmp_path: Path) -> None:
    paths = []
    for name, records in (("a", CHUNKS[:5]), ("b.gz", [*CHUNKS[5:], CHUNKS[3]]), ("c", CHUNKS[6:])):
        path = tmp_path / name
        data = ("\n" + text_of(records)).encode()
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        paths.append(str(path))
    config = CorpusConfig.model_validate({"chunks": paths})
    found = read_corpus(find_files(config), "reject", tmp_path)
    assert len(found.chunks) == len(CHUNKS)
    a, b, c = paths
    wanted = [(b, "27", f"the same chunk as {a}:5")]
    wanted += [(c, str(i + 2), f"the same chunk as {b}:{i + 3}") for i in range(24)]
    assert [(bad.file, bad.place, bad.reason) for bad in found.bad] == wanted
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b.gz", "c"]
    assert found.chunks[29].chunk_id == chunk_id_of("29.md", CHUNKS[29]["text"])  # type: ignore[arg-type]


def test_a_config_without_chunks_is_refused_when_chunks_are_asked_for(tmp_path: Path) -> None:
    paths = write(tmp_path, str.encode)
    del paths["chunks"]
    files = files_of(paths)
    assert set(files.inputs()) == {"chunks", "indexes", "questions"}
    with pytest.raises(InputError, match=r"^corpus\.chunks: no chunks are given; name their files"):
        read_corpus(files, "reject")
