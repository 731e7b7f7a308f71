"""Every retriever on one small bank, through the doors: rankings, reports, files, refusals."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from codex_forge.artifact import Artifact
from codex_forge.chroma import open_collection
from codex_forge.config import load_config
from codex_forge.corpus import chunk_id_of, find_files, read_corpus
from codex_forge.embeddings import vectors
from codex_forge.errors import InputError
from codex_forge.evaluate import dense
from codex_forge.evaluate.retrieve import Asked
from codex_forge.evaluate.times import Times
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.metrics import ir_measures, mean
from codex_forge.model.in_use import load_encoder, model_of
from codex_forge.records import Run
from codex_forge.search import Floats
from codex_forge.spreadsheets import safe_cell
from codex_forge.trec import read_qrels, read_run
from tests.chaos.model import cut_out_model
from tests.conftest import Knock, run_module, sample_corpus
from tests.made_pairs import done, opened

RETRIEVERS = {"dense": "small-base", "chroma": "small-base-chroma", "bm25": "small-bm25",
              "hybrid": "small-base-hybrid"}  # fmt: skip
KEYS = {
    "name", "retriever", "model", "part", "questions", "metrics", "slices", "latency_ms",
    "queries_per_second", "index_bytes", "vectors", "dimension", "hybrid", "chroma", "must_pass",
    "pairs",
}  # fmt: skip
SPLIT = {"train": 0.3, "dev": 0.3, "test": 0.4}


class Evaluated(NamedTuple):
    """A bank that every retriever was asked."""

    config: Path
    folder: Path
    store: Path
    chunks: dict[str, dict[str, Any]]
    """By file name."""

    def open(self, kind: str, name: str) -> Artifact:
        return opened(self.store, self.folder, name, kind)

    def report(self, retriever: str) -> dict[str, Any]:
        return read_json(self.open("evaluate", RETRIEVERS[retriever]).path("report.json"))

    def run(self, retriever: str) -> Run:
        return read_run(self.open("evaluate", RETRIEVERS[retriever]).path("run.trec"))

    def rows(self, retriever: str) -> list[dict[str, Any]]:
        artifact = self.open("evaluate", RETRIEVERS[retriever])
        return list(read_jsonl(artifact.path("per_question.jsonl")))


@pytest.fixture(scope="module")
def bank(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Half of the chunks have a time, and every second question a limit that hides some."""
    folder = tmp_path_factory.mktemp("bank")
    base = cut_out_model(folder / "base")
    corpus = sample_corpus(folder / "corpus", 40)
    for number, chunk in enumerate(corpus.chunks):
        if number % 2:
            chunk["temporal_order"] = number % 10
    time_of = {chunk["filename"]: chunk.get("temporal_order") for chunk in corpus.chunks}
    for number, question in enumerate(corpus.questions):
        time = time_of[question["relevant"][0]]
        question["temporal_limit"] = None if number % 2 else (3 if time is None else time)
        question["category"] = "=1+1" if number % 3 else "@plain"
    first, sixth = corpus.chunks[0], corpus.chunks[5]
    scenarios = [
        {"query": first["text"], "expects": [first["filename"]], "k": 1},
        {
            "query": first["text"],
            "expects": [chunk_id_of(sixth["filename"], sixth["text"])],
            "k": 1,
        },
    ]
    config = corpus.write(
        model={"base": str(base), "device": "cpu"},
        pairs={"split": SPLIT},
        embed={"model": "base", "chroma": {"path": str(folder / "chroma")}},
        evaluate={"must_pass": scenarios, "depth": 30, "latency_queries": 3},
    )
    for mode in ("pairs", "embed"):
        done(mode, config)
    for retriever in RETRIEVERS:
        done("evaluate", config, f"evaluate.retriever={retriever}")
    by_file = {chunk["filename"]: chunk for chunk in corpus.chunks}
    return Evaluated(config, folder, folder / "corpus" / "store", by_file)


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_every_key_is_in_the_report(bank: Evaluated, retriever: str) -> None:
    report = bank.report(retriever)
    assert set(report) == KEYS
    assert report["name"] == RETRIEVERS[retriever]
    assert report["questions"] == len(bank.run(retriever)) > 10
    assert report["latency_ms"]["queries"] == 3
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"]
    assert report["queries_per_second"] > 0
    assert report["dimension"] == (None if retriever == "bm25" else 48)
    assert (report["index_bytes"] is None) == (retriever == "chroma")
    assert (report["hybrid"] is None) == (retriever != "hybrid")
    assert (report["chroma"] is None) == (retriever != "chroma")
    assert report["pairs"] is None
    assert bool(report["model"]) == (retriever != "bm25")


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_no_retriever_finds_what_is_later_than_the_limit(bank: Evaluated, retriever: str) -> None:
    file_of, run = _file_of(bank), bank.run(retriever)
    times = {chunk: bank.chunks[name].get("temporal_order") for chunk, name in file_of.items()}
    hidden = 0
    for row in bank.rows(retriever):
        limit = row["temporal_limit"]
        known = {c for c, time in times.items() if limit is None or time is None or time <= limit}
        hidden += len(times) - len(known)
        found = [chunk for chunk, _ in run[row["query_id"]]]
        assert set(found) <= known
        assert len(set(found)) == len(found)
        if retriever in ("dense", "chroma"):
            assert len(found) == min(30, len(known))
    assert hidden > 100


def test_dense_search_is_the_sorted_cosine_of_every_chunk(bank: Evaluated) -> None:
    embedded = bank.open("embed", "small-base")
    config = load_config(bank.config)
    ids, matrix = vectors(embedded)
    model = model_of(embedded, config, lambda kind, name: bank.open(kind, name))
    encoder = load_encoder(model, config)
    rows, run = bank.rows("dense"), bank.run("dense")
    asked = encoder.encode_query([row["question"] for row in rows])
    names = {row["filename"]: row for row in bank.chunks.values()}
    file_of = _file_of(bank)
    for row, scores in zip(rows, (asked @ matrix.T).tolist(), strict=True):
        time_of = {i: names[file_of[i]].get("temporal_order") for i in ids}
        limit = row["temporal_limit"]
        known = [
            (score, i)
            for i, score in zip(ids, scores, strict=True)
            if limit is None or time_of[i] is None or time_of[i] <= limit
        ]
        expected = sorted(known, reverse=True)[:30]
        found = run[row["query_id"]]
        assert [s for _, s in found] == pytest.approx([s for s, _ in expected], abs=1e-5)
        assert {i for i, _ in found[:5]} <= {i for _, i in expected[:6]}


def _file_of(bank: Evaluated) -> dict[str, str]:
    return {chunk_id_of(c["filename"], c["text"]): c["filename"] for c in bank.chunks.values()}


def test_a_collection_of_some_dozen_chunks_misses_nothing(bank: Evaluated) -> None:
    assert bank.report("chroma")["chroma"] == {"recall@10 of exact": 1.0}
    exact, found = bank.report("dense")["metrics"], bank.report("chroma")["metrics"]
    assert found == pytest.approx(exact, abs=0.02)


def test_the_weight_was_chosen_on_dev_and_the_ranking_is_fused_with_it(bank: Evaluated) -> None:
    hybrid = bank.report("hybrid")["hybrid"]
    assert (hybrid["fusion"], hybrid["rrf_k"]) == ("weighted", None)
    assert hybrid["dev"][f"{hybrid['weight']:.2f}"] == max(hybrid["dev"].values())
    assert len(hybrid["dev"]) == 21
    dense, words = bank.run("dense"), bank.run("bm25")
    for query, ranking in bank.run("hybrid").items():
        assert {chunk for chunk, _ in ranking} <= {
            chunk for chunk, _ in [*dense[query], *words[query]]
        }


@pytest.mark.parametrize("retriever", RETRIEVERS)
def test_the_files_alone_give_the_numbers(bank: Evaluated, retriever: str) -> None:
    artifact = bank.open("evaluate", RETRIEVERS[retriever])
    assert artifact.files == [
        "per_question.csv", "per_question.jsonl", "qrels.txt", "report.json", "run.trec",
        "summary.md",
    ]  # fmt: skip
    qrels = read_qrels(artifact.path("qrels.txt"))
    assert qrels == read_qrels(bank.open("pairs", "small").path("qrels-test.tsv"))
    again = ir_measures(qrels, bank.run(retriever), (1, 3, 5, 10))
    for name, value in bank.report(retriever)["metrics"].items():
        if name != "rubric":
            assert value == pytest.approx(mean([row[name] for row in again.values()]), abs=1e-6)
    text = artifact.path("summary.md").read_text()
    assert f"| ndcg@10 | {bank.report(retriever)['metrics']['ndcg@10']:.3f} |" in text


def test_no_cell_of_the_table_is_a_formula(bank: Evaluated) -> None:
    path = bank.open("evaluate", "small-base").path("per_question.csv")
    with path.open(newline="") as handle:
        table = list(csv.DictReader(handle))
    rows = bank.rows("dense")
    assert [line["query_id"] for line in table] == [row["query_id"] for row in rows]
    assert {line["category"] for line in table} == {"'=1+1", "'@plain"}
    for line, row in zip(table, rows, strict=True):
        assert float(line["ndcg@10"]) == row["measures"]["ndcg@10"]
        assert line["first_filename"] == row["retrieved"][0]["filename"]
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in line.values())


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\t=1", "'\t=1"),
        ("a=1", "a=1"),
        ("", ""),
        (-2.5, -2.5),
        (False, False),
        (None, ""),
    ],
)
def test_a_spreadsheet_computes_no_text(value: object, cell: object) -> None:
    assert safe_cell(value) == cell


def test_queries_that_must_pass_say_where_their_answer_came(bank: Evaluated) -> None:
    passed, failed = bank.report("dense")["must_pass"]
    assert (passed["rank"], passed["passed"], passed["k"]) == (1, True, 1)
    assert failed["passed"] is False
    assert failed["rank"] is None or failed["rank"] > 1
    assert "pass  rank 1" in bank.open("evaluate", "small-base").path("summary.md").read_text()


def test_lines_of_the_log_tell_one_number_each(
    bank: Evaluated, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("evaluate", bank.config) == 0
    told = capsys.readouterr().err
    metrics = bank.report("dense")["metrics"]
    assert f"rubric               {metrics['rubric']:.2f}/5" in told
    assert f"ndcg@10              {metrics['ndcg@10']:.3f}" in told
    assert "must pass            1 of 2" in told
    assert "FAIL" in told


def _refused(
    knock: Knock, capsys: pytest.CaptureFixture[str], bank: Evaluated, *arguments: str
) -> str:
    assert knock("evaluate", bank.config, "name=small", *arguments, "--force") == 2
    return capsys.readouterr().err


def test_a_scenario_that_expects_an_unknown_file_is_refused_and_nothing_is_lost(
    bank: Evaluated, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = json.dumps([{"query": "x", "expects": ["no_such_file.md"]}])
    said = _refused(knock, capsys, bank, f"evaluate.must_pass={wanted}")
    assert "evaluate.must_pass[0]: expects 'no_such_file.md'" in said
    assert bank.report("dense")["questions"] > 0


def test_chroma_needs_a_collection_of_these_vectors(
    bank: Evaluated, knock: Knock, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chroma = ("evaluate.retriever=chroma",)
    assert "set embed.chroma.path" in _refused(
        knock, capsys, bank, *chroma, "embed.chroma.path=null"
    )
    said = _refused(knock, capsys, bank, *chroma, f"embed.chroma.path={tmp_path / 'other'}")
    assert "no such Chroma collection" in said


@pytest.mark.parametrize(
    "override, said",
    [
        ("model.max_seq_length=3", "model.max_seq_length=None, which is 3 now"),
        ("model.query_prompt=ask", "model.query_prompt='', which is 'ask' now"),
        ("embed.dimensions=7", "embed.dimensions=None, which is 7 now"),
    ],
)
def test_queries_are_never_encoded_otherwise_than_chunks(
    bank: Evaluated,
    knock: Knock,
    capsys: pytest.CaptureFixture[str],
    override: str,
    said: str,
) -> None:
    assert said in _refused(knock, capsys, bank, override)
    assert knock("evaluate", bank.config, override) == 2, "also where the numbers are there already"
    assert "run python -m jobs.embed embed.model=base --force" in capsys.readouterr().err


def test_a_collection_with_a_row_of_another_tool_is_refused(
    bank: Evaluated, knock: Knock, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = f"embed.chroma.path={tmp_path / 'chroma'}"
    assert knock("embed", bank.config, place) == 0
    collection = open_collection(str(tmp_path / "chroma"), "small-base")
    row = collection.get(limit=1, include=["embeddings", "documents"])
    collection.delete(ids=row["ids"])
    collection.add(ids=["zz"], embeddings=row["embeddings"], documents=row["documents"])
    del collection
    said = _refused(knock, capsys, bank, "evaluate.retriever=chroma", place)
    assert "holds the unknown chunk zz" in said


def test_a_manifest_that_counts_wrong_is_found_out(bank: Evaluated) -> None:
    artifact = bank.open("embed", "small-base")
    manifest = artifact.manifest
    artifact.manifests = (replace(manifest, counts={**manifest.counts, "chunks": 200}),)
    with pytest.raises(InputError, match="holds 40 vectors, not 200"):
        dense.Vectors(artifact)


def test_a_model_that_gives_queries_another_width_is_refused(bank: Evaluated) -> None:
    class Narrow:
        def encode_query(self, texts: Sequence[str]) -> Floats:
            return np.ones((len(texts), 5), np.float32)

    found = read_corpus(find_files(load_config(str(bank.config), []).corpus), "fail", bank.folder)
    vectors_there = dense.Vectors(bank.open("embed", "small-base"))
    retriever = dense.DenseRetriever(Narrow(), vectors_there, Times(found.chunks))
    with pytest.raises(InputError, match="vectors of 5 numbers, and gave chunks 48"):
        retriever.search([Asked("a", None)], 3)


def test_a_bank_goes_into_a_folder_that_can_be_made(bank: Evaluated, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    told = run_module("jobs", "bank", str(bank.config), str(tmp_path / "file" / "bank"))
    assert told.returncode == 2
    assert "the folder cannot be made" in told.stderr


def test_without_dev_questions_the_weight_must_be_given(
    bank: Evaluated, knock: Knock, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = f"store={tmp_path}"
    split = 'pairs.split={"train": 0.5, "dev": 0.0, "test": 0.5}'
    assert knock("pairs", bank.config, store, split) == 0
    words = ("evaluate.retriever=hybrid", store, split)
    said = _refused(knock, capsys, bank, *words)
    assert "set evaluate.hybrid.weight, or evaluate.hybrid.fusion=rrf" in said


@pytest.mark.parametrize("setting", ["fusion=rrf", "weight=0.25"])
def test_a_given_fusion_is_used_as_it_is(
    bank: Evaluated, knock: Knock, tmp_path: Path, setting: str
) -> None:
    store = tmp_path / "store"
    shutil.copytree(bank.store, store)
    arguments = ("evaluate.retriever=hybrid", f"evaluate.hybrid.{setting}", f"store={store}")
    assert knock("evaluate", bank.config, *arguments, "--force") == 0
    artifact = opened(store, tmp_path, RETRIEVERS["hybrid"], "evaluate")
    told = read_json(artifact.path("report.json"))["hybrid"]
    if setting == "weight=0.25":
        assert told == {"fusion": "weighted", "rrf_k": None, "weight": 0.25, "dev": {}}
        return
    assert told == {"fusion": "rrf", "rrf_k": 60, "weight": None, "dev": {}}
    for query, ranking in read_run(artifact.path("run.trec")).items():
        expected: dict[str, float] = {}
        for part in ("dense", "bm25"):
            for rank, (chunk, _) in enumerate(bank.run(part)[query], start=1):
                expected[chunk] = expected.get(chunk, 0.0) + 1 / (60 + rank)
        for chunk, score in ranking:
            assert score == pytest.approx(expected[chunk], rel=1e-6)


def test_a_weight_chosen_on_the_questions_that_are_scored_is_told(
    bank: Evaluated, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("evaluate.retriever=hybrid", "evaluate.part=dev", "evaluate.must_pass=[]")
    assert knock("evaluate", bank.config, *arguments) == 0
    assert "the weight was chosen on dev questions that are scored here" in capsys.readouterr().err


def test_vectors_on_disk_give_the_ranking_of_those_in_memory(
    bank: Evaluated, knock: Knock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    shutil.copytree(bank.store, store)
    monkeypatch.setattr(dense, "FITS", 0)
    assert knock("evaluate", bank.config, f"store={store}", "--force") == 0
    artifact = opened(store, tmp_path, "small-base", "evaluate")
    report = read_json(artifact.path("report.json"))
    assert report["vectors"] == "on disk"
    assert report["metrics"] == bank.report("dense")["metrics"]
    assert bank.report("dense")["vectors"] == "in memory"
    for query, ranking in read_run(artifact.path("run.trec")).items():
        theirs = bank.run("dense")[query]
        assert [s for _, s in ranking] == pytest.approx([s for _, s in theirs], abs=1e-6)


def test_the_bank_in_beirs_layout_gives_the_same_numbers(bank: Evaluated, tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    told = run_module("jobs", "bank", str(bank.config), str(folder))
    assert told.returncode == 0, told.stderr
    assert f"wrote {folder}: {len(bank.chunks)} chunks" in told.stdout
    assert "temporal_limit" in told.stderr
    corpus = {row["_id"]: row for row in read_jsonl(folder / "corpus.jsonl")}
    assert set(corpus) == set(_file_of(bank))
    texts = {chunk["text"] for chunk in bank.chunks.values()}
    assert {row["text"] for row in corpus.values()} == texts
    assert {tuple(row) for row in corpus.values()} == {("_id", "title", "text")}
    queries = {row["_id"]: row for row in read_jsonl(folder / "queries.jsonl")}
    assert {q: row["text"] for q, row in queries.items()} == {
        row["query_id"]: row["question"] for row in bank.rows("dense")
    }
    with (folder / "qrels" / "test.tsv").open(newline="") as handle:
        head, *lines = csv.reader(handle, delimiter="\t")
    assert head == ["query-id", "corpus-id", "score"]
    qrels: dict[str, dict[str, int]] = {}
    for query, chunk, grade in lines:
        assert query in queries
        assert chunk in corpus
        qrels.setdefault(query, {})[chunk] = int(grade)
    found = ir_measures(qrels, bank.run("dense"), (10,))
    ndcg = mean([row["ndcg@10"] for row in found.values()])
    assert ndcg == pytest.approx(bank.report("dense")["metrics"]["ndcg@10"], abs=1e-6)
    again = run_module("jobs", "bank", str(bank.config), str(folder))
    assert again.returncode == 2
    assert "is there and not empty" in again.stderr
