"""Advice from what stands beside the verdict: other systems, scored pairs, audit, times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_CUT = 0.01
"""Share of texts of one kind that may be cut without advice."""
_SLOWER = 1.5
"""A candidate that takes this many times as long as the baseline is worth a word."""

Report = Mapping[str, Any]


def _hybrid(report: Report) -> Iterator[str]:
    for system in report["systems"]:
        if (gain := system["over_dense"]) and gain["low"] > 0:
            yield (
                f"Words and meaning together help: {system['name']} scores {gain['mean']:.2f} more "
                f"than {gain['name']} alone (interval {gain['low']:+.2f} to {gain['high']:+.2f}). "
                "Search with evaluate.retriever=hybrid."
            )


def _words_alone(report: Report) -> Iterator[str]:
    if report["candidate"]["retriever"] == "bm25":
        return
    for system in report["systems"]:
        over = system["candidate_over"]
        if system["retriever"] == "bm25" and over and over["low"] <= 0:
            yield (
                f"BM25 alone is not shown to be worse than the candidate: the candidate scores "
                f"{over['mean']:+.2f} against {system['name']} (interval {over['low']:+.2f} to "
                f"{over['high']:+.2f}). It needs no model: try it, or both together "
                "(evaluate.retriever=hybrid), before a longer training."
            )


def _must_pass(report: Report) -> Iterator[str]:
    failed = [found for found in report["must_pass"]["candidate"] if not found["passed"]]
    if failed:
        asked = "; ".join(f"{found['query']!r}" for found in failed[:3])
        more = f" and {len(failed) - 3} more" if failed[3:] else ""
        yield (
            f"{len(failed)} of {len(report['must_pass']['candidate'])} queries that must find "
            f"their answer do not: {asked}{more}. Read what comes before it, and add pairs of "
            "that kind."
        )


def _adversarial(report: Report) -> Iterator[str]:
    if report["pairs"] is None:
        return
    found = report["pairs"]["adversarial"]["candidate"]
    if found["verdict"] == "fail":
        yield (
            "Shared words deceive the candidate: pairs of another meaning with many words in "
            f"common have a mean cosine of {found['other_meaning_many_words']:.2f}, pairs of the "
            f"same meaning in other words {found['same_meaning_few_words']:.2f}. Train with more "
            "hard pairs (train.phases), and with negatives that share words."
        )


def _cut(report: Report) -> Iterator[str]:
    if report["audit"] is None:
        return
    for kind, found in report["audit"]["kinds"].items():
        if found["truncated"] > _CUT * found["texts"]:
            yield (
                f"{found['truncated']} of {found['texts']} {kind} texts are cut at "
                f"{report['audit']['limit']} tokens: what comes later is never read. Make the "
                "chunks shorter, or raise model.max_seq_length."
            )
    if lost := report["audit"]["lost"]:
        yield f"In {lost} train pairs the expected topics stand only where the model stops reading."


def _latency(report: Report) -> Iterator[str]:
    before, after = (report["latency_ms"][side] for side in ("baseline", "candidate"))
    if _same_work(report["systems"]):
        return
    if before and after and before["p50"] > 0 and after["p50"] > _SLOWER * before["p50"]:
        yield (
            f"A query takes the candidate {after['p50'] / before['p50']:.1f} times as long as the "
            f"baseline (p50 {after['p50']:.1f} ms, {before['p50']:.1f} ms)."
        )


def _same_work(systems: Sequence[Report]) -> bool:
    """Whether both sides search vectors of one width in one way: then times differ by chance."""
    kinds = {
        (system["retriever"], system["dimension"])
        for system in systems
        if system["role"] != "other"
    }
    return len(kinds) == 1 and None not in next(iter(kinds))


BESIDE = (_hybrid, _words_alone, _must_pass, _adversarial, _cut, _latency)
"""The rules, in the order in which they speak."""
