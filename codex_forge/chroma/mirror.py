"""Keep a collection equal to an embed artifact: in place, or beside when the vectors are others.

Whatever is there already (rows of the last artifact, rows that shards wrote side by side, the rest
of a run that was killed) is compared row by row, and only what differs is written. So every call
may be repeated, in any order, and two that run at once do each other no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from codex_forge import embeddings
from codex_forge.artifact import Artifact
from codex_forge.chroma.facts import Facts, facts_of
from codex_forge.chroma.filling import Tally, digests_of, fill, write
from codex_forge.chroma.names import beside, clear, ours, take_name
from codex_forge.chroma.place import Place
from codex_forge.chroma.rows import dimension_of, in_slices
from codex_forge.config.sections import EmbedConfig
from codex_forge.errors import NotFound, TryAgain
from codex_forge.progress import progress

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("codex_forge")

_ATTEMPTS = 4
"""At a collection that other jobs finish at the same time."""


def keep_collection(embed: EmbedConfig, artifact: Artifact) -> None:
    """Make the collection of the artifact's name hold what the whole artifact holds.

    Rows of the same model are changed in place, and the collection says `unfinished` meanwhile.
    Another model's vectors are filled beside, and take the name at the end: readers see all old
    rows until then, for a moment no collection of that name, and then all new rows.

    Raises:
        StorageDown: the database does not answer; the artifact is safe.
        InputError: the collection of that name is another tool's, or the place is not usable.
    """
    if embed.chroma.place is None:
        return
    with Place(embed.chroma.place) as place, place.writing():
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _keep(place, embed, artifact)
                break
            except NotFound:
                if attempt == _ATTEMPTS:
                    raise


def write_shard(
    embed: EmbedConfig,
    artifact_name: str,
    embeddings_key: str,
    model: str,
    batches: Iterable[pa.RecordBatch],
) -> None:
    """Write some rows of an artifact that is not whole yet beside the collection, on a server.

    Does nothing for a folder, which has one writer; nor where the collection is of this model
    already: then few rows differ, and they must not be seen before the artifact is whole.

    Args:
        embed: says where.
        artifact_name: the name that the collection will have.
        embeddings_key: names what the shards make together, for the record.
        model: digest of the model.
        batches: rows as `embeddings.batches` reads them.

    Raises:
        StorageDown: the server does not answer.
        InputError: the collection of that name is another tool's.
    """
    rows = iter(batches)
    first = next(rows, None) if embed.chroma.url else None
    if embed.chroma.url is None or first is None:
        return
    facts = Facts(embeddings_key, model, dtype=embed.dtype, dimension=dimension_of(first))
    with Place(embed.chroma.url) as place:
        main = ours(place, artifact_name)
        if main and (told := facts_of(main)) and told.space == facts.space:
            return
        try:
            gathered = beside(place, artifact_name, facts)
            for some in in_slices(chain([first], rows), _most(place, embed)):
                write(place, gathered, some, digests_of(place, gathered, some.ids))
        except NotFound:
            log.info("  the collection was finished, or begun anew, by another job")


def _keep(place: Place, embed: EmbedConfig, artifact: Artifact) -> None:
    """Once; what it was writing to is not found when another job has finished it meanwhile."""
    name = artifact.manifest.name
    wanted = _wanted(embed, artifact)
    main = ours(place, name)
    if main and facts_of(main) == wanted and place.ask(main.count) == wanted.rows:
        log.info("  Chroma collection %s in %s is up to date", name, place.place)
    else:
        _mirror(place, embed, artifact, wanted, main)
    clear(place, name)


def _mirror(
    place: Place, embed: EmbedConfig, artifact: Artifact, wanted: Facts, main: Any | None
) -> None:
    name = artifact.manifest.name
    told = facts_of(main) if main else None
    if main and told and told.has_place_for(wanted):
        begun = told.begun().metadata()
        place.ask(lambda: main.modify(metadata=begun))
        tally = _fill(place, embed, artifact, wanted, main)
        place.ask(lambda: main.modify(metadata=wanted.metadata()))
    else:
        gathered = beside(place, name, wanted)
        tally = _fill(place, embed, artifact, wanted, gathered)
        take_name(place, name, gathered, wanted)
    log.info(
        "  Chroma collection %s in %s: %d rows written, %d removed, %d unchanged",
        name, place.place, tally.written, tally.removed, tally.unchanged,
    )  # fmt: skip


def _fill(
    place: Place, embed: EmbedConfig, artifact: Artifact, wanted: Facts, target: Any
) -> Tally:
    batches = progress(embeddings.batches(artifact), "batches compared with Chroma")
    tally = fill(place, target, in_slices(batches, _most(place, embed)))
    if (found := place.ask(target.count)) != wanted.rows:
        raise TryAgain(
            f"the Chroma collection holds {found} rows, not {wanted.rows}",
            where=place.place,
            do="run again when no other job writes to it",
        )
    return tally


def _most(place: Place, embed: EmbedConfig) -> int:
    return min(embed.chroma.batch_size, place.most_rows)


def _wanted(embed: EmbedConfig, artifact: Artifact) -> Facts:
    return Facts.of(artifact, embed.dtype, int(artifact.manifest.summary.get("dimension") or 0))
