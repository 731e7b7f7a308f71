"""TREC files: qrels (`query 0 chunk grade`) and runs (`query Q0 chunk rank score tag`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from codex_forge.errors import InputError
from codex_forge.records import Qrels, Run


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write qrels, queries in their order and chunks sorted."""
    with path.open("w", encoding="utf-8") as handle:
        for query, grades in qrels.items():
            for chunk, grade in sorted(grades.items()):
                handle.write(f"{query} 0 {chunk} {grade}\n")


def read_qrels(path: Path) -> Qrels:
    """Read qrels.

    Raises:
        InputError: a line is not in the form; names the file and the line.
    """
    qrels: Qrels = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            query, _, chunk, grade = line.split()
            qrels.setdefault(query, {})[chunk] = int(grade)
        except ValueError as error:
            raise InputError(
                "expected `query_id 0 chunk_id grade`", where=f"{path}:{number}"
            ) from error
    return qrels


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a run; scores in the shortest form that reads back as the same float32."""
    with path.open("w", encoding="utf-8") as handle:
        for query, results in run.items():
            for rank, (chunk, score) in enumerate(results, start=1):
                handle.write(f"{query} Q0 {chunk} {rank} {np.float32(score)} {tag}\n")


def read_run(path: Path) -> Run:
    """Read a run in the order of its lines.

    Raises:
        InputError: a line is not in the form; names the file and the line.
    """
    run: Run = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            query, _, chunk, _, score, _ = line.split()
            run.setdefault(query, []).append((chunk, float(score)))
        except ValueError as error:
            raise InputError(
                "expected `query_id Q0 chunk_id rank score tag`", where=f"{path}:{number}"
            ) from error
    return run
