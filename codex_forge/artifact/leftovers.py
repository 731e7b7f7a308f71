"""Objects below an artifact's folder that nothing needs: what was replaced, or never finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from codex_forge.artifact.lease import is_free, lease_path
from codex_forge.artifact.places import (
    MANIFEST,
    Place,
    newest_of,
    place_of,
    stored_path,
    versions,
    whole_of,
)
from codex_forge.storage import Store


class Leftover(NamedTuple):
    """An object that nothing needs, and why."""

    path: str
    size: int
    reason: str


def leftovers(
    store: Store, folder: str, sizes: Mapping[str, int], *, partial: bool = False
) -> list[Leftover]:
    """What no manifest of an artifact names and no coming run would use, where nobody writes.

    Args:
        store: the store.
        folder: the artifact's.
        sizes: all objects below it.
        partial: also what unfinished jobs have kept to go on from, and unfinished shards.
    """
    found = versions(store, folder, strict=False)
    whole = whole_of(found)
    age = max((v.manifest.generation for v in whole), default=0)
    coming = [v for v in newest_of(found) if v.manifest.generation > age]
    kept = {v.folder: v for v in (*whole, *(() if partial and whole else coming))}
    named = {stored_path(v, e) for v in kept.values() for e in v.manifest.files}
    named |= {f"{version}/{MANIFEST}" for version in kept}
    newest = _newest_leases(folder, sizes)
    done = {v.slot: v.manifest.version for v in whole}
    items: dict[str, list[Leftover]] = {}
    for path, size in sizes.items():
        place = place_of(folder, path)
        if place is None or path in named:
            continue
        if reason := _why(place, path, newest, done.get(place.slot, ""), partial):
            items.setdefault(place.slot, []).append(Leftover(path, size, reason))
    return [item for slot, left in items.items() if is_free(store, folder, slot) for item in left]


def _newest_leases(folder: str, sizes: Iterable[str]) -> set[str]:
    places = [place for path in sizes if (place := place_of(folder, path))]
    leases = [place for place in places if not place.version and place.token]
    last = {p.slot: p.token for p in sorted(leases, key=lambda p: p.token)}
    return {lease_path(slot, token) for slot, token in last.items()}


def _why(place: Place, path: str, newest: set[str], done: str, partial: bool) -> str:
    """Why an object that no manifest names may go; empty when it may not.

    `done` is the version that counts in the slot of a whole artifact.
    """
    if place.version:
        return "a version that was replaced, or never finished"
    if place.token:
        return "" if path in newest and (done or not partial) else "an old lease"
    replaces = done and place.rest.partition("/")[0].endswith(f"-over-{done}")
    if done and not replaces:
        return "work on an artifact that is whole"
    return "unfinished work" if partial else ""
