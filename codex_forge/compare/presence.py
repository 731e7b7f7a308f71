"""Are all evaluations there that a comparison needs? What is not is named with what makes it."""

from __future__ import annotations

from collections.abc import Sequence

from codex_forge.config import RunConfig
from codex_forge.config.sections import FOLD
from codex_forge.errors import NotMade
from codex_forge.job import Job


def names_of(name: str, folds: int) -> list[str]:
    """Names of the artifacts of one side: one, or one a fold."""
    return [name.replace(FOLD, str(fold)) for fold in range(folds)] if folds else [name]


def check_there(job: Job, names: Sequence[str]) -> None:
    """Name all that is missing at once: each may be the work of hours.

    Raises:
        NotMade: some evaluate artifacts are not there.
    """
    folds = job.config.pairs.split.folds
    missing: dict[int, list[str]] = {}
    for name in names:
        for fold, each in enumerate(names_of(name, folds)):
            if not any(job.store.list(f"evaluate/{each}")):
                missing.setdefault(fold, []).append(each)
    if not missing:
        return
    told = [name for _, found in sorted(missing.items()) for name in found]
    listed = ", ".join(map(repr, told))
    if not folds:
        raise NotMade(
            f"there is no evaluate artifact {listed}",
            where=job.store.url("evaluate"),
            do="; ".join(f"for {name} run {_made_by(job.config, name)}" for name in told),
        )
    raise NotMade(
        f"cross-fitting needs all {folds} folds, and there is no evaluate artifact {listed}",
        where=job.store.url("evaluate"),
        do=f"run make crossfit CONFIG=... FOLDS={folds}, or all modes with "
        f"pairs.split.folds={folds} and pairs.split.fold=" + " or ".join(map(str, sorted(missing))),
    )


def _made_by(config: RunConfig, name: str) -> str:
    """The commands that make an evaluate artifact of this run."""
    ending = f"-{name.removeprefix(config.name)}-"
    settings = []
    if "-base-" in ending:
        settings.append("embed.model=base")
    elif f"-{config.embed.served.name}-" in ending:
        settings.append("embed.model=served")
    before = "jobs.embed and then jobs.evaluate" if settings else "jobs.evaluate"
    for retriever in ("bm25", "hybrid", "chroma"):
        if f"-{retriever}-" in ending:
            settings.append(f"evaluate.retriever={retriever}")
    if ending.endswith("-dev-"):
        settings.append("evaluate.part=dev")
    return f"{before} with {' '.join(settings)}" if settings else before
