"""What a manifest says, and how it is identified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codex_forge.errors import InputError

FORMAT = 2


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
    stored: str = ""
    """Where it is below the slot, when it was committed before the version that names it."""


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
    version: str
    """Name of the folder that holds the manifest and its files."""
    token: int
    """Fencing token of the writer; of two versions in a slot the one with the higher counts."""
    generation: int
    """Counts what had this name before: of two whole artifacts the later one counts."""
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
            found = cls(**tree)
            if not all(isinstance(count, int) for count in found.counts.values()):
                raise ValueError("a count is not a number")
            if not isinstance(found.settings, dict) or not isinstance(found.summary, dict):
                raise ValueError("settings or summary are no mapping")
            return found
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
