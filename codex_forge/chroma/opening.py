"""Open a collection for reading, with the model that made it and no other."""

from __future__ import annotations

import logging
import weakref
from typing import Any

from codex_forge.chroma.facts import Facts, facts_of
from codex_forge.chroma.function import ForgeEmbeddingFunction
from codex_forge.chroma.place import Place
from codex_forge.errors import InputError

log = logging.getLogger("codex_forge")


def open_collection(
    place: str,
    collection: str,
    model: str | None = None,
    *,
    folder: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Open a collection that `embed` wrote, as ChromaDB's own `Collection`.

    A collection whose rows are being changed is opened with a warning; `facts_of` tells.

    Args:
        place: a ChromaDB folder, or the URL of a server.
        collection: its name.
        model: digest of the model that must have made its vectors.
        folder: the model's folder; then `query_texts` and `add` embed texts with it, the right
            prompts put before.
        trust_remote_code: run Python code that the model of the folder ships.

    Raises:
        InputError: there is no such collection, or another model made it.
        StorageDown: the server does not answer.
    """
    opened = Place(place, do="start the server, or check the address")
    where = f"{place} ({collection})"
    found = opened.find(collection)
    if found is None:
        raise InputError("no such Chroma collection", where=where, do="run python -m jobs.embed")
    told = facts_of(found) or Facts()
    function = ForgeEmbeddingFunction.of_model(told.model)
    if folder is not None:
        function = _function(told, folder, trust_remote_code=trust_remote_code)
    if (model or told.model) != told.model or function.model != told.model:
        raise InputError(
            f"the collection was made by another model ({told.model_name or 'of another tool'})",
            where=where,
            do="embed with this model, or ask with that one (a copied model folder is known by "
            "the manifest.json beside it)",
        )
    if told.unfinished:
        log.warning("%s: rows are being changed, or their writer was stopped: run embed", where)
    found = opened.ask(
        lambda: opened.client.get_collection(
            collection, embedding_function=function if folder is not None else None
        )
    )
    weakref.finalize(found, opened.close)
    return found


def _function(told: Facts, folder: str, *, trust_remote_code: bool) -> ForgeEmbeddingFunction:
    return ForgeEmbeddingFunction(
        folder,
        dimensions=told.dimension or None,
        query_prompt=told.query_prompt,
        document_prompt=told.document_prompt,
        trust_remote_code=trust_remote_code,
    )
