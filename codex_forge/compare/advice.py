"""What the numbers of a comparison advise, by stated rules: one function a rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MEASURE = "rubric"
BELOW_ALL_TIERS = "change strategy"
NOT_JUDGED = "too few questions"
LEAST_GROUPS = 10
"""Below this many groups of questions no tier is given."""

_LEAST_SLICE = 20

Report = Mapping[str, Any]


def recommendations(report: Report) -> list[str]:
    """Every rule's advice, the decision first."""
    rules = (_decision, _bank, _tier, _slices, _untold_names, _losses)
    return [advice for rule in rules for advice in rule(report)]


def _decision(report: Report) -> Iterator[str]:
    if report["verdict"] == "improved" and report["folds"]:
        yield (
            "The gain holds on questions that no model saw before it answered them: these "
            f"settings work. Cross-fitting judges them and not one of the {report['folds']} "
            "models: train the one to use without folds."
        )
    elif report["verdict"] == "improved":
        yield (
            "The gain holds on questions that training never saw: the candidate can replace the "
            "baseline. Embed the corpus with it before queries use it."
        )
    elif report["verdict"] == "worse":
        yield "Keep the baseline: the candidate is worse on this bank."
    elif report["smallest_detectable"] is None:
        yield "No difference was shown: no question changed."
    else:
        yield (
            f"No difference was shown. This bank finds true differences from "
            f"{report['smallest_detectable']:.2f} upwards in 4 of 5 cases; smaller ones need more "
            "questions."
        )


def _bank(report: Report) -> Iterator[str]:
    """Is the question bank able to tell?"""
    if report["groups"] < LEAST_GROUPS:
        yield (
            f"{report['groups']} groups of questions are too few to judge: write at least "
            f"{LEAST_GROUPS} with different answers, better some hundreds."
        )
    if 2 * report["at_ceiling"] > report["questions"]:
        yield (
            f"{report['at_ceiling']} of {report['questions']} questions score 5 on both sides, so "
            "the rubric cannot tell the two apart there: name topics that only the answer holds, "
            "and look at ndcg@10."
        )


def _tier(report: Report) -> Iterator[str]:
    if report["tier"] == BELOW_ALL_TIERS:
        first = report["tiers"][0]
        yield (
            f"The lower end of the candidate's interval, {report['tier_judged_at']:.2f}, is below "
            f"{first['at_least']} ({first['name']}): look at the chunks and the index before "
            "training longer."
        )


def _slices(report: Report) -> Iterator[str]:
    for field, values in report["slices"].items():
        for value, found in values.items():
            if found["ci_high"] < 0 and found["questions"] >= _LEAST_SLICE:
                yield (
                    f"Questions with {field} = {value} lost {-found['difference']:.2f}: read the "
                    "losses in the report, and give that slice more train pairs."
                )


def _untold_names(report: Report) -> Iterator[str]:
    slices = report["slices"]
    told = slices.get("alias_in_index") or slices.get("name_in_index") or {}
    if {"true", "false"} <= told.keys() and told["false"]["candidate"] < told["true"]["candidate"]:
        gap = told["true"]["candidate"] - told["false"]["candidate"]
        yield (
            f"Names that the index tells score {gap:.2f} higher than names that it does not: "
            "adding aliases to the index is the cheapest next gain."
        )


def _losses(report: Report) -> Iterator[str]:
    numbers = report["metrics"][MEASURE]
    if report["verdict"] != "worse" and numbers["loss"] > numbers["win"]:
        yield "More questions lost than gained, although the mean may not show it."
