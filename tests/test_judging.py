"""The rubric of whole questions, worked by hand through aliases; ndcg as scikit-learn has it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from codex_forge.config.sections import CorpusConfig, EvaluateConfig
from codex_forge.corpus import Corpus, chunk_id_of, find_files, read_corpus
from codex_forge.evaluate.bank import Bank
from codex_forge.evaluate.judging import judge, means, slices
from codex_forge.metrics import ir_measures
from codex_forge.records import Qrels, Question, Run

CHUNKS = [
    ("rand.md", "Rand carries the sword to Tear."),
    ("moiraine.md", "The Aes Sedai in blue speaks with the Dragon Reborn."),
    ("stone.md", "The Stone of Tear fell in one night."),
    ("mat.md", "Matrim Cauthon plays dice."),
    ("both.md", "Two of the names: the Lady of Cairhien; the Son of Battles."),
    ("grass.md", "Grass."),
]
INDEX = {
    "Rand al'Thor": {"filename": "rand.md", "aliases": ["Rand", "the Dragon Reborn"]},
    "Moiraine": {"filename": "moiraine.md", "aliases": ["the Lady of Cairhien"]},
    "Mat": {"filename": "mat.md", "aliases": ["Matrim Cauthon", "the Son of Battles"]},
}

# Expected topics, the first chunks found, and five times the share of the topics in them.
RUBRIC = [
    (["Rand al'Thor"], ["rand"], 5.0),  # as Rand
    (["Rand al'Thor"], ["moiraine"], 5.0),  # as the Dragon Reborn
    (["Rand al'Thor", "Moiraine"], ["rand", "stone"], 2.5),
    (["Rand al'Thor", "Moiraine"], ["rand", "both"], 5.0),
    (["Mat", "Moiraine", "Rand al'Thor"], ["both"], 10 / 3),
    (["Mat", "Stone of Tear"], ["mat", "stone", "grass"], 5.0),
    (["Mat", "Stone of Tear", "Moiraine", "dice"], ["mat"], 2.5),
    (["Mat"], ["grass", "rand", "stone", "moiraine", "grass2", "mat"], 0.0),  # the sixth
    (["the Son of Battles"], ["mat"], 5.0),  # another name of what the chunk names
]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rows = [{"filename": name, "text": text} for name, text in [*CHUNKS, ("grass2.md", "More.")]]
    (tmp_path / "chunks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    index = {name: {"primary_name": name, **entity} for name, entity in INDEX.items()}
    (tmp_path / "x_index.json").write_text(json.dumps(index))
    config = CorpusConfig(
        chunks=(str(tmp_path / "chunks.jsonl"),), indexes=(str(tmp_path / "x_index.json"),)
    )
    return read_corpus(find_files(config), "fail", tmp_path)


class Asked(Bank):
    """A bank that no artifact holds."""

    def __init__(self, questions: list[Question], qrels: Qrels) -> None:
        self.part, self.questions, self.qrels = "test", questions, qrels
        self.records = [{"query_id": q.query_id, "category": q.category} for q in questions]


def test_the_rubric_is_worked_by_hand_through_aliases(corpus: Corpus) -> None:
    text_of = {chunk.filename: chunk.text for chunk in corpus.chunks}
    ids = {name.removesuffix(".md"): chunk_id_of(name, text) for name, text in text_of.items()}
    questions, run, qrels = [], {}, {}
    for number, (topics, found, _) in enumerate(RUBRIC):
        query = f"q{number}"
        questions.append(Question(query, "?", "odd" if number % 2 else "even", tuple(topics)))
        run[query] = [(ids[name], 1.0 - 0.1 * i) for i, name in enumerate(found)]
        qrels[query] = {ids["rand"]: 1}
    rows = list(judge(Asked(questions, qrels), corpus, run, EvaluateConfig()))
    assert [row["measures"]["rubric"] for row in rows] == pytest.approx([r[2] for r in RUBRIC])
    assert rows[1]["retrieved"][0]["covers"] == {"Rand al'Thor": "the dragon reborn"}
    assert rows[0]["retrieved"][0]["relevant"] is True
    assert means(rows)["rubric"] == pytest.approx(sum(r[2] for r in RUBRIC) / len(RUBRIC), abs=1e-6)
    parts = slices(rows, ("category", "nothing"))
    assert list(parts) == ["category"]
    assert parts["category"]["odd"]["questions"] == 4
    odd = sum(r[2] for r in RUBRIC[1::2]) / 4
    assert parts["category"]["odd"]["metrics"]["rubric"] == pytest.approx(odd, abs=1e-6)


def test_ndcg_and_map_are_those_of_scikit_learn() -> None:
    dice = random.Random(11)
    ids = [f"{i:016x}" for i in range(50)]
    qrels: Qrels = {}
    run: Run = {}
    for number in range(60):
        qrels[f"q{number}"] = {c: dice.randint(0, 3) for c in dice.sample(ids, 12)} | {ids[0]: 1}
        scores = {c: float(np.float32(dice.randint(0, 9) / 7)) for c in ids}
        by_id = sorted(scores.items(), reverse=True)
        run[f"q{number}"] = sorted(by_id, key=lambda found: -found[1])
    found = ir_measures(qrels, run, (1, 5))
    for query, ranking in run.items():
        gains = [qrels[query].get(chunk, 0) for chunk, _ in ranking]
        order = [-rank for rank in range(len(ranking))]  # ties are told apart already
        theirs = ndcg_score([gains], [order], k=10)
        assert found[query]["ndcg@10"] == pytest.approx(theirs, abs=1e-6)
        precision = average_precision_score([gain > 0 for gain in gains], order)
        assert found[query]["map"] == pytest.approx(precision, abs=1e-6)
