"""Collections by name: the one that readers see, and those beside it that writers use meanwhile."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from codex_forge.chroma.facts import Facts, facts_of
from codex_forge.chroma.function import ForgeEmbeddingFunction
from codex_forge.chroma.place import Place
from codex_forge.errors import InputError, NotFound

_LONG = 100 * "0"
"""Makes a name too long for any run's own."""
_BESIDE = re.compile(rf"(.*)\.(unfinished|replaced)-[0-9a-f]{{16}}{_LONG}")


def take_name(place: Place, name: str, full: Any, wanted: Facts) -> None:
    """Give a full collection its name. Each step goes by id, as another job may do the same."""
    main = place.find(name)
    if main is not None and main.id != full.id:
        replaced = f"{name}.replaced-{main.id.hex[:16]}{_LONG}"
        with suppress(NotFound):
            place.ask(lambda: main.modify(name=replaced))
    if main is None or main.id != full.id:
        place.ask(lambda: full.modify(name=name))
    place.ask(lambda: full.modify(metadata=wanted.metadata()))


def beside(place: Place, name: str, facts: Facts) -> Any:
    """The collection in which rows of this space gather until they are all there."""
    function = ForgeEmbeddingFunction.of_model(facts.model)
    return place.ask(
        lambda: place.client.get_or_create_collection(
            f"{name}.unfinished-{facts.space}{_LONG}",
            metadata=facts.begun().metadata(),
            configuration={"hnsw": {"space": "cosine"}, "embedding_function": function},
            embedding_function=None,
        )
    )


def ours(place: Place, name: str) -> Any | None:
    """The collection of this name, if there is one.

    Raises:
        InputError: another tool made it.
    """
    found = place.find(name)
    if found is not None and facts_of(found) is None:
        raise InputError(
            f"the Chroma collection {name!r} was not made by codex-forge",
            where=place.place,
            do="give the run another name, or another embed.chroma.path or url",
        )
    return found


def clear(place: Place, name: str) -> None:
    """Remove what was left beside the collection."""
    for found in place.ask(place.client.list_collections):
        left = _BESIDE.fullmatch(found.name)
        if left and left[1] == name and facts_of(found):
            with suppress(NotFound):
                place.ask(lambda found=found: place.client.delete_collection(found.name))  # type: ignore[misc]
