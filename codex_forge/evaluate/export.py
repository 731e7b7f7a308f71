"""The question bank in BEIR's layout, which MTEB's and BEIR's own tools read.

    corpus.jsonl       {"_id", "title", "text"}      every chunk of the corpus
    queries.jsonl      {"_id", "text", "metadata"}   the questions of one part
    qrels/<part>.tsv   query-id, corpus-id, score    which chunks answer them

See Thakur et al., BEIR (NeurIPS Datasets and Benchmarks 2021).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_forge.corpus import check_same_files, read_corpus
from codex_forge.errors import InputError
from codex_forge.evaluate.bank import Bank
from codex_forge.job import Job
from codex_forge.jsonl import write_jsonl
from codex_forge.progress import progress
from codex_forge.records import Chunk, Qrels

log = logging.getLogger("codex_forge")

_TEXT = ("query_id", "question")
_UNFINISHED = ".unfinished"


def export(job: Job, folder: Path, part: str) -> dict[str, int]:
    """Write the bank of the run's pairs artifact into a folder that is empty or not there.

    The folder is there only once all of it is. Returns how much was written of what.

    Raises:
        InputError: the folder holds something, the part has no questions, or the config names
            another corpus than the questions belong to.
    """
    folder = folder.resolve()
    _check_empty(folder)
    pairs = job.open("pairs", job.config.pairs_name)
    files = job.corpus_files()
    check_same_files(pairs, files.inputs(("chunks", "indexes")), ("chunks", "indexes"))
    bank = Bank(pairs, part)
    corpus = read_corpus(files, "reject", job.scratch)
    beside = folder.parent / f"{folder.name}{_UNFINISHED}"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        (beside / "qrels").mkdir(parents=True)
    except (NotADirectoryError, FileNotFoundError, PermissionError, FileExistsError) as error:
        what = f"the folder cannot be made ({error.strerror})"
        raise InputError(what, where=folder, do="name another one") from error
    chunks = progress(corpus.chunks, "chunks written")
    counts = {
        "chunks": write_jsonl(beside / "corpus.jsonl", map(_document, chunks)),
        "questions": write_jsonl(beside / "queries.jsonl", map(_query, bank.records)),
        "judgements": _write_qrels(beside / "qrels" / f"{part}.tsv", bank.qrels),
    }
    beside.replace(folder)
    if any(question.temporal_limit is not None for question in bank.questions):
        log.warning(
            "  some questions have a temporal_limit, which other tools do not know: they will "
            "search later chunks too"
        )
    return counts


def _check_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise InputError("is there and not empty", where=folder, do="name another folder")


def _document(chunk: Chunk) -> dict[str, Any]:
    """No title: tools put it before the text, and `embed` embeds the text alone."""
    return {"_id": chunk.chunk_id, "title": "", "text": chunk.text}


def _query(record: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in record.items() if key not in _TEXT}
    return {"_id": record["query_id"], "text": record["question"], "metadata": metadata}


def _write_qrels(path: Path, qrels: Qrels) -> int:
    lines = [
        f"{query}\t{chunk}\t{grade}"
        for query, grades in qrels.items()
        for chunk, grade in sorted(grades.items())
    ]
    path.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n", encoding="utf-8")
    return len(lines)
