"""How hard a pair, a negative and a scored pair are to tell apart by words alone.

A curriculum goes from `easy` to `hard`: what words give away first, what they contradict last.
All similarities here are TF-IDF cosines, 0 (no word in common) to 1 (the same words).
"""

from __future__ import annotations

from collections.abc import Sequence

from codex_forge.records import PHASES

_NEAR = 10
"""A positive among so many first of BM25 is within reach of words."""
_AS_SIMILAR, _HALF_AS_SIMILAR = 0.9, 0.5
"""Shares of the positive's similarity from which a negative is `hard`, and `medium`."""
_AGREES, _CONTRADICTS = 1 / 3, 2 / 3
"""Distances of a score from the similarity of words, up to which and from which ..."""


def phase_of(
    given: str, rank: int | None, similarity: float, negative_similarities: Sequence[float]
) -> str:
    """The phase of a pair: how far words alone lead from the query to its positive.

    Args:
        given: what the data say themselves; it wins when it is a phase.
        rank: of the positive in BM25 for the query, the best is 0; None when it is not ranked.
        similarity: of query and positive.
        negative_similarities: of the query and each of the pair's negatives.

    Returns:
        `easy` when BM25 ranks the positive first and no negative is more similar to the query
        than it is, `medium` when it is among the first ten, else `hard`.
    """
    if given in PHASES:
        return given
    if rank is None or rank >= _NEAR:
        return "hard"
    misleads = any(other > similarity for other in negative_similarities)
    return "medium" if rank > 0 or misleads else "easy"


def hardness_of(similarity: float, positive_similarity: float) -> str:
    """How hard a negative is, by its similarity to the query beside the positive's.

    `hard` from 0.9 times the positive's on, `medium` from half of it on, else `easy`. One that
    shares no word with the query is always `easy`; where it is the positive that shares none, a
    negative that does share one is always `hard`.
    """
    if similarity <= 0.0:
        return "easy"
    if similarity >= _AS_SIMILAR * positive_similarity:
        return "hard"
    return "medium" if similarity >= _HALF_AS_SIMILAR * positive_similarity else "easy"


def phase_of_scored(score_or_label: float, similarity: float, given: str = "") -> str:
    """The phase of a scored or labelled pair: `easy` when words agree with the score.

    Args:
        score_or_label: 0 (nothing to do with each other) to 1 (the same); a label is 0 or 1.
        similarity: of the two texts.
        given: what the data say themselves; it wins when it is a phase.

    Returns:
        `easy` when score and similarity are at most a third apart, `hard` when they are two
        thirds apart or more (alike in words and not in meaning, or the reverse), else `medium`.
    """
    if given in PHASES:
        return given
    apart = abs(score_or_label - similarity)
    if apart <= _AGREES:
        return "easy"
    return "hard" if apart >= _CONTRADICTS else "medium"
