"""Pairs made in shards, by processes that are killed, in any order: the same as in one piece."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_forge.artifact import Artifact
from codex_forge.errors import EXIT_CHANGE_SOMETHING
from codex_forge.jsonl import line_of, read_json
from codex_forge.pairs import mining, positives
from codex_forge.storage import Store
from tests.conftest import ROOT, Corpus, Knock, run_module, sample_corpus
from tests.kill import killed_at
from tests.made_pairs import Row, codex_corpus, done, made, opened, question, rows

SHARDS = 3

WORDS = """
anvil barley copper dormouse ember flint granite hazel ivory juniper kestrel larch
marble nettle otter pewter quartz rowan saffron thistle umber velvet walnut yarrow
"""
"""Of ready-made pairs that have nothing to do with each other."""

WITH_ALL = {
    "cross_category": 1,
    "negatives": {"num": 4, "tfidf_band": 1.0, "band": [0.1, 0.4]},
    "augmentation": {"copies": 1},
    "synthesis": {"from_titles": True, "sentences_per_chunk": 1, "sentence_kept": 0.3},
}
"""Everything that makes or changes a query without a model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards")


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    """A corpus in which something of each kind is set aside."""
    found = codex_corpus(folder / "codex")
    for number, record in enumerate(found.chunks):
        record["title"] = f"Page {number} of the codex"
    found.chunks.append({"filename": "no-text.md"})
    found.questions.append(question(9000, "Who?", "a topic that nobody names"))
    corpus_section = {
        "chunks": str(found.folder / "chunks.jsonl"),
        "indexes": str(found.folder / "x_index.json"),
        "questions": str(found.folder / "questions.json"),
        "on_bad_record": "reject",
    }
    ready = found.folder / "ready.jsonl"
    ready.parent.mkdir(parents=True)
    ready.write_text(
        "".join(
            line_of({"query": f"{word} of {word}", "positive": f"On {word}, number {i}."})
            for i, word in enumerate(WORDS.split())
        )
        + 2 * line_of({"query": "zinc of zinc", "positive": "On zinc.", "part": "train"})
    )
    found.config = {
        "corpus": corpus_section,
        "pairs": {**WITH_ALL, "data": [{"files": str(ready)}]},
        "train": {"max_steps": 2, "batch_size": 8, "num_negatives": 1, "logging_steps": 1},
    }
    return found


@pytest.fixture(scope="module")
def whole(corpus: Corpus, folder: Path) -> Artifact:
    return made(corpus, folder / "whole")


def run_shard(config: Path, index: int, *arguments: str, code: int = 0) -> str:
    """One shard in a process of its own; returns what it said."""
    ended = run_module(
        "jobs.pairs",
        str(config),
        *arguments,
        "--shards",
        str(SHARDS),
        env={"JOB_COMPLETION_INDEX": str(index), "PYTHONHASHSEED": str(index + 1)},
    )
    assert ended.returncode == code, ended.stderr[-3000:]
    return ended.stderr


@pytest.fixture(scope="module")
def sharded(corpus: Corpus, whole: Artifact, folder: Path) -> Artifact:
    """The same in three shards, in processes of their own, the first shard last."""
    config = corpus.folder / "run.yaml"
    for index in (2, 1, 0):
        run_shard(config, index, f"store={folder / 'sharded'}")
    return opened(folder / "sharded", folder)


def as_set(found: list[Row]) -> Counter[str]:
    return Counter(map(line_of, found))


def in_groups(found: list[Row]) -> list[list[str]]:
    """The lines of each query, in the order in which the queries come."""
    groups: dict[str, list[str]] = {}
    for row in found:
        groups.setdefault(row["query_id"], []).append(line_of(row))
    return list(groups.values())


@pytest.mark.parametrize("stem", ["pairs-train", "pairs-dev", "pairs-test"])
def test_shards_together_hold_the_rows_of_one_piece(
    whole: Artifact, sharded: Artifact, stem: str
) -> None:
    found = rows(whole, stem)
    assert found
    assert as_set(rows(sharded, stem)) == as_set(found)


def test_a_shard_holds_every_third_query(whole: Artifact, sharded: Artifact) -> None:
    queries = in_groups(rows(whole, "pairs-train"))
    rejected = [r for r in rows(whole, "rejected") if r["kind"] == "pair"]
    assert not rejected, "a query without rows would shift the others"
    for shard in range(SHARDS):
        name = f"pairs-train-{shard:05d}-of-{SHARDS:05d}.jsonl"
        lines = sharded.path(name).read_text().splitlines(keepends=True)
        assert lines == [line for query in queries[shard::SHARDS] for line in query]


def test_what_belongs_to_the_whole_is_written_once(whole: Artifact, sharded: Artifact) -> None:
    for part in ("train", "dev", "test"):
        for name in (f"questions-{part}.jsonl", f"qrels-{part}.tsv"):
            assert sharded.path(name).read_bytes() == whole.path(name).read_bytes()
    assert as_set(rows(sharded, "rejected")) == as_set(rows(whole, "rejected"))
    kinds = Counter(row["kind"] for row in rows(whole, "rejected"))
    assert kinds["record"] == kinds["question"] == 1
    assert kinds["query"] > 0


def test_counts_add_up(whole: Artifact, sharded: Artifact) -> None:
    assert sharded.counts == whole.counts
    for stem in ("pairs-train", "pairs-dev", "pairs-test", "questions-test", "rejected"):
        assert len(rows(sharded, stem)) == whole.counts[stem.replace("-", "_")]


def test_the_shards_reports_add_up(whole: Artifact, sharded: Artifact) -> None:
    one = read_json(whole.path("report.json"))
    names = [name for name in sharded.files if name.startswith("report-")]
    assert len(names) == SHARDS
    reports = [read_json(sharded.path(name)) for name in names]
    for key in (
        "counts",
        "train_queries_by_source",
        "phases",
        "negatives_by_source",
        "negatives_stopped_by_guard",
        "rejected",
    ):
        total: Counter[str] = Counter()
        for told in reports:
            total.update(told[key])
        assert total == Counter(one[key]), key


def test_the_modes_that_follow_read_shards(corpus: Corpus, sharded: Artifact, folder: Path) -> None:
    config, store = corpus.folder / "run.yaml", f"store={folder / 'sharded'}"
    done("audit", config, store)
    audit = opened(folder / "sharded", folder, kind="audit")
    assert audit.manifest.summary == {"verdict": "pass"}
    assert audit.counts["pairs"] == sharded.counts["pairs_train"]
    done("train", config, store)
    trained = opened(folder / "sharded", folder, kind="train")
    assert read_json(trained.path("metadata.json"))["steps"] == 2


def test_a_shard_that_is_there_is_not_made_again(
    corpus: Corpus, sharded: Artifact, folder: Path
) -> None:
    store = folder / "sharded"
    before = {p: p.stat().st_mtime_ns for p in (store / "pairs").rglob("*") if p.is_file()}
    said = run_shard(corpus.folder / "run.yaml", 1, f"store={store}")
    assert "already done" in said
    after = {p: p.stat().st_mtime_ns for p in (store / "pairs").rglob("*") if p.is_file()}
    assert after == before


def test_some_shards_are_no_artifact(
    corpus: Corpus,
    sharded: Artifact,
    folder: Path,
    knock: Knock,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "store"
    shutil.copytree(folder / "sharded" / "pairs", store / "pairs")
    for manifest in store.rglob("*1-of-*/**/manifest.json"):
        manifest.unlink()
    assert knock("audit", corpus.folder / "run.yaml", f"store={store}") == EXIT_CHANGE_SOMETHING
    assert "only shards [0, 2] of 3 are there" in capsys.readouterr().err


# Killed.


def killed_again_and_again(work: Callable[[], object]) -> int:
    """Kill the work at later and later changes of its store, until it ends; how often it was."""
    kills = 0
    while killed_at(3 + 4 * kills, work):
        kills += 1
        assert kills < 30
    return kills


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few queries: forked children have them too."""
    monkeypatch.setattr(mining, "_BLOCK", 20)
    monkeypatch.setattr(positives, "_BLOCK", 25)


@pytest.mark.usefixtures("small_blocks")
def test_pairs_killed_amid_mining_go_on_and_are_the_same(tmp_path: Path) -> None:
    corpus = sample_corpus(tmp_path / "corpus", entities=25)
    config = corpus.write(pairs={"negatives": {"tfidf_band": 1.0, "band": [0.1, 0.5]}})
    done("pairs", config, f"store={tmp_path / 'calm'}")
    calm = opened(tmp_path / "calm", tmp_path / "a")
    store = tmp_path / "killed"
    kills = killed_again_and_again(lambda: done("pairs", config, f"store={store}"))
    assert kills > 3
    found = opened(store, tmp_path / "b")
    assert found.digest == calm.digest
    assert found.counts == calm.counts
    assert read_json(found.path("report.json")) == read_json(calm.path("report.json"))
    left = [p for p in Store(str(store)).list("pairs") if "/blocks/" in p]
    assert not left


@pytest.mark.usefixtures("small_blocks")
def test_a_killed_shard_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = sample_corpus(tmp_path / "corpus", entities=25)
    config = corpus.write()
    done("pairs", config, f"store={tmp_path / 'calm'}")
    calm = opened(tmp_path / "calm", tmp_path / "a")
    arguments = (f"store={tmp_path / 'store'}", "--shards", "2")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert killed_again_and_again(lambda: done("pairs", config, *arguments)) > 1
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    done("pairs", config, *arguments)
    found = opened(tmp_path / "store", tmp_path / "b")
    assert as_set(rows(found, "pairs-train")) == as_set(rows(calm, "pairs-train"))
    assert found.counts == calm.counts


def test_a_process_killed_from_outside_goes_on(tmp_path: Path) -> None:
    """`kill -9` at times that nobody chose."""
    corpus = sample_corpus(tmp_path / "corpus", entities=40)
    config = corpus.write()
    done("pairs", config, f"store={tmp_path / 'calm'}")
    command = [sys.executable, "-m", "jobs.pairs", str(config)]
    for seconds in (1.0, 2.0):
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
    done("pairs", config)
    again = opened(corpus.folder / "store", tmp_path / "b")
    assert again.digest == opened(tmp_path / "calm", tmp_path / "a").digest


# The same bytes.


def test_hash_seeds_and_processes_make_no_difference(
    corpus: Corpus, whole: Artifact, folder: Path
) -> None:
    config = corpus.folder / "run.yaml"
    for seed in ("1", "77"):
        store = folder / f"seed-{seed}"
        ended = run_module(
            "jobs.pairs", str(config), f"store={store}", env={"PYTHONHASHSEED": seed}
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        found = opened(store, folder / seed)
        assert found.files == whole.files
        for name in whole.files:
            assert found.path(name).read_bytes() == whole.path(name).read_bytes(), name
    sources = read_json(whole.path("report.json"))["train_queries_by_source"]
    assert set(sources) >= {"question", "entity", "title", "sentence", "ready", "alias_rewrite"}
