"""Results for people: a table for spreadsheets, a summary in Markdown, lines for the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codex_forge.evaluate import must_pass
from codex_forge.spreadsheets import markdown_cell, write_table

Row = Mapping[str, Any]

_QUOTED = ("rubric", "recall@5", "recall@10", "mrr@10", "ndcg@10")
"""Of the measures of retrieval, those that the log tells."""
_FIRST = ("query_id", "question")
_LAST = ("first_filename", "first_chunk_id", "relevant_rank")


def write_questions(path: Path, rows: Sequence[Row], fields: Sequence[str]) -> None:
    """Write one line a question: its fields, measures, and what came first."""
    measures = list(rows[0]["measures"]) if rows else []
    own = [name for name in dict.fromkeys(fields) if any(name in row for row in rows)]
    write_table(
        path,
        [*_FIRST, *own, *measures, *_LAST],
        (
            [
                *(row[name] for name in _FIRST),
                *(row.get(name) for name in own),
                *(row["measures"][name] for name in measures),
                *_found(row),
            ]
            for row in rows
        ),
    )


def _found(row: Row) -> list[object]:
    first: Row = row["retrieved"][0] if row["retrieved"] else {}
    ranks = [each["rank"] for each in row["retrieved"] if each["relevant"]]
    return [first.get("filename"), first.get("chunk_id"), min(ranks, default=None)]


def markdown(report: Row) -> str:
    """The report as a page of text."""
    parts = [f"# {report['name']}\n", *_tables(report)]
    if report["must_pass"]:
        lines = [f"- {must_pass.line_of(each)}" for each in report["must_pass"]]
        parts += ["## Must pass\n", "\n".join(lines) + "\n"]
    return "\n".join(parts)


def _tables(report: Row) -> Iterator[str]:
    yield f"{headline(report)}\n"
    lines = dict(numbers(report))
    if lines:
        rows = [f"| {name} | {value} |" for name, value in lines.items()]
        yield "\n".join(["| measure | value |", "|---|---|", *rows]) + "\n"
    for field, values in report["slices"].items():
        rows = [
            f"| {markdown_cell(value)} | {found['questions']} | {found['metrics']['rubric']:.2f} "
            f"| {found['metrics']['ndcg@10']:.3f} |"
            for value, found in values.items()
        ]
        yield f"## By {markdown_cell(field)}\n"
        head = ["| value | questions | rubric | ndcg@10 |", "|---|---|---|---|"]
        yield "\n".join([*head, *rows]) + "\n"


def headline(report: Row) -> str:
    """What was asked of what."""
    model = f", model {report['model']}" if report["model"] else ""
    asked = f"{report['questions']} {report['part']} questions" if report["questions"] else ""
    pairs = f"{report['pairs']['test']['pairs']} test pairs" if report["pairs"] else ""
    what = " and ".join(each for each in (asked, pairs) if each)
    return f"{report['name']} on {what} ({report['retriever']}{model})"


def numbers(report: Row, *, every: bool = True) -> Iterator[tuple[str, str]]:
    """Numbers with their names: every one, or the measures that are quoted and all else."""
    for name, value in report["metrics"].items():
        if every or name in _QUOTED:
            yield name, f"{value:.2f}/5" if name == "rubric" else f"{value:.3f}"
    yield from _of_pairs(report["pairs"])
    hybrid, chroma, timing = report["hybrid"], report["chroma"], report["latency_ms"]
    if hybrid and hybrid["weight"] is not None:
        chosen = " (chosen on dev questions)" if hybrid["dev"] else ""
        yield "weight of dense", f"{hybrid['weight']:.2f}{chosen}"
    for name, value in (chroma or {}).items():
        yield name, f"{value:.3f}"
    if timing:
        on_disk = ", vectors read from disk" if report["vectors"] == "on disk" else ""
        yield "one query", f"p50 {timing['p50']:.1f} ms, p95 {timing['p95']:.1f} ms{on_disk}"
    if report["queries_per_second"]:
        yield "all together", f"{report['queries_per_second']:,.0f} queries/s"
    if report["index_bytes"]:
        yield "index", _size(report["index_bytes"])
    if report["must_pass"]:
        passed = sum(each["passed"] for each in report["must_pass"])
        yield "must pass", f"{passed} of {len(report['must_pass'])}"


def _of_pairs(pairs: Row | None) -> Iterator[tuple[str, str]]:
    """Measures of scored pairs, of those that have a value."""
    for name, value in (pairs["test"]["values"] if pairs else {}).items():
        if value is not None:
            yield f"pairs: {name}", f"{value:.3f}"
    if pairs and pairs["threshold"] is not None:
        yield "pairs: threshold", f"{pairs['threshold']:.3f} (best F1 on dev pairs)"
    if pairs:
        yield "pairs: adversarial", pairs["adversarial"]["verdict"]


def _size(count: int) -> str:
    """Bytes in kB below a megabyte, in MB from there on."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"  # noqa: PLR2004
