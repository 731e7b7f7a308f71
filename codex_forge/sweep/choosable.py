"""Can a winner be chosen at all? Asked before the first trial is trained."""

from __future__ import annotations

from codex_forge.artifact import Artifact
from codex_forge.compare.pair_measures import MEASURES
from codex_forge.config.sections import EvaluateConfig
from codex_forge.errors import InputError
from codex_forge.evaluate.scored_pair import Judged, grouped
from codex_forge.job import Job
from codex_forge.pair_files import has_questions, rows
from codex_forge.sweep.scores import check_metric
from codex_forge.sweep.steps import has_part

_LEAST_GROUPS = 2


def check_can_choose(job: Job) -> None:
    """Refuse a sweep whose trials could not be told apart in the end.

    Raises:
        InputError: dev questions, or pairs, are none or all hang together.
        ConfigError: there is no such measure of them.
    """
    config = job.config
    pairs = job.open("pairs", config.pairs_name)
    asks = has_questions(pairs)
    known = _measures(config.evaluate) if asks else MEASURES
    check_metric(config.sweep.metric, dict.fromkeys(known))
    if not has_part(pairs, "dev"):
        raise _nothing(pairs, "its dev part is empty")
    count = _groups(pairs, asks=asks)
    if count < _LEAST_GROUPS:
        what = "dev questions" if asks else "dev pairs"
        raise _nothing(pairs, f"all its {what} are of one group, which resampling cannot part")


def _groups(pairs: Artifact, *, asks: bool) -> int:
    if asks:
        return len({row["group"] for row in rows(pairs, "questions-dev")})
    return len(set(grouped([Judged.of("dev", row) for row in rows(pairs, "scored-dev")]).tolist()))


def _measures(config: EvaluateConfig) -> list[str]:
    cuts = [f"{name}@{k}" for name in ("recall", "precision") for k in config.k]
    return ["rubric", *cuts, "mrr@10", "ndcg@10", "map"]


def _nothing(pairs: Artifact, why: str) -> InputError:
    return InputError(
        f"there is nothing to choose between trials on: {why}",
        where=pairs.url,
        do="make pairs with more questions or scored pairs, or with a larger pairs.split.dev",
    )
