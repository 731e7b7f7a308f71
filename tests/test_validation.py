"""The dev set holds what it promises, its measures are right, and the best is remembered."""

from __future__ import annotations

import json
import logging
import math
import random
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codex_forge.agreement import agreement
from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.config.train import ValidationConfig
from codex_forge.corpus import chunk_id_of
from codex_forge.errors import ConfigError
from codex_forge.jsonl import line_of, write_jsonl
from codex_forge.records import Qrels
from codex_forge.storage import Store
from codex_forge.train.dev.best import WEIGHTS, Best
from codex_forge.train.dev.dev_log import log_measures, table
from codex_forge.train.dev.dev_reading import read_dev_set
from codex_forge.train.dev.dev_set import DevPair, DevQuestion, DevScored, DevSet, log_dev_set
from codex_forge.train.dev.metric import Metric, metric_of
from codex_forge.train.dev.validation import measure, nearest_chunks, ranking_loss
from codex_forge.trec import write_qrels
from tests.conftest import MINILM, Corpus
from tests.made_pairs import done, made, opened

Row = dict[str, Any]
Floats = NDArray[np.float32]
SPLIT = {"train": 0.4, "dev": 0.3, "test": 0.3}
NDCG = Metric("ndcg@10", higher_is_better=True)


# --- artifacts by hand -----------------------------------------------------------------------


def artifact_of(folder: Path, rows: Mapping[str, Iterable[Row]], qrels: Qrels | None) -> Artifact:
    """A pairs artifact with these files."""
    (folder / "work").mkdir(parents=True)
    store = Store(str(folder / "store"))
    draft = begin(store, Recipe("pairs", "small", {}, {}), folder / "work", force=False)
    assert isinstance(draft, Draft)
    for stem, own in rows.items():
        write_jsonl(draft.path(f"{stem}.jsonl"), own)
    if qrels is not None:
        write_qrels(draft.path("qrels-dev.tsv"), qrels)
    draft.commit({}, {})
    return open_artifact(store, "pairs", "small", folder / "cache")


def asked(query: str, **fields: Any) -> Row:
    return {"query_id": query, "question": f"what is {query}", "category": "", **fields}


def pair(query: str, positive: str, *negatives: str) -> Row:
    return {
        "query_id": query,
        "query": f"what is {query}",
        "positive_id": positive,
        "positive": f"text of {positive}",
        "negative_ids": list(negatives),
        "negatives": [f"text of {negative}" for negative in negatives],
    }


def scored(number: int, **fields: Any) -> Row:
    texts = {"text_a": f"left {number}", "text_b": f"right {number}"}
    return {**texts, "pair_id": f"s{number}", "category": "", "domain": "", **fields}


BANK: dict[str, Iterable[Row]] = {
    "questions-dev": [asked(f"q{i}", domain=f"d{i % 2}") for i in range(4)],
    "pairs-dev": [
        *(pair(f"q{i}", f"q{i}-{rank}", f"n{i}-0", f"n{i}-1") for i in range(3) for rank in (0, 1)),
    ],
    "pairs-train": [pair(f"t{i}", f"t{i}-0", f"t{i}-1", "q3-0") for i in range(20)],
}
JUDGED: Qrels = {
    "q0": {"q0-0": 3, "q0-1": 1, "t5-0": 2, "n0-1": 0, "far": 1},
    **{f"q{i}": {f"q{i}-0": 1, f"q{i}-1": 1} for i in (1, 2)},
    "q3": {"elsewhere": 1, "t1-0": 0},
}


def read(artifact: Artifact, seed: int = 7, **validation: Any) -> DevSet:
    return read_dev_set(artifact, ValidationConfig(**validation), seed)


# --- the dev set -----------------------------------------------------------------------------


def test_the_pool_of_a_small_bank_holds_every_chunk_that_its_pairs_name(tmp_path: Path) -> None:
    dev = read(artifact_of(tmp_path, BANK, JUDGED))
    assert {q.query_id: q.domain for q in dev.questions} == {"q0": "d0", "q1": "d1", "q2": "d0"}
    assert dev.left_out == {"no answer among the chunks": 1}
    assert len(dev.chunks) == 6 + 6 + 40 + 1
    assert all(text == f"text of {chunk}" for chunk, text in dev.chunks.items())
    # Grades are kept, also of a chunk that only train pairs hold; what is not in the pool is not.
    assert dev.qrels["q0"] == {"q0-0": 3, "q0-1": 1, "t5-0": 2, "n0-1": 0}
    assert len(dev.pairs) == 6
    assert dev.answers["q0"] == {"q0-0", "q0-1", "t5-0", "far"}


@pytest.mark.parametrize(
    "most, expected",
    [
        (2, {"answers": 2, "second": 0, "mined": 0, "asked": 2}),
        (3, {"answers": 3, "second": 0, "mined": 0, "asked": 3}),
        (5, {"answers": 5, "second": 2, "mined": 0, "asked": 3}),
        (8, {"answers": 6, "second": 3, "mined": 2, "asked": 3}),
        (12, {"answers": 6, "second": 3, "mined": 6, "asked": 3}),
    ],
)
def test_a_small_pool_takes_first_answers_then_second_ones_then_what_was_mined(
    most: int, expected: dict[str, int], tmp_path: Path
) -> None:
    dev = read(artifact_of(tmp_path, BANK, JUDGED), max_chunks=most)
    assert {
        "answers": sum(chunk[0] == "q" for chunk in dev.chunks),
        "second": sum(chunk[0] == "q" and chunk[-1] == "1" for chunk in dev.chunks),
        "mined": sum(chunk[0] == "n" for chunk in dev.chunks),
        "asked": len(dev.questions),
    } == expected
    assert len(dev.chunks) == most
    assert dev.left_out["no answer among the chunks"] == 4 - expected["asked"]


def test_the_rest_of_the_pool_is_drawn_from_the_train_pairs(tmp_path: Path) -> None:
    artifact = artifact_of(tmp_path, BANK, JUDGED)
    drawn = [frozenset(read(artifact, seed, max_chunks=22).chunks) for seed in range(6)]
    assert {len(own) for own in drawn} == {22}
    assert all(sum(chunk[0] == "t" or chunk == "q3-0" for chunk in own) == 10 for own in drawn)
    assert len(set(drawn)) > 1
    assert drawn[3] == frozenset(read(artifact, 3, max_chunks=22).chunks)


def test_what_is_drawn_does_not_depend_on_the_order_of_the_files(tmp_path: Path) -> None:
    shuffled: dict[str, list[Row]] = {}
    for stem, own in BANK.items():
        shuffled[stem] = random.Random(1).sample(list(own), len(list(own)))
    caps = {"max_questions": 2, "max_chunks": 20}
    # The order of one query's positives tells which is the best: it is kept.
    shuffled["pairs-dev"] = sorted(shuffled["pairs-dev"], key=lambda row: row["positive_id"])
    one = read(artifact_of(tmp_path / "one", BANK, JUDGED), **caps)
    other = read(artifact_of(tmp_path / "other", shuffled, JUDGED), **caps)
    assert one == other
    assert list(one.chunks) == list(other.chunks)


def test_caps_hold_for_questions_pairs_and_scored_pairs(tmp_path: Path) -> None:
    rows = {
        **BANK,
        "questions-dev": [asked(f"q{i}") for i in range(40)],
        "pairs-dev": [pair(f"q{i}", f"c{i}", f"n{i}") for i in range(40)],
        "scored-dev": [scored(i, score=i / 40) for i in range(40)],
    }
    qrels = {f"q{i}": {f"c{i}": 1} for i in range(30)}  # ten are not judged
    dev = read(artifact_of(tmp_path, rows, qrels), max_questions=12)
    assert (len(dev.questions), len(dev.pairs), len(dev.scored)) == (12, 12, 12)
    assert dev.left_out == {"not judged": 10, "not drawn (validation.max_questions)": 18}
    other = read(artifact_of(tmp_path / "again", rows, qrels), seed=8, max_questions=12)
    assert {q.query_id for q in other.questions} != {q.query_id for q in dev.questions}


def test_train_pairs_are_streamed(tmp_path: Path) -> None:
    padding = "x" * 4000
    rows = dict(BANK)
    train = ({**pair(f"t{i}", f"t{i}-0"), "positive": f"{i} {padding}"} for i in range(5000))
    rows["pairs-train"] = train
    artifact = artifact_of(tmp_path, rows, JUDGED)
    artifact.path("pairs-train.jsonl")  # its sha256 is checked once
    tracemalloc.start()
    dev = read(artifact, max_chunks=60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(dev.chunks) == 60
    assert peak < 2 * 2**20  # the file has 20 MB


def test_scored_pairs_bring_scores_or_labels(tmp_path: Path) -> None:
    rows = [
        scored(0, score=0.5, category="mail"),
        scored(1, score=0.49, domain="disk", category="mail"),
        scored(2, label=1),
    ]
    dev = read(artifact_of(tmp_path, {"scored-dev": rows}, None))
    found = {row.text_a: row for row in dev.scored}
    assert (found["left 0"].alike, found["left 1"].alike, found["left 2"].alike) == (1, 0, 1)
    assert (found["left 0"].domain, found["left 1"].domain) == ("mail", "disk")
    assert (found["left 0"].score, found["left 2"].score, found["left 2"].label) == (0.5, None, 1)
    assert (dev.questions, dev.chunks, dev.pairs) == ((), {}, ())


def test_an_artifact_without_dev_data_gives_an_empty_dev_set(tmp_path: Path) -> None:
    assert read(artifact_of(tmp_path, {"pairs-train": BANK["pairs-train"]}, None)) == DevSet()


def test_the_dev_set_of_pairs_made_through_the_door_in_one_piece_or_in_two(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(made(corpus, tmp_path, pairs={"split": SPLIT}), max_chunks=60)
    store = str(tmp_path / "sharded")
    for shard in (1, 0):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(shard))
        config = corpus.write(store=store, pairs={"split": SPLIT})
        done("pairs", config, "--shards", "2")
    sharded = read(opened(store, tmp_path / "other"), max_chunks=60)
    texts = {chunk_id_of(c["filename"], c["text"]): c["text"] for c in corpus.chunks}
    assert len(whole.questions) >= 5
    assert len(whole.pairs) >= 5
    assert len(whole.chunks) == 60
    assert whole.chunks.items() <= texts.items()
    assert sharded == whole
    for question in whole.questions:
        assert any(grade > 0 for grade in whole.qrels[question.query_id].values())
        assert whole.qrels[question.query_id].keys() <= whole.chunks.keys()
        assert question.domain


def test_the_measures_of_the_real_model_are_those_of_a_plain_search(
    corpus: Corpus, tmp_path: Path
) -> None:
    from codex_forge.config.sections import ModelConfig
    from codex_forge.model.encoder import Encoder, load_base
    from codex_forge.model.locate import locate

    dev = read(made(corpus, tmp_path, pairs={"split": SPLIT}))
    model = ModelConfig(base=MINILM, device="cpu")
    encoder = Encoder(load_base(locate(model).folder, model))
    roles = {"query": encoder.encode_query, "document": encoder.encode_document}
    found = measure(dev, lambda texts, role: roles[role](texts), scale=20, batch_size=8)
    ids, vectors = list(dev.chunks), encoder.encode_document(list(dev.chunks.values()))
    recall, gains = [], []
    for question in dev.questions:
        cosines = vectors @ encoder.encode_query([question.text])[0]
        best = [chunk for _, chunk in sorted(zip(cosines, ids, strict=True), reverse=True)][:10]
        grades = dev.qrels[question.query_id]
        relevant = [chunk for chunk, grade in grades.items() if grade > 0]
        recall.append(sum(chunk in relevant for chunk in best[:5]) / len(relevant))
        ideal = dcg(sorted(grades.values(), reverse=True)[:10])
        gains.append(dcg([grades.get(chunk, 0) for chunk in best]) / ideal)
    assert found["recall@5"] == pytest.approx(np.mean(recall), abs=1e-6)
    assert found["ndcg@10"] == pytest.approx(np.mean(gains), abs=1e-6)
    assert 0 < found["loss"] < math.log(8)


def dcg(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades))


# --- measures ----------------------------------------------------------------------------------


def circle(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


class Circle:
    """A model of the plane: each text has its angle; counts what it was asked."""

    def __init__(self, **angles: float) -> None:
        self.angles = angles
        self.calls: list[tuple[str, str]] = []

    def __call__(self, texts: Sequence[str], role: str) -> Floats:
        self.calls += [(text, role) for text in texts]
        return np.array([circle(self.angles[text]) for text in texts], dtype=np.float32)


# Cosines fall with the angle between: q and r find b, a, c in this order; p finds c, a, b.
MODEL = {"q": 0.0, "p": 90.0, "r": -90.0, "a": 20.0, "b": 10.0, "c": 30.0}
PLANE = DevSet(
    questions=(
        DevQuestion("1", "q", "east"),
        DevQuestion("2", "p", "north"),
        DevQuestion("3", "r", "east"),
    ),
    chunks={"a": "a", "b": "b", "c": "c"},
    qrels={"1": {"a": 1}, "2": {"a": 2, "c": 1}, "3": {"c": 1}},
    pairs=(DevPair("1", "q", "a", "a"), DevPair("2", "p", "c", "c")),
    answers={"1": frozenset("a"), "2": frozenset("ac")},
)


def test_measures_of_three_questions_worked_out_by_hand() -> None:
    found = measure(PLANE, Circle(**MODEL), scale=5, batch_size=8)
    # q finds a second; p finds c (grade 1) first and a (grade 2) second; r finds c third.
    second = 1 / math.log2(3)
    graded = (1 + 2 * second) / (2 + second)
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1 + 1 / 3) / 3, abs=1e-6)
    assert found["recall@1"] == pytest.approx((0 + 1 / 2 + 0) / 3, abs=1e-6)
    assert found["recall@5"] == found["recall@10"] == 1.0
    assert found["ndcg@10"] == pytest.approx((second + graded + 1 / 2) / 3, abs=1e-6)
    assert found["by_domain"].keys() == {"east", "north"}
    east = found["by_domain"]["east"]
    assert east["mrr@10"] == pytest.approx((1 / 2 + 1 / 3) / 2, abs=1e-6)
    assert east["ndcg@10"] == pytest.approx((second + 1 / 2) / 2, abs=1e-6)
    assert (east["questions"], east["recall@5"]) == (2, 1.0)
    assert (found["questions"], found["chunks"], found["pairs"]) == (3, 3, 2)
    assert found["undefined"] == {}


def test_each_distinct_text_is_encoded_once_a_role() -> None:
    model = Circle(**MODEL)
    dev = DevSet(**{**vars(PLANE), "scored": (DevScored("q", "p", 0.1, None, ""),) * 2})
    measure(dev, model, scale=5, batch_size=8)
    queries, documents = (
        {t for t, r in model.calls if r == role} for role in ("query", "document")
    )
    assert len(model.calls) == len(set(model.calls))
    assert (queries, documents) == ({"q", "p", "r"}, {"a", "b", "c"})


def test_the_loss_is_that_of_the_library_where_no_answer_is_known_twice() -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    rng = np.random.default_rng(3)
    drawn = rng.normal(size=(2, 12, 6))
    queries, positives = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    dev = DevSet(
        pairs=tuple(DevPair(f"q{i}", f"q{i}", f"c{i}", f"c{i}") for i in range(12)),
        answers={f"q{i}": frozenset([f"c{i}"]) for i in range(12)},
    )
    library = MultipleNegativesRankingLoss(model=torch.nn.Identity(), scale=9.0)
    parts = [(0, 4), (4, 8), (8, 12)]
    expected = np.mean(
        [
            library.compute_loss_from_embeddings(
                [torch.tensor(queries[a:b]), torch.tensor(positives[a:b])], None
            ).item()
            for a, b in parts
        ]
    )
    found = ranking_loss(
        dev, queries.astype(np.float32), positives.astype(np.float32), scale=9.0, batch_size=5
    )
    assert found == pytest.approx(expected, abs=1e-5)


def test_known_answers_and_equal_texts_are_no_negatives_in_the_loss() -> None:
    # The second query is known to be answered by a; the third's positive has the text of the first.
    pairs = (
        DevPair("1", "q", "a", "a"),
        DevPair("2", "p", "c", "c"),
        DevPair("3", "r", "other", "a"),
    )
    answers = {"1": frozenset("a"), "2": frozenset("ca"), "3": frozenset(["other"])}
    dev = DevSet(pairs=pairs, answers=answers)
    found = measure(dev, Circle(**MODEL), scale=2, batch_size=3)["loss"]
    q, r = 2 * np.array(circle(0.0)), 2 * np.array(circle(-90.0))
    p = 2 * np.array(circle(90.0))
    a, c = np.array(circle(20.0)), np.array(circle(30.0))
    first = math.log(1 + math.exp(q @ c - q @ a))  # c alone
    second = math.log(1 + math.exp(p @ a - p @ c))  # the chunk `other`, of the same text as a
    third = math.log(1 + math.exp(r @ c - r @ a))  # c alone
    assert found == pytest.approx((first + second + third) / 3, abs=1e-5)


def test_a_pair_alone_in_its_batch_has_no_loss() -> None:
    found = measure(PLANE, Circle(**MODEL), scale=5, batch_size=1)
    assert found["loss"] is None
    assert "alone" in found["undefined"]["loss"]


def test_vectors_that_are_not_finite_give_no_value_and_say_so() -> None:
    found = measure(PLANE, Circle(**{**MODEL, "b": math.nan}), scale=5, batch_size=8)
    assert {found[name] for name in PLANE.gives} == {None}
    assert "not finite" in found["undefined"]["ndcg@10"]
    json.dumps(found, allow_nan=False)


def test_search_is_exact_over_several_blocks_and_breaks_ties_by_descending_id() -> None:
    rng = np.random.default_rng(5)
    drawn = rng.integers(-1, 2, size=(700, 4)).astype(np.float32)  # few values: many ties
    chunks, queries = drawn[:100], drawn[100:]
    ids = [f"{number:03d}" for number in rng.permutation(100)]
    found = nearest_chunks(ids, chunks, queries, 10)
    for query, own in zip(queries, found, strict=True):
        ranked = sorted(((float(chunk @ query), i) for chunk, i in zip(chunks, ids, strict=True)))
        assert own == [(i, score) for score, i in reversed(ranked[-10:])]


SCORES = np.array([0.1, 0.4, 0.6, 0.9])
COSINES = np.array([0.2, 0.8, 0.5, 0.9])
ALIKE = SCORES >= 0.5


def test_agreement_worked_out_by_hand() -> None:
    found = agreement(COSINES, SCORES, ALIKE)
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 (1 + 1) / (4 (16 - 1)).
    assert found.values["spearman"] == pytest.approx(0.8)
    assert found.values["pearson"] == pytest.approx(np.corrcoef(COSINES, SCORES)[0, 1], abs=1e-6)
    # Of the four pairs of an alike and another one, three are in order.
    assert found.values["roc_auc"] == pytest.approx(3 / 4)
    # By falling cosine: alike, other, alike, other.
    assert found.values["average_precision"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-6)
    assert found.undefined == {}


@pytest.mark.parametrize(
    "cosines, scores, alike, undefined",
    [
        (COSINES, np.full(4, 0.7), ALIKE, {"spearman": "all scores", "pearson": "all scores"}),
        (np.ones(4), SCORES, ALIKE, {"spearman": "all cosines", "pearson": "all cosines"}),
        (
            COSINES,
            SCORES,
            np.ones(4, dtype=np.bool_),
            {"roc_auc": "same label", "average_precision": "same label"},
        ),
        (COSINES, np.array([0.3, *[np.nan] * 3]), ALIKE, {"spearman": "all", "pearson": "all"}),
    ],
)
def test_what_has_no_value_is_none_with_a_reason(
    cosines: Any, scores: Any, alike: Any, undefined: dict[str, str]
) -> None:
    found = agreement(cosines, scores, alike)
    assert {name for name, value in found.values.items() if value is None} == undefined.keys()
    assert all(words in found.undefined[name] for name, words in undefined.items())
    json.dumps(found.values, allow_nan=False)


def test_labels_alone_give_no_correlation() -> None:
    values = agreement(COSINES, np.full(4, np.nan), ALIKE).values
    assert values.keys() == {"roc_auc", "average_precision"}


def test_scored_pairs_are_measured_by_domain_where_there_are_enough() -> None:
    angles = {f"{side}{i}": (i * 7.0 if side == "b" else 0.0) for side in "ab" for i in range(24)}
    rows = tuple(
        DevScored(f"a{i}", f"b{i}", 1 - i / 24, None, "large" if i < 20 else "small")
        for i in range(24)
    )
    found = measure(DevSet(scored=rows), Circle(**angles), scale=5, batch_size=8)
    assert (found["spearman"], found["roc_auc"], found["scored"]) == (1.0, 1.0, 24)
    assert found["by_domain"].keys() == {"large"}
    assert found["by_domain"]["large"]["scored"] == 20
    same = tuple(row._replace(score=0.9) for row in rows)
    found = measure(DevSet(scored=same), Circle(**angles), scale=5, batch_size=8)
    assert found["undefined"]["large_roc_auc"] == "all pairs have the same label"
    line_of(found)


# --- the metric ---------------------------------------------------------------------------------

PAIRS = (DevPair("1", "q", "a", "a"), DevPair("2", "p", "c", "c"))
LABELLED = (DevScored("a", "b", None, 1, ""), DevScored("a", "c", None, 0, ""))
WITH_SCORES = (DevScored("a", "b", 0.9, None, ""), DevScored("a", "c", 0.7, None, ""))


@pytest.mark.parametrize(
    "dev, wanted, expected",
    [
        (PLANE, "auto", ("ndcg@10", True)),
        (PLANE, "loss", ("loss", False)),
        (PLANE, "recall@1", ("recall@1", True)),
        (DevSet(scored=WITH_SCORES), "auto", ("spearman", True)),
        (DevSet(scored=LABELLED), "auto", ("average_precision", True)),
        (DevSet(scored=LABELLED), "roc_auc", ("roc_auc", True)),
        (DevSet(pairs=PAIRS), "auto", ("loss", False)),
        (DevSet(), "auto", None),
    ],
)
def test_the_metric_is_what_the_data_can_give(
    dev: DevSet, wanted: str, expected: tuple[str, bool] | None
) -> None:
    assert metric_of(ValidationConfig(metric=wanted), dev) == expected


@pytest.mark.parametrize(
    "dev, settings, said",
    [
        (PLANE, {"metric": "spearman"}, ["metric", "do not give spearman", "ndcg@10", "loss"]),
        (PLANE, {"metric": "ndgc@10"}, ["no measure 'ndgc@10'", "did you mean ndcg@10?"]),
        (PLANE, {"metric": "zzz"}, ["no measure 'zzz'", "average_precision"]),
        (DevSet(scored=WITH_SCORES), {"metric": "roc_auc"}, ["do not give roc_auc", "pearson"]),
        (DevSet(scored=LABELLED), {"metric": "spearman"}, ["do not give", "roc_auc"]),
        (DevSet(), {"metric": "loss"}, ["train.validation.metric", "no dev questions"]),
        (DevSet(), {"patience": 3}, ["train.validation.patience", "no dev questions"]),
    ],
)
def test_a_metric_that_the_data_cannot_give_is_refused(
    dev: DevSet, settings: Row, said: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        metric_of(ValidationConfig(**settings), dev)
    assert all(words in str(caught.value) for words in said), str(caught.value)


# --- what the log says --------------------------------------------------------------------------


def test_a_measurement_is_a_line_and_a_table_beside_the_base_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = measure(PLANE, Circle(**MODEL), scale=5, batch_size=8)
    now = measure(PLANE, Circle(**{**MODEL, "a": 0.0}), scale=5, batch_size=8)
    with caplog.at_level(logging.INFO, "codex_forge"):
        log_measures(40, now, Metric("mrr@10", higher_is_better=True), base)
    line, *rows = caplog.messages
    assert line.startswith("  dev at step 40: mrr@10 0.778 (base 0.611), ndcg@10 ")
    assert rows == [
        "    domain  dev  recall@5   base   mrr@10   base",
        "    east      2     1.000  1.000    0.667  0.417",
        "    north     1     1.000  1.000    1.000  1.000",
    ]


def test_the_table_is_aligned_and_shows_the_largest_domains() -> None:
    domains = {
        f"domain {'x' * (i % 3)}{i:02d}": {"questions": i, "recall@5": 0.5, "mrr@10": None}
        for i in range(1, 31)
    }
    lines = list(table(domains, {}))
    assert lines[-1] == "and 18 smaller domains"
    assert len({len(line) for line in lines[:-1]}) == 1
    assert sorted(int(line.split()[-3]) for line in lines[1:-1]) == list(range(19, 31))
    assert lines[1].split()[-2:] == ["0.500", "-"]
    assert list(table({"one": {"questions": 9, "recall@5": 1.0}}, {})) == []


def test_what_has_no_value_is_said(caplog: pytest.LogCaptureFixture) -> None:
    found = measure(PLANE, Circle(**MODEL), scale=5, batch_size=1)
    with caplog.at_level(logging.INFO, "codex_forge"):
        log_measures(0, found, NDCG)
    assert "loss -" in caplog.messages[0]
    assert "loss has no value: a pair alone" in caplog.messages[1]


def test_the_dev_set_is_said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.INFO, "codex_forge"):
        log_dev_set(read(artifact_of(tmp_path, BANK, JUDGED)))
    assert caplog.messages == [
        "  dev: 3 questions asked of 53 chunks (1 left out: no answer among the chunks)",
        "  dev: the loss of 6 pairs",
    ]


# --- the best -----------------------------------------------------------------------------------

BASE = {"ndcg@10": 0.5, "loss": 2.0}
VALUES = [0.4, 0.6, 0.6, None, 0.7, 0.1, 0.7, 0.2, 0.9]
LOSS = Metric("loss", higher_is_better=False)


def saving(text: str) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        path.write_text(text)

    return save


def best_of(folder: Path | None, metric: Metric = NDCG, **validation: Any) -> Best:
    return Best(ValidationConfig(**validation), metric, BASE, folder)


def told(best: Best) -> tuple[Any, ...]:
    text = best.weights.read_text() if best.weights and best.weights.exists() else None
    return (best.step, best.value, best.should_stop, best.ends_with_best, text)


def offered(best: Best, steps: Iterable[int]) -> list[Any]:
    return [
        (best.offer(step, {"ndcg@10": VALUES[step - 1]}, saving(f"of {step}")), told(best))
        for step in steps
    ]


def test_the_best_is_the_first_of_the_highest_and_its_weights_are_kept(tmp_path: Path) -> None:
    best = best_of(tmp_path / "best", patience=3)
    found = offered(best, range(1, 9))
    assert [is_best for is_best, _ in found] == [True, True, False, False, True, *[False] * 3]
    assert [step for _, (step, *_) in found] == [1, 2, 2, 2, 5, 5, 5, 5]
    assert [stops for _, (_, _, stops, *_) in found] == [*[False] * 7, True]
    assert told(best) == (5, 0.7, True, True, "of 5")
    assert [path.name for path in (tmp_path / "best").iterdir()] == [WEIGHTS]


def test_a_lower_loss_is_better(tmp_path: Path) -> None:
    best = best_of(tmp_path, LOSS)
    taken = [best.offer(i, {"loss": value}, saving("")) for i, value in enumerate([3, 1, 2], 1)]
    assert taken == [True, True, False]
    assert (best.step, best.value) == (2, 1.0)


@pytest.mark.parametrize("cut", range(9))
def test_a_resumed_stage_decides_as_one_that_was_never_stopped(cut: int, tmp_path: Path) -> None:
    whole = offered(best_of(tmp_path / "whole", patience=3), range(1, 10))
    first = best_of(tmp_path / "first", patience=3)
    offered(first, range(1, cut + 1))
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    state = json.loads(line_of(first.state()))
    first.add_weights(checkpoint)
    offered(first, range(cut + 1, 10))  # what came after the checkpoint is forgotten
    rest = Best(ValidationConfig(patience=3), NDCG, {}, tmp_path / "rest")
    rest.go_on_from(state, checkpoint)
    if cut:
        assert told(rest) == whole[cut - 1][1]
        assert not rest.offer(cut, {"ndcg@10": 1.0}, saving("again"))  # it was measured before
    assert offered(rest, range(cut + 1, 10)) == whole[cut:]
    assert rest.closing("easy") == first.closing("easy")


def test_the_last_weights_are_wanted_so_none_are_kept(tmp_path: Path) -> None:
    best = best_of(tmp_path / "best", keep="last", patience=2)
    assert best.offer(1, {"ndcg@10": 0.6}, lambda _: pytest.fail("nothing is saved"))
    best.offer(2, {"ndcg@10": 0.5}, saving(""))
    best.offer(3, {"ndcg@10": 0.5}, saving(""))
    assert (best.weights, best.ends_with_best, best.should_stop) == (None, False, True)
    best.add_weights(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_rank_without_a_folder_decides_the_same(tmp_path: Path) -> None:
    writes, reads = best_of(tmp_path, patience=3), best_of(None, patience=3)
    first, other = offered(writes, range(1, 10)), offered(reads, range(1, 10))
    assert [(a, b[:4]) for a, b in first] == [(a, b[:4]) for a, b in other]


def test_a_stage_that_beats_nothing_is_warned_of_and_keeps_its_best(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = best_of(tmp_path)
    best.offer(10, {"ndcg@10": 0.3}, saving("poor"))
    best.offer(20, {"ndcg@10": 0.5}, saving("equal to the start"))
    with caplog.at_level(logging.WARNING, "codex_forge"):
        summary = best.closing("easy")
    assert "easy: nothing beat what the stage began with: ndcg@10 0.5000" in caplog.text
    assert told(best) == (20, 0.5, False, True, "equal to the start")
    assert summary == {
        "metric": "ndcg@10",
        "start": 0.5,
        "best": 0.5,
        "best_step": 20,
        "stopped_early": False,
    }
    caplog.clear()
    best.offer(30, {"ndcg@10": 0.51}, saving("good"))
    best.closing("easy")
    assert not caplog.messages


def test_measurements_without_a_value_are_no_gain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = best_of(tmp_path, patience=2)
    assert not best.offer(1, {"ndcg@10": None}, saving(""))
    assert not best.offer(2, {"ndcg@10": None}, saving(""))
    assert (best.should_stop, best.ends_with_best) == (True, False)
    best.closing("easy")
    assert "no measurement of ndcg@10 has a value" in caplog.text
