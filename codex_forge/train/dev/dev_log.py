"""A measurement on dev data as lines of the log, beside that of the base model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from codex_forge.train.dev.metric import Metric

log = logging.getLogger("codex_forge")

_SAID = ("ndcg@10", "recall@5", "mrr@10", "spearman", "roc_auc", "loss")
_COLUMNS = ("recall@5", "mrr@10", "spearman", "roc_auc")
_MOST = 12
"""Domains in a table; the largest are shown."""
_WIDEST = 24
"""Letters of a domain's name in a table."""


def log_measures(
    step: int, measures: Mapping[str, Any], metric: Metric, base: Mapping[str, Any] | None = None
) -> None:
    """Say a measurement, the metric first, and a table of the domains when there are several.

    `base` are the measures of the base model; None when these are.
    """
    names = dict.fromkeys((metric.name, *_SAID))
    said = [_value(name, measures, base) for name in names if name in measures]
    log.info("  dev at step %d: %s", step, ", ".join(said))
    for name, reason in measures["undefined"].items():
        if name in measures:
            log.warning("  dev at step %d: %s has no value: %s", step, name, reason)
    for line in table(measures["by_domain"], (base or {}).get("by_domain", {})):
        log.info("    %s", line)


def _value(name: str, measures: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    before = "" if base is None else f" (base {_number(base.get(name))})"
    return f"{name} {_number(measures[name])}{before}"


def table(
    domains: Mapping[str, Mapping[str, Any]], base: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """A line a domain, in columns; none for a single domain, which is the whole."""
    if len(domains) < 2:  # noqa: PLR2004
        return
    columns = [name for name in _COLUMNS if any(name in own for own in domains.values())]
    largest = sorted(domains, key=lambda domain: (-_size(domains[domain]), domain))
    shown = sorted(largest[:_MOST])
    width = min(_WIDEST, max(map(len, ("domain", *shown))))
    titles = [f"{name:>9}" + (f"{'base':>7}" if base else "") for name in columns]
    yield f"{'domain':<{width}}  dev {''.join(titles)}"
    for domain in shown:
        own, before = domains[domain], base.get(domain, {})
        values = (
            f"{_number(own.get(name)):>9}" + (f"{_number(before.get(name)):>7}" if base else "")
            for name in columns
        )
        yield f"{domain[:_WIDEST]:<{width}}{_size(own):>5} {''.join(values)}"
    if hidden := len(domains) - len(shown):
        yield f"and {hidden} smaller domains"


def _size(own: Mapping[str, Any]) -> int:
    return int(own.get("questions", own.get("scored", 0)))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
