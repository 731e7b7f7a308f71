"""How servers of embedding models are spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class EmbeddingProtocol(Protocol):
    """One way to ask for vectors."""

    path: str
    """After the server's address."""

    @staticmethod
    def base(url: str) -> str:
        """The server's address of a URL that may hold the beginning of the path."""
        ...

    @staticmethod
    def body(model: str, texts: list[str]) -> dict[str, Any]:
        """What is sent."""
        ...

    @staticmethod
    def vectors(tree: Any) -> list[list[float]]:
        """The vectors of an answer, in the order of the texts; raises what parsing raises."""
        ...

    @staticmethod
    def to_get(model: str) -> str:
        """How to make the server have the model."""
        ...


class Ollama:
    """https://github.com/ollama/ollama/blob/main/docs/api.md: `/api/embed` and `/api/tags`."""

    path = "/api/embed"

    @staticmethod
    def base(url: str) -> str:
        """Without `/api`, and without the `/v1` of its other protocol."""
        return url.removesuffix("/api").removesuffix("/v1")

    @staticmethod
    def body(model: str, texts: list[str]) -> dict[str, Any]:
        """Texts that are too long are cut by the server."""
        return {"model": model, "input": texts, "truncate": True}

    @staticmethod
    def vectors(tree: Any) -> list[list[float]]:
        """They are in the order of the texts."""
        found: list[list[float]] = tree["embeddings"]
        return found

    @staticmethod
    def to_get(model: str) -> str:
        """Its command."""
        return f"ollama pull {model}"

    @staticmethod
    def digest(tags: Any, model: str) -> str | None:
        """The digest of a model among those that the server has; None when it has it not."""
        name = model if ":" in model else f"{model}:latest"
        listed = tags.get("models") if isinstance(tags, Mapping) else None
        for each in listed or ():
            if name in (each.get("name"), each.get("model")) and each.get("digest"):
                return str(each["digest"])
        return None


class OpenAI:
    """https://platform.openai.com/docs/api-reference/embeddings, which many servers speak."""

    path = "/v1/embeddings"

    @staticmethod
    def base(url: str) -> str:
        """Without `/v1`."""
        return url.removesuffix("/v1")

    @staticmethod
    def body(model: str, texts: list[str]) -> dict[str, Any]:
        """Vectors as numbers, not as base64."""
        return {"model": model, "input": texts, "encoding_format": "float"}

    @staticmethod
    def vectors(tree: Any) -> list[list[float]]:
        """Each says which text it is of."""
        rows = tree["data"]
        if sorted(row["index"] for row in rows) != list(range(len(rows))):
            raise ValueError("not one vector for each text")
        return [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]

    @staticmethod
    def to_get(model: str) -> str:
        """Servers differ in how."""
        return f"check embed.served.model ({model}) and .url"


PROTOCOLS: dict[str, type[EmbeddingProtocol]] = {"ollama": Ollama, "openai": OpenAI}
