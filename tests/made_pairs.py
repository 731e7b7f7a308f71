"""Pairs made through the door, and measures of their texts worked out without any index."""

from __future__ import annotations

import importlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codex_forge import pair_files
from codex_forge.artifact import Artifact, open_artifact
from codex_forge.corpus import chunk_id_of
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.search import words
from codex_forge.storage import Store
from tests.conftest import ROOT, Corpus

Row = dict[str, Any]

CODEX = ROOT / "examples" / "codex"
NONE_ELSE = {
    "related_entity": 0.0,
    "overlapping_mentions": 0.0,
    "same_type": 0.0,
    "bm25": 0.0,
    "tfidf_band": 0.0,
    "nearest": 0.0,
}
"""Weights of negatives; set one of them."""


def done(mode: str, config: Path | str, *arguments: str) -> None:
    """Run a mode in this process; it must succeed."""
    door = importlib.import_module(f"jobs.{mode}").DOOR
    assert door.main([str(config), *arguments]) == 0, (mode, arguments)


def opened(store: Path | str, cache: Path, name: str = "small", kind: str = "pairs") -> Artifact:
    """An artifact of a store, with a cache of its own."""
    return open_artifact(Store(str(store)), kind, name, cache / f"cache-{kind}-{name}")


def made(corpus: Corpus, cache: Path, *arguments: str, **overrides: Any) -> Artifact:
    """Write a corpus, make its pairs and open them."""
    config = corpus.write(**overrides)
    done("pairs", config, *arguments)
    return opened(overrides.get("store", corpus.folder / "store"), cache)


def codex_corpus(folder: Path) -> Corpus:
    """The invented codex: people, places and things with many names, and 140 questions."""
    index: dict[str, Row] = {}
    for path in sorted(CODEX.glob("*_index.json")):
        index.update(json.loads(path.read_text()))
    questions = json.loads((CODEX / "questions.json").read_text())["questions"]
    return Corpus(folder, list(read_jsonl(CODEX / "chunks.jsonl")), index, questions)


def rows(artifact: Artifact, stem: str) -> list[Row]:
    """All rows of a stem, over all shards."""
    return list(pair_files.rows(artifact, stem))


def report(artifact: Artifact) -> Row:
    return read_json(artifact.path("report.json"))


def by_id(chunks: Iterable[Row]) -> dict[str, Row]:
    """Chunks by their ids."""
    return {chunk_id_of(chunk["filename"], chunk["text"]): chunk for chunk in chunks}


def chunk(filename: str, text: str, *mentions: str, **fields: Any) -> Row:
    return {"filename": filename, "text": text, "concept_mentions": list(mentions), **fields}


def entity(name: str, filename: str, *aliases: str) -> Row:
    return {"primary_name": name, "filename": filename, "aliases": list(aliases)}


def question(number: int, text: str, *topics: str, **fields: Any) -> Row:
    asked = {"question_id": number, "question": text, "category": "c"}
    return {**asked, "expected_topics": list(topics), **fields}


class Cosines:
    """TF-IDF cosines of texts with the texts of a corpus, one dictionary a text."""

    def __init__(self, texts: Iterable[str]) -> None:
        counted = [Counter(words(text)) for text in texts]
        self._size = len(counted)
        self._holders = Counter(word for found in counted for word in found)

    def of(self, one: str, other: str) -> float:
        """The cosine of two texts; `other` is one of the corpus."""
        a, b = self._vector(one), self._vector(other)
        dot = math.fsum(weight * b.get(word, 0.0) for word, weight in a.items())
        norms = math.sqrt(
            math.fsum(w * w for w in a.values()) * math.fsum(w * w for w in b.values())
        )
        return dot / norms if norms else 0.0

    def _vector(self, text: str) -> dict[str, float]:
        return {
            word: (1 + math.log(count)) * math.log(1 + self._size / max(1, self._holders[word]))
            for word, count in Counter(words(text)).items()
        }
