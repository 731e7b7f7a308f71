"""Reports of comparisons, made by hand; hostile text wherever text comes from the corpus."""

from __future__ import annotations

import random
from typing import Any

Tree = dict[str, Any]

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"> & 'quoted' {{ 7 * 7 }} <!--"
RIGHT_TO_LEFT = "מי כתב את הספר \u202eהראשון\u202c على الطاولة؟"
CATEGORIES = ["people", "places", "events", "texts", ""]
DIFFICULTIES = ["easy", "medium", "hard", ""]
EDGES = [0, 1, 2, 3, 4, 5]


def make_rows(count: int) -> list[Tree]:
    dice = random.Random(7)
    rows = []
    for i in range(count):
        topics = dice.choice([2, 3, 4, 5])
        before = 5 * dice.randint(0, topics) / topics
        after = 5 * min(topics, dice.randint(0, topics) + (dice.random() < 0.6)) / topics
        text = f"Who kept the lighthouse of Port {i} after the flood, and what was it called then?"
        if i == 3:
            text = HOSTILE
        elif i == 4:
            text = RIGHT_TO_LEFT
        elif i == 5:
            text = "w" * 400
        rows.append(
            {
                "query_id": f"q{i:04d}",
                "question": text,
                "category": HOSTILE if i == 3 else dice.choice(CATEGORIES),
                "difficulty": dice.choice(DIFFICULTIES),
                "baseline": before,
                "candidate": before if i == 6 else after,
                "difference": 0.0 if i == 6 else after - before,
            }
        )
    return rows


def metric(baseline: float, candidate: float, spread: float, **other: Any) -> Tree:
    change = candidate - baseline
    return {
        "baseline": baseline,
        "candidate": candidate,
        "difference": change,
        "ci_low": change - spread,
        "ci_high": change + spread,
        "p_value": 0.0001,
        "win": 210,
        "tie": 190,
        "loss": 100,
        "candidate_low": candidate - spread,
        "candidate_high": candidate + spread,
        "baseline_low": baseline - spread,
        "baseline_high": baseline + spread,
        **other,
    }


def chunk(rank: int, text: str, covers: dict[str, str], *, relevant: bool) -> Tree:
    return {
        "rank": rank,
        "chunk_id": f"{text[:9]} {rank % 3}",
        "filename": f"harbour/keepers-{rank}.md",
        "score": 0.91 - 0.04 * rank,
        "text": text,
        "covers": covers,
        "relevant": relevant,
    }


def case(row: Tree, before: float, after: float) -> Tree:
    story = (
        "After the flood the light at the point was kept by Old Marrow, whom the harbour records "
        "call Tobias Marrow. He trimmed it for eleven winters. " * 4
    )
    return {
        **{key: row[key] for key in ("query_id", "question", "category", "difficulty")},
        "baseline": before,
        "candidate": after,
        "topics": ["Tobias Marrow", "Gull Light", HOSTILE],
        "covered_baseline": {"Gull Light": "the light at the point"},
        "covered_candidate": {"Tobias Marrow": "Old Marrow", "Gull Light": "Gull Light"},
        "top_baseline": [
            chunk(1, "Tide tables of the northern quay.\n" * 4, {}, relevant=False),
            chunk(2, HOSTILE, {"Gull Light": "the light at the point"}, relevant=False),
            chunk(3, RIGHT_TO_LEFT, {}, relevant=False),
        ],
        "top_candidate": [
            chunk(1, story, {"Tobias Marrow": "Old Marrow"}, relevant=True),
            chunk(2, "Gull Light was relit in spring.", {"Gull Light": ""}, relevant=True),
            chunk(3, "x" * 900, {}, relevant=False),
        ],
    }


def part(questions: int, baseline: float, change: float, spread: float) -> Tree:
    return {
        "questions": questions,
        "baseline": baseline,
        "candidate": baseline + change,
        "difference": change,
        "ci_low": change - spread,
        "ci_high": change + spread,
    }


def sample(rows: list[Tree]) -> Tree:
    """A report without what is optional, and hostile text wherever text comes from the corpus."""
    metrics = {"rubric": metric(2.54, 3.25, 0.14)}
    for k, value in ((1, 0.31), (3, 0.48), (5, 0.57), (10, 0.68)):
        metrics[f"precision@{k}"] = metric(value / k, value / k + 0.02, 0.01)
        metrics[f"recall@{k}"] = metric(value, value + 0.011 * k, 0.03, p_value=0.0312)
    metrics["mrr@10"] = metric(0.42, 0.40, 0.012, p_value=0.004)
    metrics["ndcg@10"] = metric(0.45, 0.45, 0.02, p_value=1.0)
    metrics["map"] = metric(0.39, 0.44, 0.03)
    return {
        "verdict": "improved",
        "tier": "usable",
        "tiers": [
            {"name": "minimal", "at_least": 2.0},
            {"name": "good", "at_least": 2.5},
            {"name": "usable", "at_least": 3.0},
            {"name": "excellent", "at_least": 3.5},
        ],
        "tier_judged_at": 3.11,
        "measure": "rubric",
        "part": "test",
        "folds": 0,
        "all_questions": None,
        "questions": len(rows),
        "groups": 412,
        "confidence": 0.95,
        "resamples": 10000,
        "smallest_detectable": 0.2,
        "baseline": {
            "name": "harbour-base",
            "fingerprint": "ab" * 32,
            "retriever": "dense",
            "model": "intfloat/multilingual-e5-small",
        },
        "candidate": {
            "name": "harbour",
            "fingerprint": "cd" * 32,
            "retriever": "dense",
            "model": "harbour (trained from intfloat/multilingual-e5-small)",
        },
        "metrics": metrics,
        "slices": {
            "category": {
                "people": part(140, 2.31, 0.91, 0.24),
                "places": part(120, 2.72, 0.66, 0.25),
                HOSTILE: part(1, 0.0, 5.0, 0.0),
                "": part(90, 2.6, -0.4, 0.3),
            },
            "difficulty": {
                "easy": part(120, 3.4, 0.1, 0.2),
                "hard": part(200, 1.9, 0.9, 0.2),
                "medium": part(180, 2.6, 0.6, 0.2),
            },
            "alias_in_index": {
                "true": part(210, 2.2, 1.1, 0.2),
                "false": part(290, 2.7, 0.4, 0.2),
            },
            "exposure": {
                "trained_chunk": part(260, 2.5, 0.9, 0.2),
                "unseen_chunk": part(240, 2.6, 0.5, 0.2),
            },
        },
        "distribution": {
            "edges": EDGES,
            "baseline": [90, 110, 120, 100, 80],
            "candidate": [40, 70, 110, 120, 160],
        },
        "latency_ms": {
            "baseline": {"p50": 11.24, "p95": 15.9},
            "candidate": {"p50": 11.31, "p95": 16.2},
        },
        "gained": [case(rows[i], 0.0, 3.33) for i in (0, 3, 4, 5)],
        "lost": [case(rows[7], 3.33, 1.67)],
        "recommendations": [
            "Use this model for retrieval; keep a person in the loop for hard questions.",
            f"Look at the category {HOSTILE} by hand.",
        ],
        "lineage": [
            {
                "kind": "model",
                "name": "harbour",
                "fingerprint": "ef" * 32,
                "digest": "01" * 32,
                "settings": {"train.epochs": 3, "train.loss": "mnrl", "model.lora": None},
                "inputs": {"pairs": "pairs/harbour 0123456789ab"},
            },
            {
                "kind": "evaluate",
                "name": "harbour",
                "fingerprint": "cd" * 32,
                "digest": "02" * 32,
                "settings": {"evaluate.k": [1, 3, 5, 10]},
                "inputs": {"model": "model/harbour efefefefefef"},
            },
        ],
        "versions": {"torch": "2.9.0", "sentence-transformers": "5.1.2"},
    }


ROWS = make_rows(500)


# What is optional.


def _system(name: str, role: str, value: float, difference: Tree | None, **other: Any) -> Tree:
    return {
        "name": name,
        "role": role,
        "retriever": "dense",
        "model": "intfloat/multilingual-e5-small",
        "metrics": {
            "rubric": {"value": value, "low": value - 0.14, "high": value + 0.14},
            "ndcg@10": {"value": value / 7, "low": value / 7 - 0.02, "high": value / 7 + 0.02},
            "mrr@10": {"value": value / 8, "low": value / 8 - 0.02, "high": value / 8 + 0.02},
        },
        "difference": difference,
        "verdict": None,
        "latency_ms": {"p50": 11.24, "p95": 15.9, "queries": 100},
        "queries_per_second": 1480.3,
        "index_bytes": 5_696_512,
        "dimension": 384,
        **other,
    }


def _change(mean: float, p_holm: float) -> Tree:
    return {
        "mean": mean,
        "low": mean - 0.12,
        "high": mean + 0.12,
        "p_value": p_holm / 2,
        "p_holm": p_holm,
    }


def systems() -> list[Tree]:
    """Four systems: the baseline first, the candidate last."""
    words = {"retriever": "bm25", "model": "", "dimension": None, "index_bytes": 880_200}
    return [
        _system("harbour-base", "baseline", 2.54, None),
        _system("harbour-bm25", "other", 2.31, _change(-0.23, 0.002), verdict="worse", **words),
        _system("harbour-hybrid", "other", 2.61, _change(0.07, 0.31), verdict="unchanged"),
        _system("harbour", "candidate", 3.25, _change(0.71, 0.0003), verdict="improved"),
    ]


def _trap(verdict: str, same: float, other: float) -> Tree:
    worst = {"text_b": "The quay light was lit.", "cosine": 0.871, "overlap": 0.714, "label": 0}
    return {
        "verdict": verdict,
        "same_meaning_few_words": same,
        "other_meaning_many_words": other,
        "same_pairs": 41,
        "other_pairs": 38,
        "roc_auc": 0.5 + (same - other),
        "worst": [{"text_a": HOSTILE, **worst}, {"text_a": RIGHT_TO_LEFT, **worst, "label": 1}],
    }


def _agreement(baseline: float, candidate: float, spread: float) -> Tree:
    found = metric(baseline, candidate, spread, p_value=0.004)
    return {key: value for key, value in found.items() if key not in ("win", "tie", "loss")}


def scored_pairs() -> Tree:
    """Numbers of scored pairs."""
    return {
        "pairs": 812,
        "groups": 604,
        "measures": {
            "spearman": _agreement(0.612, 0.718, 0.031),
            "pearson": _agreement(0.604, 0.709, 0.033),
            "roc_auc": _agreement(0.853, 0.884, 0.02),
            "average_precision": _agreement(0.801, 0.842, 0.025),
            "f1": _agreement(0.741, 0.752, 0.03),
        },
        "thresholds": {"baseline": 0.812, "candidate": 0.544},
        "adversarial": {
            "baseline": _trap("fail", 0.58, 0.74),
            "candidate": _trap("pass", 0.66, 0.51),
        },
        "slices": {
            "category": {
                HOSTILE: {"pairs": 3, "baseline": 0.2, "candidate": None},
                "outages": {"pairs": 410, "baseline": 0.63, "candidate": 0.74},
                "tickets": {"pairs": 399, "baseline": 0.59, "candidate": 0.69},
            },
            "phase": {
                "hard": {"pairs": 200, "baseline": 0.31, "candidate": 0.55},
                "easy": {"pairs": 612, "baseline": 0.7, "candidate": 0.77},
            },
        },
    }


def _found(query: str, rank: int | None, *, passed: bool) -> Tree:
    return {
        "query": query,
        "expects": ["harbour/keepers-1.md", "harbour/lamps.md"],
        "k": 5,
        "rank": rank,
        "passed": passed,
    }


def _level(name: str, spearman: float, roc_auc: float, *, reached: bool) -> Tree:
    return {
        "name": name,
        "at_least": {"spearman": spearman, "roc_auc": roc_auc},
        "reached": reached,
        "values": {"spearman": 0.687, "roc_auc": 0.864},
    }


def whole(rows: list[Tree]) -> Tree:
    """A report with everything that a report may hold."""
    report = sample(rows)
    for found in report["metrics"].values():
        found["p_holm"] = min(1.0, 4 * found["p_value"])
    for place, case in enumerate(report["gained"]):
        taught = [
            {
                "query": f"tell me about Old Marrow {i}" if i else HOSTILE,
                "chunk_id": f"c{i}",
                "text": "After the flood the light at the point was kept by Old Marrow. " * 3,
                "source": "entity",
                "why": "its answer is a chunk that rose; it shares “marrow”",
            }
            for i in range(3)
        ]
        case["taught"] = taught[: 3 - place]
    return {
        **report,
        "systems": systems(),
        "pairs": scored_pairs(),
        "measure_tier": {
            "name": "production",
            "levels": [
                _level("minimum", 0.55, 0.82, reached=True),
                _level("production", 0.65, 0.85, reached=True),
                _level("stretch", 0.75, 0.9, reached=False),
            ],
        },
        "must_pass": {
            "baseline": [
                _found("who kept the light?", 9, passed=False),
                _found(HOSTILE, None, passed=False),
            ],
            "candidate": [
                _found("who kept the light?", 1, passed=True),
                _found(HOSTILE, None, passed=False),
            ],
        },
        "audit": {
            "limit": 256,
            "lost": 3,
            "kinds": {
                "chunk": {"texts": 3710, "truncated": 12},
                "query": {"texts": 900, "truncated": 0},
            },
        },
        "power": [
            {"difference": 0.04 * i, "power": min(1.0, 0.05 + (i / 9) ** 2)} for i in range(1, 9)
        ],
    }


def pairs_alone() -> Tree:
    """A report of scored pairs without any question."""
    report = whole(ROWS)
    without = ("distribution", "latency_ms", "systems", "must_pass", "power")
    return {
        **{key: value for key, value in report.items() if key not in without},
        "questions": 0,
        "groups": 604,
        "measure": "spearman",
        "metrics": {},
        "slices": {},
        "gained": [],
        "lost": [],
        "tier": "not judged",
        "tier_judged_at": None,
        "distribution": None,
        "latency_ms": None,
        "must_pass": {"baseline": [], "candidate": []},
        "power": None,
        "systems": [],
        "smallest_detectable": 0.04,
    }
