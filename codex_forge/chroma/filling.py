"""Make a collection hold exactly some rows, by writing only those that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codex_forge.chroma.place import Place
from codex_forge.chroma.rows import DIGEST, Rows


@dataclass
class Tally:
    """What was done to a collection."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0


def fill(place: Place, collection: Any, slices: Iterable[Rows]) -> Tally:
    """Write the rows that are not there or differ, and remove those that are too many.

    What was written before a crash is found again by its digest: to do it again completes it.
    """
    there = digests_there(place, collection)
    tally = Tally()
    for rows in slices:
        known = {key: there.pop(key) for key in rows.ids if key in there}
        written = write(place, collection, rows, known)
        tally.written += written
        tally.unchanged += len(rows.ids) - written
    tally.removed = len(there)
    _remove(place, collection, list(there))
    return tally


def write(place: Place, collection: Any, rows: Rows, known: Mapping[str, str]) -> int:
    """Write those of the rows whose digest is not the known one; returns how many they were."""
    new = {key: digest for key, digest in rows.digests().items() if known.get(key) != digest}
    changed = [key for key in new if key in known]
    if changed:
        _mark_lost_keys(place, collection, rows, changed)
    if new:
        fields = rows.taken(new).fields()
        place.ask(lambda: collection.upsert(**fields))
    return len(new)


def digests_of(place: Place, collection: Any, ids: list[str]) -> dict[str, str]:
    """Id -> digest of those of the rows that are there; one without a digest has an empty one."""
    return _digests(place.ask(lambda: collection.get(ids=ids, include=["metadatas"])))


def digests_there(place: Place, collection: Any) -> dict[str, str]:
    """Id -> digest of all rows of a collection."""
    found: dict[str, str] = {}
    total = place.ask(collection.count)
    for start in range(0, total, place.most_rows):
        found.update(_page(place, collection, start))
    return found


def _page(place: Place, collection: Any, start: int) -> dict[str, str]:
    return _digests(
        place.ask(
            lambda: collection.get(limit=place.most_rows, offset=start, include=["metadatas"])
        )
    )


def _digests(found: Any) -> dict[str, str]:
    rows = zip(found["ids"], found["metadatas"], strict=True)
    return {key: str((told or {}).get(DIGEST, "")) for key, told in rows}


def _mark_lost_keys(place: Place, collection: Any, rows: Rows, changed: list[str]) -> None:
    """ChromaDB merges metadata: keys that a row no longer has must be named to be removed."""
    old = place.ask(lambda: collection.get(ids=changed, include=["metadatas"]))
    before = dict(zip(old["ids"], old["metadatas"], strict=True))
    for key, metadata in zip(rows.ids, rows.metadatas, strict=True):
        for lost in sorted(set(before.get(key) or {}) - set(metadata)):
            metadata[lost] = None


def _remove(place: Place, collection: Any, ids: list[str]) -> None:
    for start in range(0, len(ids), place.most_rows):
        some = ids[start : start + place.most_rows]
        place.ask(lambda some=some: collection.delete(ids=some))  # type: ignore[misc]
