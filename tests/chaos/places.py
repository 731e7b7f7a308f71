"""Where the jobs of the suite store: a local folder or S3, and a fresh root for every campaign."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_forge.storage import Store
from tests.servers.s3 import S3Server, client


@dataclass(frozen=True)
class Root:
    """The root of a store that one campaign has for itself."""

    url: str
    environment: Mapping[str, str]
    server: S3Server | None = None

    @property
    def store(self) -> Store:
        """The store, as the suite itself looks at it: past any proxy."""
        return Store(self.url)

    def versions(self, folder: str) -> frozenset[str]:
        """Names of the versions in an artifact's folder; quick enough to be asked all the time."""
        if self.server is None:
            return frozenset(path.name for path in Path(self.url, folder).glob("v*"))
        bucket, key = _split(self.url)
        prefix = f"{key}/{folder}/v"
        s3 = client(self.server)
        try:
            found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
        finally:
            s3.close()
        return frozenset(each["Prefix"].split("/")[-2] for each in found.get("CommonPrefixes", ()))

    def take_over(self, other: Root, folders: Iterable[str]) -> None:
        """Copy some folders of another root of the same place."""
        if self.server is None:
            for folder in folders:
                shutil.copytree(
                    f"{other.url}/{folder}", f"{self.url}/{folder}", copy_function=os.link
                )
            return
        bucket, key = _split(self.url)
        there = _split(other.url)[1]
        s3 = client(self.server)
        try:
            for folder in folders:
                for path in other.store.list(folder):
                    source = {"Bucket": bucket, "Key": f"{there}/{path}"}
                    s3.copy_object(Bucket=bucket, Key=f"{key}/{path}", CopySource=source)
        finally:
            s3.close()

    def remove(self) -> None:
        """Remove all that is in it."""
        if self.server is None:
            shutil.rmtree(self.url, ignore_errors=True)
            return
        store = self.store
        store.sweep(-1.0)
        for path in store.list(""):
            store.delete(path)


@dataclass(frozen=True)
class Place:
    """A folder or a bucket that holds roots."""

    name: str
    base: str
    server: S3Server | None = None
    configuration: Path | None = None
    """ceph.conf of a gateway, which frees the space of removed objects only when it is told to."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def root(self, environment: Mapping[str, str] | None = None) -> Root:
        """A new, empty root; `environment` replaces variables of the server's."""
        own = self.server.environment() if self.server else {}
        url = f"{self.base}/{next(self._numbers):04d}"
        return Root(url, {**own, **(environment or {})}, self.server)

    def free(self, root: Root) -> None:
        """Remove a root, and have its space back."""
        root.remove()
        if self.configuration is not None:
            gc = ["radosgw-admin", "-c", str(self.configuration), "gc", "process", "--include-all"]
            subprocess.run(gc, capture_output=True, check=False)


def local_place(folder: Path) -> Place:
    """Roots in a local folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Place("local", str(folder))


def s3_place(server: S3Server, bucket: str, folder: Path) -> Place:
    """Roots in a bucket that is there; `folder` is the server's."""
    configuration = folder / "ceph.conf"
    has_gateway = server.kind == "rados-gateway" and configuration.exists()
    base = f"s3://{bucket}/chaos"
    return Place("s3", base, server, configuration if has_gateway else None)


def _split(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key
