"""Artifacts: folders of a store that exist only once their manifest does.

Data first, manifest last. A manifest names every file with its size and sha256, the inputs that
the artifact was made from, the settings that determine it, and a fingerprint over both. An
artifact of n shards is whole when all n manifests are there and agree; nobody seals it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from codex_forge.config import flatten
from codex_forge.errors import InputError
from codex_forge.storage import Store

FORMAT = 1
_VERSIONS_OF = ("codex-forge", "torch", "sentence-transformers", "transformers", "chromadb")


@dataclass(frozen=True)
class Input:
    """What an artifact was made from: a corpus, a base model, or another artifact."""

    kind: str
    name: str
    fingerprint: str
    """What determined it: settings and inputs."""
    digest: str
    """What it holds: a hash over its files."""


@dataclass(frozen=True)
class FileEntry:
    """A file of an artifact. Volatile files hold times and are left out of the digest."""

    path: str
    size: int
    sha256: str
    volatile: bool = False


@dataclass(frozen=True)
class Recipe:
    """What an artifact is to be: its place, the settings that determine it, and its inputs."""

    kind: str
    name: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Input]
    config: Mapping[str, Any] = field(default_factory=dict)
    """The whole resolved config, for the record."""

    @property
    def folder(self) -> str:
        """Path of the artifact in its store."""
        return f"{self.kind}/{self.name}"

    @property
    def fingerprint(self) -> str:
        """Hash over settings and the content of the inputs; not over names or places."""
        facts = {
            "format": FORMAT,
            "kind": self.kind,
            "settings": self.settings,
            "inputs": {role: given.digest for role, given in self.inputs.items()},
        }
        return hash_json(facts)


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`."""

    format: int
    kind: str
    name: str
    fingerprint: str
    digest: str
    shard: int
    shards: int
    settings: dict[str, Any]
    config: dict[str, Any]
    inputs: dict[str, Input]
    files: tuple[FileEntry, ...]
    counts: dict[str, int]
    summary: dict[str, Any]
    versions: dict[str, str]

    @classmethod
    def parse(cls, data: bytes, where: str) -> Manifest:
        """Read a manifest; `where` names it in errors."""
        try:
            tree = json.loads(data)
            tree["inputs"] = {role: Input(**given) for role, given in tree["inputs"].items()}
            tree["files"] = tuple(FileEntry(**entry) for entry in tree["files"])
            return cls(**tree)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"not a manifest that this version reads ({error})",
                where=where,
                do="make the artifact again with --force",
            ) from error


class Artifact:
    """A whole artifact, open for reading. Files are checked against their sha256 when opened."""

    def __init__(self, store: Store, manifests: Sequence[Manifest], cache: Path) -> None:
        """Use `open_artifact`; `cache` is a folder for copies of remote files."""
        self.manifests = tuple(manifests)
        self._store, self._cache = store, cache
        self._files = {entry.path: entry for m in manifests for entry in m.files}
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
    def digest(self) -> str:
        """Hash over the content of all files that are not volatile."""
        return _digest(tuple(self._files.values()))

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
        url = self._store.url(f"{self.folder}/{name}")  # refuses a name that leaves the folder
        if self._store.is_local:
            local = Path(url)
        else:
            local = self._cache / self.digest[:16] / self.folder / name
            if not local.exists():
                self._store.get(f"{self.folder}/{name}", local)
        if name not in self._checked:
            self._check(entry, local)
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

    def _check(self, entry: FileEntry, local: Path) -> None:
        found = hash_file(local) if local.exists() else "missing"
        if found != entry.sha256 and not (entry.volatile and local.exists()):
            raise InputError(
                f"{entry.path} is not what the manifest promises "
                f"(sha256 {entry.sha256[:12]}, found {found[:12]})",
                where=self.url,
                do="make the artifact again with --force",
            )


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
            digest=_digest(files),
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
        self._store.write(f"{base}/{_manifest_name(self.shard, self.shards)}", text.encode())
        shutil.rmtree(self.folder, ignore_errors=True)
        alive = [m for p, m in before.items() if p not in replaced]
        kept = {e.path for m in (*alive, manifest) for e in m.files}
        left = {e.path for m in replaced.values() for e in m.files} - kept
        for name in sorted(left):
            self._store.delete(f"{base}/{name}")

    def _before(self) -> tuple[dict[str, Manifest], list[str]]:
        """The manifests that are there, and the paths of those that cannot be read."""
        found, unreadable = {}, []
        for path in _manifest_paths(self._store, self.recipe.folder):
            try:
                found[path] = Manifest.parse(self._store.read(path), self._store.url(path))
            except InputError:
                unreadable.append(path)
        return found, unreadable

    def _agrees(self, other: Manifest) -> bool:
        return other.fingerprint == self.recipe.fingerprint and other.shards == self.shards


def open_artifact(store: Store, kind: str, name: str, cache: Path) -> Artifact:
    """Open a whole artifact for reading.

    Raises:
        InputError: it is not there, or some of its shards are not there yet.
    """
    found = list(_manifests_in(store, f"{kind}/{name}").values())
    whole = _whole(found)
    if whole:
        return Artifact(store, whole, cache)
    where = store.url(f"{kind}/{name}")
    if not found:
        raise InputError(
            f"there is no {kind} artifact {name!r}", where=where, do=f"run python -m jobs.{kind}"
        )
    if len({(m.fingerprint, m.shards) for m in found}) > 1:
        raise InputError(
            "its shards were made with different settings, inputs or numbers of shards",
            where=where,
            do=f"run python -m jobs.{kind} --force for all of them",
        )
    have = sorted(m.shard for m in found)
    raise InputError(
        f"only shards {have} of {found[0].shards} are there",
        where=where,
        do=f"run python -m jobs.{kind} for the others",
    )


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
        found = list(_manifests(store, recipe).values())
        other = next((m for m in found if m.fingerprint != recipe.fingerprint), None)
        if other is not None:
            raise InputError(
                f"holds another {recipe.kind} artifact; {_difference(other, recipe)}",
                where=store.url(recipe.folder),
                do="choose another name, or give --force to replace it",
            )
        if whole := _whole(found):
            return Artifact(store, whole, cache)
        if any(m.shard == shard and m.shards == shards for m in found):
            return None
    return Draft(store, recipe, shard, shards, cache)


def is_whole(store: Store, recipe: Recipe) -> bool:
    """Whether all shards of the artifact are there with the recipe's fingerprint."""
    found = _whole(list(_manifests(store, recipe).values()))
    return bool(found) and found[0].fingerprint == recipe.fingerprint


def hash_file(path: Path) -> str:
    """sha256 of a local file as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """sha256 over the canonical JSON of a value (sorted keys, no spaces) as hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(files: Sequence[FileEntry]) -> str:
    return hash_json(sorted([entry.path, entry.sha256] for entry in files if not entry.volatile))


def _manifest_name(shard: int, shards: int) -> str:
    return "manifest.json" if shards == 1 else f"manifest-{shard:05d}-of-{shards:05d}.json"


def _manifest_paths(store: Store, folder: str) -> list[str]:
    return [
        path
        for path in store.list(folder)
        if path.removeprefix(f"{folder}/").startswith("manifest")
        and path.endswith(".json")
        and "/" not in path.removeprefix(f"{folder}/")
    ]


def _manifests_in(store: Store, folder: str) -> dict[str, Manifest]:
    paths = _manifest_paths(store, folder)
    return {path: Manifest.parse(store.read(path), store.url(path)) for path in paths}


def _manifests(store: Store, recipe: Recipe) -> dict[str, Manifest]:
    return _manifests_in(store, recipe.folder)


def _whole(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The manifests of one whole artifact in shard order; empty when some are missing."""
    groups: dict[tuple[str, int], dict[int, Manifest]] = {}
    for manifest in manifests:
        key = (manifest.fingerprint, manifest.shards)
        groups.setdefault(key, {})[manifest.shard] = manifest
    for (_, shards), group in groups.items():
        if group.keys() == set(range(shards)):
            return [group[i] for i in range(shards)]
    return []


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
