"""Vectors of unchanged chunks, taken from the artifact that is replaced.

A text is looked up by its hash in a sorted array of 16 bytes a chunk, and compared letter by letter
with the one that its vector was made of. What is damaged there is not reused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from codex_forge import embeddings
from codex_forge.artifact import Artifact, Recipe
from codex_forge.embeddings import Stored
from codex_forge.errors import InputError
from codex_forge.hashes import text_hash
from codex_forge.job import Job
from codex_forge.progress import progress

log = logging.getLogger("codex_forge")

_FILES = 4
"""Files whose vectors are held in memory: neighbours in the corpus were neighbours before."""
_BATCH = 4096
_ROWS = 1 << 32
"""More rows than a file has: a vector is at the number of its file times this, plus its row."""
_OF_THE_CORPUS = ("on_bad_record",)
"""Settings that say nothing of the vector of a text."""

Numbers = NDArray[np.int64]


def replaced(job: Job, recipe: Recipe) -> Artifact | None:
    """The artifact that the job replaces, when the same model and settings made its vectors.

    One that was made from the very same corpus is made anew with `--force`, and so wholly.
    """
    if not job.config.embed.reuse:
        return None
    try:
        found = job.open("embed", recipe.name)
    except InputError:
        return None
    manifest = found.manifest
    alike = _of_vectors(manifest.settings) == _of_vectors(recipe.settings)
    same = manifest.inputs["model"].digest == recipe.inputs["model"].digest
    return found if alike and same and manifest.fingerprint != recipe.fingerprint else None


def _of_vectors(settings: object) -> dict[str, object]:
    told = dict(settings) if isinstance(settings, dict) else {}
    return {key: value for key, value in told.items() if key not in _OF_THE_CORPUS}


class Reused:
    """The vectors of an artifact by the texts that they are of."""

    def __init__(self, artifact: Artifact | None) -> None:
        """Hash all its texts; without an artifact nothing is found."""
        self._artifact = artifact
        self._names: list[str] = []
        hashes, places = _hashed(artifact, self._names) if artifact else _nothing()
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._places = hashes[order], places[order]
        self._read = lru_cache(_FILES)(self._of_file)

    def __bool__(self) -> bool:
        return self._artifact is not None

    @property
    def dimension(self) -> int:
        """Length of its vectors; 0 without an artifact."""
        return int(self._artifact.manifest.summary["dimension"]) if self._artifact else 0

    def count(self, texts: Iterable[str]) -> int:
        """How many of these texts have a vector here, by their hashes."""
        if not len(self._hashes):
            return 0
        stream = iter(texts)
        total = 0
        while batch := list(islice(stream, _BATCH)):
            total += int((self._find(batch) >= 0).sum())
        return total

    def of(self, texts: Sequence[str]) -> tuple[Numbers, Stored | None]:
        """Which of the texts have a vector here, and those vectors as they are kept."""
        if not len(self._hashes):
            return np.zeros(0, dtype=np.int64), None
        places = self._find(texts)
        wanted = np.flatnonzero(places >= 0)
        wanted = wanted[np.argsort(places[wanted], kind="stable")]  # each file is read once
        found: list[tuple[int, NDArray[np.generic]]] = []
        for number in wanted.tolist():
            file, row = divmod(int(places[number]), _ROWS)
            there, stored = self._read(file)
            if there[row] == texts[number]:
                found.append((number, stored[row]))
        if not found:
            return np.zeros(0, dtype=np.int64), None
        return np.array([number for number, _ in found]), np.stack([row for _, row in found])

    def _find(self, texts: Sequence[str]) -> Numbers:
        """Of each text the place of its vector, -1 where there is none."""
        hashes = np.fromiter(map(text_hash, texts), np.uint64, len(texts))
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[at] == hashes, self._places[at], -1)

    def _of_file(self, file: int) -> tuple[list[str], Stored]:
        if self._artifact is None:
            raise ValueError("there is no artifact")
        return embeddings.read_stored(self._artifact.path(self._names[file]))


def _hashed(artifact: Artifact, names: list[str]) -> tuple[NDArray[np.uint64], Numbers]:
    """Hashes of all texts and their places; `names` gets the files that can be read."""
    hashes, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for name in progress(embeddings.parts(artifact), "files of the replaced artifact looked up"):
        try:
            path = artifact.path(name)
        except InputError as error:
            log.warning("  its vectors are not reused: %s", error)
            continue
        found = np.concatenate([np.zeros(0, np.uint64), *_of_texts(path)])
        hashes.append(found)
        places.append(len(names) * _ROWS + np.arange(len(found), dtype=np.int64))
        names.append(name)
    return np.concatenate(hashes), np.concatenate(places)


def _of_texts(path: Path) -> Iterator[NDArray[np.uint64]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH, columns=["text"]):
            texts = batch.column("text").to_pylist()
            yield np.fromiter(map(text_hash, texts), np.uint64, len(texts))


def _nothing() -> tuple[NDArray[np.uint64], Numbers]:
    return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
