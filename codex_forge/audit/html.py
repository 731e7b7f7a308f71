"""The audit as one HTML page that opens anywhere, runs no script and asks nothing of the network.

The template `report.html.j2` holds the words and the style; this module works out positions. All
texts of the data are escaped, and the page's Content-Security-Policy allows nothing but its style.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from codex_forge.pages import environment_of

_TEMPLATE = "report.html.j2"
_HEIGHT = 120
_TICKS = 5
_NAMES = {
    "chunk": "Chunks",
    "query": "Queries",
    "positive": "Positives",
    "negative": "Negatives",
    "text_a": "Scored pairs, first text",
    "text_b": "Scored pairs, second text",
}


def render(report: Mapping[str, Any]) -> str:
    """The whole page as text, from what stands in `report.json`; write it as UTF-8."""
    environment = environment_of(Path(__file__).parent)
    environment.filters.update(share=_percent, thousands=_thousands)
    page = environment.get_template(_TEMPLATE).render(
        report=report,
        kinds=[_kind(report, kind) for kind in report["lengths"]],
        errors=[each for each in report["defects"] if each["severity"] == "error"],
        others=[each for each in report["defects"] if each["severity"] != "error"],
    )
    return re.sub("[\ud800-\udfff\0]", "\ufffd", page)


def _kind(report: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """One kind of text: its numbers, its histogram, its longest texts."""
    found = report["lengths"][kind]
    return {
        **found,
        "name": _NAMES[kind],
        "over": found["truncated_share"] > report["gates"]["max_truncated_share"],
        "picture": _histogram(found["histogram"], found["limit"]),
        "worst": report["worst"][kind],
    }


def _histogram(histogram: Mapping[str, list[int]], limit: int) -> dict[str, Any]:
    """Bars and ticks in percent of the width; a line where the model stops reading."""
    edges, counts = histogram["edges"], histogram["counts"]
    end, most = edges[-1], max([1, *counts])
    return {
        "height": _HEIGHT,
        "bars": [
            {
                "x": _share(start, end),
                "width": max(0.1, _share(stop - start, end) - 0.4),
                # A bin with few texts shows, too: those are the outliers.
                "height": max(1.5, round(_HEIGHT * count / most, 2)),
                "over": start > limit,
                "label": f"{start} to {stop - 1} tokens: {count:,} texts",
            }
            for (start, stop), count in zip(pairwise(edges), counts, strict=True)
            if count
        ],
        "ticks": [
            {"x": _share(at, end), "label": f"{at:,}"}
            for at in sorted({end * i // _TICKS for i in range(_TICKS)})
        ],
        "limit": _share(limit, end) if limit < end else None,
    }


def _share(value: float, whole: float) -> float:
    return round(100 * value / whole, 3) if whole else 0.0


def _percent(value: float) -> str:
    """A share in percent; one that is not zero never reads as zero."""
    if 0 < value < 0.0005:  # noqa: PLR2004
        return "<0.1\u00a0%"
    return f"{100 * value:.1f}\u00a0%"


def _thousands(value: float) -> str:
    return f"{value:,.0f}"
