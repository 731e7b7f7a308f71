"""A model folder: which model it holds, as embed artifacts record it, and that model's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codex_forge.artifact import Manifest, hash_file
from codex_forge.config.sections import ModelConfig
from codex_forge.errors import Damaged
from codex_forge.model.in_use import shortened
from codex_forge.model.locate import locate

Vectors = NDArray[np.float32]


class FolderModel:
    """A model folder, loaded when it is first used."""

    def __init__(self, config: ModelConfig, dimensions: int | None) -> None:
        """With `dimensions`, only the first numbers of a vector are kept."""
        self.config, self.dimensions = config, dimensions

    @cached_property
    def _encoder(self) -> Any:
        from codex_forge.model.encoder import Encoder, load_base

        return Encoder(load_base(locate(self.config).folder, self.config))

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors after the query prompt, shape (texts, dimension)."""
        return self._cut(self._encoder.encode_query(texts))

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors after the document prompt, shape (texts, dimension)."""
        return self._cut(self._encoder.encode_document(texts))

    def _cut(self, vectors: Vectors) -> Vectors:
        return vectors if self.dimensions is None else shortened(vectors, self.dimensions)


def model_digest(config: ModelConfig) -> str:
    """The digest of a model: of the train artifact that the folder lies in, or of its own files.

    Raises:
        ConfigError: there is no such model.
        Damaged: a file is not what the artifact's manifest promises.
    """
    found = locate(config, "folder")
    path = found.folder.resolve().parent / "manifest.json"
    if not path.is_file() or found.folder.resolve().name != "model":
        return found.identity.digest
    manifest = Manifest.parse(path.read_bytes(), str(path))
    if manifest.kind != "train":
        return found.identity.digest
    _check(manifest, path.parent)
    return manifest.digest


def _check(manifest: Manifest, version: Path) -> None:
    for entry in manifest.files:
        local = version / entry.path
        if not entry.path.startswith("model/") or entry.volatile:
            continue
        if not local.is_file() or hash_file(local) != entry.sha256:
            raise Damaged(
                "is not what manifest.json beside the folder promises",
                where=local,
                do="copy the version folder again, whole",
            )
