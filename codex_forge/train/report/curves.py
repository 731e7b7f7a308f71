"""Pictures of a training: its losses and learning rate, its dev measures, its domains.

SVG without a background, in colours that a light and a dark page both show; equal entries give
equal bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from codex_forge.train.dev.metric import Metric

Entry = Mapping[str, Any]
Points = list[tuple[int, float]]

_INK = "#7a7a7a"
"""As readable on white as on black."""
_STYLE = {
    "svg.hashsalt": "codex-forge",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "axes.facecolor": "none",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_COLOURS = ("#1f83d0", "#e0701a", "#2f9e44", "#c2489b", "#8d6ad8", "#b08900", "#0f9d9d", "#d64545")
_SHOWN = ("ndcg@10", "recall@5", "mrr@10", "spearman", "roc_auc")
_OF_DOMAINS = ("recall@5", "spearman", "average_precision")
_ACROSS, _MOST, _LETTERS = 3, 12, 24
"""Of the domains: panels in a row, panels in all, letters of a name."""


def training(entries: Sequence[Entry], metric: Metric | None) -> str:
    """Losses and learning rate, and below them the dev measures; with stages as they followed."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = _shown(entries, metric)
    with rc_context(_STYLE):
        figure = Figure(figsize=(8, 6.6 if shown else 3.8), layout="constrained", facecolor="none")
        panels = figure.subplots(1 + bool(shown), squeeze=False, sharex=True)[:, 0]
        _losses(panels[0], entries, metric)
        for axes in panels:
            _borders(axes, entries, named=axes is panels[0])
        if shown:
            _dev(panels[1], entries, shown, metric)
        panels[-1].set_xlabel("optimizer step")
        return _svg(figure)


def domains(entries: Sequence[Entry]) -> str:
    """One measure of each domain, a panel each; empty when fewer than two were measured."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    found = {measure: _domains_of(entries, measure) for measure in _OF_DOMAINS}
    measure = next((measure for measure, names in found.items() if len(names) > 1), None)
    if measure is None:
        return ""
    names = found[measure][:_MOST]
    rows = -(-len(names) // _ACROSS)
    with rc_context(_STYLE):
        figure = Figure(figsize=(8, 0.6 + 1.9 * rows), layout="constrained", facecolor="none")
        panels = figure.subplots(rows, _ACROSS, squeeze=False, sharex=True, sharey=True).flat
        for place, axes in enumerate(panels):
            if place < len(names):
                _domain(axes, entries, names[place], measure)
                axes.tick_params(labelbottom=place + _ACROSS >= len(names))
            else:
                axes.set_axis_off()
        figure.supxlabel("optimizer step (dashed: the base model)", fontsize="medium")
        of = f" ({len(names)} of {len(found[measure])} domains)" if names != found[measure] else ""
        figure.supylabel(f"dev {measure}{of}", fontsize="medium")
        return _svg(figure)


def _losses(axes: Any, entries: Sequence[Entry], metric: Metric | None) -> None:
    for number, (stage, _) in enumerate(_stages(entries)):
        if points := _points(entries, "loss", stage):
            label = "train loss" if not number else None
            axes.plot(*_xy(points), color=_COLOURS[0], linewidth=1.4, label=label, **_mark(points))
    if _points(entries, "dev_loss"):
        _measure(axes, entries, "loss", _COLOURS[1], metric, label="dev loss")
    axes.set_ylabel("loss")
    rate = axes.twinx()
    rate.grid(visible=False)
    rate.spines["right"].set_visible(True)
    rate.set_ylabel("learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for stage, _ in _stages(entries):
        points = _points(entries, "learning_rate", stage)
        rate.plot(*_xy(points), color=_INK, linewidth=1, linestyle=":")
    rate.set_ylim(bottom=0)
    axes.plot([], [], color=_INK, linewidth=1, linestyle=":", label="learning rate")
    _legend(axes, 1.1 if len(_stages(entries)) > 1 else 1.0)


def _dev(axes: Any, entries: Sequence[Entry], shown: Sequence[str], metric: Metric | None) -> None:
    for name, colour in zip(shown, _COLOURS, strict=False):
        _measure(axes, entries, name, colour, metric, label=name)
    axes.set_ylabel("dev measures")
    axes.margins(y=0.12)
    _legend(axes, 1.0)


def _legend(axes: Any, height: float) -> None:
    """Above the panel, where no line is."""
    lines = len(axes.get_legend_handles_labels()[1])
    where = {"loc": "lower left", "bbox_to_anchor": (-0.01, height)}
    axes.legend(**where, ncols=min(lines, 5), fontsize="small")


def _measure(
    axes: Any, entries: Sequence[Entry], name: str, colour: str, metric: Metric | None, label: str
) -> None:
    """A dev measure; of the metric the base as a dashed line, too, and each stage's best marked.

    What a stage began with is not its best.
    """
    points = _points(entries, f"dev_{name}")
    is_metric = metric is not None and name == metric.name
    width = 1.8 if is_metric else 1.0
    axes.plot(*_xy(points), color=colour, linewidth=width, marker="o", markersize=3, label=label)
    if metric is None or not is_metric:
        return
    if points[0][0] == 0:
        style = {"color": colour, "linestyle": "--", "linewidth": 1}
        axes.axhline(points[0][1], label=f"{label} of the base", **style)
    for stage, start in _stages(entries):
        trained = [p for p in _points(entries, f"dev_{name}", stage) if p[0] > start]
        if trained:
            _mark_best(axes, trained, metric, colour)


def _mark_best(axes: Any, points: Points, metric: Metric, colour: str) -> None:
    """A ring around the first of the best measurements of a stage."""
    sign = 1 if metric.higher_is_better else -1
    step, value = max(points, key=lambda point: sign * point[1])
    axes.plot([step], [value], "o", markersize=9, markerfacecolor="none", color=colour)
    axes.annotate(
        f"{value:.3f}",
        (step, value),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        color=colour,
        fontsize="small",
    )


def _borders(axes: Any, entries: Sequence[Entry], *, named: bool) -> None:
    """Where each stage begins, and what it is called, when there are several."""
    stages = _stages(entries)
    if len(stages) < 2:  # noqa: PLR2004
        return
    for number, (stage, start) in enumerate(stages):
        if number:
            axes.axvline(start, color=_INK, linewidth=0.8)
        if named:
            height = 1.01 if number % 2 else 1.06  # so that short stages leave room for names
            where = axes.get_xaxis_transform()
            axes.text(start, height, stage, transform=where, fontsize="small", parse_math=False)


def _domain(axes: Any, entries: Sequence[Entry], domain: str, measure: str) -> None:
    points = _points(entries, f"dev_{domain}_{measure}")
    axes.plot(*_xy(points), color=_COLOURS[0], linewidth=1.4, marker="o", markersize=3)
    if points[0][0] == 0:
        axes.axhline(points[0][1], color=_INK, linestyle="--", linewidth=1)
    name = domain if len(domain) <= _LETTERS else f"{domain[: _LETTERS - 1]}…"
    axes.set_title(name, fontsize="medium", loc="left", parse_math=False)
    axes.annotate(
        f"{points[-1][1]:.2f}",
        (1, 1),
        xycoords="axes fraction",
        ha="right",
        va="bottom",
        color=_COLOURS[0],
    )


def _shown(entries: Sequence[Entry], metric: Metric | None) -> list[str]:
    """The dev measures of the picture, the metric first; the loss is among the losses."""
    first = [metric.name] if metric is not None else []
    names = (name for name in dict.fromkeys((*first, *_SHOWN)) if name != "loss")
    return [name for name in names if _points(entries, f"dev_{name}")]


def _stages(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """Stages in their order, with the step that each begins after."""
    found: dict[str, int] = {}
    last = 0
    for entry in entries:
        found.setdefault(entry["stage"], last)
        last = max(last, entry["step"])
    return list(found.items())


def _domains_of(entries: Sequence[Entry], measure: str) -> list[str]:
    keys = {key for entry in entries for key in entry}
    told = re.compile(f"dev_(.+)_{re.escape(measure)}", re.DOTALL)
    return sorted(found[1] for found in map(told.fullmatch, keys) if found)


def _points(entries: Sequence[Entry], key: str, stage: str | None = None) -> Points:
    return [(e["step"], e[key]) for e in entries if key in e and stage in (None, e["stage"])]


def _xy(points: Points) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _mark(points: Points) -> dict[str, Any]:
    """A single point is no line: it needs a mark."""
    return {"marker": "o", "markersize": 3} if len(points) == 1 else {}


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="none")
    return buffer.getvalue()
