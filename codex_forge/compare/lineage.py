"""What artifacts were made from: opened as they were then, told, and compared between folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from codex_forge.artifact import Artifact, Input
from codex_forge.config import flatten
from codex_forge.errors import InputError
from codex_forge.job import Job

_MADE = ("pairs", "train", "embed")
_FOLD = "pairs.split.fold"


def ancestors(job: Job, artifacts: Sequence[Artifact]) -> Iterator[Artifact]:
    """The artifacts and all that they were made from, each once.

    Raises:
        InputError: one of them was made again since.
    """
    seen: set[tuple[str, str]] = set()
    queue = list(artifacts)
    while queue:
        artifact = queue.pop(0)
        key = (artifact.manifest.kind, artifact.manifest.name)
        if key in seen:
            continue
        seen.add(key)
        yield artifact
        for given in artifact.manifest.inputs.values():
            if given.kind in _MADE:
                queue.append(_ancestor(job, artifact, given))


def _ancestor(job: Job, artifact: Artifact, given: Input) -> Artifact:
    """The artifact that another was made from, as it was then."""
    found = job.open(given.kind, given.name)
    if found.digest != given.digest:
        raise InputError(
            f"was made from another {given.kind} artifact {given.name!r} than is there now",
            where=artifact.url,
            do=f"run python -m jobs.{artifact.manifest.kind} --force",
        )
    return found


def lineage(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """How each artifact was made: settings, inputs, fingerprints."""
    found = []
    for artifact in artifacts:
        manifest = artifact.manifest
        found.append(
            {
                "kind": manifest.kind,
                "name": manifest.name,
                "fingerprint": manifest.fingerprint,
                "digest": artifact.digest,
                "settings": flatten(manifest.settings),
                "inputs": {
                    role: f"{given.kind} {given.name} {given.digest[:12]}"
                    for role, given in manifest.inputs.items()
                },
            }
        )
    return found


def check_folds(job: Job, folds: Sequence[Artifact]) -> None:
    """Folds count as one result only when nothing but the held-out questions differs.

    Raises:
        InputError: a fold was made with other settings or files than the first, or of another
            division; names the first thing that differs.
    """
    first = _recipe(job, folds[0])
    for number, artifact in enumerate(folds):
        mine = _recipe(job, artifact)
        wanted = {**first, _FOLD: number, "pairs.split.folds": len(folds)}
        for key in sorted(wanted.keys() | mine.keys()):
            if wanted.get(key) != mine.get(key):
                raise InputError(
                    f"fold {number} does not belong to the others: {key} is "
                    f"{mine.get(key)!r}, not {wanted.get(key)!r}",
                    where=artifact.url,
                    do=f"make fold {number} again with the settings of the others "
                    f"(pairs.split.fold={number} --force)",
                )


def _recipe(job: Job, artifact: Artifact) -> dict[str, Any]:
    """All that made an artifact, flat: settings of every step, digests of every file."""
    found: dict[str, Any] = {}
    for step in ancestors(job, [artifact]):
        kind = step.manifest.kind
        for key, value in flatten(step.manifest.settings).items():
            found[key if key.startswith(f"{kind}.") else f"{kind}: {key}"] = value
        for role, given in step.manifest.inputs.items():
            if given.kind not in _MADE:
                found[f"{kind}: {role}"] = given.digest
    return found
