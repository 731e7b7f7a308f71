"""Objects below an artifact's folder that nothing needs: what was replaced, or never finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from codex_forge.artifact.lease import acquire, is_free, lease_path
from codex_forge.artifact.places import (
    MANIFEST,
    Place,
    named_by,
    newest_of,
    place_of,
    versions,
    whole_of,
)
from codex_forge.errors import TryAgain
from codex_forge.storage import Store


class Leftover(NamedTuple):
    """An object that nothing needs, and why."""

    path: str
    size: int
    reason: str


def leftovers(
    store: Store, folder: str, sizes: Mapping[str, int], *, partial: bool = False
) -> dict[str, list[Leftover]]:
    """What no manifest of an artifact names and no coming run would use, where nobody writes.

    Only a look: before any of it is removed, `clear` looks again as the slot's only writer.

    Args:
        store: the store.
        folder: the artifact's.
        sizes: all objects below it.
        partial: also what unfinished jobs have kept to go on from, and unfinished shards.

    Returns:
        The objects by their slots.
    """
    found = _unneeded(store, folder, sizes, partial, 0)
    return {slot: items for slot, items in found.items() if is_free(store, folder, slot)}


def clear(store: Store, folder: str, slot: str, *, partial: bool = False) -> list[Leftover]:
    """Remove what nothing needs in a slot, under its lease; returns what was removed."""
    if not is_free(store, folder, slot):
        return []
    with suppress(TryAgain):  # somebody came first: then it is in use
        lease = acquire(store, folder, slot)
        try:
            found = _unneeded(store, folder, store.sizes(folder), partial, lease.token)
            items = found.get(slot, [])
            remove(store, (item.path for item in items))
            return items
        finally:
            lease.abandon()
    return []


def remove(store: Store, paths: Iterable[str]) -> None:
    """Remove objects, manifests first, so that no version is left in pieces."""
    for path in sorted(paths, key=lambda p: (not p.endswith(f"/{MANIFEST}"), p)):
        store.delete(path)


def _unneeded(
    store: Store, folder: str, sizes: Mapping[str, int], partial: bool, mine: int
) -> dict[str, list[Leftover]]:
    """By slots; `mine` is the token of the lease under which this is looked at."""
    found = versions(store, folder, strict=False)
    whole = whole_of(found)
    age = max((v.manifest.generation for v in whole), default=0)
    coming = [v for v in newest_of(found) if v.manifest.generation > age]
    named = named_by([*whole, *(() if partial and whole else coming)])
    read = {v.folder for v in found}
    leases = _leases_to_keep(folder, sizes, mine)
    done = {v.slot: v.manifest.version for v in whole}
    items: dict[str, list[Leftover]] = {}
    for path, size in sizes.items():
        place = place_of(folder, path)
        if place is None or path in named or path in leases:
            continue
        version = f"{place.slot}/{place.version}"
        if f"{version}/{MANIFEST}" in sizes and version not in read:
            continue  # its manifest cannot be read, by this program or now: it may be whole
        if reason := _why(place, done.get(place.slot, ""), partial):
            items.setdefault(place.slot, []).append(Leftover(path, size, reason))
    return items


def _leases_to_keep(folder: str, sizes: Iterable[str], mine: int) -> set[str]:
    """The last word of each slot, without which tokens would begin anew; and one's own."""
    places = [place for path in sizes if (place := place_of(folder, path))]
    leases = [place for place in places if not place.version and place.token]
    others = sorted((p for p in leases if p.token != mine), key=lambda p: p.token)
    last = {p.slot: lease_path(p.slot, p.token) for p in others}
    return {*last.values(), *(lease_path(p.slot, mine) for p in leases if p.token == mine)}


def _why(place: Place, done: str, partial: bool) -> str:
    """Why an object that no manifest names may go; empty when it may not.

    `done` is the version that counts in the slot of a whole artifact.
    """
    if place.version:
        return "a version that was replaced, or never finished"
    if place.token:
        return "an old lease"
    replaces = done and place.rest.partition("/")[0].endswith(f"-over-{done}")
    if done and not replaces:
        return "work on an artifact that is whole"
    return "unfinished work" if partial else ""
