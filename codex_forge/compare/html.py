"""The comparison as one HTML page that opens anywhere and asks nothing of the network.

The folder `page/` holds the words, the style and the small script as templates, and modules that
work out what they show. Questions and chunks are untrusted text, so autoescaping is on, the rows
travel as inert JSON, and the page's Content-Security-Policy allows its own script alone, by hash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codex_forge.compare.page.examples import cases, must_pass
from codex_forge.compare.page.head import head, ladder, levels, outcomes
from codex_forge.compare.page.measures import plot, table
from codex_forge.compare.page.scales import digits_of
from codex_forge.compare.page.scored import scored
from codex_forge.compare.page.slices import slices
from codex_forge.compare.page.spread import histogram, power_curve
from codex_forge.compare.page.systems import systems
from codex_forge.compare.page.written import FILTERS, rows_json
from codex_forge.pages import environment_of

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent / "page"
_OPTIONAL = ("all_questions", "audit", "lineage", "versions", "recommendations")


def render(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole page as text; write it as UTF-8.

    Args:
        report: the comparison, as in `report.json`.
        rows: one mapping a question: `query_id`, `question`, `category`, `difficulty`, `baseline`,
            `candidate` and `difference`.
    """
    from markupsafe import Markup

    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            **_shown(report),
            report={**dict.fromkeys(_OPTIONAL), **report},
            style=Markup(_text("style.css")),  # noqa: S704 - ours
            script=Markup(_text("script.js")),  # noqa: S704 - ours
            rows_json=Markup(rows_json(rows)),  # noqa: S704 - escaped by rows_json
            row_count=len(rows),
        )
    )
    return re.sub("[\ud800-\udfff]", "\ufffd", page)


@cache
def _environment() -> Environment:
    environment = environment_of(_FOLDER)
    environment.filters.update(FILTERS)
    return environment


def _shown(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the sections of the page show; a section that got nothing is left out."""
    measure, metrics = report["measure"], report["metrics"]
    digits = digits_of(measure)
    return {
        "measure": measure,
        "digits": digits,
        "head": head(report),
        "ladder": ladder(report),
        "levels": levels(report),
        "outcomes": outcomes(report),
        "systems": systems(report),
        "plot": plot(metrics, measure),
        "measures": table(metrics, measure),
        "scored": scored(report),
        "must_pass": must_pass(report),
        "slices": slices(report.get("slices") or {}, measure, "questions"),
        "histogram": histogram(report["distribution"] if report["questions"] else None),
        "times": _times(report.get("latency_ms") or {}),
        "power": power_curve(report.get("power"), report["smallest_detectable"]),
        "gained": cases(report.get("gained") or ()),
        "lost": cases(report.get("lost") or ()),
    }


def _times(latency: Mapping[str, Any]) -> dict[str, Any]:
    """The sides that were timed."""
    return {side: t for side, t in latency.items() if t and t.get("p50") is not None}


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
