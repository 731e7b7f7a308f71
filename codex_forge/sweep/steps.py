"""The steps of a trial: which modes run in which order, and the artifact that each makes."""

from __future__ import annotations

from typing import NamedTuple

from codex_forge.artifact import Artifact
from codex_forge.config import RunConfig
from codex_forge.pair_files import has_questions
from codex_forge.sweep.plan import Trial


class Step(NamedTuple):
    """One mode of a trial."""

    mode: str
    name: str
    """Of the artifact that it makes."""
    config: RunConfig
    shared: bool = False
    """Whether other trials may make the same."""

    @property
    def folder(self) -> str:
        """Where the artifact is."""
        return f"{self.mode}/{self.name}"


def before_training(trial: Trial) -> list[Step]:
    """What is made because the run's cannot be shared; perhaps by another trial."""
    return [Step(each.mode, each.name, each.config, shared=True) for each in trial.before]


def training(trial: Trial) -> Step:
    """The one step that several processes do together."""
    return Step("train", trial.config.run_name, trial.config)


def after_training(trial: Trial, *, asks: bool) -> list[Step]:
    """Embedding and scoring; where scored pairs alone are judged there is nothing to search."""
    config = trial.config
    found = [Step("embed", config.embed_name, config)] if asks else []
    return [*found, Step("evaluate", config.evaluate_name, config)]


def all_steps(trial: Trial, *, asks: bool) -> list[Step]:
    """All of them in order."""
    return [*before_training(trial), training(trial), *after_training(trial, asks=asks)]


def has_part(pairs: Artifact, part: str) -> bool:
    """Whether a part has what is scored on: questions, or scored pairs where there are none."""
    what = "questions" if has_questions(pairs) else "scored"
    return bool(pairs.counts.get(f"{what}_{part}"))
