"""Scored and labelled pairs: divided, checked, phased and, for training, augmented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from codex_forge.artifact import Draft
from codex_forge.config.pairs import PairsConfig
from codex_forge.defects import DefectFinder
from codex_forge.defects.texts import either_way
from codex_forge.jsonl import line_of
from codex_forge.pairs.augmentation import augmented
from codex_forge.pairs.phases import phase_of_scored
from codex_forge.pairs.ready import Ready
from codex_forge.pairs.rejects import Rejects
from codex_forge.progress import progress
from codex_forge.records import PARTS, ScoredPair
from codex_forge.search import words
from codex_forge.shingles import jaccard

Row = dict[str, Any]


def write_scored(
    ready: Ready,
    config: PairsConfig,
    seed: int,
    draft: Draft,
    rejects: Rejects,
    held_out: Iterable[tuple[str, str]] = (),
) -> dict[str, int]:
    """Write `scored-{train,dev,test}.jsonl`; returns the counts.

    No text of a train pair is nearly one of the `held_out` questions, (id, text); no copy repeats
    another pair, whose score may be another, or which may be held out.
    """
    finder = DefectFinder(
        held_out,
        near_duplicate=config.near_duplicate,
        held_out_pairs=[(p.text_a, p.text_b) for part, p in ready.scored() if part != "train"],
        min_characters=config.validation.min_characters,
    )
    taken: set[int] = set()
    for part, pair in ready.scored():
        if part == "train":
            finder.observe(_row(pair))
        if config.augmentation.copies:
            taken.add(either_way(pair.text_a, pair.text_b))
    counts: Counter[str] = Counter({f"scored_{part}": 0 for part in PARTS})
    with ExitStack() as stack:
        files = {
            part: stack.enter_context(
                draft.path(f"scored-{part}.jsonl").open("w", encoding="utf-8")
            )
            for part in PARTS
        }
        for part, pair in progress(ready.scored(), "scored pairs checked"):
            row = _row(pair)
            if part == "train" and (reason := _error(finder, row)):
                rejects.keep({"kind": "scored pair", "reason": reason, **row})
                continue
            rows = [row]
            for copy in _copies(row, config, seed) if part == "train" else ():
                key = either_way(copy["text_a"], copy["text_b"])
                reason = "repeats a pair" if key in taken else _error(finder, copy)
                if reason:
                    rejects.keep({"kind": "scored pair", "reason": reason, **copy})
                    continue
                taken.add(key)
                rows.append(copy)
            files[part].writelines(map(line_of, rows))
            counts[f"scored_{part}"] += len(rows)
    return dict(counts)


def _error(finder: DefectFinder, row: Row) -> str:
    errors = [defect.kind for defect in finder.check(row) if defect.severity == "error"]
    return errors[0] if errors else ""


def _row(pair: ScoredPair) -> Row:
    """One row; the phase is given, or told by how well shared words agree with the score."""
    value = pair.score if pair.score is not None else float(pair.label or 0)
    similarity = word_overlap(pair.text_a, pair.text_b)
    said: Row = {"label": pair.label} if pair.score is None else {"score": pair.score}
    return {
        "text_a": pair.text_a,
        "text_b": pair.text_b,
        **said,
        "phase": phase_of_scored(value, similarity, pair.phase),
        "category": pair.category,
        "domain": pair.domain,
        "pair_id": pair.pair_id,
        "similarity": round(similarity, 4),
        "source": "ready",
    }


def _copies(row: Row, config: PairsConfig, seed: int) -> Iterator[Row]:
    """Copies with one text changed, the first and the second in turn; all else is kept."""
    options = config.augmentation
    changed = {
        side: augmented(row[side], options.copies, options, seed, (row["pair_id"], side))
        for side in ("text_a", "text_b")
    }
    for copy in range(options.copies):
        side = ("text_a", "text_b")[copy % 2]
        if copy < len(changed[side]):
            name = f"{row['pair_id']}:eda:{copy}"
            yield {**row, side: changed[side][copy], "pair_id": name, "source": "augmented"}


def word_overlap(one: str, other: str) -> float:
    """Jaccard index of the distinct words of two texts, 0 to 1."""
    return jaccard(set(words(one)), set(words(other)))
