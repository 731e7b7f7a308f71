"""The mode `audit`: pairs and corpus in, `audit/<name>/` out, with a verdict for `train`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_forge import pair_files
from codex_forge.artifact import Artifact, Draft
from codex_forge.audit.advice import advise
from codex_forge.audit.html import render
from codex_forge.audit.lengths import AllLengths, as_report, reading_of, worst_of
from codex_forge.audit.memory import memory_of
from codex_forge.audit.picture import picture
from codex_forge.audit.tally import Tally
from codex_forge.audit.verdict import reasons
from codex_forge.config import RunConfig
from codex_forge.corpus import CorpusFiles, check_same_files, find_files, read_corpus
from codex_forge.defects import DefectFinder
from codex_forge.entities import EntityIndex
from codex_forge.errors import GateNotMet
from codex_forge.job import Job
from codex_forge.jsonl import read_json, read_jsonl, write_json, write_jsonl
from codex_forge.model import locate
from codex_forge.progress import progress
from codex_forge.records import HELD_OUT
from codex_forge.tokens import LengthAudit, load_tokenizer
from codex_forge.trec import read_qrels

log = logging.getLogger("codex_forge")

_STEMS = ("pairs-train", "scored-train")


def run(job: Job) -> None:
    """Audit the run's pairs and corpus, unless that is done; fail the gate when it fails.

    Raises:
        GateNotMet: the audit is written, and its verdict is `fail`.
    """
    config = job.config
    config.use.refuse_to_make("audit")
    pairs = job.open("pairs", config.pairs_name)
    files = find_files(config.corpus)
    corpus = files.inputs(("chunks", "indexes"))
    check_same_files(pairs, corpus, [role for role in corpus if role in pairs.manifest.inputs])
    base = locate.locate(config.model)
    keys = ("max_seq_length", "query_prompt", "document_prompt")
    settings = {
        "audit": config.audit.model_dump(mode="json"),
        "model": {key: getattr(config.model, key) for key in keys},
        "train": {"num_negatives": config.train.num_negatives},
    }
    inputs = {"pairs": pairs.as_input(), "model": base.identity, **corpus}
    recipe = job.recipe(config.run_name, settings, inputs)
    state = job.begin(recipe)
    if isinstance(state, Draft):
        report = Auditor(config, pairs, files, base.folder, job.scratch).write(state)
        log.info("wrote %s", state.url)
    else:
        report = read_json(job.open("audit", config.run_name).path("report.json"))
    _log_report(report)
    if report["verdict"] != "pass":
        raise GateNotMet(
            "the audit failed: " + "; ".join(report["reasons"]),
            where=job.store.url(recipe.folder),
            do="see report.html there; mend the data, or loosen the audit section",
        )


class Auditor:
    """Measures lengths and looks for defects in one pairs artifact, in two passes over its rows."""

    def __init__(
        self,
        config: RunConfig,
        pairs: Artifact,
        files: CorpusFiles,
        model_folder: Path,
        scratch: Path,
    ) -> None:
        """Load the tokenizer; find the length limit and prompts that the model will use."""
        self._config, self._pairs, self._folder = config, pairs, model_folder
        self._files, self._scratch = files, scratch
        self._reading = reading_of(config.model, model_folder, load_tokenizer(model_folder))
        self._lengths = AllLengths(self._reading, config.audit.worst)

    def write(self, draft: Draft) -> dict[str, Any]:
        """Write and commit the audit; returns its report."""
        index = self._measure_corpus()
        finder = self._finder(index)
        for _, row in self._rows("rows measured"):
            self._lengths.add_row(row)
            finder.observe(row)
        audits = self._lengths.audits()
        tally = Tally(self._lengths)
        write_jsonl(draft.path("findings.jsonl"), self._findings(finder, tally))
        report = self._report(audits, tally)
        write_json(draft.path("report.json"), report)
        draft.path("report.html").write_text(render(report), encoding="utf-8")
        draft.path("lengths.svg").write_text(picture(audits), encoding="utf-8")
        counts = {"findings": sum(report["findings"].values()), "pairs": tally.rows}
        draft.commit(counts, {"verdict": report["verdict"]})
        if self._lengths.seconds:
            speed = self._lengths.tokens / self._lengths.seconds
            log.info("  %d tokens counted, %.0f a second", self._lengths.tokens, speed)
        return report

    def _measure_corpus(self) -> EntityIndex | None:
        """Take in every chunk; returns the names index, when there is a corpus."""
        if not self._files.files["chunks"]:
            if pair_files.CHUNKS in self._pairs.files:
                for row in read_jsonl(self._pairs.path(pair_files.CHUNKS)):
                    self._lengths.add("chunk", row["text"])
            return None
        corpus = read_corpus(self._files, "reject", self._scratch)
        for text in progress(corpus.chunks.texts(), "chunks measured", len(corpus.chunks)):
            self._lengths.add("chunk", text)
        return EntityIndex(corpus.entities)

    def _finder(self, index: EntityIndex | None) -> DefectFinder:
        made = self._pairs.manifest.settings["pairs"]
        split = made.get("split", {}).get("by", "question")
        return DefectFinder(
            self._held_out_questions(),
            made["near_duplicate"],
            index,
            held_out_pairs=self._held_out_pairs(),
            held_out_chunks=self._held_out_chunks() if split in ("entity", "file") else (),
            negative_near_duplicate=made["negatives"].get("near_duplicate", 0.8),
            min_characters=made.get("validation", {}).get("min_characters", 2),
            drop_inverted=made.get("validation", {}).get("drop_inverted", False),
            query_cut=lambda text: self._cut("query", text),
            document_cut=lambda text: self._cut("positive", text),
        )

    def _cut(self, kind: str, text: str) -> int | None:
        """Where the model stops reading a text that was measured before."""
        if not self._lengths.is_cut(kind, text):
            return None
        reading = self._reading
        return reading.count.cut(text, reading.limit, reading.prompt(kind))

    def _held_out_questions(self) -> Iterator[tuple[str, str]]:
        for part in HELD_OUT:
            for row in pair_files.rows(self._pairs, f"questions-{part}"):
                yield row["query_id"], row["question"]
            for row in pair_files.rows(self._pairs, f"pairs-{part}"):
                if row["source"] == "ready":
                    yield row["query_id"], row["query"]

    def _held_out_pairs(self) -> Iterator[tuple[str, str]]:
        for part in HELD_OUT:
            for row in pair_files.rows(self._pairs, f"scored-{part}"):
                yield row["text_a"], row["text_b"]

    def _held_out_chunks(self) -> set[str]:
        """Ids of the chunks that answer held-out questions."""
        names = [name for part in HELD_OUT if (name := f"qrels-{part}.tsv") in self._pairs.files]
        return {
            chunk
            for name in names
            for grades in read_qrels(self._pairs.path(name)).values()
            for chunk in grades
        }

    def _rows(self, what: str) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
        """((file, line), row) of everything that training will see, twice in the same order."""
        paths = [path for stem in _STEMS for path in pair_files.paths_of(self._pairs, stem)]
        placed = (
            ((path.name, line), row)
            for path in paths
            for line, row in enumerate(read_jsonl(path), start=1)
        )
        return progress(placed, what)

    def _findings(self, finder: DefectFinder, tally: Tally) -> Iterator[dict[str, Any]]:
        for (file, line), row in self._rows("rows checked"):
            found = finder.check(row)
            tally.add(row, found)
            named = row.get("query_id", row.get("pair_id"))
            for each in (each for each in found if each.severity != "note"):
                yield {**each._asdict(), "file": file, "line": line, "query_id": named}
        for each in finder.of_all():
            tally.add_of_all(each)
            yield {**each._asdict(), "file": "", "line": 0, "query_id": None}

    def _report(self, audits: dict[str, LengthAudit], tally: Tally) -> dict[str, Any]:
        memory = memory_of(self._folder, self._config, audits, self._reading.limit)
        evidence = tally.evidence()
        found = reasons(self._config.audit, audits, tally, evidence)
        return {
            "name": self._config.run_name,
            "verdict": "fail" if found else "pass",
            "reasons": found,
            "limit": self._reading.limit,
            "prompts": {
                "query": self._reading.query_prompt,
                "document": self._reading.document_prompt,
            },
            "model": self._config.model.base,
            "pairs_audited": tally.rows,
            "lengths": as_report(audits),
            "worst": worst_of(audits),
            "evidence": evidence,
            "findings": tally.by_kind(),
            "notes": tally.by_kind(notes=True),
            "defects": tally.described(),
            "rows_with_errors": tally.rows_with_errors,
            "rows_with_leaks": tally.rows_with_leaks,
            "memory": memory,
            "advice": advise(self._reading, self._lengths, audits, memory, self._config),
            "gates": self._config.audit.model_dump(mode="json"),
        }


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
