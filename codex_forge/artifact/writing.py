"""Make an artifact: one writer at a time, files in a folder of its own, the manifest last."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from codex_forge.artifact.lease import Lease, acquire, is_free
from codex_forge.artifact.leftovers import clear, leftovers, remove
from codex_forge.artifact.manifest import (
    FORMAT,
    FileEntry,
    Manifest,
    Recipe,
    digest_of,
    hash_file,
)
from codex_forge.artifact.places import (
    MANIFEST,
    Version,
    manifest_paths,
    named_by,
    newest_of,
    place_of,
    slot_of,
    stored_path,
    versions,
    whole_of,
)
from codex_forge.artifact.reading import Artifact
from codex_forge.artifact.work import Work
from codex_forge.config import flatten
from codex_forge.errors import EXIT_DONE, ForgeError, InputError
from codex_forge.stopping import stop
from codex_forge.storage import Store

log = logging.getLogger("codex_forge")

_VERSIONS_OF = ("codex-forge", "torch", "sentence-transformers", "transformers", "chromadb")
_RECIPE_DIGITS = 16


class Draft:
    """An artifact in the making: files gather in a local folder until `commit`."""

    def __init__(
        self, store: Store, recipe: Recipe, shard: int, shards: int, cache: Path, lease: Lease
    ) -> None:
        """Use `begin`; shard `shard` of `shards`."""
        self.recipe, self.shard, self.shards, self.lease = recipe, shard, shards, lease
        self._store = store
        self._slot = slot_of(recipe.folder, shard, shards)
        self._kept: list[FileEntry] = []
        self.folder = Path(tempfile.mkdtemp(prefix=f"{recipe.kind}-", dir=cache))
        key = recipe.fingerprint[:_RECIPE_DIGITS]
        if replaced := self._version_there():
            key += f"-over-{replaced}"
        self.work = Work(store, self._slot, key, lease, cache)

    @property
    def url(self) -> str:
        """Where the artifact's files will be."""
        return self._store.url(f"{self._slot}/{self.lease.version}")

    def path(self, name: str) -> Path:
        """Where to write the file `name`; its folder is made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep(self, name: str, block: FileEntry) -> None:
        """Make a committed block the file `name` of the artifact; it stays where it is."""
        self._kept.append(replace(block, path=name))

    def commit(
        self,
        counts: Mapping[str, int],
        summary: Mapping[str, Any] | None = None,
        volatile: Sequence[str] = (),
    ) -> Manifest:
        """Upload the files, then the manifest; then remove what it replaces.

        A signal to stop is held back until then.

        Args:
            counts: what the artifact holds, so that numbers can be added up.
            summary: the few facts that later modes ask for (a verdict, a name).
            volatile: files that hold times or other things that differ between equal runs.

        Raises:
            TryAgain: another process has taken over, or the storage does not answer.
        """
        files = (*self._written(volatile), *self._kept)
        with stop.held():
            self.lease.check()
            before = versions(self._store, self.recipe.folder, strict=False)
            manifest = Manifest(
                format=FORMAT,
                kind=self.recipe.kind,
                name=self.recipe.name,
                fingerprint=self.recipe.fingerprint,
                digest=digest_of(files),
                shard=self.shard,
                shards=self.shards,
                version=self.lease.version,
                token=self.lease.token,
                generation=1 + max((v.manifest.generation for v in before), default=0),
                settings=dict(self.recipe.settings),
                config=dict(self.recipe.config),
                inputs=dict(self.recipe.inputs),
                files=files,
                counts=dict(counts),
                summary=dict(summary or {}),
                versions=_versions(),
            )
            self._publish(manifest)
            self._clear()
            self.lease.release(EXIT_DONE)
        return manifest

    def _is_of_recipe(self, version: Version) -> bool:
        manifest = version.manifest
        same = manifest.fingerprint == self.recipe.fingerprint
        return same and manifest.shards == self.shards

    def _written(self, volatile: Sequence[str]) -> list[FileEntry]:
        names = sorted(
            p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()
        )
        return [
            FileEntry(
                path=name,
                size=(self.folder / name).stat().st_size,
                sha256=hash_file(self.folder / name),
                volatile=name in volatile,
            )
            for name in names
        ]

    def _publish(self, manifest: Manifest) -> None:
        base = f"{self._slot}/{manifest.version}"
        written = [entry for entry in manifest.files if not entry.stored]
        kept = {entry.stored: entry.size for entry in manifest.files if entry.stored}
        for entry in written:
            self._store.put(self.folder / entry.path, f"{base}/{entry.path}")
        self._store.check_sizes(base, {entry.path: entry.size for entry in written})
        if kept:
            self._store.check_sizes(self._slot, kept)
        self.lease.check()
        text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False, sort_keys=True)
        self._store.write(f"{base}/{MANIFEST}", text.encode())
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        """Remove what the new version replaces.

        An artifact of other settings, or of another number of shards, goes only once all shards
        of the new one are there: until then the old one stands. Manifests that cannot be read go
        then too, and what cut-off writers left where shards of another number were.
        """
        self.lease.check()
        folder = self.recipe.folder
        paths = self._store.list(folder)
        found = versions(self._store, folder, strict=False)
        recent = [v for v in newest_of(found) if self._is_of_recipe(v)]
        whole = whole_of(found)
        kept = [*recent, *whole]
        there = {v.folder for v in found}
        deserted: set[str] = set()
        if whole and self._is_of_recipe(whole[0]):
            there |= {path.removesuffix(f"/{MANIFEST}") for path in manifest_paths(folder, paths)}
            deserted = self._deserted(paths, {v.slot for v in whole})
        replaced = tuple(f"{version}/" for version in there - {v.folder for v in kept})
        left = [
            path
            for path in set(paths) - named_by(kept)
            if path.startswith(replaced) or path in deserted or self._is_mine_and_over(path)
        ]
        remove(self._store, left)

    def _deserted(self, paths: Sequence[str], slots: set[str]) -> set[str]:
        """All but the leases in other slots, of another number of shards, that nobody writes in."""
        folder = self.recipe.folder
        places = {path: place_of(folder, path) for path in paths}
        others = {place.slot for place in places.values() if place} - slots
        free = {slot for slot in others if is_free(self._store, folder, slot)}
        return {
            path
            for path, place in places.items()
            if place and place.slot in free and (place.version or not place.token)
        }

    def _is_mine_and_over(self, path: str) -> bool:
        """Leases and unfinished versions of earlier writers of this slot, and its work."""
        place = place_of(self.recipe.folder, path)
        if place is None or place.slot != self._slot:
            return False
        return place.token < self.lease.token

    def _version_there(self) -> str:
        """Name of the version that this draft replaces; empty when there is none."""
        found = manifest_paths(self.recipe.folder, self._store.list(self._slot))
        mine = [place for place in found.values() if place.slot == self._slot]
        return max(mine, key=lambda place: place.token).version if mine else ""


def begin(
    store: Store, recipe: Recipe, cache: Path, *, shard: int = 0, shards: int = 1, force: bool
) -> Artifact | Draft | None:
    """Start making an artifact, unless it is there.

    Returns:
        The whole artifact when it is already there with the same fingerprint; None when this
        shard is there and others are not; a draft when there is something to do: then this
        process is the only writer.

    Raises:
        InputError: another artifact has this name, and `force` is off; says what differs.
        TryAgain: another process is making it.
    """
    there = None if force else _there(store, recipe, cache, shard, shards)
    if there is not None:
        return there.artifact
    lease = acquire(store, recipe.folder, slot_of(recipe.folder, shard, shards))
    try:
        # Whoever held the lease before may have finished meanwhile.
        there = None if force else _there(store, recipe, cache, shard, shards)
        if there is None:
            return Draft(store, recipe, shard, shards, cache, lease)
    except BaseException:
        lease.abandon()
        raise
    lease.abandon()
    return there.artifact


class _There:
    """This shard is there; `artifact` when all are."""

    def __init__(self, artifact: Artifact | None) -> None:
        self.artifact = artifact


def _there(store: Store, recipe: Recipe, cache: Path, shard: int, shards: int) -> _There | None:
    """What is there of the recipe; None when this shard is not."""
    found = versions(store, recipe.folder)
    whole = whole_of(found)
    # What it has replaced may still be there, when its writer was killed before it removed that.
    if whole and whole[0].manifest.fingerprint == recipe.fingerprint:
        sizes = store.sizes(recipe.folder)
        _check_files_are_there(store, recipe.folder, whole, sizes)
        _tidy(store, recipe.folder, sizes)
        return _There(Artifact(store, whole, cache))
    manifests = [version.manifest for version in found]
    other = next((m for m in manifests if m.fingerprint != recipe.fingerprint), None)
    if other is not None:
        raise InputError(
            f"holds another {recipe.kind} artifact; {_difference(other, recipe)}",
            where=store.url(recipe.folder),
            do="choose another name, or give --force to replace it",
        )
    mine = any(m.shard == shard and m.shards == shards for m in manifests)
    return _There(None) if mine else None


def _check_files_are_there(
    store: Store, folder: str, whole: Sequence[Version], sizes: Mapping[str, int]
) -> None:
    """A no-op is only right while all files are there."""
    for version in whole:
        for entry in version.manifest.files:
            path = stored_path(version, entry)
            if sizes.get(path) != entry.size:
                state = "gone" if path not in sizes else "not whole"
                raise InputError(
                    f"its file {entry.path} is {state}",
                    where=store.url(folder),
                    do="make it again with --force",
                )


def _tidy(store: Store, folder: str, sizes: Mapping[str, int]) -> None:
    """Remove what a writer left that was killed after its manifest; failing is no matter."""
    with suppress(ForgeError):
        for slot in leftovers(store, folder, sizes):
            clear(store, folder, slot)


def is_whole(store: Store, recipe: Recipe) -> bool:
    """Whether all shards of the artifact are there with the recipe's fingerprint."""
    found = whole_of(versions(store, recipe.folder))
    return bool(found) and found[0].manifest.fingerprint == recipe.fingerprint


def _difference(other: Manifest, recipe: Recipe) -> str:
    """What an artifact that is there has otherwise than the one that is wanted."""
    parts = []
    theirs, ours = flatten(other.settings), flatten(recipe.settings)
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            parts.append(f"{key} was {theirs.get(key)!r}, now {ours.get(key)!r}")
    for role in sorted(other.inputs.keys() | recipe.inputs.keys()):
        before, now = other.inputs.get(role), recipe.inputs.get(role)
        if before is None or now is None:
            parts.append(f"its input {role} is {'new' if now else 'no longer given'}")
        elif before.digest != now.digest:
            parts.append(f"its input {role} has other content")
    if other.format != FORMAT:
        parts.append(f"its format is {other.format}, now {FORMAT}")
    return "; ".join(parts[:8]) or "its settings differ"


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
