"""What is on a store, and what on it belongs to nothing.

Reads listings, manifests and leases; never a config. Only objects whose place says that they are
this program's are ever removed, and only in slots that nobody is writing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from codex_forge.artifact.lease import Holder, lease_path, read_lease
from codex_forge.artifact.leftovers import Leftover, clear, leftovers
from codex_forge.artifact.places import (
    KINDS,
    Version,
    manifest_paths,
    named_by,
    newest_of,
    place_of,
    stored_path,
    versions,
    whole_of,
)
from codex_forge.storage import Store

DEBRIS_SECONDS = 3600.0
"""Cut-off writes younger than this may still be going on."""

_CHECKPOINT = re.compile(r"checkpoints/([^/]+)/step-(\d+)-[^/]+/commit\.json")
_BLOCK = re.compile(r"blocks/([^/]+)/")
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass
class Slot:
    """One slot of an artifact: who writes it, how the last writer ended, what work is kept."""

    path: str
    holder: Holder | None = None
    is_held: bool = False
    checkpoints: list[int] = field(default_factory=list)
    """Steps of the committed checkpoints, newest last."""
    blocks: int = 0

    @property
    def work(self) -> str:
        """The unfinished work that the next run goes on from, in words."""
        parts = []
        if self.checkpoints:
            parts.append(f"checkpoint of step {self.checkpoints[-1]}")
        if self.blocks:
            parts.append(f"{self.blocks} blocks")
        return ", ".join(parts)


@dataclass
class Report:
    """What is there of one artifact."""

    folder: str
    state: str
    """`whole`, `partial` (some shards), `damaged` (a manifest cannot be read), or `unfinished`."""
    shards: int
    shards_there: int
    version: str
    """Where its files are (of the first shard), when it is whole."""
    fingerprint: str
    bytes: int
    slots: list[Slot]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def status(store: Store) -> list[Report]:
    """What is there of every artifact on the store."""
    return [_report(store, *found) for found in _artifacts(store)]


def garbage(store: Store, *, partial: bool = False) -> list[Leftover]:
    """Objects of artifacts that no manifest names and no coming run would use.

    Args:
        store: the store.
        partial: also what unfinished jobs have kept to go on from, and unfinished shards.
    """
    found = (leftovers(store, f, sizes, partial=partial) for f, sizes, _ in _artifacts(store))
    return [item for slots in found for items in slots.values() for item in items]


def remove_garbage(store: Store, *, partial: bool = False) -> list[Leftover]:
    """Remove what `garbage` shows, slot by slot as its only writer; returns what was removed."""
    removed: list[Leftover] = []
    for folder, sizes, _ in _artifacts(store):
        for slot in leftovers(store, folder, sizes, partial=partial):
            removed += clear(store, folder, slot, partial=partial)
    return removed


def debris(store: Store) -> list[tuple[str, float]]:
    """What cut-off writers left below artifacts: (name for people, seconds since then)."""
    return [item for folder, _, _ in _artifacts(store) for item in store.debris(folder)]


def remove_debris(store: Store) -> int:
    """Remove cut-off writes that are an hour old; returns how many."""
    return sum(store.sweep(DEBRIS_SECONDS, folder) for folder, _, _ in _artifacts(store))


def describe(reports: Iterable[Report]) -> Iterator[str]:
    """The reports as lines for people."""
    for report in reports:
        state = report.state
        if report.state == "partial":
            state = f"{report.shards_there} of {report.shards} shards"
        where = f"   {report.version}" if report.version else ""
        yield f"{report.folder:<32} {state:<18} {size_text(report.bytes):>9}{where}"
        for slot in report.slots:
            yield from (f"    {line}" for line in _slot_lines(slot, report.folder))


def size_text(size: float) -> str:
    """Bytes in a unit that suits them."""
    for unit in _UNITS[:-1]:
        if size < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


def _slot_lines(slot: Slot, folder: str) -> Iterator[str]:
    name = slot.path.removeprefix(folder).strip("/")
    shown = f"{name}: " if name else ""
    holder = slot.holder
    if slot.work:
        yield f"{shown}kept to go on from: {slot.work}"
    if holder is None:
        return
    if slot.is_held:
        yield f"{shown}being made by {holder}, renewed {holder.renewed}"
    elif not holder.ended:
        yield f"{shown}left by {holder}, which is gone"
    elif holder.exit_code or name == "":
        said = f": {holder.said}" if holder.said else ""
        yield f"{shown}last exit {holder.exit_code}, {holder.renewed}{said}"


def _artifacts(store: Store) -> Iterator[tuple[str, dict[str, int], list[Version]]]:
    """Folders of artifacts, with the sizes of all objects below them and the versions there.

    A folder is ours when a mode has its name and a lease or manifest in it is one of ours: a store
    may be shared with others.
    """
    folders: dict[str, dict[str, int]] = {}
    for kind in KINDS:
        for path, size in sorted(store.sizes(kind).items()):
            name, _, inside = path.removeprefix(f"{kind}/").partition("/")
            if name and inside:
                folders.setdefault(f"{kind}/{name}", {})[path] = size
    for folder, sizes in folders.items():
        found = versions(store, folder, strict=False)
        if found or _has_lease(store, folder, sizes):
            yield folder, sizes, found


def _has_lease(store: Store, folder: str, sizes: Iterable[str]) -> bool:
    places = {path: place_of(folder, path) for path in sizes}
    leases = [path for path, place in places.items() if place and place.token and not place.version]
    return any(Holder.parse(read_lease(store, path)) for path in leases)


def _report(store: Store, folder: str, sizes: dict[str, int], found: list[Version]) -> Report:
    whole = whole_of(found)
    there = newest_of(found)
    last = max(there, key=lambda v: v.manifest.generation, default=None)
    shards = last.manifest.shards if last else 1
    return Report(
        folder=folder,
        state=_state(store, folder, sizes, found),
        shards=shards,
        shards_there=sum(v.manifest.shards == shards for v in there),
        version=store.url(whole[0].folder) if whole else "",
        fingerprint=last.manifest.fingerprint if last else "",
        bytes=sum(sizes.values()),
        slots=list(_slots(store, folder, sizes, found).values()),
    )


def _state(store: Store, folder: str, sizes: dict[str, int], found: list[Version]) -> str:
    """The word for what is there; a manifest that was not read may have been replaced meanwhile."""
    unread = manifest_paths(folder, sizes).keys() - named_by(found)
    whole = whole_of(found)
    if any(map(store.exists, unread)) or not all(_is_there(version, sizes) for version in whole):
        return "damaged"
    if whole:
        return "whole"
    return "partial" if found else "unfinished"


def _is_there(version: Version, sizes: dict[str, int]) -> bool:
    return all(sizes.get(stored_path(version, e)) == e.size for e in version.manifest.files)


def _slots(
    store: Store, folder: str, sizes: dict[str, int], found: list[Version]
) -> dict[str, Slot]:
    """All slots of an artifact, with their newest lease and the work that is kept in them."""
    slots: dict[str, Slot] = {}
    tokens: dict[str, int] = {}
    numbers: dict[str, set[str]] = {}
    for path in sizes:
        place = place_of(folder, path)
        if place is None:
            continue
        slot = slots.setdefault(place.slot, Slot(place.slot))
        inside = path.removeprefix(f"{place.slot}/")
        if not place.version and place.token:
            tokens[place.slot] = max(place.token, tokens.get(place.slot, 0))
        elif step := _CHECKPOINT.fullmatch(inside):
            slot.checkpoints = sorted({*slot.checkpoints, int(step[2])})
        elif _BLOCK.match(inside):
            numbers.setdefault(place.slot, set()).add(inside)
    named = named_by(found)
    for path, slot in slots.items():
        slot.blocks = sum(f"{path}/{inside}" not in named for inside in numbers.get(path, ()))
        if path in tokens:
            slot.holder = Holder.parse(read_lease(store, lease_path(path, tokens[path])))
            # A lease that cannot be read is being written at this moment.
            slot.is_held = slot.holder is None or not slot.holder.is_over
    return slots
