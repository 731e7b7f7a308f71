"""Questions with some of their positives hidden, and ways of mining negatives for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge.artifact import Draft, Recipe, begin
from codex_forge.config import RunConfig
from codex_forge.config.pairs import NegativesConfig
from codex_forge.corpus import Corpus, find_files, read_corpus
from codex_forge.entities import EntityIndex
from codex_forge.pairs.domain import Domain, text_key
from codex_forge.pairs.guard import Guard
from codex_forge.pairs.nearest import Near, below_margin
from codex_forge.pairs.negatives import Candidates, NegativeMiner
from codex_forge.pairs.positives import Judge, in_time
from codex_forge.pairs.query import Query, positions_of
from codex_forge.records import Question
from codex_forge.seeded import generator
from codex_forge.storage import Store
from codex_forge.word_index import WordIndex

CASES = ("asked", "given", "blind")
HIDDEN = 0.3
MOST = 3
"""Negatives of a query."""
ONLY_BM25 = {"related_entity": 0, "overlapping_mentions": 0, "same_type": 0, "bm25": 1}
ONLY_NEAREST = {**ONLY_BM25, "bm25": 0, "nearest": 1}

Found = dict[str, list[int]]
"""Positions of the negatives of each question."""
Vectors = NDArray[np.float32]


class Asked(NamedTuple):
    """A question with a part of its positives hidden."""

    question: Question
    positive: int
    """The one that it is paired with."""
    kept: NDArray[np.int32]
    hidden: frozenset[int]


class Bank(NamedTuple):
    """The questions of one sample, and all that mining needs."""

    config: RunConfig
    corpus: Corpus
    words: WordIndex
    judge: Judge
    asked: list[Asked]


class Model(NamedTuple):
    """The base model, and its vectors of all chunks and questions."""

    model: Any
    chunks: Vectors
    questions: dict[str, Vectors]


class Score(NamedTuple):
    """What one way of mining gave."""

    negatives: int
    taken: int
    """Hidden positives among the negatives."""
    hidden: int
    """Hidden positives that there are."""
    hardness: float
    hardness_of_true: float
    model_hardness: float
    model_hardness_of_true: float


@contextmanager
def bank_of(config: RunConfig, seed: int = 0, most: int | None = None) -> Iterator[Bank]:
    """The questions of a config's corpus that have two positives or more; at most `most`."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        corpus = read_corpus(find_files(config.corpus), "fail", scratch)
        draft = begin(
            Store(f"{folder}/store"), Recipe("pairs", "bench", {}, {}), scratch, force=True
        )
        if not isinstance(draft, Draft):
            raise SystemExit("a new store holds no artifact")
        domain = Domain(corpus, config.pairs, scratch)
        topics = {topic for question in corpus.questions for topic in question.expected_topics}
        judge = domain.judge(topics, draft.work)
        different = {question.text: question for question in corpus.questions}
        asked = [
            found
            for question in list(different.values())[:most]
            if (found := _hide(question, judge, seed)) is not None
        ]
        yield Bank(config, corpus, domain.words, judge, asked)
        draft.lease.release(0)


def _hide(question: Question, judge: Judge, seed: int) -> Asked | None:
    """Hide a share of its positives, one at least; the best of the others is its positive."""
    positions = judge.answers(replace(question, relevant=())).positions.tolist()
    if len(positions) <= 1:
        return None
    count = max(1, round(HIDDEN * len(positions)))
    hidden = generator(seed, "hidden", question.query_id).sample(sorted(positions), count)
    kept = [position for position in positions if position not in set(hidden)]
    return Asked(question, kept[0], positions_of(kept), frozenset(hidden))


def ours(bank: Bank, changed: Mapping[str, Any], case: str, model: Model | None = None) -> Found:
    """Negatives by our miner; `changed` are keys of `pairs.negatives`."""
    settings = bank.config.pairs.negatives.model_dump() | dict(changed)
    config = NegativesConfig.model_validate(settings)
    index = EntityIndex([] if case == "blind" else bank.corpus.entities)
    texts = bank.corpus.chunks.texts()
    keys = np.fromiter(map(text_key, texts), dtype=np.uint64, count=len(bank.corpus.chunks))
    guard = Guard(bank.corpus, index, bank.judge, config, keys)
    miner = NegativeMiner(bank.corpus, index, guard, bank.words, config)
    found = {}
    for asked in bank.asked:
        query = _query_of(asked, case)
        near = _near(model, asked, config) if model and config.nearest > 0 else []
        candidates = Candidates(_ranked(bank, asked, config.bm25_depth), near)
        mined = miner.mine(query, asked.positive, candidates, bank.config.seed, MOST)
        found[query.query_id] = [position for position, _ in mined]
    return found


def _query_of(asked: Asked, case: str) -> Query:
    question = asked.question
    return Query(
        query_id=question.query_id,
        text=question.text,
        topics=() if case == "blind" else question.expected_topics,
        positives=(asked.positive,),
        answers=asked.kept,
        source="question",
        temporal_limit=question.temporal_limit,
        answers_are_given=case == "given",
    )


def _ranked(bank: Bank, asked: Asked, depth: int) -> list[int]:
    """Positions by BM25 that the question's time limit allows."""
    found = bank.words.positions(asked.question.text, depth)
    allowed = in_time(bank.corpus.chunks.times[found], asked.question.temporal_limit)
    return [position for position, may in zip(found, allowed.tolist(), strict=True) if may]


def _near(model: Model, asked: Asked, config: NegativesConfig) -> list[int]:
    """Positions nearest by the model, below the margin."""
    cosines = model.chunks @ model.questions[asked.question.query_id]
    order = np.argsort(-cosines, kind="stable")[: config.nearest_depth]
    near = Near(order, cosines[order], cosines[[asked.positive]])
    return list(below_margin(near, 0, config.relative_margin))


def unguarded(bank: Bank) -> Found:
    """The top of BM25 without the positives that are known."""
    found = {}
    for asked in bank.asked:
        known = set(asked.kept.tolist())
        ranked = _ranked(bank, asked, len(known) + 100)
        found[asked.question.query_id] = [p for p in ranked if p not in known][:MOST]
    return found


def by_library(bank: Bank, model: Model, cache: Path, margin: float | None) -> Found:
    """`mine_hard_negatives` of sentence-transformers, told of every known positive."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    texts = list(bank.corpus.chunks.texts())
    position_of = {text: position for position, text in enumerate(texts)}
    mined = mine_hard_negatives(
        Dataset.from_list(
            [
                {"anchor": asked.question.text, "positive": texts[position]}
                for asked in bank.asked
                for position in asked.kept.tolist()
            ]
        ),
        model.model,
        corpus=texts,
        num_negatives=MOST,
        relative_margin=margin,
        cache_folder=str(cache),
        verbose=False,
    )
    paired = {asked.question.text: asked for asked in bank.asked}
    found: Found = {asked.question.query_id: [] for asked in bank.asked}
    for row in mined:
        asked = paired[row["anchor"]]
        if position_of[row["positive"]] == asked.positive:
            found[asked.question.query_id].append(position_of[row["negative"]])
    return found


def score(bank: Bank, found: Found, model: Model | None = None) -> Score:
    """Count false negatives, and measure hardness."""
    is_hidden: list[bool] = []
    by_words: list[float] = []
    by_model: list[float] = []
    taken = set()
    for asked in bank.asked:
        name = asked.question.query_id
        positions = found[name]
        if not positions:
            continue
        is_hidden += [position in asked.hidden for position in positions]
        taken |= {(name, position) for position in positions if position in asked.hidden}
        by_words += bank.words.cosine(asked.question.text, positions).tolist()
        if model:
            by_model += (model.chunks[positions] @ model.questions[name]).tolist()
    true = ~np.array(is_hidden, dtype=np.bool_)
    words, near = np.array(by_words), np.array(by_model or [np.nan] * len(by_words))
    hidden = sum(len(asked.hidden) for asked in bank.asked)
    return Score(
        len(true), len(taken), hidden, _mean(words), _mean(words[true]), _mean(near),
        _mean(near[true]),
    )  # fmt: skip


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def load_model(bank: Bank) -> Model:
    """The base model of the config, with vectors of everything."""
    from codex_forge.model.encoder import Encoder, load_base
    from codex_forge.model.locate import locate

    model = load_base(locate(bank.config.model).folder, bank.config.model)
    encoder = Encoder(model)
    chunks = encoder.encode_document(list(bank.corpus.chunks.texts()))
    questions = encoder.encode_query([asked.question.text for asked in bank.asked])
    names = [asked.question.query_id for asked in bank.asked]
    return Model(model, chunks, dict(zip(names, questions, strict=True)))
