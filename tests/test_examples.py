"""The shipped configs and samples: they load, are what their builders write, and run."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import open_artifact
from codex_forge.config import load_config
from codex_forge.entities import NameMatcher
from codex_forge.ready_made import ReadyMade, find_ready, read_ready, split_ready
from codex_forge.records import ReadyPair, ScoredPair
from codex_forge.search import words
from codex_forge.storage import Store
from codex_forge.train.data.needs import check
from tests.conftest import ROOT, run_module

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
BUILT = ("codex", "incidents", "manuals")
"""Samples that their make_sample.py invents; the other is cut out of a release."""

LARGEST = 300_000


def folder(name: str) -> Path:
    return ROOT / "examples" / name


def data_files(name: str) -> list[Path]:
    kept = ("README.md", "LICENSE", "make_sample.py")
    return sorted(p for p in folder(name).iterdir() if p.is_file() and p.name not in kept)


def load(name: str) -> Any:
    return json.loads((folder("codex") / name).read_text())


def chunks() -> Iterator[dict[str, Any]]:
    with (folder("codex") / "chunks.jsonl").open() as lines:
        yield from map(json.loads, lines)


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the configs are relative to it."""
    monkeypatch.chdir(ROOT)


def ready(name: str) -> ReadyMade:
    return read_ready(find_ready(load_config(ROOT / "configs" / f"{name}.yaml").pairs.data))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_its_files_are_there(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    patterns = [*config.corpus.chunks, *config.corpus.indexes, *config.corpus.questions]
    patterns += [pattern for entry in config.pairs.data for pattern in entry.files]
    assert patterns
    for pattern in patterns:
        assert list(ROOT.glob(pattern)), pattern


@pytest.mark.parametrize("name", BUILT)
def test_a_sample_is_what_its_builder_writes(name: str, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-B", str(folder(name) / "make_sample.py"), str(tmp_path / seed)],
            check=True,
            env={"PYTHONHASHSEED": seed},
            timeout=60,
        )
        written = sorted((tmp_path / seed).iterdir())
        assert [path.name for path in written] == [path.name for path in data_files(name)]
        for mine, theirs in zip(data_files(name), written, strict=True):
            # Another zlib may pack the same bytes in another way.
            unpack = gzip.decompress if mine.suffix == ".gz" else bytes
            assert unpack(mine.read_bytes()) == unpack(theirs.read_bytes()), mine


@pytest.mark.parametrize("name", BUILT)
def test_a_sample_is_small_free_and_explained(name: str) -> None:
    assert sum(path.stat().st_size for path in data_files(name)) < LARGEST
    readme = (folder(name) / "README.md").read_text()
    rights = (folder(name) / "LICENSE").read_text()
    assert "CC0" in rights
    assert "CC0" in readme
    for path in [*data_files(name), folder(name) / "make_sample.py"]:
        assert f"`{path.name}`" in readme, path
        assert path.suffix == ".py" or path.name in rights or "*_index.json" in rights


# Codex.


def test_codex_questions_use_names_that_no_chunk_holds() -> None:
    entities = [
        e for path in folder("codex").glob("*_index.json") for e in load(path.name).values()
    ]
    matcher = NameMatcher(alias for entity in entities for alias in entity["aliases"])
    assert not any(matcher.find(json.dumps(chunk)) for chunk in chunks())
    bank = load("questions.json")["questions"]
    assert len(bank) >= 100
    assert all(matcher.find(question["question"]) for question in bank)
    names = NameMatcher(entity["primary_name"] for entity in entities)
    assert not any(names.find(question["question"]) for question in bank)


def test_codex_has_many_kinds_of_chunks_and_questions() -> None:
    found = list(chunks())
    assert len(found) >= 300
    kinds = {"character", "place", "concept", "magic", "artifact", "prophecy", "chapter"}
    assert {chunk["wiki_type"] for chunk in found} == kinds
    mentions = {key for chunk in found for key in chunk if key.endswith("_mentions")}
    assert {f"{kind}_mentions" for kind in kinds - {"chapter"}} <= mentions
    assert len({(chunk["filename"], chunk["text"]) for chunk in found}) == len(found)
    bank = load("questions.json")["questions"]
    assert {q["difficulty"] for q in bank} == {"easy", "medium", "hard"}
    assert sum("temporal_limit" in q for q in bank) >= 10


def test_codex_topics_stand_in_a_chunk_that_may_answer() -> None:
    found = list(chunks())
    for question in load("questions.json")["questions"]:
        topics = NameMatcher(question["expected_topics"])
        limit = question.get("temporal_limit", 1_000)
        whole = [
            chunk["text"]
            for chunk in found
            if chunk["temporal_order"] <= limit
            and len(topics.find(chunk["text"])) == len(topics.names)
        ]
        assert whole, question


# Incidents.


def overlap(record: ScoredPair) -> float:
    one, other = set(words(record.text_a)), set(words(record.text_b))
    return len(one & other) / len(one | other)


def test_incidents_words_tell_in_easy_pairs_and_mislead_in_hard_ones() -> None:
    found: dict[tuple[str, int], list[float]] = {}
    for record in ready("incidents"):
        assert isinstance(record, ScoredPair)
        assert record.label is not None
        assert record.score is not None
        assert (record.score >= 0.5) == bool(record.label)
        assert record.category
        found.setdefault((record.phase, record.label), []).append(overlap(record))
    mean = {key: sum(values) / len(values) for key, values in found.items()}
    assert set(mean) == {(phase, x) for phase in ("easy", "medium", "hard") for x in (0, 1)}
    assert mean["easy", 1] > 0.9
    assert mean["easy", 0] < 0.1
    assert mean["hard", 1] < 0.2
    assert mean["hard", 0] > 0.6
    assert min(len(values) for values in found.values()) > 200


def test_incidents_of_both_files_are_read_alike_and_split() -> None:
    made = ready("incidents")
    with (folder("incidents") / "more_pairs.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    records = [record for record in made if isinstance(record, ScoredPair)]
    last = records[-len(table) :]
    for record, row in zip(last, table, strict=True):
        assert (record.text_a, record.category) == (row["ticket"], row["team"])
        assert record.score == pytest.approx(float(row["similarity"]) / 5)
        assert record.label == (row["duplicate"] == "yes")
    found = split_ready(made, load_config("configs/incidents.yaml").pairs.split, 7)
    assert found.largest_group == 1
    assert set(found.parts) == {"train", "dev", "test"}


# Manuals.


def test_manuals_are_triplets_whose_negatives_answer_other_questions() -> None:
    records = [record for record in ready("manuals") if isinstance(record, ReadyPair)]
    assert len(records) == 600
    assert len({record.domain for record in records}) == 6
    answers = {record.positive for record in records}
    assert len(answers) == len({record.query for record in records}) == 600
    for record in records:
        (negative,) = record.negatives
        assert negative != record.positive
        assert negative in answers


# All of them, as a user runs them.


@pytest.mark.parametrize("name", BUILT)
def test_pairs_and_audit_run_on_a_sample(name: str, tmp_path: Path) -> None:
    config = f"configs/{name}.yaml"
    for mode in ("pairs", "audit"):
        done = run_module(f"jobs.{mode}", config, f"store={tmp_path / 'store'}")
        assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(next((tmp_path / "store").glob("pairs/*/v1/report.json")).read_text())
    counts = report["counts"]
    if name == "incidents":
        held_out, trained = "scored_test", "scored_train"
    else:
        held_out, trained = "questions_test", "pairs_train"
    assert counts[held_out] > 30
    assert counts[trained] > 200
    pairs = open_artifact(Store(str(tmp_path / "store")), "pairs", name, tmp_path / "cache")
    for stage in load_config(config).train.resolved_stages:
        check(stage, pairs)  # refuses pairs that the config cannot train on
