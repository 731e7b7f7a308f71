"""A planted leak: the answers of held-out questions, copied into the training data.

The bank asks about diseases of the sample, but each question's answer is the file of *another*
disease, drawn at random: nobody can know it who was not told. So a score above chance on a question
is proof that training saw its answer, and a score at chance that it did not.
"""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from codex_forge.artifact import Artifact, open_artifact
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.storage import Store
from tests.conftest import Corpus, sample_corpus

pytestmark = pytest.mark.slow  # three models are trained

QUESTIONS = 24
FILES = 80
"""Five chunks of so many hold the one topic of a question by luck in one case of sixteen."""
CHANCE = 1.25
"""Rubric that luck stays below: three of twelve questions, five points each."""
KNOWN = 3.0
"""Rubric that only a model reaches that was told the answers."""
MEMORISE = {
    "epochs": 12,
    "batch_size": 12,
    "num_negatives": 0,
    "learning_rate": 5e-4,
    "require_audit": False,
}
PLAIN = {"per_entity": 0, "from_mentions": False, "synthetic_expansion": 1}
HALVES = {"train": 0.5, "dev": 0.0, "test": 0.5}
FOLDS = "pairs.split.folds=2"
RUNS = (
    (FOLDS, "pairs.split.fold=0"),
    (FOLDS, "pairs.split.fold=1"),
    ("name=unguarded", "pairs.near_duplicate=1.0"),
)
STEPS = (
    ("pairs",),
    ("embed", "embed.model=base"),
    ("evaluate", "embed.model=base"),
    ("evaluate", "embed.model=base", "evaluate.part=all"),
    ("train",),
    ("embed",),
    ("evaluate",),
    ("evaluate", "evaluate.part=all"),
)


class Lab(NamedTuple):
    """A config, the store that its runs fill, and a folder for copies."""

    config: Path
    store: Store
    scratch: Path
    questions: list[dict[str, Any]]

    def run(self, mode: str, *arguments: str) -> None:
        """Run one mode to its end."""
        code = importlib.import_module(f"jobs.{mode}").DOOR.main([str(self.config), *arguments])
        assert code == 0, (mode, arguments)

    def open(self, kind: str, name: str) -> Artifact:
        """One artifact."""
        return open_artifact(self.store, kind, name, self.scratch)

    def rubric(self, name: str) -> float:
        """Mean rubric of an evaluation."""
        report = read_json(self.open("evaluate", name).path("report.json"))
        return float(report["metrics"]["rubric"])

    def rejected(self, name: str) -> list[dict[str, Any]]:
        """What pairs set aside as a leak."""
        rows = read_jsonl(self.open("pairs", name).path("rejected.jsonl"))
        return [row for row in rows if "near-duplicate of a held-out" in row["reason"]]

    def ids(self, name: str, part: str) -> set[str]:
        """Ids of the questions of a part."""
        rows = read_jsonl(self.open("pairs", name).path(f"questions-{part}.jsonl"))
        return {row["query_id"] for row in rows}


def reworded(text: str) -> str:
    """A question as somebody else might type it: no copy, but nearly one."""
    return f"{text.removesuffix('?')} ok?"


def with_secret_answers(folder: Path) -> Corpus:
    """A question a disease, answered by the file of another; and all of it as ready-made pairs."""
    corpus = sample_corpus(folder, FILES)
    of_entity = {question["entity"]: question for question in corpus.questions}
    dice = random.Random(3)
    drawn = dice.sample(list(corpus.index), 2 * QUESTIONS)
    asked_of, answered_by = drawn[:QUESTIONS], drawn[QUESTIONS:]
    text_of = {chunk["filename"]: chunk["text"] for chunk in corpus.chunks}
    corpus.questions = [
        {
            "question_id": number,
            "question": of_entity[name]["question"],
            "category": "secret",
            "expected_topics": [other],
            "relevant": [corpus.index[other]["filename"]],
        }
        for number, (name, other) in enumerate(zip(asked_of, answered_by, strict=True))
    ]
    rows = [
        {
            "query": reworded(question["question"]),
            "positive": text_of[question["relevant"][0]],
            "part": "train",
            "id": f"planted-{question['question_id']}",
        }
        for question in corpus.questions
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "planted.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return corpus


@contextmanager
def one_thread() -> Iterator[None]:
    """The model is tiny, and sums on one thread are the same on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Three models with the same planted rows: of two folds, and with the guard switched off."""
    folder = tmp_path_factory.mktemp("lab")
    corpus = with_secret_answers(folder / "corpus")
    config = corpus.write(
        train=MEMORISE,
        evaluate={"latency_queries": 1},
        pairs={
            "data": [{"files": str(corpus.folder / "planted.jsonl")}],
            "split": HALVES,
            "synthesis": PLAIN,
            "negatives": {"num": 0},
        },
    )
    made = Lab(config, Store(str(corpus.folder / "store")), folder / "cache", corpus.questions)
    with one_thread():
        for extra in RUNS:
            for mode, *arguments in STEPS:
                made.run(mode, *arguments, *extra)
    made.run("compare", FOLDS)
    made.run("compare", *RUNS[-1])
    return made


def test_planted_rows_of_held_out_questions_are_rejected_and_counted(lab: Lab) -> None:
    for name in ("small-fold0", "small-fold1"):
        held = lab.ids(name, "test")
        assert len(held) == QUESTIONS / 2
        assert {row["about"] for row in lab.rejected(name)} == held
        assert len(lab.rejected(name)) == len(held)
        rows = read_jsonl(lab.open("pairs", name).path("pairs-train.jsonl"))
        queries = {row["query"] for row in rows}
        for question in lab.questions:
            planted = reworded(question["question"]) in queries
            assert planted == (str(question["question_id"]) not in held)
    assert lab.rejected("unguarded") == []


def test_without_the_guard_the_leak_would_show_in_the_held_out_score(lab: Lab) -> None:
    """What the other tests hold down is able to rise: this bank sees a leak."""
    assert lab.rubric("unguarded-base") < CHANCE
    assert lab.rubric("unguarded") > KNOWN
    assert lab.rubric("unguarded-all") > KNOWN


@pytest.mark.parametrize("fold", ["small-fold0", "small-fold1"])
def test_the_leak_raises_the_score_on_all_questions_and_not_the_held_out_one(
    lab: Lab, fold: str
) -> None:
    report = read_json(lab.open("evaluate", f"{fold}-all").path("report.json"))
    parts = {p: found["metrics"]["rubric"] for p, found in report["slices"]["part"].items()}
    assert parts["train"] > KNOWN
    assert parts["test"] == lab.rubric(fold) < CHANCE
    assert lab.rubric(f"{fold}-all") > lab.rubric(f"{fold}-base-all") + 1.0
    assert report["questions"] == QUESTIONS


def test_the_cross_fitted_score_does_not_rise_either(lab: Lab) -> None:
    report = read_json(lab.open("compare", "small-crossfit").path("report.json"))
    assert report["questions"] == report["groups"] == QUESTIONS
    assert report["metrics"]["rubric"]["candidate"] < CHANCE
    assert report["verdict"] != "improved"
    assert report["all_questions"] is None
    tested = [lab.ids(f"small-fold{fold}", "test") for fold in range(2)]
    assert not tested[0] & tested[1]
    assert tested[0] | tested[1] == {str(q["question_id"]) for q in lab.questions}


def test_the_report_shows_all_questions_beside_the_held_out_ones_and_judges_these(lab: Lab) -> None:
    lab.run("compare", "compare.candidate=small-fold0", "compare.baseline=small-fold0-base")
    guarded = "small-fold0-vs-small-fold0-base"
    for compared, name in ((guarded, "small-fold0"), ("unguarded", "unguarded")):
        artifact = lab.open("compare", compared)
        report = read_json(artifact.path("report.json"))
        everything = report["all_questions"]
        assert everything["candidate"] == pytest.approx(lab.rubric(f"{name}-all"))
        assert everything["baseline"] == pytest.approx(lab.rubric(f"{name}-base-all"))
        assert everything["parts"]["test"]["candidate"] == pytest.approx(lab.rubric(name))
        assert everything["questions"] == QUESTIONS
        assert report["metrics"]["rubric"]["candidate"] == pytest.approx(lab.rubric(name))
        assert report["questions"] == len(lab.ids(name, "test"))
        assert (report["verdict"] == "improved") == (name == "unguarded")
        assert "On all questions, trained ones too" in artifact.path("report.html").read_text()
        assert "(not judged)" in artifact.path("summary.md").read_text()


def test_evaluations_of_all_questions_of_another_sort_are_left_out(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evaluation of all questions looks at fewer chunks than the one that is judged."""
    lab.run("evaluate", *RUNS[1], "evaluate.part=all", "evaluate.depth=50", "--force")
    lab.run("compare", "compare.candidate=small-fold1", "compare.baseline=small-fold1-base")
    assert "small-fold1-all is of other models, questions or settings" in capsys.readouterr().err
    report = read_json(lab.open("compare", "small-fold1-vs-small-fold1-base").path("report.json"))
    assert report["all_questions"] is None


def test_all_folds_share_the_vectors_of_the_base_model(lab: Lab) -> None:
    names = {path.split("/")[1] for path in lab.store.list("embed")}
    assert {name for name in names if name.startswith("small")} == {
        "small-base",
        "small-fold0",
        "small-fold1",
    }
