"""What an evaluation is made from, checked before anything is computed."""

from __future__ import annotations

from typing import NamedTuple

from codex_forge.artifact import Artifact, Input
from codex_forge.corpus import CorpusFiles, check_same_files
from codex_forge.errors import ConfigError, InputError
from codex_forge.job import Job
from codex_forge.model.in_use import check_made_so


class Given(NamedTuple):
    """The inputs of one evaluation."""

    pairs: Artifact
    files: CorpusFiles | None
    """Of the corpus; None where scored pairs alone are judged."""
    embedded: Artifact | None
    """The vectors that are searched; None for BM25, and for scored pairs alone."""
    inputs: dict[str, Input]
    """What the artifact records."""


def given(job: Job, pairs: Artifact, model: Input | None) -> Given:
    """Open and check everything.

    Args:
        job: its config says what is evaluated.
        pairs: its artifact of pairs.
        model: of what is evaluated, where scored pairs alone are judged.

    Raises:
        ConfigError: a setting is missing that the retriever needs.
        InputError: an artifact is missing, or was made from other files than the config names.
    """
    inputs = {"pairs": pairs.as_input()}
    if model is not None:
        return Given(pairs, None, None, {**inputs, "model": model})
    check_settings(job, pairs)
    files = job.corpus_files()
    inputs |= files.inputs(("chunks", "indexes"))
    check_same_files(pairs, inputs, ("chunks", "indexes"))
    if job.config.evaluate.retriever == "bm25":
        return Given(pairs, files, None, inputs)
    embedded = _open_vectors(job)
    check_same_files(embedded, inputs, ("chunks",))
    check_made_so(embedded, job.config)
    check_same_split(job, embedded.manifest.inputs["model"], pairs)
    return Given(pairs, files, embedded, {**inputs, "embed": embedded.as_input()})


def has_scored(pairs: Artifact) -> bool:
    """Whether there are scored pairs to judge."""
    return any(pairs.counts.get(f"scored_{part}") for part in ("dev", "test"))


def check_scored_alone(job: Job) -> None:
    """Refuse what scored pairs cannot tell.

    Raises:
        InputError: a retriever other than the model itself, or queries that must pass, are asked
            for where there is nothing to search.
    """
    config = job.config.evaluate
    if config.retriever != "dense":
        raise InputError(
            "there are scored pairs alone, and no question to search for",
            where=f"evaluate.retriever={config.retriever}",
            do="set evaluate.retriever=dense: the model itself is judged by its cosines",
        )
    if config.must_pass:
        raise InputError(
            "there are scored pairs alone, and no corpus to search in",
            where="evaluate.must_pass",
            do="give corpus.chunks and corpus.questions, or leave it out",
        )


def check_settings(job: Job, pairs: Artifact) -> None:
    """Refuse a retriever that lacks what it needs."""
    config = job.config.evaluate
    if config.retriever == "chroma" and not job.config.embed.chroma.place:
        raise ConfigError(
            "there is no Chroma collection to search in",
            where="evaluate.retriever=chroma",
            do="set embed.chroma.path or embed.chroma.url, and run python -m jobs.embed",
        )
    weighs = config.retriever == "hybrid" and config.hybrid.fusion == "weighted"
    if weighs and config.hybrid.weight is None and not pairs.counts.get("questions_dev"):
        raise InputError(
            "there are no dev questions to choose the weight on",
            where=pairs.url,
            do="set evaluate.hybrid.weight, or evaluate.hybrid.fusion=rrf",
        )


def check_same_split(job: Job, model: Input, pairs: Artifact) -> None:
    """Refuse a model trained on another split, which may have seen these questions."""
    if model.kind != "train":
        return
    trained = job.open("train", model.name)
    if trained.manifest.inputs["pairs"].digest != pairs.digest:
        raise InputError(
            "the model was trained on other pairs than these questions belong to",
            where=trained.url,
            do="run python -m jobs.train --force, embed --force, and evaluate again",
        )


def _open_vectors(job: Job) -> Artifact:
    """The embed artifact; when it is not there, the error says with which command to make it."""
    try:
        return job.open("embed", job.config.embed_name)
    except InputError as error:
        if job.config.embed.model == "trained":
            raise
        do = f"run python -m jobs.embed embed.model={job.config.embed.model}"
        raise type(error)(error.what, where=error.where, do=do) from error
