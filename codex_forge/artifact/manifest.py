"""What a manifest says, how it is identified, and when shards make a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codex_forge.errors import InputError
from codex_forge.storage import Store

FORMAT = 1


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


def hash_file(path: Path) -> str:
    """sha256 of a local file as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """sha256 over the canonical JSON of a value (sorted keys, no spaces) as hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(files: Sequence[FileEntry]) -> str:
    """Hash over paths and contents of all files that are not volatile."""
    return hash_json(sorted([entry.path, entry.sha256] for entry in files if not entry.volatile))


def manifest_name(shard: int, shards: int) -> str:
    """File name of a shard's manifest; `manifest.json` when there is one shard."""
    return "manifest.json" if shards == 1 else f"manifest-{shard:05d}-of-{shards:05d}.json"


def manifest_paths(store: Store, folder: str) -> list[str]:
    """Paths of the manifests directly in an artifact's folder."""
    return [
        path
        for path in store.list(folder)
        if path.removeprefix(f"{folder}/").startswith("manifest")
        and path.endswith(".json")
        and "/" not in path.removeprefix(f"{folder}/")
    ]


def manifests_in(store: Store, folder: str) -> dict[str, Manifest]:
    """The manifests of an artifact's folder by their paths."""
    paths = manifest_paths(store, folder)
    return {path: Manifest.parse(store.read(path), store.url(path)) for path in paths}


def whole_of(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The manifests of one whole artifact in shard order; empty when some are missing."""
    groups: dict[tuple[str, int], dict[int, Manifest]] = {}
    for manifest in manifests:
        key = (manifest.fingerprint, manifest.shards)
        groups.setdefault(key, {})[manifest.shard] = manifest
    for (_, shards), group in groups.items():
        if group.keys() == set(range(shards)):
            return [group[i] for i in range(shards)]
    return []
