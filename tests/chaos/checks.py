"""What must hold on a store after every kill, and at the end."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from codex_forge.artifact import open_artifact
from codex_forge.artifact.places import MANIFEST, stored_path, versions, whole_of
from codex_forge.errors import InputError
from codex_forge.storage import Store

_LEASE = re.compile(r"leases/\d+\.json")


class Broken(Exception):
    """A promise was broken; says which."""


class Work(NamedTuple):
    """What is committed of an artifact that is not whole."""

    leases: frozenset[str]
    versions: frozenset[str]
    """Names of the versions of which an object is there."""
    blocks: frozenset[int]
    """Numbers of the committed blocks."""
    steps: tuple[int, ...]
    """Of the committed checkpoints."""


def visible_digest(store: Store, kind: str, name: str, cache: Path) -> str:
    """The digest of the artifact when it opens as whole, else nothing.

    Raises:
        Broken: it opens, but not all of its files are what it promises; or it opens not, for
            another reason than that it is not there.
    """
    try:
        artifact = open_artifact(store, kind, name, cache)
    except InputError as error:
        if "there is no" in error.what:
            return ""
        raise Broken(f"the artifact does not open: {error}") from error
    try:
        for file in artifact.files:
            artifact.path(file)
    except InputError as error:
        raise Broken(f"a visible artifact is not whole: {error}") from error
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return artifact.digest


def left_over(store: Store, folder: str) -> list[str]:
    """Objects of a whole artifact's folder that are neither its own nor its last lease."""
    whole = whole_of(versions(store, folder))
    kept = {stored_path(v, entry) for v in whole for entry in v.manifest.files}
    kept |= {f"{version.folder}/{MANIFEST}" for version in whole}
    paths = store.list(folder)
    leases = [path for path in paths if _LEASE.fullmatch(path.removeprefix(f"{folder}/"))]
    kept |= set(leases[-1:])
    return [path for path in paths if path not in kept]


def work_of(store: Store, folder: str) -> Work:
    """What a job that was disturbed has committed."""
    paths = [path.removeprefix(f"{folder}/") for path in store.list(folder)]
    steps = [re.search(r"/step-(\d+)-[^/]+/commit\.json$", path) for path in paths]
    blocks = [re.search(r"(?:^|/)blocks/[^/]+/[^/]+/(\d+)-", path) for path in paths]
    return Work(
        leases=frozenset(path for path in paths if _LEASE.fullmatch(path)),
        versions=frozenset(path.split("/")[0] for path in paths if re.match(r"v\d", path)),
        blocks=frozenset(int(found[1]) for found in blocks if found),
        steps=tuple(sorted(int(found[1]) for found in steps if found)),
    )
