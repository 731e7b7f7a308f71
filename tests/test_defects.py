"""Every kind of defect is found where it was planted, and clean rows are left alone.

The clean rows are those that `pairs` makes of the shipped sample. Into copies of them each kind is
planted many times; what the finder says is held against where it was planted.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from codex_forge import pair_files
from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.config import load_config
from codex_forge.config.sections import ModelConfig
from codex_forge.corpus import find_files, read_corpus
from codex_forge.defects import KINDS, Aliases, Defect, DefectFinder
from codex_forge.entities import EntityIndex, normalise
from codex_forge.jsonl import read_json, read_jsonl, write_jsonl
from codex_forge.model import locate
from codex_forge.near_duplicates import NearDuplicates, grams
from codex_forge.storage import Store
from codex_forge.tokens import load_tokenizer
from tests.conftest import MINILM, ROOT, run_module, sample_corpus

Row = dict[str, Any]

EACH = 20
BOILERPLATE = 150
LIMIT = 256


@dataclass
class Clean:
    """What was made of the sample: rows, and what is held out."""

    pairs: list[Row]
    scored: list[Row]
    held: list[tuple[str, str]]
    aliased: list[tuple[str, str]]
    """Held-out questions under another name: (id, text)."""
    index: EntityIndex
    filler: str
    counted: Any = field(default_factory=lambda: load_tokenizer(_folder()))

    def finder(self, **changes: Any) -> DefectFinder:
        cut: Callable[[str], int | None] = lambda text: (  # noqa: E731
            self.counted.cut(text, LIMIT) if len(text) > LIMIT else None
        )
        settings = {
            "held_out_pairs": HELD_PAIRS,
            "held_out_chunks": ["held-chunk"],
            "query_cut": cut,
            "document_cut": cut,
        }
        return DefectFinder(self.held, 0.7, self.index, **{**settings, **changes})


HELD_PAIRS = [(f"held-out statement number {i}", f"its held-out fellow {i}") for i in range(EACH)]


def _folder() -> Path:
    return locate.locate(ModelConfig(base=MINILM)).folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    store = tmp_path_factory.mktemp("clean")
    config = str(ROOT / "configs" / "quickstart.yaml")
    done = run_module("jobs.pairs", config, f"store={store}", env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    pairs = open_artifact(Store(str(store)), "pairs", "quickstart", store)
    files = find_files(load_config(config).corpus)
    return cleaned(pairs, EntityIndex(read_corpus(files, "fail").entities))


def cleaned(pairs: Artifact, index: EntityIndex) -> Clean:
    rows = list(pair_files.rows(pairs, "pairs-train"))
    for row in rows:
        row.setdefault("topics", [])
    scored = [
        {"text_a": row["query"], "text_b": text, "score": score, "pair_id": f"s{i}{score}"}
        for i, row in enumerate(rows[:3000])
        for text, score in ((row["positive"], 0.9), *((n, 0.1) for n in row["negatives"][:1]))
        if normalise(text) != normalise(row["query"])
    ]
    records = [
        record for part in ("test", "dev") for record in pair_files.rows(pairs, f"questions-{part}")
    ]
    return Clean(
        rows,
        scored,
        [(record["query_id"], record["question"]) for record in records],
        list(_renamed(records, index)),
        index,
        " ".join(row["negatives"][0] for row in rows[:400:8] if row["negatives"])[:3000],
    )


def _renamed(records: list[Row], index: EntityIndex) -> Iterator[tuple[str, str]]:
    """Questions under another name, that are not nearly one of the others in plain words."""
    aliases = Aliases(index)
    bank = NearDuplicates([(record["query_id"], record["question"]) for record in records], 0.7)
    for record in records:
        for entity in index.named(record["alias"]):
            for name in entity.names:
                unlike = not grams(name) & grams(record["alias"])
                if unlike and aliases.is_name(name) and aliases.is_name(record["alias"]):
                    text = record["question"].replace(record["alias"], name)
                    if bank.find(text) is None:
                        yield record["query_id"], text


# How each kind is planted: a row is changed in place; what is added comes from the function.


def _set(**fields: Any) -> Callable[..., list[Row]]:
    def plant(row: Row, i: int, clean: Clean) -> list[Row]:
        row.update({key: value(row) if callable(value) else value for key, value in fields.items()})
        return []

    return plant


def _instead(text: Callable[[Row], str]) -> Callable[..., list[Row]]:
    """Another first negative."""
    return _set(negatives=lambda row: [text(row), *row["negatives"][1:]])


def _in_texts(damage: Callable[[str], str]) -> Callable[..., list[Row]]:
    def plant(row: Row, i: int, clean: Clean) -> list[Row]:
        key = ("query", "positive")[i % 2]
        row[key] = damage(row[key])
        return []

    return plant


def _held(change: Callable[[str], str], key: str = "query") -> Callable[..., list[Row]]:
    def plant(row: Row, i: int, clean: Clean) -> list[Row]:
        question = change(clean.held[7 * i % len(clean.held)][1])
        if key == "negatives":
            row[key] = [f"{row[key][0]} {question} So they ask.", *row[key][1:]]
        else:
            row[key] = question if key == "query" else f"{question} {row[key]}"
        return []

    return plant


def _by_alias(row: Row, i: int, clean: Clean) -> list[Row]:
    row["query"] = clean.aliased[i % len(clean.aliased)][1]
    return []


def _again(row: Row, i: int, clean: Clean) -> list[Row]:
    """The same pair comes earlier: the row itself is the repeat."""
    first = {**copy.deepcopy(row), "query": row["query"].upper(), "query_id": f"again {i}"}
    return [first]


def _elsewhere(row: Row, i: int, clean: Clean) -> list[Row]:
    other = {**copy.deepcopy(row), "positive": row["negatives"][0], "negatives": []}
    return [{**other, "negative_ids": [], "negative_sources": [], "positive_id": f"other {i}"}]


def _one_id(row: Row, i: int, clean: Clean) -> list[Row]:
    row["positive_id"] = f"shared {i}"
    other = {**copy.deepcopy(row), "positive": row["negatives"][-1], "query": f"whose id is {i}"}
    row["query"] = f"whose id is {i}?"
    return [{**other, "negatives": [], "negative_ids": [], "negative_sources": []}]


def _covers(row: Row, i: int, clean: Clean) -> list[Row]:
    names = [n for topic in row["topics"] for e in clean.index.named(topic) for n in e.names[-1:]]
    row["topics"] = [t for t in row["topics"] if clean.index.named(t)]
    text = f"The ward wrote about {', '.join(names)} and whoever had it, for eleven winters."
    row["negatives"] = [text, *row["negatives"][1:]]
    return []


def _past_the_cut(row: Row, i: int, clean: Clean) -> list[Row]:
    row["positive"] = f"{clean.filler} {row['positive']}"
    row["topics"] = [next(t for t in row["topics"] if t in row["positive"][3000:])]
    return []


def _held_pair(row: Row, i: int, clean: Clean) -> list[Row]:
    row["query"], row["positive"] = HELD_PAIRS[i][:: (-1) ** i]
    return []


def _held_scored(row: Row, i: int, clean: Clean) -> list[Row]:
    row["text_a"], row["text_b"] = HELD_PAIRS[i][:: (-1) ** i]
    return []


def _torn(row: Row, i: int, clean: Clean) -> list[Row]:
    return [{**row, "text_a": row["text_b"], "text_b": row["text_a"], "score": 1 - row["score"]}]


def _scored_again(row: Row, i: int, clean: Clean) -> list[Row]:
    return [{**row, "text_a": row["text_b"].upper(), "text_b": row["text_a"]}]


def _as_latin(text: str) -> str:
    return f"{text} Caf\u00e9 na\u00efve".encode().decode("cp1252")


def _backwards(text: str) -> str:
    return " ".join(reversed(text.split()))


PAIR_PLANTS: dict[str, Callable[..., list[Row]]] = {
    "missing_text": _set(positive=None),
    "empty_query": _set(query=" \n"),
    "near_empty_query": _set(query="x ?"),
    "empty_positive": _set(positive=""),
    "near_empty_positive": _set(positive="\u2014 7."),
    "empty_negative": _instead(lambda row: "\t"),
    "near_empty_negative": _instead(lambda row: "..."),
    "query_is_positive": _set(query=lambda row: row["positive"].upper() + " !"),
    "positive_in_query": _set(query=lambda row: f"Tell me why {row['positive']} and what of it"),
    "query_is_negative": _instead(lambda row: row["query"].upper()),
    "unfilled_template": _set(query="tell me about {name}"),
    "negative_is_positive": _instead(lambda row: row["positive"].upper()),
    "negative_near_positive": _instead(lambda row: row["positive"] + " Indeed."),
    "negative_covers_topics": _covers,
    "duplicate_negative": _set(negatives=lambda row: [row["negatives"][0], *row["negatives"][:-1]]),
    "uneven_negatives": _set(negative_ids=lambda row: row["negative_ids"][1:]),
    "inverted": _set(similarity=0.1, negative_similarities=lambda row: [0.05, 0.3, 0.0]),
    "unknown_phase": _set(phase="later"),
    "missing_id": _set(query_id=None),
    "mojibake": _in_texts(_as_latin),
    "replacement_character": _in_texts(lambda text: text.replace("a", "\ufffd") + "\ufffd"),
    "control_characters": _in_texts(lambda text: text[:3] + "\x00" + text[3:]),
    "html_remains": _in_texts(lambda text: f"<p class='x'>{text}</p>&nbsp;"),
    "escape_left_over": _in_texts(lambda text: text + " caf\\u00e9"),
    "repetitive_text": _set(positive=lambda row: "log in or sign up " * 30),
    "mostly_symbols": _set(positive=lambda row: "a | -- | -- | ++ | 1 | == | // " * 3),
    "script_mismatch": _set(
        query="\u0447\u0442\u043e \u0442\u0430\u043a\u043e\u0435 \u044d\u0442\u043e"
    ),
    "truncated_query": _set(query=lambda row: row["query"] + " and what else" * 120),
    "evidence_past_cut": _past_the_cut,
    "duplicate_pair": _again,
    "negative_answers_elsewhere": _elsewhere,
    "id_of_two_texts": _one_id,
    "leak_exact": _held(str),
    "leak_normalised": _held(lambda text: text.upper().rstrip("?") + " !"),
    "leak_near_duplicate": _held(_backwards),
    "leak_by_alias": _by_alias,
    "leak_in_positive": _held(str.upper, "positive"),
    "leak_in_negative": _held(str, "negatives"),
    "leak_pair": _held_pair,
    "leak_chunk": _set(positive_id="held-chunk"),
}
SCORED_PLANTS: dict[str, Callable[..., list[Row]]] = {
    "missing_text": _set(text_a=None),
    "missing_score": _set(score=None),
    "score_not_a_number": _set(score=lambda row: float("nan") if "0.9" in row["pair_id"] else "hi"),
    "score_out_of_range": _set(score=lambda row: 3.5 if "0.9" in row["pair_id"] else -1),
    "label_not_binary": _set(label=2),
    "empty_text": _set(text_b=" "),
    "near_empty_text": _set(text_a="?!x"),
    "same_text_low_score": _set(text_b=lambda row: row["text_a"].upper(), score=0.0),
    "contradicting_labels": _torn,
    "duplicate_pair": _scored_again,
    "leak_exact": _set(),
    "leak_pair": _held_scored,
    "missing_id": _set(pair_id=""),
}
FREQUENT = ("frequent_query", "frequent_positive", "frequent_negative")
OF_ALL = ("one_class_only", "constant_score")


def _scored_leak(row: Row, i: int, clean: Clean) -> list[Row]:
    row["text_a"] = clean.held[5 * i % len(clean.held)][1]
    return []


SCORED_PLANTS["leak_exact"] = _scored_leak


def planted(
    clean: Clean, plants: dict[str, Callable[..., list[Row]]], rows: list[Row], each: int
) -> tuple[list[Row], dict[int, str]]:
    """Rows with `each` of every kind planted, and the kind by the row's place in them."""
    changed = [copy.deepcopy(row) for row in rows]
    dice = random.Random(7)
    free = [i for i, row in enumerate(rows) if _fits(row, clean)]
    dice.shuffle(free)
    where: dict[int, str] = {}
    before: dict[int, list[Row]] = {}
    for kind, plant in plants.items():
        for i in range(each):
            at = free.pop()
            row = changed[at]
            before[at] = plant(row, i, clean)
            # Another text under the old id would be a defect of its own, also of the old rows.
            if "positive" in row and row["positive"] != rows[at]["positive"]:
                row["positive_id"] = f"new {at}"
            if row.get("query") != rows[at].get("query"):
                row["query_id"] = f"new {at}"
            where[at] = kind
    result: list[Row] = []
    places: dict[int, str] = {}
    for at, row in enumerate(changed):
        for added in before.get(at, ()):
            places[len(result)] = ""  # part of what was planted; need not be told itself
            result.append(added)
        if at in where:
            places[len(result)] = where[at]
        result.append(row)
    return result, places


def _fits(row: Row, clean: Clean) -> bool:
    """Whether anything can be planted here: three negatives, topics in the index and the text."""
    if "text_a" in row:
        return True
    told = row["topics"] and all(clean.index.named(topic) for topic in row["topics"])
    named = any(topic in row["positive"] for topic in row["topics"])
    free = not any(topic in clean.filler for topic in row["topics"])
    long = len(row["positive"].split()) > 8
    return bool(told and named and free and long and len(row["negatives"]) == 3)


def checked(finder: DefectFinder, rows: list[Row]) -> list[list[Defect]]:
    for row in rows:
        finder.observe(row)
    return [finder.check(row) for row in rows]


def false_alarms(found: list[list[Defect]], places: dict[int, str]) -> list[Defect]:
    """The first error or warning of each row in which nothing was planted."""
    return [
        next(d for d in each if d.severity != "note")
        for at, each in enumerate(found)
        if at not in places and any(d.severity != "note" for d in each)
    ]


def recall_of(found: list[list[Defect]], places: dict[int, str]) -> dict[str, float]:
    told: dict[str, list[bool]] = {}
    for at, kind in places.items():
        if kind:
            told.setdefault(kind, []).append(kind in {d.kind for d in found[at]})
    return {kind: sum(each) / len(each) for kind, each in told.items()}


def test_every_kind_is_planted_here() -> None:
    assert {*PAIR_PLANTS, *SCORED_PLANTS, *FREQUENT, *OF_ALL} == set(KINDS)
    assert len(KINDS) >= 25
    assert all(kind.cure and kind.name == name for name, kind in KINDS.items())


def test_clean_rows_raise_no_alarm(clean: Clean) -> None:
    for rows in (clean.pairs, clean.scored):
        alarms = false_alarms(checked(clean.finder(), rows), {})
        assert len(alarms) <= 0.01 * len(rows), alarms[:10]


def test_planted_defects_of_pairs_are_found_and_no_others(clean: Clean) -> None:
    rows, places = planted(clean, PAIR_PLANTS, clean.pairs, EACH)
    found = checked(clean.finder(), rows)
    recall = recall_of(found, places)
    assert recall.keys() == PAIR_PLANTS.keys()
    assert {kind: share for kind, share in recall.items() if share < 0.98} == {}
    alarms = false_alarms(found, places)
    assert len(alarms) <= 0.01 * len(rows), alarms[:10]


def test_planted_defects_of_scored_pairs_are_found_and_no_others(clean: Clean) -> None:
    rows, places = planted(clean, SCORED_PLANTS, clean.scored, EACH)
    found = checked(clean.finder(), rows)
    recall = recall_of(found, places)
    assert recall.keys() == SCORED_PLANTS.keys()
    assert {kind: share for kind, share in recall.items() if share < 0.98} == {}
    alarms = false_alarms(found, places)
    assert len(alarms) <= 0.01 * len(rows), alarms[:10]


@pytest.mark.parametrize("kind", FREQUENT)
def test_a_text_that_comes_too_often_is_told_once(clean: Clean, kind: str) -> None:
    rows = copy.deepcopy(clean.pairs)
    role = kind.removeprefix("frequent_")
    rare, often = "Subscribe to our paper.", "Read more about our cookies."
    many = len(rows) * (3 if role == "negative" else 1) // 100 + BOILERPLATE
    for i, row in enumerate(rows[: many + 40]):
        text = often if i < many else rare
        row[role if role != "negative" else "negatives"] = [text] if role == "negative" else text
    told = [d for each in checked(clean.finder(), rows) for d in each if d.kind == kind]
    assert [often in d.detail for d in told].count(True) == 1
    assert not any(rare in d.detail for d in told)


def test_what_is_wrong_with_the_whole_set(clean: Clean) -> None:
    def of_all(rows: list[Row]) -> list[str]:
        finder = clean.finder()
        for row in rows:
            finder.observe(row)
        return [each.kind for each in finder.of_all()]

    assert of_all(clean.scored) == []
    assert of_all([{**row, "score": 0.5} for row in clean.scored]) == ["constant_score"]
    labelled = [{**row, "score": None, "label": 1} for row in clean.scored]
    assert of_all(labelled) == ["one_class_only"]
    assert of_all([*labelled, {**labelled[0], "label": 0}]) == []


def test_rows_are_observed_before_they_are_checked(clean: Clean) -> None:
    finder = clean.finder()
    finder.observe(clean.pairs[0])
    assert [d for d in finder.check(clean.pairs[0]) if d.severity != "note"] == []
    with pytest.raises(ValueError, match="observed before"):
        finder.observe(clean.pairs[1])


def test_of_equal_rows_the_first_without_an_error_is_kept(clean: Clean) -> None:
    row = clean.pairs[0]
    bad = {**row, "negatives": [row["positive"]], "negative_ids": ["x"], "negative_sources": ["y"]}
    kinds = [{d.kind for d in each} for each in checked(clean.finder(), [bad, row, row])]
    assert "duplicate_pair" not in kinds[1]
    assert "duplicate_pair" in kinds[2]


def test_an_id_that_is_not_given_is_not_shared() -> None:
    texts = ("The lamp is lit at dusk.", "The gate is shut at dawn.")
    rows = [
        {"query_id": str(i), "query": f"what of {text}?", "positive": text, "positive_id": ""}
        for i, text in enumerate(texts)
    ]
    found = [each.kind for row in checked(DefectFinder(), rows) for each in row]
    assert "id_of_two_texts" not in found


def test_an_inverted_pair_is_an_error_when_it_is_to_be_dropped(clean: Clean) -> None:
    row = {**clean.pairs[0], "similarity": 0.1, "negative_similarities": [0.4]}
    for drop, severity in ((False, "note"), (True, "error")):
        (found,) = checked(clean.finder(drop_inverted=drop), [row])
        assert [d.severity for d in found if d.kind == "inverted"] == [severity]


UNMISTAKABLE = (
    "What is the À la carte menu at the Café de l'Été? «Très bien»",
    "SÃO PAULO — IRMÃ e IRMÃO; Ângela Ânimo",
    "Die Straße ist 5 < 7 & 8 > 3, a<b and x > y",
    "R&D at AT&T; C:\\new\\users\\table and \\n in a regex",
    "{'a': 1} if x else {2}",
    "北京是中国的首都。 यह हिन्दी है।",
    "(R)-2-[4-(1,3-benzodioxol-5-yl)]-N-methyl-1H-imidazole-5-carboxamide",
    "line one\n\n\tline two\r\nline three\x0cpage two",
)


@pytest.mark.parametrize("text", UNMISTAKABLE)
def test_unusual_text_is_no_damaged_text(text: str) -> None:
    row = {"query": text, "positive": f"{text} and an answer to it", "query_id": "1"}
    assert [each for each in checked(DefectFinder(), [row])[0] if each.kind in KINDS] == []


# Through the door, on an artifact that `pairs` made.


def test_the_door_finds_what_was_planted_in_a_real_artifact(tmp_path: Path) -> None:
    corpus = sample_corpus(tmp_path / "corpus", 200)
    config = corpus.write(pairs={"negatives": {"num": 3}})
    env = {"PYTHONPATH": str(ROOT)}
    done = run_module("jobs.pairs", str(config), env=env)
    assert done.returncode == 0, done.stderr
    store = Store(str(corpus.folder / "store"))
    pairs = open_artifact(store, "pairs", "small", tmp_path)
    index = EntityIndex(read_corpus(find_files(load_config(str(config)).corpus), "fail").entities)
    clean = cleaned(pairs, index)
    plants = {k: p for k, p in PAIR_PLANTS.items() if k not in ("leak_pair", "leak_chunk")}
    rows, places = planted(clean, plants, clean.pairs, 2)
    assert len(set(places.values())) > 25
    given = pairs.manifest
    recipe = Recipe("pairs", "small", given.settings, given.inputs, given.config)
    draft = begin(store, recipe, tmp_path, force=True)
    assert isinstance(draft, Draft)
    for name in pairs.files:
        draft.path(name).write_bytes(pairs.path(name).read_bytes())
    write_jsonl(draft.path("pairs-train.jsonl"), rows)
    draft.commit(given.counts)
    draft.lease.release(0, "")

    done = run_module("jobs.audit", str(config), env=env)
    assert done.returncode == 3, done.stderr
    audit = open_artifact(store, "audit", "small", tmp_path / "audit")
    told: dict[int, set[str]] = {}
    for each in read_jsonl(audit.path("findings.jsonl")):
        assert each["file"] == "pairs-train.jsonl"
        told.setdefault(each["line"] - 1, set()).add(each["kind"])
    missed = {
        (at, kind)
        for at, kind in places.items()
        if kind and KINDS[kind].severity != "note" and kind not in told.get(at, ())
    }
    assert missed == set()
    assert len(set(told) - set(places)) <= 0.01 * len(rows)
    report = read_json(audit.path("report.json"))
    assert report["notes"]["inverted"] >= 2
    assert report["evidence"]["lost"] == 2
    assert json.dumps(report)
