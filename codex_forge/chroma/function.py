"""A model folder as the functions that ChromaDB, LangChain and others call to embed texts.

Both put the document prompt before documents and the query prompt before queries, and load the
model when they are first asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codex_forge.chroma.folder import FolderModel, Vectors, model_digest
from codex_forge.chroma.place import NAME
from codex_forge.errors import InputError

if TYPE_CHECKING:
    pass

_DIGITS = 16


class ForgeEmbeddingFunction:
    """An embedding function for ChromaDB: `client.get_collection(name, embedding_function=this)`.

    Its name ends with the model's digest, and a collection keeps the name of the function that it
    was made with: so ChromaDB itself refuses the function of another model.
    """

    def __init__(
        self,
        folder: str,
        *,
        dimensions: int | None = None,
        query_prompt: str = "",
        document_prompt: str = "",
        trust_remote_code: bool = False,
    ) -> None:
        """A function of a model folder.

        Args:
            folder: a trained model's (`<version>/model`, beside its `manifest.json`), or what
                `model.base` takes.
            dimensions: numbers kept of a vector, as `embed.dimensions` said.
            query_prompt: put before queries, in place of the model's own.
            document_prompt: put before documents, in place of the model's own.
            trust_remote_code: run Python code that the model ships.

        Raises:
            ConfigError: there is no such model.
            InputError: the folder is not what its manifest promises.
        """
        from codex_forge.config.sections import ModelConfig

        config = ModelConfig(
            base=str(folder),
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            trust_remote_code=trust_remote_code,
        )
        self._begin(model_digest(config), FolderModel(config, dimensions))

    @classmethod
    def of_model(cls, digest: str) -> ForgeEmbeddingFunction:
        """The function of a model whose folder is not known: it has the name, and refuses to embed.

        A collection that is made with it can be opened by the model's own function alone.
        """
        found = cls.__new__(cls)
        found._begin(digest, None)
        return found

    def _begin(self, digest: str, model: FolderModel | None) -> None:
        self.model, self._model = digest, model
        name = f"{NAME}-{digest[:_DIGITS]}"
        vars(self)["name"] = lambda: name
        _register(name, type(self))

    @staticmethod
    def name() -> str:
        """What ChromaDB calls it; that of an instance ends with its model's digest."""
        return NAME

    def __call__(self, input: Sequence[str]) -> list[Vectors]:  # noqa: A002 - ChromaDB's word
        """Unit vectors of documents, one of shape (dimension,) each."""
        return list(self._known.documents(input))

    def embed_query(self, input: Sequence[str]) -> list[Vectors]:  # noqa: A002
        """Unit vectors of queries, one of shape (dimension,) each."""
        return list(self._known.queries(input))

    @property
    def _known(self) -> FolderModel:
        if self._model is None:
            raise InputError(
                f"texts can only be embedded by the model of this collection ({self.model[:12]})",
                do="open it with codex_forge.chroma.open_collection(place, name, folder=...), or "
                "with embedding_function=ForgeEmbeddingFunction(folder)",
            )
        return self._model

    def get_config(self) -> dict[str, Any]:
        """What ChromaDB keeps of it: folder, prompts, and the model's digest."""
        if self._model is None:
            return {"model": self.model}
        config = self._model.config
        return {
            "model": self.model,
            "folder": config.base,
            "dimensions": self._model.dimensions,
            "query_prompt": config.query_prompt,
            "document_prompt": config.document_prompt,
        }

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> ForgeEmbeddingFunction:
        """The function that a collection was made with.

        Raises:
            InputError: its folder holds another model now.
        """
        told = dict(config)
        digest = told.pop("model")
        if not told.get("folder"):
            return ForgeEmbeddingFunction.of_model(digest)
        found = ForgeEmbeddingFunction(**told)
        if found.model != digest:
            raise InputError(
                "the folder holds another model than when the collection was made",
                where=told["folder"],
                do="open the collection with the function of the right folder",
            )
        return found

    def default_space(self) -> str:
        """The measure that its vectors are made for."""
        return "cosine"

    def supported_spaces(self) -> list[str]:
        """All measures order unit vectors alike."""
        return ["cosine", "l2", "ip"]

    def is_legacy(self) -> bool:
        """It has a config that it can be built from."""
        return False

    @staticmethod
    def validate_config(config: dict[str, Any]) -> None:
        """Any config of its own will do."""

    def validate_config_update(
        self, old_config: dict[str, Any], new_config: dict[str, Any]
    ) -> None:
        """A collection's model never changes.

        Raises:
            InputError: it would.
        """
        if old_config.get("model") != new_config.get("model"):
            raise InputError("a collection's model never changes", do="make another collection")


class ForgeEmbeddings:
    """The same for LangChain: what its `Embeddings` promise, as lists of numbers."""

    def __init__(self, function: ForgeEmbeddingFunction) -> None:
        """Takes the function of a collection's model, so that the two are of one mind."""
        self._function = function

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A unit vector of each document."""
        return [vector.tolist() for vector in self._function(texts)]

    def embed_query(self, text: str) -> list[float]:
        """The unit vector of a query."""
        found: list[float] = self._function.embed_query([text])[0].tolist()
        return found

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """The same in a thread."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """The same in a thread."""
        return await asyncio.to_thread(self.embed_query, text)


def _register(name: str, function: type[ForgeEmbeddingFunction]) -> None:
    """Let ChromaDB find it when it opens a collection that was made with it."""
    from chromadb.utils import embedding_functions

    embedding_functions.known_embedding_functions[name] = function
