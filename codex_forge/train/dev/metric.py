"""The measure that chooses the best weights: what the config names, if the data can give it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from codex_forge.config.train import ValidationConfig
from codex_forge.errors import ConfigError, nearest
from codex_forge.train.dev.dev_set import DevSet

log = logging.getLogger("codex_forge")

MEASURES = (
    "ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10",
    "spearman", "pearson", "average_precision", "roc_auc", "loss",
)  # fmt: skip
_BY_DEFAULT = ("ndcg@10", "spearman", "average_precision", "loss")


class Metric(NamedTuple):
    """What chooses the best weights."""

    name: str
    higher_is_better: bool

    def gains(self, value: float | None, over: float | None) -> bool:
        """Whether `value` is better; an equal one is not, and None is worse than any."""
        if value is None or over is None:
            return value is not None
        return value > over if self.higher_is_better else value < over


def metric_of(validation: ValidationConfig, dev: DevSet) -> Metric | None:
    """What the config's `metric` is on these data; None when there is nothing to measure on.

    Raises:
        ConfigError: these data cannot give the metric, or there are none and the config relies on
            some.
    """
    wanted, gives = validation.metric, dev.gives
    if wanted not in ("auto", *MEASURES):
        raise ConfigError(
            f"there is no measure {wanted!r}",
            where="train.validation.metric",
            do=f"did you mean {near}?" if (near := nearest(wanted, MEASURES)) else _one(MEASURES),
        )
    if not gives:
        _refuse_to_rely_on_nothing(validation)
        log.info("  no dev questions or pairs: nothing is measured while the model trains")
        return None
    if wanted == "auto":
        wanted = next(name for name in _BY_DEFAULT if name in gives)
    if wanted not in gives:
        raise ConfigError(
            f"the dev data of these pairs do not give {wanted}",
            where="train.validation.metric",
            do=_one(gives),
        )
    return Metric(wanted, higher_is_better=wanted != "loss")


def _one(names: Iterable[str]) -> str:
    return f"give one of {', '.join(names)}, or auto"


def _refuse_to_rely_on_nothing(validation: ValidationConfig) -> None:
    keys = {"metric": validation.metric != "auto", "patience": validation.patience > 0}
    for key in (key for key, is_set in keys.items() if is_set):
        raise ConfigError(
            "there are no dev questions and no dev pairs to measure on",
            where=f"train.validation.{key}",
            do="leave it out, or give pairs.split.dev a share",
        )
