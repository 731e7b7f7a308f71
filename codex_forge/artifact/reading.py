"""Open a whole artifact; every file is checked against its sha256 before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from codex_forge.artifact.manifest import (
    FileEntry,
    Input,
    Manifest,
    digest_of,
    hash_file,
)
from codex_forge.artifact.places import (
    MANIFEST,
    Version,
    newest_of,
    stored_path,
    versions,
    whole_of,
)
from codex_forge.errors import InputError, NotFound, NotMade, TryAgain
from codex_forge.storage import Store, faults

_COPIES = 3
"""Attempts at a true copy of a remote file."""


class Artifact:
    """A whole artifact, open for reading. Files are checked against their sha256 when opened."""

    def __init__(self, store: Store, found: Sequence[Version], cache: Path) -> None:
        """Use `open_artifact`; `cache` is a folder for copies of remote files."""
        self.manifests: tuple[Manifest, ...] = tuple(version.manifest for version in found)
        self._store, self._cache = store, cache
        self._files = {entry.path: entry for m in self.manifests for entry in m.files}
        self._stored = {e.path: stored_path(v, e) for v in found for e in v.manifest.files}
        self._version = found[0].folder
        self._manifests = [f"{version.folder}/{MANIFEST}" for version in found]
        self._checked: set[str] = set()

    @property
    def manifest(self) -> Manifest:
        """The manifest (of the first shard, when there are several)."""
        return self.manifests[0]

    @property
    def folder(self) -> str:
        """Path of the artifact in its store."""
        return f"{self.manifest.kind}/{self.manifest.name}"

    @property
    def url(self) -> str:
        """Where the artifact is."""
        return self._store.url(self.folder)

    @property
    def version_url(self) -> str:
        """Where the files of the version that counts are (of the first shard's)."""
        return self._store.url(self._version)

    @property
    def digest(self) -> str:
        """Hash over the content of all files that are not volatile."""
        return digest_of(tuple(self._files.values()))

    @property
    def files(self) -> list[str]:
        """Names of all files, sorted."""
        return sorted(self._files)

    @property
    def counts(self) -> dict[str, int]:
        """Counts of all shards added up."""
        total: dict[str, int] = {}
        for manifest in self.manifests:
            for key, value in manifest.counts.items():
                total[key] = total.get(key, 0) + value
        return total

    def as_input(self) -> Input:
        """How another artifact records that it was made from this one."""
        manifest = self.manifest
        return Input(manifest.kind, manifest.name, manifest.fingerprint, self.digest)

    def path(self, name: str) -> Path:
        """A local path of one of its files, with the content that the manifest promises.

        Raises:
            InputError: the artifact has no such file, or its content was changed or damaged.
        """
        entry = self._files.get(name)
        if entry is None:
            raise InputError(f"has no file {name}", where=self.url, do="make it again with --force")
        stored = self._stored[name]
        self._store.url(name)  # refuses a name that leaves its folder
        if self._store.is_local:
            local = Path(self._store.url(stored))
        else:
            local = self._cache / self.digest[:16] / self.folder / name
        if name not in self._checked:
            self._fetch(entry, stored, local)
            self._checked.add(name)
        return local

    def path_of_folder(self, folder: str) -> Path:
        """A local folder that holds all files below `folder`, each checked."""
        names = [name for name in self._files if name.startswith(f"{folder}/")]
        if not names:
            raise InputError(f"has no folder {folder}", where=self.url)
        paths = [self.path(name) for name in names]
        depth = len(Path(names[0]).relative_to(folder).parts)
        return paths[0].parents[depth - 1]

    def _fetch(self, entry: FileEntry, stored: str, local: Path) -> None:
        """Make `local` hold what the manifest promises; a copy that was damaged is made again."""
        found = "missing"
        for _ in range(_COPIES):
            with suppress(NotFound), faults(self._store.url(stored)):
                if not self._store.is_local and not local.exists():
                    self._store.get(stored, local)
                found = "missing"
                found = hash_file(local)
            if found == entry.sha256:
                return
            if self._store.is_local:
                break
            local.unlink(missing_ok=True)
        if not all(self._store.exists(path) for path in self._manifests):
            raise TryAgain("was replaced while it was read", where=self.url, do="run again")
        raise InputError(
            f"{entry.path} is not what the manifest promises "
            f"(sha256 {entry.sha256[:12]}, found {found[:12]})",
            where=self.url,
            do="make the artifact again with --force",
        )


def open_artifact(store: Store, kind: str, name: str, cache: Path) -> Artifact:
    """Open a whole artifact for reading.

    Raises:
        NotMade: it is not there, or some of its shards are not there yet.
        InputError: its manifests do not fit together, or belong elsewhere.
    """
    versions_there = versions(store, f"{kind}/{name}")
    whole = whole_of(versions_there)
    where = store.url(f"{kind}/{name}")
    found = [version.manifest for version in newest_of(versions_there)]
    if whole and (found[0].kind, found[0].name) != (kind, name):
        raise InputError(
            f"its manifest is of {found[0].kind} {found[0].name!r}: a copy under another name",
            where=where,
            do=f"run python -m jobs.{kind} --force",
        )
    if whole:
        return Artifact(store, whole, cache)
    if not found:
        raise NotMade(
            f"there is no {kind} artifact {name!r}", where=where, do=f"run python -m jobs.{kind}"
        )
    if len({(m.fingerprint, m.shards) for m in found}) > 1:
        raise InputError(
            "its shards were made with different settings, inputs or numbers of shards",
            where=where,
            do=f"run python -m jobs.{kind} --force for all of them",
        )
    have = sorted(m.shard for m in found)
    raise NotMade(
        f"only shards {have} of {found[0].shards} are there",
        where=where,
        do=f"run python -m jobs.{kind} for the others",
    )
