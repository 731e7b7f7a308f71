"""What the numbers of a comparison advise, by stated rules: one function a rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from codex_forge.compare.advice_beside import BESIDE
from codex_forge.compare.tiers import BELOW_ALL_TIERS, LEAST_GROUPS

_LEAST_SLICE = 20
_WIDE = 0.3
"""A smallest detectable difference above this one leaves real gains unseen."""

Report = Mapping[str, Any]


def recommendations(report: Report) -> list[str]:
    """Every rule's advice, the decision first."""
    rules = (_decision, _bank, _tier, _slices, _untold_names, _losses, *BESIDE)
    return [advice for rule in rules for advice in rule(report)]


def _decision(report: Report) -> Iterator[str]:
    held_out = "questions" if report["questions"] else "pairs"
    if report["verdict"] == "improved" and report["folds"]:
        yield (
            "The gain holds on questions that no model saw before it answered them: these "
            f"settings work. Cross-fitting judges them and not one of the {report['folds']} "
            "models: train the one to use without folds."
        )
    elif report["verdict"] == "improved":
        yield (f"The gain holds on {held_out} that training never saw: {_replaces(report)}")
    elif report["verdict"] == "worse":
        yield f"Keep the baseline: the candidate is worse on these {held_out}."
    elif report["smallest_detectable"] is None:
        yield f"Keep the baseline: none of the {held_out} changed."
    else:
        digits = 2 if report["questions"] else 3
        yield (
            f"Keep the baseline: no difference was shown. These {held_out} find true differences "
            f"from {report['smallest_detectable']:.{digits}f} upwards in 4 of 5 cases; smaller "
            f"ones need more {held_out}."
        )


def _replaces(report: Report) -> str:
    """What a gain is worth, beside the levels that were asked for."""
    levels = report["measure_tier"]
    if not report["questions"] and levels and levels["name"] is None:
        first = levels["levels"][0]["name"]
        return f"the candidate is better, and still below the first level ({first})."
    if not report["questions"]:
        return "the candidate can replace the baseline."
    return "the candidate can replace the baseline. Embed the corpus with it before queries use it."


def _bank(report: Report) -> Iterator[str]:
    """Is there enough to tell by?"""
    if not report["questions"]:
        if report["pairs"]["groups"] < LEAST_GROUPS:
            yield (
                f"{report['pairs']['groups']} groups of scored pairs are too few to judge: give "
                f"at least {LEAST_GROUPS} without a text in common, better some hundreds."
            )
        return
    if report["groups"] < LEAST_GROUPS:
        yield (
            f"{report['groups']} groups of questions are too few to judge: write at least "
            f"{LEAST_GROUPS} with different answers, better some hundreds."
        )
    elif (smallest := report["smallest_detectable"] or 0.0) > _WIDE:
        more = (smallest / _WIDE) ** 2 * report["groups"]
        crossed = "" if report["folds"] else "; cross-fitting (make crossfit) asks the whole bank"
        yield (
            f"The smallest difference that this bank shows in 4 of 5 cases is {smallest:.2f}. To "
            f"see one of {_WIDE} it needs about {more:.0f} groups of questions with different "
            f"answers, and has {report['groups']}{crossed}."
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
    numbers = report["metrics"].get(report["measure"])
    if numbers and report["verdict"] != "worse" and numbers["loss"] > numbers["win"]:
        yield "More questions lost than gained, although the mean may not show it."
