"""What a job has committed of an artifact that is not whole yet: blocks and checkpoints.

A block is one object whose name holds its number, size and sha256: there is nothing else to commit,
and nothing that could disagree. A checkpoint is a folder of files and, last, `commit.json` with
their sizes and sha256. Both are verified before they are used; what does not verify is as good as
not there.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from codex_forge.artifact.lease import Lease
from codex_forge.artifact.manifest import FileEntry, hash_file, hash_json
from codex_forge.artifact.uploads import Uploads
from codex_forge.errors import Damaged, NotFound
from codex_forge.storage import Store, faults

log = logging.getLogger("codex_forge")

T = TypeVar("T")

_COMMIT = "commit.json"
_COPIES = 3
"""Attempts at a true copy of a remote file."""
_BLOCK = re.compile(r"(\d{6})-(\d+)-([0-9a-f]{64})\.(\w+)")
_CHECKPOINT = re.compile(r"step-(\d{8})-v(\d+)(?:-[0-9a-f]{8})?")


class Work:
    """The work area of one slot and one recipe."""

    def __init__(self, store: Store, slot: str, key: str, lease: Lease, cache: Path) -> None:
        """`key` names the recipe, and the version that it replaces."""
        self._store, self._slot, self._lease, self._cache = store, slot, lease, cache
        self._key = key

    def blocks(self, stage: str) -> Blocks:
        """The blocks of one stage of the work."""
        return Blocks(
            self._store, self._slot, f"{self._slot}/blocks/{self._key}/{stage}", self._cache
        )

    def in_blocks(
        self,
        stage: str,
        items: Sequence[T],
        size: int,
        make: Callable[[Path, Sequence[T]], None],
        suffix: str,
    ) -> Generator[Block, None, None]:
        """Do a stage of the work in blocks of `size` items; what is committed is not redone.

        Args:
            stage: names the stage; the size is part of the name, as blocks of two sizes differ.
            items: all items, in an order that follows from the recipe.
            size: items in a block; a job that is killed repeats the one that it was at, and the
                one before when that is not uploaded yet.
            make: writes the block of some items to a path.
            suffix: of the block's file, such as `.jsonl`.

        Yields:
            The blocks in order. Their local files vanish when the next one is asked for.
        """
        blocks = self.blocks(f"{stage}-{size}")
        done = 0
        scratch = Path(tempfile.mkdtemp(prefix=f"{stage}-", dir=self._cache))
        with Uploads() as uploads:
            for number, start in enumerate(range(0, len(items), size)):
                block = blocks.get(number)
                if block is not None:
                    done += 1
                    yield block
                    blocks.forget(block)
                    continue
                if done:
                    log.info("  %s: %d blocks were there already", stage, done)
                    done = 0
                local = scratch / f"{number:06d}{suffix}"
                make(local, items[start : start + size])
                block = Block(blocks.entry(number, local), local)
                uploads.submit(partial(blocks.put, block))
                yield block
                uploads.submit(local.unlink)
            uploads.finish()
        if done:
            log.info("  %s: %d blocks were there already", stage, done)

    def checkpoints(self, keep: int) -> Checkpoints:
        """The checkpoints, of which the last `keep` are kept."""
        return Checkpoints(self._store, self.checkpoints_folder, self._lease, keep)

    @property
    def checkpoints_folder(self) -> str:
        """Where the checkpoints are, for those who only read them."""
        return f"{self._slot}/checkpoints/{self._key}"


class Block(NamedTuple):
    """A committed block."""

    entry: FileEntry
    """As a file of the artifact, once it has a path there."""
    local: Path
    """Its content."""


class Blocks:
    """Numbered pieces of the work, each one object."""

    def __init__(self, store: Store, slot: str, folder: str, cache: Path) -> None:
        """Look what is there."""
        self._store, self._slot, self._folder = store, slot, folder
        self._cache = cache / "blocks" / folder
        self._names: dict[int, list[str]] = {}
        for path, size in store.sizes(folder).items():
            name = path.removeprefix(f"{folder}/")
            if (found := _BLOCK.fullmatch(name)) and int(found[2]) == size:
                self._names.setdefault(int(found[1]), []).append(name)

    def __len__(self) -> int:
        """How many blocks seem to be there."""
        return len(self._names)

    def get(self, number: int) -> Block | None:
        """The block, when it is there and its content is what its name promises."""
        for name in sorted(self._names.get(number, ())):
            local = self._local(name)
            with suppress(NotFound), faults(self._store.url(f"{self._folder}/{name}")):
                if not self._store.is_local:
                    self._store.get(f"{self._folder}/{name}", local)
                found = _BLOCK.fullmatch(name)
                if found and hash_file(local) == found[3]:
                    return Block(self._entry(name), local)
            log.warning("  a damaged block is made again: %s", self._store.url(self._folder))
        return None

    def entry(self, number: int, local: Path) -> FileEntry:
        """What a block will be, once it is put."""
        suffix = local.suffix.removeprefix(".")
        return self._entry(f"{number:06d}-{local.stat().st_size}-{hash_file(local)}.{suffix}")

    def put(self, block: Block) -> None:
        """Commit a block."""
        self._store.put(block.local, f"{self._slot}/{block.entry.stored}")

    def forget(self, block: Block) -> None:
        """Remove the local copy of a block that `get` gave."""
        if not self._store.is_local:
            block.local.unlink(missing_ok=True)

    def _local(self, name: str) -> Path:
        if self._store.is_local:
            return Path(self._store.url(f"{self._folder}/{name}"))
        return self._cache / name

    def _entry(self, name: str) -> FileEntry:
        found = _BLOCK.fullmatch(name)
        if found is None:
            raise ValueError(f"{name!r} is not the name of a block")
        stored = f"{self._folder}/{name}".removeprefix(f"{self._slot}/")
        return FileEntry(path="", size=int(found[2]), sha256=found[3], stored=stored)


class Checkpoint(NamedTuple):
    """A checkpoint on the store."""

    folder: str
    step: int
    token: int


class Checkpoints:
    """Checkpoints of one run; the last `keep` whole ones stay."""

    def __init__(self, store: Store, folder: str, lease: Lease | None, keep: int) -> None:
        """Readers need no lease."""
        self._store, self._folder, self._lease, self._keep = store, folder, lease, keep

    def save(self, step: int, local: Path) -> None:
        """Upload all files below `local`, then commit; then remove those that are too many.

        Raises:
            TryAgain: another process has taken over, or the storage does not answer.
        """
        if self._lease is None:
            raise ValueError("a reader cannot save")
        self._lease.check()
        folder = f"{self._folder}/step-{step:08d}-{self._lease.version}"
        if any(checkpoint.folder == folder for checkpoint in self.committed()):
            return  # to write over it would leave it in pieces for a while
        files = {
            path.relative_to(local).as_posix(): path
            for path in sorted(local.rglob("*"))
            if path.is_file()
        }
        for name, path in files.items():
            self._store.put(path, f"{folder}/{name}")
        sums = {name: (p.stat().st_size, hash_file(p)) for name, p in files.items()}
        self._store.check_sizes(folder, {name: int(size) for name, (size, _) in sums.items()})
        commit = {"step": step, "token": self._lease.token, "files": sums}
        told = {**commit, "sum": hash_json(commit)}
        self._lease.check()
        self._store.write(f"{folder}/{_COMMIT}", json.dumps(told, sort_keys=True).encode())
        self._rotate()

    def committed(self) -> list[Checkpoint]:
        """Checkpoints with a commit, the one to resume from first.

        A later writer resumed from what an earlier one had committed: its own come first,
        whatever their steps.
        """
        found = []
        for path in self._store.list(self._folder):
            name, _, file = path.removeprefix(f"{self._folder}/").rpartition("/")
            if file == _COMMIT and (parts := _CHECKPOINT.fullmatch(name)):
                found.append(Checkpoint(f"{self._folder}/{name}", int(parts[1]), int(parts[2])))
        return sorted(found, key=lambda c: (c.token, c.step, c.folder), reverse=True)

    def latest(self, local: Path) -> tuple[Checkpoint, Path] | None:
        """Copy the newest whole checkpoint to a folder below `local`; pass over damaged ones."""
        tried: set[Checkpoint] = set()
        # A writer that was cut off may remove one while it is read, because it has made another.
        while new := [found for found in self.committed() if found not in tried]:
            for checkpoint in new:
                tried.add(checkpoint)
                target = local / checkpoint.folder.rpartition("/")[2]
                try:
                    self.fetch(checkpoint, target)
                except (NotFound, Damaged) as error:
                    log.warning("  passing over a checkpoint: %s", error)
                else:
                    return checkpoint, target
        return None

    def fetch(self, checkpoint: Checkpoint, local: Path) -> None:
        """Copy a checkpoint to a folder.

        Raises:
            NotFound: a file of it is missing.
            Damaged: a file of it, or its commit, is not what was written.
        """
        for name, (size, sha256) in self._commit_of(checkpoint).items():
            for _ in range(_COPIES):
                self._store.get(f"{checkpoint.folder}/{name}", local / name)
                if (local / name).stat().st_size == size and hash_file(local / name) == sha256:
                    break
            else:
                raise Damaged(f"{name} is damaged", where=self._store.url(checkpoint.folder))

    def _commit_of(self, checkpoint: Checkpoint) -> dict[str, tuple[int, str]]:
        path = f"{checkpoint.folder}/{_COMMIT}"
        try:
            tree = json.loads(self._store.read(path))
            if tree.pop("sum") != hash_json(tree):
                raise ValueError("one of its bits has changed")
            files = {str(n): (int(s), str(h)) for n, (s, h) in tree["files"].items()}
            told = (int(tree["step"]), int(tree["token"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Damaged("its commit is damaged", where=self._store.url(path)) from error
        if told != (checkpoint.step, checkpoint.token) or not files or any(map(_leaves, files)):
            raise Damaged("its commit is of another checkpoint", where=self._store.url(path))
        return files

    def _rotate(self) -> None:
        """Remove all but the last `keep`, and what was never committed; never a later writer's."""
        if self._lease is None:
            return
        paths = self._store.list(self._folder)
        mine = [c for c in self.committed() if c.token <= self._lease.token]
        for checkpoint in mine[max(1, self._keep) :]:  # the commit first
            self._store.delete(f"{checkpoint.folder}/{_COMMIT}")
        kept = tuple(f"{checkpoint.folder}/" for checkpoint in self.committed())
        for path in paths:
            found = _CHECKPOINT.match(path, len(self._folder) + 1)
            if found and int(found[2]) <= self._lease.token and not path.startswith(kept):
                self._store.delete(path)


def _leaves(name: str) -> bool:
    """Whether a file name would lead out of the folder that it is copied to."""
    return name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts
