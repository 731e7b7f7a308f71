"""Make an artifact: files gather beside the store, the manifest is written last."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from codex_forge.artifact.manifest import (
    FORMAT,
    FileEntry,
    Manifest,
    Recipe,
    digest_of,
    hash_file,
    manifest_name,
    manifest_paths,
    manifests_in,
    whole_of,
)
from codex_forge.artifact.reading import Artifact
from codex_forge.config import flatten
from codex_forge.errors import InputError
from codex_forge.storage import Store

_VERSIONS_OF = ("codex-forge", "torch", "sentence-transformers", "transformers", "chromadb")


class Draft:
    """An artifact in the making: files gather in a local folder until `commit`."""

    def __init__(self, store: Store, recipe: Recipe, shard: int, shards: int, cache: Path) -> None:
        """Use `begin`; shard `shard` of `shards`."""
        self.recipe, self.shard, self.shards = recipe, shard, shards
        self._store, self._cache = store, cache
        self.folder = Path(tempfile.mkdtemp(prefix=f"{recipe.kind}-", dir=cache))

    def path(self, name: str) -> Path:
        """Where to write the file `name`; its folder is made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def commit(
        self,
        counts: Mapping[str, int],
        summary: Mapping[str, Any] | None = None,
        volatile: Sequence[str] = (),
    ) -> Manifest:
        """Upload the files, then the manifest; remove what an earlier version left behind.

        Args:
            counts: what the artifact holds, so that numbers can be added up.
            summary: the few facts that later modes ask for (a verdict, a name).
            volatile: files that hold times or other things that differ between equal runs.
        """
        files = tuple(
            FileEntry(
                path=name,
                size=(self.folder / name).stat().st_size,
                sha256=hash_file(self.folder / name),
                volatile=name in volatile,
            )
            for name in sorted(
                p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()
            )
        )
        manifest = Manifest(
            format=FORMAT,
            kind=self.recipe.kind,
            name=self.recipe.name,
            fingerprint=self.recipe.fingerprint,
            digest=digest_of(files),
            shard=self.shard,
            shards=self.shards,
            settings=dict(self.recipe.settings),
            config=dict(self.recipe.config),
            inputs=dict(self.recipe.inputs),
            files=files,
            counts=dict(counts),
            summary=dict(summary or {}),
            versions=_versions(),
        )
        self._publish(manifest)
        return manifest

    def _publish(self, manifest: Manifest) -> None:
        base = self.recipe.folder
        before, unreadable = self._before()
        replaced = {p: m for p, m in before.items() if m.shard == self.shard or not self._agrees(m)}
        # From here until the new manifest is written, the old artifact does not exist any more.
        for path in (*replaced, *unreadable):
            self._store.delete(path)
        for entry in manifest.files:
            self._store.put(self.folder / entry.path, f"{base}/{entry.path}")
        text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False, sort_keys=True)
        self._store.write(f"{base}/{manifest_name(self.shard, self.shards)}", text.encode())
        shutil.rmtree(self.folder, ignore_errors=True)
        alive = [m for p, m in before.items() if p not in replaced]
        kept = {e.path for m in (*alive, manifest) for e in m.files}
        left = {e.path for m in replaced.values() for e in m.files} - kept
        for name in sorted(left):
            self._store.delete(f"{base}/{name}")

    def _before(self) -> tuple[dict[str, Manifest], list[str]]:
        """The manifests that are there, and the paths of those that cannot be read."""
        found, unreadable = {}, []
        for path in manifest_paths(self._store, self.recipe.folder):
            try:
                found[path] = Manifest.parse(self._store.read(path), self._store.url(path))
            except InputError:
                unreadable.append(path)
        return found, unreadable

    def _agrees(self, other: Manifest) -> bool:
        return other.fingerprint == self.recipe.fingerprint and other.shards == self.shards


def begin(
    store: Store, recipe: Recipe, cache: Path, *, shard: int = 0, shards: int = 1, force: bool
) -> Artifact | Draft | None:
    """Start making an artifact, unless it is there.

    Returns:
        The whole artifact when it is already there with the same fingerprint; None when this
        shard is there and others are not; a draft when there is something to do.

    Raises:
        InputError: another artifact has this name, and `force` is off; says what differs.
    """
    if not force:
        found = list(manifests_in(store, recipe.folder).values())
        other = next((m for m in found if m.fingerprint != recipe.fingerprint), None)
        if other is not None:
            raise InputError(
                f"holds another {recipe.kind} artifact; {_difference(other, recipe)}",
                where=store.url(recipe.folder),
                do="choose another name, or give --force to replace it",
            )
        if whole := whole_of(found):
            _check_files_are_there(store, recipe.folder, whole)
            return Artifact(store, whole, cache)
        if any(m.shard == shard and m.shards == shards for m in found):
            return None
    return Draft(store, recipe, shard, shards, cache)


def _check_files_are_there(store: Store, folder: str, manifests: Sequence[Manifest]) -> None:
    """A no-op is only right while all files are there."""
    there = set(store.list(folder))
    lost = [e.path for m in manifests for e in m.files if f"{folder}/{e.path}" not in there]
    if lost:
        raise InputError(
            f"its file {lost[0]} is gone", where=store.url(folder), do="make it again with --force"
        )


def is_whole(store: Store, recipe: Recipe) -> bool:
    """Whether all shards of the artifact are there with the recipe's fingerprint."""
    found = whole_of(list(manifests_in(store, recipe.folder).values()))
    return bool(found) and found[0].fingerprint == recipe.fingerprint


def _difference(other: Manifest, recipe: Recipe) -> str:
    """What an artifact that is there has otherwise than the one that is wanted."""
    parts = []
    theirs, ours = flatten(other.settings), flatten(recipe.settings)
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            parts.append(f"{key} was {theirs.get(key)!r}, now {ours.get(key)!r}")
    for role in sorted(other.inputs.keys() | recipe.inputs.keys()):
        before, now = other.inputs.get(role), recipe.inputs.get(role)
        if (before and before.digest) != (now and now.digest):
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
