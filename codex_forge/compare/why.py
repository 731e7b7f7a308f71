"""The mode `why`: one question of a comparison, from its ranks down to the pairs that taught it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from codex_forge import pair_files
from codex_forge.artifact import Artifact
from codex_forge.compare.lineage import ancestors
from codex_forge.compare.made_with import template_of, told_settings
from codex_forge.compare.ranks import moves, risen
from codex_forge.compare.sides import Row, Side, open_sides
from codex_forge.compare.taught import Taught
from codex_forge.compare.why_words import in_words
from codex_forge.errors import InputError
from codex_forge.job import Job
from codex_forge.records import PARTS
from codex_forge.word_index import WordIndex

_LISTED = 10
_OF_TEMPLATES = ("entity", "mention")
_ABOUT = ("query_id", "question", "category", "difficulty", "group", "exposure", "fold")


def run(job: Job) -> None:
    """Answer the job's question on standard output.

    Raises:
        InputError: there is no such question, or several; they are named.
    """
    baseline, candidate = open_sides(job)
    rows = {row["query_id"]: row for row in candidate.rows()}
    judged = candidate.artifacts[0]
    others = _others(job, judged, rows)
    asked = chosen(job.question, list(rows.values()), judged.url, others)
    after = rows[asked["query_id"]]
    before = next(row for row in baseline.rows() if row["query_id"] == asked["query_id"])
    artifact = candidate.artifacts[after.get("fold", 0)]
    told = {
        **_facts(baseline, candidate, before, after),
        **_origin(job, artifact, before, after),
    }
    sys.stdout.write(
        json.dumps(told, ensure_ascii=False, indent=1) + "\n" if job.as_json else in_words(told)
    )


def _others(job: Job, judged: Artifact, rows: Mapping[str, Row]) -> Iterator[Row]:
    """The questions of the bank that were not compared, each with the part that it is of."""
    pairs = job.open("pairs", judged.manifest.inputs["pairs"].name)
    for part in PARTS:
        for record in pair_files.rows(pairs, f"questions-{part}"):
            if record["query_id"] not in rows:
                yield {**record, "part": part}


def chosen(asked: str, rows: Sequence[Row], where: str, others: Iterable[Row] = ()) -> Row:
    """The one question with this id, this text, or this part of its text.

    Raises:
        InputError: there is none (it is one of the others, or the nearest are named), or there
            are several.
    """
    if not rows:
        raise InputError("these evaluations hold no questions to explain", where=where)
    plain = _plain(asked)
    if not plain:
        raise InputError("the question is empty", do="give a query_id or words of a question")
    for same in (
        [row for row in rows if row["query_id"] == asked.strip()],
        [row for row in rows if _plain(row["question"]) == plain],
        [row for row in rows if plain in _plain(row["question"])],
    ):
        if len(same) == 1:
            return same[0]
        if same:
            raise InputError(
                f"{len(same)} questions hold {asked!r}:\n{_list(same)}",
                where=where,
                do="give the query_id of one, which stands first",
            )
    for row in others:
        if row["query_id"] == asked.strip() or plain in _plain(row["question"]):
            raise InputError(
                f"{row['query_id']} ({row['question']}) is a {row['part']} question, which was "
                "not compared",
                where=where,
                do="ask about one that was; per_question.csv of the comparison lists them",
            )
    near = [rows[i] for i, _ in WordIndex(row["question"] for row in rows).search(asked, 3)]
    raise InputError(
        f"no question of the {len(rows)} holds {asked!r}",
        where=where,
        do=f"give its query_id or other words; the nearest are\n{_list(near)}"
        if near
        else "give its query_id or other words",
    )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _list(rows: Sequence[Row]) -> str:
    lines = [f"  {row['query_id']}  {row['question']}" for row in rows[:_LISTED]]
    more = [f"  and {len(rows) - _LISTED} more"] if len(rows) > _LISTED else []
    return "\n".join(lines + more)


def _facts(baseline: Side, candidate: Side, before: Row, after: Row) -> dict[str, Any]:
    """What both sides scored and found."""
    left, right = moves(before["retrieved"], after["retrieved"])
    return {
        **{key: after[key] for key in _ABOUT if after.get(key) not in (None, "")},
        "baseline": baseline.label,
        "candidate": candidate.label,
        "measures": {
            name: {"baseline": before["measures"].get(name), "candidate": value}
            for name, value in after["measures"].items()
        },
        "topics": {
            topic: {"baseline": _where(before, topic), "candidate": _where(after, topic)}
            for topic in after["expected_topics"]
        },
        "retrieved": {
            "baseline": [
                {**chunk, "move": move.words}
                for chunk, move in zip(before["retrieved"], left, strict=True)
            ],
            "candidate": [
                {**chunk, "move": move.words}
                for chunk, move in zip(after["retrieved"], right, strict=True)
            ],
        },
    }


def _where(row: Row, topic: str) -> dict[str, Any] | None:
    """The first chunk that covers a topic, and under which name."""
    for chunk in row["retrieved"]:
        if topic in chunk["covers"]:
            place = {key: chunk[key] for key in ("rank", "chunk_id", "filename")}
            return {"name": chunk["covers"][topic], **place}
    return None


def _origin(job: Job, artifact: Artifact, before: Row, after: Row) -> dict[str, Any]:
    """The pairs nearest to the question, and the settings of what made the candidate."""
    made = {step.manifest.kind: step for step in ancestors(job, [artifact])}
    train = made.get("train")
    if train is None:
        return {"train_pairs": 0, "taught": [], "settings": told_settings(made)}
    rows = Taught(made["pairs"], job.scratch, train.manifest.settings["train"])
    rose = risen(before["retrieved"], after["retrieved"])
    taught = rows.of(after["question"], rose, after["expected_topics"])
    pairs = made["pairs"].manifest.settings["pairs"]
    return {
        "train_pairs": len(rows),
        "taught": [
            {**row, "template": template_of(row["query"], pairs)}
            if row["source"] in _OF_TEMPLATES
            else row
            for row in taught
        ],
        "settings": told_settings(made),
    }
