"""Measures of retrieval: the 0-5 topic rubric, and IR measures by trec_eval's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codex_forge.records import Qrels, Run

RUBRIC_MAXIMUM = 5.0


def rubric(
    expected: Sequence[str],
    covered: Sequence[Mapping[str, str]],
    relevant: Sequence[bool] = (),
) -> float:
    """0-5: the share of expected topics that the retrieved chunks cover together, times five.

    A question without expected topics asks for its answer alone: 5 when any chunk is relevant.

    Args:
        expected: the topics of the question.
        covered: for each chunk of the top k, the topics that it covers.
        relevant: for each chunk of the top k, whether the judgements say that it answers.
    """
    if not expected:
        return RUBRIC_MAXIMUM * any(relevant)
    together = {topic for chunk in covered for topic in chunk}
    return RUBRIC_MAXIMUM * sum(topic in together for topic in expected) / len(expected)


def ir_measures(qrels: Qrels, run: Run, k: Sequence[int]) -> dict[str, dict[str, float]]:
    """Recall@k, precision@k, mrr@10, ndcg@10 and map of every query of the qrels.

    Computed by trec_eval through pytrec_eval (Van Gysel & de Rijke, SIGIR 2018). ndcg uses linear
    gain and log2 discount. A query without results scores 0 everywhere.

    Returns:
        query_id -> measure -> value.
    """
    import pytrec_eval

    cuts = ",".join(str(cut) for cut in sorted(set(k)))
    evaluator = pytrec_eval.RelevanceEvaluator(
        qrels, {f"recall.{cuts}", f"P.{cuts}", "ndcg_cut.10", "map"}
    )
    reciprocal = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"})
    found = evaluator.evaluate({query: dict(results) for query, results in run.items()})
    first = reciprocal.evaluate({query: dict(results[:10]) for query, results in run.items()})
    measures: dict[str, dict[str, float]] = {}
    for query in qrels:
        got = found.get(query, {})
        measures[query] = {
            **{f"recall@{cut}": got.get(f"recall_{cut}", 0.0) for cut in k},
            **{f"precision@{cut}": got.get(f"P_{cut}", 0.0) for cut in k},
            "mrr@10": first.get(query, {}).get("recip_rank", 0.0),
            "ndcg@10": got.get("ndcg_cut_10", 0.0),
            "map": got.get("map", 0.0),
        }
    return measures


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean as a Python float."""
    return float(np.mean(np.asarray(values, dtype=np.float64)))


NOT_GIVEN = "not given"
"""The slice of what has no value."""


def slice_value(value: Any) -> str:
    """A question field's value as the name of a slice (`true`, `hard`)."""
    if value in (None, ""):
        return NOT_GIVEN
    return str(value).lower() if isinstance(value, bool) else str(value)
