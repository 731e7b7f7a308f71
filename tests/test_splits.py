"""How questions are divided by entity, by file and into folds, and what is held out with them."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from codex_forge.config.pairs import SplitConfig
from codex_forge.entities import EntityIndex
from codex_forge.errors import InputError
from codex_forge.pairs.held_out import Touched, Touching
from codex_forge.pairs.splits import Split, divide, group_questions
from codex_forge.records import PARTS, Entity, Question

FILES = ["lung.md", "cancer.md", "asthma.md", "flu.md"]
ENTITIES = [
    Entity("e-lung", "lung cancer", "lung.md", ("carcinoma of the lung",)),
    Entity("e-cancer", "cancer", "cancer.md", ("malignancy", "the big C")),
    Entity("e-asthma", "asthma", "asthma.md", ("the wheeze",)),
    Entity("e-flu", "flu", "flu.md", ("the wheeze",)),
]


def asked(number: int, text: str = "", topic: str = "", **fields: Any) -> Question:
    kind = str(fields.pop("category", "c"))
    given = (topic or f"topic {number}",)
    return Question(f"q{number:03d}", text or f"question {number}", kind, given, fields=fields)


def bank(count: int, seed: int = 0) -> list[Question]:
    """Questions in groups of one to six, over five categories of unlike size and two domains."""
    dice = random.Random(seed)
    return [
        asked(
            i,
            topic=f"t{dice.randrange(count // 2)}",
            category=f"c{min(dice.randrange(8), 4)}",
            domain=dice.choice(["left", "right"]),
        )
        for i in range(count)
    ]


def chains(count: int, length: int) -> tuple[list[Question], dict[str, Touched]]:
    """Chains of questions, each tied to the next by an entity of which one file tells."""
    questions = [asked(i, category=f"c{i % 3}") for i in range(count)]
    touched = {}
    for i, question in enumerate(questions):
        links = {i} | ({i + 1} if (i + 1) % length else set())
        entities = frozenset(f"e{link}" for link in links)
        touched[question.query_id] = Touched(entities, frozenset(f"f{link}" for link in links))
    return questions, touched


# What a question touches.


def touch(by: str, question: Question, *answers: int) -> Touched:
    return Touching(by, EntityIndex(ENTITIES), lambda p: FILES[p]).of(question, answers)


def test_by_entity_a_question_touches_names_topics_answers_and_their_files() -> None:
    question = asked(1, "Is CARCINOMA of the Lung curable?", topic="malignancy")
    assert touch("entity", question, 3) == Touched(
        frozenset({"e-lung", "e-cancer", "e-flu"}), frozenset({"lung.md", "cancer.md", "flu.md"})
    )


def test_a_name_inside_a_longer_one_is_not_touched_unless_it_also_stands_alone() -> None:
    inside = asked(1, "What is lung cancer?")
    assert touch("entity", inside).entities == {"e-lung"}
    alone = asked(1, "Is lung cancer the worst cancer?")
    assert touch("entity", alone).entities == {"e-lung", "e-cancer"}
    within_a_word = asked(1, "What are cancerous fluids?")
    assert touch("entity", within_a_word) == Touched()


def test_a_name_is_touched_in_a_script_without_spaces() -> None:
    entities = [
        Entity("e-li", "\u674e\u56db", "li.md"),
        Entity("e-long", "\u674e\u56db\u5149", "long.md"),
    ]
    touching = Touching("entity", EntityIndex(entities), lambda _: "")
    assert touching.named_in("\u674e\u56db\u7684\u5251\u5728\u54ea\u91cc") == {"e-li"}
    assert touching.named_in("\u674e\u56db\u5149\u7684\u5251\u5728\u54ea\u91cc") == {"e-long"}


def test_an_ambiguous_name_touches_all_its_bearers() -> None:
    found = touch("entity", asked(1, "What helps against the wheeze?"))
    assert found == Touched(frozenset({"e-asthma", "e-flu"}), frozenset({"asthma.md", "flu.md"}))


def test_by_file_only_the_answers_count_and_by_question_nothing() -> None:
    question = asked(1, "Is lung cancer curable?", topic="malignancy")
    assert touch("file", question, 2, 2) == Touched(
        frozenset({"e-asthma"}), frozenset({"asthma.md"})
    )
    assert touch("question", question, 2) == Touched()


# By entity.


def check_apart(split: Split, touched: Mapping[str, Touched]) -> None:
    for kind in (0, 1):
        parts_of = defaultdict(set)
        for part, questions in split.parts.items():
            for question in questions:
                for thing in touched[question.query_id][kind]:
                    parts_of[thing].add(part)
        assert all(len(parts) == 1 for parts in parts_of.values())
        held = {thing for thing, parts in parts_of.items() if parts & {"dev", "test"}}
        assert held == split.held_out[kind]
        assert 0 < len(held) < len(parts_of)


@pytest.mark.parametrize("seed", range(3))
def test_no_entity_stands_on_two_sides_and_what_is_held_out_is_told(seed: int) -> None:
    questions, touched = chains(300, 5)
    split = divide(questions, SplitConfig(by="entity"), seed, {}, touched)
    check_apart(split, touched)
    for part, share in (("train", 0.3), ("dev", 0.1), ("test", 0.6)):
        assert abs(len(split.parts[part]) / 300 - share) < 0.03
        by_category = Counter(q.category for q in split.parts[part])
        assert all(abs(found - 100 * share) <= 10 for found in by_category.values())
        assert split.report["shares"][part]["questions"] == len(split.parts[part])
    assert split.report["groups"] == 60
    assert split.report["largest_group"] == 5


def test_without_touches_the_same_questions_are_divided_finer() -> None:
    questions, touched = chains(60, 6)
    assert len(group_questions(questions, (), {})) == 60
    assert len(group_questions(questions, (), {}, touched)) == 10
    assert divide(questions, SplitConfig(), 7, {}).held_out == Touched()


def test_one_giant_group_is_an_error_that_says_what_ties_it() -> None:
    touched = {f"q{i:03d}": Touched(frozenset({"e-hub", f"e{i}"}), frozenset()) for i in range(40)}
    with pytest.raises(InputError) as caught:
        divide([asked(i) for i in range(40)], SplitConfig(by="entity"), 7, {}, touched)
    assert "no question is left for" in str(caught.value)
    assert "1 groups" in str(caught.value)
    assert "40 of them by the entity e-hub" in str(caught.value)


def test_shares_that_cannot_be_met_are_told(caplog: pytest.LogCaptureFixture) -> None:
    questions = [asked(i) for i in range(40)]
    touched = {f"q{i:03d}": Touched(frozenset({"e-hub"}), frozenset()) for i in range(30)}
    with caplog.at_level(logging.WARNING, "codex_forge"):
        split = divide(questions, SplitConfig(by="entity"), 7, {}, touched)
    assert "test has 75 % of the questions, not 60 %" in caplog.text
    assert split.report["shares"]["test"] == {"asked": 0.6, "reached": 0.75, "questions": 30}
    assert split.report["largest_group"] == 30
    assert split.report["largest_group_is_tied_by"] == [{"tie": "entity e-hub", "questions": 30}]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "codex_forge"):
        divide(questions, SplitConfig(by="entity"), 7, {}, {})
    assert caplog.text == ""


def test_a_part_that_is_not_asked_for_may_be_empty() -> None:
    config = SplitConfig(by="entity", train=1.0, dev=0.0, test=0.0)
    split = divide([asked(1)], config, 7, {})
    assert [len(split.parts[part]) for part in PARTS] == [1, 0, 0]
    assert divide([], SplitConfig(by="entity"), 7, {}).parts == {p: [] for p in PARTS}


# Folds.


def fold_split(questions: Sequence[Question], fold: int, folds: int = 5, **other: Any) -> Split:
    seed = other.pop("seed", 7)
    touched = other.pop("touched", {})
    config = SplitConfig(folds=folds, fold=fold, **other)
    return divide(questions, config, seed, {}, touched)


@pytest.mark.parametrize("folds", [2, 5])
def test_every_question_is_in_the_test_part_of_one_fold(folds: int) -> None:
    questions = bank(200)
    splits = [fold_split(questions, fold, folds) for fold in range(folds)]
    tested = Counter(q.query_id for split in splits for q in split.parts["test"])
    assert tested == Counter(q.query_id for q in questions)
    group_of = splits[0].group_of
    for split in splits:
        assert split.group_of == group_of
        sides = defaultdict(set)
        for part in PARTS:
            for question in split.parts[part]:
                sides[group_of[question.query_id]].add(part)
        assert all(len(parts) == 1 for parts in sides.values())
        assert sum(len(split.parts[part]) for part in PARTS) == 200
        rest = 200 - len(split.parts["test"])
        assert abs(len(split.parts["dev"]) - 0.1 * rest) <= 3


def test_folds_hold_every_category_and_domain_in_its_share() -> None:
    questions = bank(400)
    totals = Counter((q.category, q.fields["domain"]) for q in questions)
    for fold in range(4):
        test = fold_split(questions, fold, 4).parts["test"]
        assert abs(len(test) - 100) <= 2
        found = Counter((q.category, q.fields["domain"]) for q in test)
        assert all(abs(found[key] - total / 4) <= 4 for key, total in totals.items()), found


def test_folds_depend_on_the_seed_and_on_no_order() -> None:
    questions = bank(120)
    ids = [{q.query_id for q in fold_split(questions, 1).parts["test"]} for _ in range(2)]
    assert ids[0] == ids[1]
    other = {q.query_id for q in fold_split(questions, 1, seed=8).parts["test"]}
    assert other != ids[0]
    alone = [asked(i, category=f"c{i % 3}") for i in range(60)]
    backwards = fold_split(alone[::-1], 1)
    for part in PARTS:
        forwards = fold_split(alone, 1).parts[part]
        assert {q.query_id for q in backwards.parts[part]} == {q.query_id for q in forwards}


def test_folds_by_entity_hold_out_what_their_questions_touch() -> None:
    questions, touched = chains(120, 4)
    for fold in range(3):
        split = fold_split(questions, fold, 3, by="entity", touched=touched)
        check_apart(split, touched)


@pytest.mark.parametrize("fold", range(4))
@pytest.mark.parametrize("count", [0, 1, 3])
def test_more_folds_than_groups_are_refused_at_the_first_of_them(count: int, fold: int) -> None:
    questions = [asked(i) for i in range(count)]
    with pytest.raises(InputError, match=f"4 folds need as many groups.* there are {count}"):
        fold_split(questions, fold, 4)


@pytest.mark.parametrize("count", [4, 5, 40])
def test_as_many_folds_as_groups_leave_none_empty(count: int) -> None:
    questions = [asked(i, category=f"c{i % 4}") for i in range(count)]
    for fold in range(4):
        split = fold_split(questions, fold, 4, train=0.4, dev=0.0, test=0.6)
        assert split.parts["test"]
        assert split.parts["train"]


def test_dev_may_be_left_out_of_folds() -> None:
    split = fold_split(bank(50), 0, 2, train=0.4, dev=0.0, test=0.6)
    assert not split.parts["dev"]
    assert split.parts["train"]
    assert split.report["shares"]["train"]["asked"] == 0.5
