"""What a collection says of itself in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from codex_forge.artifact import Artifact, Manifest, hash_json

_OURS = "codex_forge_"


@dataclass(frozen=True)
class Facts:
    """The metadata of a collection, each key with `codex_forge_` before it."""

    embeddings: str = ""
    """Digest of the embed artifact; empty while that is not whole."""
    model: str = ""
    """Digest of the model that made the vectors."""
    model_name: str = ""
    """What people call it: the run that trained it, or `model.base`."""
    query_prompt: str = ""
    """What the config had put before a query; empty for the model's own."""
    document_prompt: str = ""
    """What it had put before every chunk; empty for the model's own."""
    dtype: str = "float32"
    """How exactly the vectors were kept."""
    dimension: int = 0
    rows: int = 0
    unfinished: bool = True
    """Rows are being written, or were when the writer was stopped."""

    @classmethod
    def of(cls, artifact: Artifact, dtype: str, dimension: int) -> Self:
        """What the finished mirror of an embed artifact says."""
        manifest = artifact.manifest
        model = manifest.inputs["model"]
        prompts = {
            key: str(manifest.summary.get(key) or _setting(manifest, key) or "")
            for key in ("query_prompt", "document_prompt")
        }
        return cls(
            embeddings=artifact.digest,
            model=model.digest,
            model_name=model.name,
            dtype=dtype,
            dimension=dimension,
            rows=artifact.counts["chunks"],
            unfinished=False,
            **prompts,
        )

    @property
    def space(self) -> str:
        """Names the vector space: rows of two spaces are never in one collection."""
        return hash_json([self.model, self.dtype, self.dimension])[:16]

    def has_place_for(self, other: Facts) -> bool:
        """Whether the rows of the other can be written over these, one by one."""
        return self.space == other.space and self.document_prompt == other.document_prompt

    def begun(self) -> Facts:
        """The same while rows are written."""
        return replace(self, unfinished=True)

    def metadata(self) -> dict[str, str | int | bool]:
        """As ChromaDB keeps it."""
        return {f"{_OURS}{key}": value for key, value in asdict(self).items()}


def _setting(manifest: Manifest, key: str) -> Any:
    """What the config put on a base or a served model."""
    return manifest.settings.get(f"model.{key}") or manifest.settings.get(f"embed.served.{key}")


def facts_of(collection: Any) -> Facts | None:
    """What a collection says of itself; None when it is another tool's."""
    told: Mapping[str, Any] = collection.metadata or {}
    if f"{_OURS}model" not in told:
        return None
    known = {field.name: told.get(f"{_OURS}{field.name}") for field in fields(Facts)}
    return Facts(**{name: value for name, value in known.items() if value is not None})
