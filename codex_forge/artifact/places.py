"""Where things are in an artifact's folder, and which version of an artifact counts.

    train/wiki/                            a slot; with shards: embed/wiki/shard-00002-of-00008/
      leases/000003.json                   who writes, or wrote last, and how that ended
      v3/manifest.json  v3/model/ ...      a version; `v3-1f9c04d7` on a remote store
      blocks/<recipe>/rows-1024/...        pieces that are committed before the artifact is whole
      checkpoints/<recipe>/step-00000100-v3/...

A version's folder belongs to the one writer that made it, and so does all it puts elsewhere: a
process that was cut off and comes back can disturb nobody. Of several versions of one recipe the
one with the highest token counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from codex_forge.artifact.manifest import FileEntry, Manifest
from codex_forge.errors import InputError, TryAgain
from codex_forge.storage import Store

MANIFEST = "manifest.json"
KINDS = ("pairs", "audit", "train", "embed", "evaluate", "compare", "sweep")
"""First parts of the paths of artifacts: the modes that make them."""

_LOOKS = 20

_SLOT = r"(?:shard-(?P<shard>\d{5})-of-(?P<shards>\d{5})/)?"
_PLACE = re.compile(
    _SLOT + r"(?:(?P<version>v(?P<token>\d+)(?:-[0-9a-f]{8})?)|leases/(?P<lease>\d+)\.json"
    r"|blocks|checkpoints)"
    r"(?:/(?P<rest>.+))?"
)


class Place(NamedTuple):
    """What a path below an artifact's folder is."""

    slot: str
    """Path of the slot in the store."""
    shard: int
    shards: int
    version: str
    """Name of the version that the object belongs to; empty for leases and work."""
    token: int
    """Token of the version or lease; 0 for work."""
    rest: str
    """Path below the version."""


class Version(NamedTuple):
    """A version with its manifest."""

    slot: str
    folder: str
    manifest: Manifest


def slot_of(folder: str, shard: int, shards: int) -> str:
    """Path of the folder that one writer at a time works in."""
    return folder if shards == 1 else f"{folder}/shard-{shard:05d}-of-{shards:05d}"


def place_of(folder: str, path: str) -> Place | None:
    """What an object below the artifact's folder is; None when it is nothing of ours."""
    found = _PLACE.fullmatch(path.removeprefix(f"{folder}/"))
    if found is None:
        return None
    shard, shards = int(found["shard"] or 0), int(found["shards"] or 1)
    slot = slot_of(folder, shard, shards)
    token = int(found["token"] or found["lease"] or 0)
    return Place(slot, shard, shards, found["version"] or "", token, found["rest"] or "")


def manifest_paths(folder: str, paths: Iterable[str]) -> dict[str, Place]:
    """The manifests among the paths below an artifact's folder."""
    places = {path: place_of(folder, path) for path in paths if path.endswith(f"/{MANIFEST}")}
    return {p: at for p, at in places.items() if at and at.version and at.rest == MANIFEST}


def versions(store: Store, folder: str, *, strict: bool = True) -> list[Version]:
    """All versions of an artifact that have a manifest, in all slots.

    Raises:
        InputError: a manifest cannot be read; unless `strict` is off, which leaves those out.
    """
    for _ in range(_LOOKS):
        there = manifest_paths(folder, store.list(folder))
        found: list[Version] = []
        for path, place in there.items():
            try:
                manifest = read_manifest(store, path, place)
            except InputError:
                if strict and store.exists(path):
                    raise
            else:
                found.append(Version(place.slot, path.removesuffix(f"/{MANIFEST}"), manifest))
        # A list made during a replacement may have neither the old one nor the new one.
        if manifest_paths(folder, store.list(folder)) == there:
            return found
    raise TryAgain("is replaced again and again", where=store.url(folder), do="run again")


def read_manifest(store: Store, path: str, place: Place) -> Manifest:
    """The manifest at a path.

    Raises:
        InputError: it cannot be read, or it was copied there from another place.
    """
    manifest = Manifest.parse(store.read(path), store.url(path))
    told = (manifest.shard, manifest.shards, manifest.version, manifest.token)
    if told != (place.shard, place.shards, place.version, place.token):
        raise InputError(
            f"its manifest is of {manifest.version} (shard {manifest.shard} of {manifest.shards}): "
            "a copy under another name",
            where=store.url(path),
            do=f"run python -m jobs.{manifest.kind} --force",
        )
    return manifest


def newest_of(found: Sequence[Version]) -> list[Version]:
    """Of the versions of one recipe in one slot, the last writer's."""
    last: dict[tuple[str, str], Version] = {}
    for version in sorted(found, key=lambda v: (v.manifest.token, v.folder)):
        last[version.manifest.fingerprint, version.slot] = version
    return list(last.values())


def whole_of(found: Sequence[Version]) -> list[Version]:
    """The versions of one whole artifact in shard order; empty when some shards are missing.

    When two are whole (all shards of a replacement are there, the old is not yet removed), the
    later one counts.
    """
    groups: dict[tuple[str, int], dict[int, Version]] = {}
    for version in newest_of(found):
        manifest = version.manifest
        key = (manifest.fingerprint, manifest.shards)
        groups.setdefault(key, {})[manifest.shard] = version
    whole = [
        [group[i] for i in range(shards)]
        for (_, shards), group in groups.items()
        if group.keys() == set(range(shards))
    ]
    # Of two that counted alike, one was cut off before its manifest: the later token counts.
    return max(
        whole,
        key=lambda group: max((v.manifest.generation, v.manifest.token) for v in group),
        default=[],
    )


def stored_path(version: Version, entry: FileEntry) -> str:
    """Path of an artifact's file in the store."""
    return f"{version.slot}/{entry.stored}" if entry.stored else f"{version.folder}/{entry.path}"


def named_by(found: Collection[Version]) -> set[str]:
    """Paths of all that these versions need: their files and their manifests."""
    files = {stored_path(version, entry) for version in found for entry in version.manifest.files}
    return files | {f"{version.folder}/{MANIFEST}" for version in found}
