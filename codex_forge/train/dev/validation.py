"""How good the model is on dev data, while it trains: retrieval, scored pairs, and the loss.

Every distinct text is encoded once a measurement. Search is exact. What has no value (a correlation
with a constant) is None, with its reason in `undefined`: no NaN gets into a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.agreement import agreement
from codex_forge.metrics import ir_measures, mean
from codex_forge.records import Run
from codex_forge.search import tie_order, top
from codex_forge.train.data.texts import DOCUMENT, QUERY
from codex_forge.train.dev.dev_set import DevPair, DevScored, DevSet

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str], str], Floats]
"""Texts and their role (`query` or `document`) -> unit vectors, shape (texts, dimension)."""
Measures = dict[str, Any]
"""Measure -> value or None; `by_domain` -> domain -> the same; `undefined` -> reasons; and how many
`questions`, `chunks`, `pairs` and `scored` pairs it was measured on."""

COUNTS = ("questions", "chunks", "pairs", "scored")
_RECALL = (1, 5, 10)
_MEANS = ("ndcg@10", "mrr@10", *(f"recall@{k}" for k in _RECALL))
_BY_DOMAIN = ("ndcg@10", "mrr@10", "recall@5")
_FEW = 10
"""A domain with fewer scored pairs is not told apart."""
_BLOCK = 256
"""Queries that are searched for together."""
_PLACES = 6


def measure(dev: DevSet, encode: Encode, *, scale: float, batch_size: int) -> Measures:
    """Measure a model on the dev set.

    Args:
        dev: what to measure on.
        encode: the model as it is now; called at most once a role, with distinct texts.
        scale: factor on the cosine in the loss.
        batch_size: pairs that share a loss.
    """
    queries = _Encoded(encode, QUERY, queries_of(dev))
    documents = _Encoded(encode, DOCUMENT, documents_of(dev))
    found: Measures = {"by_domain": {}, "undefined": {}}
    if not (queries.are_finite and documents.are_finite):
        found.update(dict.fromkeys(dev.gives))
        reason = "the model gives vectors that are not finite"
        found["undefined"] = dict.fromkeys(dev.gives, reason)
        return found
    if dev.questions:
        _add_retrieval(found, dev, queries, documents)
    if dev.scored:
        _add_agreement(found, dev.scored, queries)
    if dev.pairs:
        asked = queries.of(pair.query for pair in dev.pairs)
        answers = documents.of(pair.positive for pair in dev.pairs)
        found["loss"] = ranking_loss(dev, asked, answers, scale=scale, batch_size=batch_size)
        found["pairs"] = len(dev.pairs)
        if found["loss"] is None:
            found["undefined"]["loss"] = "a pair alone in its batch has no loss"
    return found


def queries_of(dev: DevSet) -> Iterator[str]:
    """All texts that are encoded as queries."""
    yield from (question.text for question in dev.questions)
    yield from (pair.query for pair in dev.pairs)
    for row in dev.scored:  # in the role that they are trained in
        yield from (row.text_a, row.text_b)


def documents_of(dev: DevSet) -> Iterator[str]:
    """All texts that are encoded as documents."""
    yield from dev.chunks.values()
    yield from (pair.positive for pair in dev.pairs)


class _Encoded:
    """The vectors of texts in one role, each distinct text encoded once."""

    def __init__(self, encode: Encode, role: str, texts: Iterable[str]) -> None:
        self._position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        distinct = list(self._position)
        self._vectors = encode(distinct, role) if distinct else np.zeros((0, 0), np.float32)

    @property
    def are_finite(self) -> bool:
        return bool(np.isfinite(self._vectors).all())

    def of(self, texts: Iterable[str]) -> Floats:
        """Vectors of texts, shape (texts, dimension)."""
        return self._vectors[[self._position[text] for text in texts]]


def _add_retrieval(found: Measures, dev: DevSet, queries: _Encoded, documents: _Encoded) -> None:
    asked = queries.of(question.text for question in dev.questions)
    chunks = documents.of(dev.chunks.values())
    results = nearest_chunks(list(dev.chunks), chunks, asked, max(_RECALL))
    run: Run = {q.query_id: own for q, own in zip(dev.questions, results, strict=True)}
    each = ir_measures(dev.qrels, run, _RECALL)
    found.update(_means(list(each.values()), _MEANS))
    found.update(questions=len(dev.questions), chunks=len(dev.chunks))
    groups: dict[str, list[dict[str, float]]] = {}
    for question in dev.questions:
        groups.setdefault(question.domain, []).append(each[question.query_id])
    for domain, rows in sorted(groups.items()):
        if domain:
            own = {"questions": len(rows), **_means(rows, _BY_DOMAIN)}
            found["by_domain"].setdefault(domain, {}).update(own)


def _means(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    return {name: round(mean([row[name] for row in rows]), _PLACES) for name in names}


def nearest_chunks(
    ids: Sequence[str], chunks: Floats, queries: Floats, k: int
) -> list[list[tuple[str, float]]]:
    """The `k` chunks of the largest cosine for each query, best first; exact.

    `chunks` has shape (chunks, dimension), `queries` (queries, dimension), both of unit length;
    equal cosines come in descending order of the id, as trec_eval wants it.
    """
    order = tie_order(ids)
    ordered = chunks[order]
    found = []
    for start in range(0, len(queries), _BLOCK):
        for scores in queries[start : start + _BLOCK] @ ordered.T:
            found.append([(ids[order[i]], float(scores[i])) for i in top(scores, k)])
    return found


def _add_agreement(found: Measures, scored: Sequence[DevScored], vectors: _Encoded) -> None:
    first = vectors.of(row.text_a for row in scored)
    second = vectors.of(row.text_b for row in scored)
    cosines = (first * second).sum(axis=1, dtype=np.float64)
    scores = np.array([np.nan if row.score is None else row.score for row in scored])
    alike = np.array([row.alike > 0 for row in scored])
    values, undefined = agreement(cosines, scores, alike)
    found.update(values, scored=len(scored))
    found["undefined"].update(undefined)
    domains = np.array([row.domain for row in scored])
    for domain, count in zip(*np.unique(domains, return_counts=True), strict=True):
        if domain and count >= _FEW:
            own = domains == domain
            values, undefined = agreement(cosines[own], scores[own], alike[own])
            found["by_domain"].setdefault(str(domain), {}).update(scored=int(count), **values)
            reasons = {f"{domain}_{name}": reason for name, reason in undefined.items()}
            found["undefined"].update(reasons)


def ranking_loss(
    dev: DevSet, queries: Floats, positives: Floats, *, scale: float, batch_size: int
) -> float | None:
    """Mean over dev pairs of the cross-entropy of the own positive among those of its batch.

    InfoNCE (van den Oord et al., 2018), as `multiple_negatives_ranking` trains it, but that the
    known answers of a query are no negatives of it. Batches are of nearly one size, so that no
    pair stands alone in the last. None when there is nothing to tell a positive from.

    Args:
        dev: whose pairs they are.
        queries: unit vectors of the pairs' queries, shape (pairs, dimension).
        positives: unit vectors of the pairs' positives, shape (pairs, dimension).
        scale: factor on the cosine.
        batch_size: pairs that share a loss, at most.
    """
    if min(batch_size, len(dev.pairs)) < 2:  # noqa: PLR2004
        return None
    losses = []
    for part in np.array_split(np.arange(len(dev.pairs)), -(-len(dev.pairs) // batch_size)):
        logits = scale * (queries[part] @ positives[part].T).astype(np.float64)
        own = np.diag(logits).copy()
        logits[_known(dev, [dev.pairs[i] for i in part])] = -np.inf
        np.fill_diagonal(logits, own)
        losses.append(np.logaddexp.reduce(logits, axis=1) - own)
    return round(float(np.concatenate(losses).mean()), _PLACES)


def _known(dev: DevSet, pairs: Sequence[DevPair]) -> NDArray[np.bool_]:
    """Which positives answer which query, its own included; shape (pairs, pairs)."""
    texts = np.unique([pair.positive for pair in pairs], return_inverse=True)[1]
    ids = [pair.positive_id for pair in pairs]
    judged = [[chunk in dev.answers[pair.query_id] for chunk in ids] for pair in pairs]
    known: NDArray[np.bool_] = np.array(judged) | (texts[:, None] == texts[None, :])
    return known
