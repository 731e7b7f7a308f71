"""The mode `audit`: token lengths, pair quality and leaks, as a verdict that `train` asks for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codex_forge.artifact import Artifact, Draft
from codex_forge.config import RunConfig
from codex_forge.corpus import check_same_files, find_files, read_corpus
from codex_forge.entities import normalise
from codex_forge.errors import GateNotMet, InputError
from codex_forge.job import Job
from codex_forge.jsonl import read_json, read_jsonl, write_json, write_jsonl
from codex_forge.model import locate
from codex_forge.near_duplicates import NearDuplicates
from codex_forge.progress import progress
from codex_forge.tokens import LengthAudit, audit_lengths, load_tokenizer

log = logging.getLogger("codex_forge")

Finding = dict[str, Any]

_SPECIAL_TOKENS_ROOM = 8
_SNIPPET = 120


def run(job: Job) -> None:
    """Audit the run's pairs and corpus, unless that is done; fail the gate when it fails.

    Raises:
        GateNotMet: the audit is written, and its verdict is `fail`.
    """
    pairs = job.open("pairs", job.config.name)
    files = find_files(job.config.corpus)
    chunks = files.inputs(("chunks",))
    check_same_files(pairs, chunks, ("chunks",))
    base = locate.locate(job.config.model)
    settings = {
        "audit": job.config.audit.model_dump(mode="json"),
        "model": _model_settings(job.config),
    }
    inputs = {"pairs": pairs.as_input(), "model": base.identity, **chunks}
    recipe = job.recipe(job.config.name, settings, inputs)
    state = job.begin(recipe)
    if isinstance(state, Draft):
        corpus = read_corpus(files, "reject")
        auditor = Auditor(job.config, pairs, base.folder)
        report = auditor.write(state, [chunk.text for chunk in corpus.chunks])
        log.info("wrote %s", state.url)
    else:
        report = read_json(job.open("audit", job.config.name).path("report.json"))
    _log_report(report)
    if report["verdict"] != "pass":
        raise GateNotMet(
            "the audit failed: " + "; ".join(report["reasons"]),
            where=job.store.url(recipe.folder),
            do="see findings.jsonl there; mend the data, or loosen the audit section",
        )


def _model_settings(config: RunConfig) -> dict[str, Any]:
    keys = ("max_seq_length", "query_prompt", "document_prompt")
    return {key: getattr(config.model, key) for key in keys}


class Auditor:
    """Measures lengths and looks for defects in one pairs artifact."""

    def __init__(self, config: RunConfig, pairs: Artifact, model_folder: Path) -> None:
        """Load the tokenizer; find the length limit and prompts that the model will use."""
        self._config, self._pairs = config, pairs
        self._worst: dict[str, list[dict[str, Any]]] = {}
        self._count = load_tokenizer(model_folder)
        limit = config.model.max_seq_length or locate.max_seq_length(model_folder)
        if limit is None:
            raise InputError(
                "the model does not say how many tokens it keeps",
                where=model_folder,
                do="set model.max_seq_length",
            )
        self._limit = limit
        own = locate.prompts(model_folder)
        self._query_prompt = config.model.query_prompt or own.get("query", "")
        self._document_prompt = config.model.document_prompt or own.get("document", "")

    def write(self, draft: Draft, chunks: list[str]) -> dict[str, Any]:
        """Write and commit the audit; returns its report."""
        lengths = self._lengths(chunks)
        findings = list(self._findings())
        total = self._pairs.counts["pairs_train"]
        reasons = [*self._length_reasons(lengths), *self._defect_reasons(findings, total)]
        report = {
            "verdict": "fail" if reasons else "pass",
            "reasons": reasons,
            "limit": self._limit,
            "lengths": {kind: asdict(found) for kind, found in lengths.items()},
            "worst": self._worst,
            "findings": dict(sorted(Counter(f["kind"] for f in findings).items())),
            "pairs_audited": total,
            "advice": self._advice(lengths),
        }
        write_jsonl(draft.path("findings.jsonl"), findings)
        write_json(draft.path("report.json"), report)
        draft.path("lengths.svg").write_text(_picture(lengths), encoding="utf-8")
        draft.commit({"findings": len(findings), "pairs": total}, {"verdict": report["verdict"]})
        return report

    def _rows(self) -> Iterator[dict[str, Any]]:
        return read_jsonl(self._pairs.path("pairs-train.jsonl"))

    def _lengths(self, chunks: list[str]) -> dict[str, LengthAudit]:
        """Lengths by kind of text; each distinct text is counted once."""
        found = {}
        for kind, prompt in (
            ("chunk", self._document_prompt),
            ("query", self._query_prompt),
            ("positive", self._document_prompt),
            ("negative", self._document_prompt),
        ):
            texts = chunks if kind == "chunk" else self._distinct(kind)
            found[kind] = audit_lengths(
                texts,
                self._count,
                self._limit,
                prompt=prompt,
                what=kind,
                worst=self._config.audit.worst,
            )
            self._worst[kind] = [
                {"tokens": tokens, "begins": texts[position][:_SNIPPET]}
                for position, tokens in found[kind].worst
            ]
        return found

    def _distinct(self, kind: str) -> list[str]:
        """The distinct queries, positives or negatives, in their order."""
        if kind == "negative":
            return list(dict.fromkeys(text for row in self._rows() for text in row["negatives"]))
        return list(dict.fromkeys(row[kind] for row in self._rows()))

    def _findings(self) -> Iterator[Finding]:
        """Defects of train pairs, and train queries that leak held-out questions."""
        threshold = self._pairs.manifest.settings["pairs"]["near_duplicate"]
        bank = NearDuplicates(self._held_out(), threshold)
        seen: set[tuple[str, str]] = set()
        positives: dict[str, set[str]] = {}
        for row in self._rows():
            key = normalise(row["query"])
            positives.setdefault(key, set()).add(normalise(row["positive"]))
        for line, row in enumerate(progress(self._rows(), "pairs audited"), start=1):
            for kind, detail in _defects(row, seen, positives):
                yield {"kind": kind, "line": line, "query_id": row["query_id"], "detail": detail}
            if match := bank.find(row["query"]):
                detail = f"{row['query']!r} is nearly {match.text!r} ({match.similarity:.2f})"
                yield {
                    "kind": "leak",
                    "line": line,
                    "query_id": row["query_id"],
                    "detail": detail,
                    "question": match.key,
                }

    def _held_out(self) -> Iterator[tuple[str, str]]:
        for part in ("test", "dev"):
            for row in read_jsonl(self._pairs.path(f"questions-{part}.jsonl")):
                yield row["query_id"], row["question"]

    def _length_reasons(self, lengths: dict[str, LengthAudit]) -> Iterator[str]:
        most = self._config.audit.max_truncated_share
        for kind, found in lengths.items():
            if found.truncated_share > most:
                yield (
                    f"{found.truncated} of {found.texts} {kind} texts are cut at {self._limit} "
                    f"tokens ({found.truncated_share:.1%}, allowed {most:.1%})"
                )

    def _defect_reasons(self, findings: list[Finding], total: int) -> Iterator[str]:
        leaks = sum(f["kind"] == "leak" for f in findings)
        if leaks:
            yield f"{leaks} train queries are near-duplicates of held-out questions"
        lines = {f["line"] for f in findings if f["kind"] != "leak"}
        most = self._config.audit.max_defect_share
        if len(lines) > most * total:
            yield f"{len(lines)} of {total} pairs have a defect (allowed {most:.1%})"

    def _advice(self, lengths: dict[str, LengthAudit]) -> list[str]:
        longest = max(found.percentiles["p99"] for found in lengths.values())
        advised = -(-int(longest + _SPECIAL_TOKENS_ROOM) // 16) * 16
        chunk = lengths["chunk"]
        advice = []
        room = self._limit - _SPECIAL_TOKENS_ROOM
        if chunk.truncated:
            shorter = (
                f"cut the corpus into chunks of at most {room} tokens, or " if room > 0 else ""
            )
            advice.append(
                f"{chunk.truncated} chunks lose their end: {shorter}use a model, or a "
                "model.max_seq_length, that reads more"
            )
        if advised < self._limit:
            advice.append(
                f"99 % of every kind of text fit into {int(longest)} tokens: "
                f"model.max_seq_length={advised} cuts few and bounds memory"
            )
        return advice


def _defects(
    row: dict[str, Any], seen: set[tuple[str, str]], positives: dict[str, set[str]]
) -> Iterator[tuple[str, str]]:
    """(kind, detail) of everything wrong with one pair; `seen` collects pairs."""
    query, positive = normalise(row["query"]), normalise(row["positive"])
    if not query or not positive:
        yield "empty", "query or positive has no text"
    if query == positive:
        yield "query_is_positive", row["query"]
    if (query, positive) in seen:
        yield "duplicate", row["query"]
    seen.add((query, positive))
    for text in row["negatives"]:
        if normalise(text) in positives[query]:
            yield "contradiction", f"a negative of {row['query']!r} is a positive of it elsewhere"


def _log_report(report: dict[str, Any]) -> None:
    for kind, found in report["lengths"].items():
        log.info(
            "  %s: %d texts, p50 %d, p99 %d, longest %d tokens, %d cut at %d",
            kind,
            found["texts"],
            found["percentiles"]["p50"],
            found["percentiles"]["p99"],
            found["maximum"],
            found["truncated"],
            found["limit"],
        )
    log.info("  findings: %s", report["findings"] or "none")
    for advice in report["advice"]:
        log.info("  advice: %s", advice)
    log.info("  verdict: %s", report["verdict"])


def _picture(lengths: dict[str, LengthAudit]) -> str:
    """Histograms of the token lengths, one panel a kind, as SVG."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.2 * len(lengths)), layout="constrained")
    for axes, (kind, found) in zip(
        figure.subplots(len(lengths), squeeze=False)[:, 0], lengths.items(), strict=True
    ):
        axes.stairs(found.histogram["counts"], found.histogram["edges"], fill=True)
        if found.limit <= 2 * found.maximum:
            axes.axvline(found.limit, color="tab:red", label=f"limit {found.limit}")
            axes.legend()
        axes.set(title=f"{kind}: {found.texts} texts", xlabel="tokens", ylabel="texts")
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "codex-forge"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
