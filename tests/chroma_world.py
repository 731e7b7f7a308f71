"""Two trained models in a store, and a collection of the first one's vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.chroma import keep_collection
from codex_forge.config.sections import ChromaConfig, EmbedConfig
from codex_forge.embeddings import EmbeddingsWriter
from codex_forge.records import Chunk
from codex_forge.storage import Store
from tests.tiny_models import some_texts, tiny_model

TEXTS = some_texts(12)


class World:
    """The model `quickstart`, its collection of that name, and the model `other`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(str(folder / "artifacts"))
        self.place = str(folder / "artifacts" / "chroma")
        (folder / "cache").mkdir()
        self.trained = self._train("quickstart", "w1 w2 ", "w3 ")
        self.other = self._train("other", "w4 ", "w5 ")
        self.model = str(self.trained.path_of_folder("model"))
        self.embed("quickstart")

    def _train(self, name: str, query: str, document: str) -> Artifact:
        model = tiny_model("Bert", self.folder / "made")
        model.prompts = {"query": query, "document": document}
        draft = begin(
            self.store, Recipe("train", name, {"p": query}, {}), self.folder / "cache", force=True
        )
        assert isinstance(draft, Draft)
        model.save(str(draft.path("model/x").parent), create_model_card=False)
        draft.commit({"steps": 1})
        return open_artifact(self.store, "train", name, self.folder / "cache")

    def vectors(self, texts: list[str], kind: str, dimensions: int = 32) -> Any:
        """What sentence-transformers makes of them with the first model."""
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(self.model, device="cpu")
        encode = model.encode_query if kind == "query" else model.encode_document
        found = encode(texts, normalize_embeddings=True)[:, :dimensions]
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def embed(self, name: str, dimensions: int = 32) -> None:
        inputs = {"model": self.trained.as_input()}
        recipe = Recipe("embed", name, {}, inputs)
        draft = begin(self.store, recipe, self.folder / "cache", force=True)
        assert isinstance(draft, Draft)
        chunks = [Chunk(f"c{n}", text, "a.md") for n, text in enumerate(TEXTS)]
        with EmbeddingsWriter(draft.path("part-0.parquet"), dimensions) as writer:
            writer.write(chunks, self.vectors(TEXTS, "document", dimensions))
        draft.commit({"chunks": len(TEXTS)}, {"dimension": dimensions})
        artifact = open_artifact(self.store, "embed", name, self.folder / "cache")
        keep_collection(EmbedConfig(chroma=ChromaConfig(path=self.place)), artifact)

    def nearest(self, texts: list[str], dimensions: int = 32) -> list[list[str]]:
        """Exact search with the query prompt."""
        scores = (
            self.vectors(texts, "query", dimensions) @ self.vectors(TEXTS, "document", dimensions).T
        )
        return [[f"c{n}" for n in np.argsort(-row, kind="stable")[:5]] for row in scores]
