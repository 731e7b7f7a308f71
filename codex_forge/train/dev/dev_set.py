"""What a model is measured on while it trains: dev questions and the chunks they are asked of."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import NamedTuple

from codex_forge.agreement import means_the_same
from codex_forge.records import Qrels

log = logging.getLogger("codex_forge")


class DevQuestion(NamedTuple):
    """A question; `domain` is its field `domain`, else its `category`."""

    query_id: str
    text: str
    domain: str


class DevPair(NamedTuple):
    """A dev query and a chunk that answers it."""

    query_id: str
    query: str
    positive_id: str
    positive: str


class DevScored(NamedTuple):
    """Two texts with a score or a label, or both."""

    text_a: str
    text_b: str
    score: float | None
    label: int | None
    domain: str

    @property
    def alike(self) -> int:
        """The label; without one, whether the score is at least a half."""
        return int(means_the_same(self.score, self.label))


@dataclass(frozen=True)
class DevSet:
    """What is measured on. A run may have questions and pairs, scored pairs, both, or nothing."""

    questions: tuple[DevQuestion, ...] = ()
    chunks: dict[str, str] = field(default_factory=dict)
    """Text by chunk id: what the questions are asked of."""
    qrels: Qrels = field(default_factory=dict)
    """Judgements of `questions` on `chunks`, with their grades."""
    pairs: tuple[DevPair, ...] = ()
    answers: dict[str, frozenset[str]] = field(default_factory=dict)
    """Of each query of `pairs`, the ids of all chunks known to answer it."""
    scored: tuple[DevScored, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    """Questions that are not asked: reason -> count."""

    @property
    def gives(self) -> tuple[str, ...]:
        """The measures that these data can give, the one that chooses by default first."""
        found: list[str] = []
        if self.questions:
            found += ["ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10"]
        if len({row.score for row in self.scored if row.score is not None}) > 1:
            found += ["spearman", "pearson"]
        if len({row.alike for row in self.scored}) > 1:
            found += ["average_precision", "roc_auc"]
        if len(self.pairs) > 1:
            found.append("loss")
        return tuple(found)


def log_dev_set(dev: DevSet) -> None:
    """Say what the model will be measured on."""
    if dev.questions:
        said = "; ".join(f"{count} left out: {reason}" for reason, count in dev.left_out.items())
        log.info(
            "  dev: %s questions asked of %s chunks%s",
            f"{len(dev.questions):,}",
            f"{len(dev.chunks):,}",
            f" ({said})" if said else "",
        )
    if dev.scored:
        log.info("  dev: %s scored or labelled pairs", f"{len(dev.scored):,}")
    if dev.pairs:
        log.info("  dev: the loss of %s pairs", f"{len(dev.pairs):,}")
