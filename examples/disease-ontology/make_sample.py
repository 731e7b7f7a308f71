"""Cut the shipped sample out of the full Human Disease Ontology conversion.

    python make_sample.py SOURCE_FOLDER OUT_FOLDER

SOURCE_FOLDER holds chunks.jsonl, disease_index.json and test_questions.json, the whole release in
the project's input formats.  OUT_FOLDER gets chunks.jsonl, disease_index.json and questions.json.

Promise: the same source gives the same bytes.  Every chunk is kept and every index entry has its
chunk.  A question marked "alias_in_index": false asks about a withheld alias: no chunk has it, and
no name or alias of the shipped index has its `normal_form`.  (Remoter variants, such as "type IV"
for "type 4" or a misspelling, may be left.)  A question marked true asks about an alias that the
shipped index tells of its entity alone.  No two questions share a `normal_form`, and each has at
least one expected topic.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]

SEED = 20260731
QUESTIONS = {"hard": 950, "medium": 350}  # how many of each difficulty
WITHHELD_SHARE = 0.23  # of the chosen questions' aliases, the same share in each difficulty
WORD = re.compile(r"[^\W_]+")
IGNORED_WORDS = frozenset(
    {"a", "an", "and", "by", "due", "from", "in", "of", "or", "the", "to", "with"}
)


def normal_form(alias: str) -> tuple[str, ...]:
    """The alias's words, sorted: blind to case, punctuation, order, plural and British spelling."""
    text = alias.lower().replace("oe", "e").replace("our", "or").replace("ae", "e")
    words = [word for word in WORD.findall(text.replace("'", "")) if word not in IGNORED_WORDS]
    return tuple(sorted(w[:-1] if len(w) > 3 and w.endswith("s") else w for w in words))


def plain_words(text: str) -> str:
    """The text's words in lower case, a space around each, so that `in` finds whole words only."""
    return " " + " ".join(WORD.findall(text.lower())) + " "


def choose_questions(
    source: list[Record], index: dict[str, Record], rng: random.Random
) -> list[Record]:
    """The wanted number of questions of each difficulty, in source order.

    Only aliases that the source index tells of this one entity (one alias, one answer), and of an
    alias's several spellings the first only.
    """
    tellers: dict[tuple[str, ...], set[str]] = {}
    for name, entry in index.items():
        for label in (name, *entry["aliases"]):
            tellers.setdefault(normal_form(label), set()).add(name)
    first: dict[tuple[str, ...], Record] = {}
    for q in source:
        form = normal_form(q["alias"])
        if (
            q["alias"] in index[q["entity"]]["aliases"]
            and tellers[form] == {q["entity"]}
            and q["expected_topics"]
        ):
            first.setdefault(form, q)
    usable = list(first.values())
    chosen: set[int] = set()
    for difficulty, count in QUESTIONS.items():
        ids = [q["question_id"] for q in usable if q["difficulty"] == difficulty]
        chosen.update(rng.sample(ids, count))
    return [q for q in usable if q["question_id"] in chosen]


def choose_withheld(
    questions: list[Record], index: dict[str, Record], texts: list[str], rng: random.Random
) -> set[tuple[str, ...]]:
    """Normal forms of the aliases to withhold: none is an entity's name or stands in a chunk."""
    corpus = " | ".join(map(plain_words, texts))
    names = {normal_form(name) for name in index}
    withheld: set[tuple[str, ...]] = set()
    for difficulty in QUESTIONS:
        forms = {normal_form(q["alias"]) for q in questions if q["difficulty"] == difficulty}
        told = {normal_form(q["alias"]) for q in questions if plain_words(q["alias"]) in corpus}
        free = sorted(forms - told - names)
        withheld.update(rng.sample(free, round(WITHHELD_SHARE * len(forms))))
    return withheld


def write_records(
    path: Path, records: Iterable[str], head: str = "", tail: str = "", comma: str = ""
) -> None:
    """One record a line, newline-ended, UTF-8."""
    path.write_text(
        head + (comma + "\n").join(records) + "\n" + tail, encoding="utf-8", newline="\n"
    )


def make_sample(source: Path, out: Path) -> None:
    """Write the sample's three data files into `out`."""
    chunks = [
        json.loads(line)
        for line in (source / "chunks.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    index = json.loads((source / "disease_index.json").read_text(encoding="utf-8"))
    asked = json.loads((source / "test_questions.json").read_text(encoding="utf-8"))["questions"]

    rng = random.Random(SEED)
    questions = choose_questions(asked, index, rng)
    withheld = choose_withheld(questions, index, [c["text"] for c in chunks], rng)
    for entry in index.values():
        entry["aliases"] = [a for a in entry["aliases"] if normal_form(a) not in withheld]
    for number, question in enumerate(questions, start=1):
        question["question_id"] = number
        question["alias_in_index"] = normal_form(question["alias"]) not in withheld

    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    out.mkdir(parents=True, exist_ok=True)
    write_records(out / "chunks.jsonl", map(dump, chunks))
    entries = [f"{dump(name)}:{dump(entry)}" for name, entry in index.items()]
    write_records(out / "disease_index.json", entries, "{\n", "}\n", ",")
    write_records(out / "questions.json", map(dump, questions), '{"questions":[\n', "]}\n", ",")


def main() -> None:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(
        description="Cut the shipped sample out of the full conversion."
    )
    parser.add_argument(
        "source", type=Path, help="folder of chunks.jsonl, disease_index.json, test_questions.json"
    )
    parser.add_argument("out", type=Path, help="folder to write the sample to")
    arguments = parser.parse_args()
    make_sample(arguments.source, arguments.out)


if __name__ == "__main__":
    main()
