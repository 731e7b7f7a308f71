"""`jobs.why`: one question of a comparison, from its ranks to the pairs that taught it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Draft, Input, Recipe, begin, open_artifact
from codex_forge.compare.made_with import template_of, told_settings
from codex_forge.compare.why import chosen
from codex_forge.config.pairs import PairsConfig
from codex_forge.config.sections import EvaluateConfig
from codex_forge.config.train import TrainConfig
from codex_forge.errors import EXIT_CHANGE_SOMETHING, EXIT_DONE, InputError
from codex_forge.jsonl import write_json, write_jsonl
from codex_forge.storage import Store
from tests.conftest import Corpus, Knock, run_module, sample_corpus
from tests.test_compare_folds import THREE, Folds, folds

__all__ = ["folds"]

Row = dict[str, Any]

QUESTIONS = {
    "q1": "Who kept the lighthouse after the flood?",
    "q2": "Who kept the ferry?",
    "q10": "Where is the light of the point?",
    "q3": "Who kept the ferry after the flood?",
}
TRAINED = [
    {
        "query": "tell me about Old Marrow",
        "positive": "Old Marrow kept the light at the point for eleven winters.",
        "positive_id": "c1",
        "query_id": "entity:1",
        "topics": ["Tobias Marrow"],
        "source": "entity",
        "phase": "hard",
    },
    {
        "query": "rope seller",
        "positive": "Rope is sold on the quay.",
        "positive_id": "c9",
        "query_id": "entity:2",
        "topics": ["rope"],
        "source": "entity",
        "phase": "easy",
    },
]


def _chunk(rank: int, name: str, covers: dict[str, str], text: str = "Text.") -> Row:
    return {
        "rank": rank,
        "chunk_id": name,
        "filename": f"harbour/{name}.md",
        "score": 0.9 - 0.1 * rank,
        "relevant": bool(covers),
        "covers": covers,
        "text": text,
    }


def _rows(*retrieved: Row, rubric: float) -> list[Row]:
    return [
        {
            "query_id": name,
            "question": text,
            "category": "people",
            "difficulty": "hard",
            "expected_topics": ["Tobias Marrow"],
            "group": name,
            "exposure": "trained_chunk",
            "measures": {"rubric": rubric, "recall@5": rubric / 5, "ndcg@10": rubric / 10},
            "retrieved": list(retrieved),
        }
        for name, text in QUESTIONS.items()
    ]


NOT_COMPARED = [{"query_id": "q9", "question": "Who rang the bell at noon?"}]


class Harbour:
    """A store with pairs, a training, vectors and two evaluations, whose files are made by hand."""

    def __init__(self, corpus: Corpus, scratch: Path) -> None:
        self.config = corpus.write()
        self.folder = corpus.folder / "store"
        self._store, self._scratch = Store(str(self.folder)), scratch
        base = {"model": Input("model", "tiny-base", "f" * 64, "f" * 64)}
        settings = {"pairs": PairsConfig().model_dump(mode="json")}
        self._pairs = self._make(
            "pairs",
            "small",
            settings,
            {},
            {"pairs-train.jsonl": TRAINED, "questions-train.jsonl": NOT_COMPARED},
        )
        settings = {"train": TrainConfig(epochs=3.0).model_dump(mode="json")}
        settings["train"].pop("stages")
        train = self._make("train", "small", settings, {"pairs": self._pairs, **base}, {})
        self.embed = self._make("embed", "small", {}, {"model": train}, {})
        marrow = {"Tobias Marrow": "Old Marrow"}
        story = _chunk(1, "c1", marrow, "Old Marrow kept the light. \x1b[31m" + "word " * 40)
        self.evaluate("small", {"embed": self.embed}, _chunk(2, "c2", {}), story, rubric=5.0)
        before = (_chunk(1, "c2", {}), _chunk(2, "c3", {}, "灯台守は誰か"))
        self.evaluate("small-base", {}, *before, rubric=0.0)

    def _make(
        self, kind: str, name: str, settings: Row, inputs: dict[str, Input], files: Row
    ) -> Input:
        draft = begin(self._store, Recipe(kind, name, settings, inputs), self._scratch, force=True)
        assert isinstance(draft, Draft)
        for path, rows in {"rows.jsonl": [{"name": name}], **files}.items():
            write_jsonl(draft.path(path), rows)
        if kind == "evaluate":
            report = {"retriever": "dense", "model": name, "part": "test", "slices": {}}
            write_json(draft.path("report.json"), {**report, "questions": len(QUESTIONS)})
        draft.commit({})
        draft.lease.release(0, "")
        return open_artifact(self._store, kind, name, self._scratch).as_input()

    def evaluate(self, name: str, inputs: dict[str, Input], *retrieved: Row, rubric: float) -> None:
        ordered = sorted(retrieved, key=lambda chunk: int(chunk["rank"]))
        self._make(
            "evaluate",
            name,
            {"evaluate": EvaluateConfig().model_dump(mode="json")},
            {"pairs": self._pairs, **inputs},
            {"per_question.jsonl": _rows(*ordered, rubric=rubric)},
        )


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Harbour:
    folder = tmp_path_factory.mktemp("harbour")
    return Harbour(sample_corpus(folder / "corpus", entities=2), folder)


def test_the_answer_leads_from_ranks_to_pairs_and_settings(
    harbour: Harbour, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("why", harbour.config, "LIGHTHOUSE  after") == EXIT_DONE
    told = capsys.readouterr().out
    assert max(len(line) for line in told.splitlines()) <= 96
    assert "\x1b" not in told
    plain = " ".join(told.split())
    for part in (
        "Who kept the lighthouse after the flood?",
        "q1 · people · hard · an answer was trained on",
        "rubric 0.00 5.00 +5.00",
        "Tobias Marrow baseline not found candidate as “Old Marrow” in 1. harbour/c1.md",
        "1. 0.800 down 1 harbour/c2.md 1. 0.800 ✓+ new harbour/c1.md",
        "2. 0.700 gone harbour/c3.md 2. 0.700 down 1 harbour/c2.md",
        "The nearest to it of 2 train pairs",
        "1. “tell me about Old Marrow”",
        "from entity, template “tell me about {name}”; phase hard",
        "why: its answer is a chunk that rose; it is about “Tobias Marrow”",
        "model.base: tiny-base",
        "train.epochs: 3.0 (default 1.0)",
    ):
        assert part in plain, part
    assert "rope" not in plain
    assert not (harbour.folder / "why").exists()


def test_machines_get_the_same_in_json(
    harbour: Harbour, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("why", harbour.config, "q1", "--json") == EXIT_DONE
    told = json.loads(capsys.readouterr().out)
    assert told["query_id"] == "q1"
    assert told["measures"]["rubric"] == {"baseline": 0.0, "candidate": 5.0}
    assert told["topics"]["Tobias Marrow"]["baseline"] is None
    assert [chunk["move"] for chunk in told["retrieved"]["candidate"]] == ["new", "down 1"]
    assert [row["chunk_id"] for row in told["taught"]] == ["c1"]
    assert {"key": "train.epochs", "value": 3.0, "default": 1.0} in told["settings"]


def test_a_candidate_that_learned_nothing_says_so(
    harbour: Harbour, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["q2", "compare.candidate=small-base", "compare.baseline=small"]
    assert knock("why", harbour.config, *arguments) == EXIT_DONE
    told = capsys.readouterr().out
    assert "The candidate learned from no pairs" in told
    assert "rubric" in told
    assert "-5.00" in told


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("kept the ferry", "2 questions hold 'kept the ferry':\n  q2  Who kept the ferry?\n  q3  "),
        ("the lantern", "no question of the 4 holds 'the lantern'"),
        ("ferries and floods after", "the nearest are\n  q"),
        ("  ", "the question is empty"),
    ],
)
def test_what_is_not_one_question_is_answered_with_those_it_may_be(
    harbour: Harbour,
    knock: Knock,
    capsys: pytest.CaptureFixture[str],
    asked: str,
    said: str,
) -> None:
    assert knock("why", harbour.config, asked) == EXIT_CHANGE_SOMETHING
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["q9", "rang the bell"])
def test_a_question_of_another_part_is_told_as_such(
    harbour: Harbour, knock: Knock, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    assert knock("why", harbour.config, asked) == EXIT_CHANGE_SOMETHING
    said = "q9 (Who rang the bell at noon?) is a train question, which was not compared"
    assert said in capsys.readouterr().err


def test_an_id_or_a_whole_text_is_never_ambiguous() -> None:
    rows = [{"query_id": name, "question": text} for name, text in QUESTIONS.items()]
    assert chosen("q1", rows, "")["query_id"] == "q1"
    assert chosen("who kept the FERRY?", rows, "")["query_id"] == "q2"
    with pytest.raises(InputError, match="hold no questions"):
        chosen("q1", [], "")


def test_a_cross_fitted_question_is_explained_by_the_model_of_its_fold(
    folds: Folds, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("why", folds.config, "q09", THREE, "--json") == EXIT_DONE
    told = json.loads(capsys.readouterr().out)
    assert told["fold"] == 1
    assert told["candidate"] == "small (3 folds)"
    assert {"key": "pairs.split.fold", "value": 1, "default": 0} in told["settings"]
    assert knock("why", folds.config, "q09", THREE) == EXIT_DONE
    assert "fold 1" in capsys.readouterr().out


def test_without_evaluations_it_says_what_to_run(
    corpus: Corpus, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("why", corpus.write(), "anything") == EXIT_CHANGE_SOMETHING
    assert "there is no evaluate artifact 'small-base'" in capsys.readouterr().err


def test_the_door_explains_itself_and_is_listed() -> None:
    told = run_module("jobs.why", "--help")
    assert told.returncode == EXIT_DONE
    assert "usage: python -m jobs.why [-h] [--json]" in told.stdout
    assert "QUESTION" in told.stdout
    assert "--force" not in told.stdout
    assert "python -m jobs.why       CONFIG.yaml QUESTION   Why a question gained" in (
        run_module("jobs").stdout
    )


def test_the_template_that_says_most_made_the_query() -> None:
    settings = {
        "synthesis": {
            "templates": ["{name}", "tell me about {name}"],
            "template_sets": [{"templates": ["o que é {name}?"]}],
        }
    }
    assert template_of("tell me about Old Marrow", settings) == "tell me about {name}"
    assert template_of("o que é Marrow?", settings) == "o que é {name}?"
    assert template_of("tell me about ", settings) == "{name}"
    assert template_of("x", {}) is None


def test_settings_of_nothing_are_none() -> None:
    assert told_settings({}) == []
