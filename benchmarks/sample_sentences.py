"""Sentences and questions of the shipped samples, with a slot where a name stood."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from codex_forge.entities import EntityIndex, NameMatcher
from codex_forge.pairs.sentences import sentences_of
from codex_forge.records import Entity

EXAMPLES = ("disease-ontology", "codex")
SLOT = "\x00"
"""Stands in a sentence where a name will be."""
_ROOT = Path(__file__).resolve().parent.parent


def sentences() -> list[str]:
    """The samples' distinct sentences, the name of what they are about replaced by a slot."""
    found: dict[str, None] = {}
    for example in EXAMPLES:
        index = EntityIndex(list(_sample_entities(example)))
        matcher = NameMatcher(index.names)
        with (_ROOT / "examples" / example / "chunks.jsonl").open(encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in file]
        for text in texts:
            for start, end in sentences_of(text):
                sentence = " ".join(text[start:end].split())
                if sentence.count(" ") > 2:
                    found.setdefault(_with_slot(sentence, matcher))
    return list(found)


def _sample_entities(example: str) -> Iterator[Entity]:
    for path in sorted((_ROOT / "examples" / example).glob("*_index.json")):
        for key, record in json.loads(path.read_text(encoding="utf-8")).items():
            names = tuple(record["aliases"])
            yield Entity(key, record["primary_name"], record["filename"], names)


def _with_slot(sentence: str, matcher: NameMatcher) -> str:
    """Put a slot in place of the longest name; before a definition ("A cancer that ...") too."""
    if match := re.match(r"(?:An? |It )", sentence):
        verb = "" if match[0] == "It " else f"is {match[0].lower()}"
        return f"{SLOT} {verb}{sentence[match.end() :]}"
    for name in sorted(matcher.find(sentence), key=lambda name: (-len(name), name)):
        pattern = rf"(?<!\w){re.escape(name)}(?!\w)"
        changed, count = re.subn(pattern, SLOT, sentence, count=1, flags=re.IGNORECASE)
        if count:
            return changed
    return sentence


def wordings() -> list[str]:
    """The samples' questions with a slot for the name, each once."""
    found: dict[str, None] = {}
    for example in EXAMPLES:
        matcher = NameMatcher(name for entity in _sample_entities(example) for name in entity.names)
        path = _ROOT / "examples" / example / "questions.json"
        for question in json.loads(path.read_text(encoding="utf-8"))["questions"]:
            text = question["question"].replace(question.get("alias") or SLOT, SLOT)
            found.setdefault(text if SLOT in text else _with_slot(text, matcher))
    return [text for text in found if SLOT in text]
