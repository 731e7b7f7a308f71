"""Histograms of the token lengths as a picture of its own."""

from __future__ import annotations

import io
from collections.abc import Mapping

from codex_forge.tokens import LengthAudit


def picture(audits: Mapping[str, LengthAudit]) -> str:
    """One panel a kind of text, as SVG; equal lengths give equal bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.2 * max(1, len(audits))), layout="constrained")
    panels = figure.subplots(len(audits), squeeze=False)[:, 0] if audits else ()
    for axes, (kind, found) in zip(panels, audits.items(), strict=True):
        axes.stairs(found.histogram["counts"], found.histogram["edges"], fill=True)
        if found.limit <= 2 * found.maximum:
            axes.axvline(found.limit, color="tab:red", label=f"limit {found.limit}")
            axes.legend()
        axes.set(title=f"{kind}: {found.texts} texts", xlabel="tokens", ylabel="texts")
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "codex-forge"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
