"""The frame of every job: arguments, config, logging, shard index, signals, exit code.

A door (`jobs/<mode>.py`) holds a `Door`; `Door.main` reads and checks the config, opens the store,
and only then imports the mode. It alone turns errors into exit codes.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import importlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent
from typing import Any

from codex_forge.artifact import Artifact, Draft, Input, Recipe, begin, open_artifact
from codex_forge.config import RunConfig, keys_of, load_config
from codex_forge.config.load import type_name
from codex_forge.corpus import CorpusFiles, find_files
from codex_forge.errors import (
    EXIT_BUG,
    EXIT_CODES,
    EXIT_DONE,
    EXIT_TRY_AGAIN,
    ConfigError,
    ForgeError,
    InputError,
    NotMade,
    Preempted,
    TryAgain,
)
from codex_forge.launching import INDEX_VARIABLES, OFFSET_VARIABLE
from codex_forge.pair_files import CHUNKS
from codex_forge.stopping import stop
from codex_forge.storage import Store

log = logging.getLogger("codex_forge")

_SCRATCH = "codex-forge-"
_LOCK = ".in-use"


@dataclass(frozen=True)
class Job:
    """What a mode gets: the config, the store, a scratch folder, and its share of the work."""

    mode: str
    config: RunConfig
    store: Store
    scratch: Path
    force: bool = False
    shard: int = 0
    shards: int = 1
    plan: bool = False
    """Say what would be done, and what it would take; make nothing."""
    question: str = ""
    """What a door that `asks` was asked."""
    as_json: bool = False
    """Whether it answers machines."""
    drafts: list[Draft] = field(default_factory=list)
    """What this job is making; each holds a lease until the job ends."""

    def open(self, kind: str, name: str) -> Artifact:
        """Open an artifact of this run's store for reading."""
        return open_artifact(self.store, kind, name, self.scratch)

    def corpus_files(self) -> CorpusFiles:
        """The files of the run's corpus; ready-made data alone has made one of its texts.

        Raises:
            InputError: there is no such file, or scored pairs alone, which are no corpus.
        """
        files = find_files(self.config.corpus)
        if files.files["chunks"]:
            return files
        pairs = self.open("pairs", self.config.pairs_name)
        if CHUNKS not in pairs.files:
            raise InputError(
                "scored pairs alone make no corpus, and none is given",
                where=pairs.url,
                do="set corpus.chunks",
            )
        return CorpusFiles({**files.files, "chunks": (str(pairs.path(CHUNKS)),)})

    def recipe(self, name: str, settings: Mapping[str, Any], inputs: Mapping[str, Input]) -> Recipe:
        """The recipe of the artifact that this job makes."""
        whole = self.config.model_dump(mode="json")
        return Recipe(self.mode, name, settings, inputs, whole)

    def begin(self, recipe: Recipe) -> Draft | Artifact | None:
        """Start the artifact; logs and returns what is there when there is nothing to do."""
        state = begin(
            self.store,
            recipe,
            self.scratch,
            shard=self.shard,
            shards=self.shards,
            force=self.force,
        )
        if isinstance(state, Draft):
            self.drafts.append(state)
        else:
            part = "" if state else f" (shard {self.shard} of {self.shards})"
            log.info(
                "already done: %s%s, fingerprint %s",
                self.store.url(recipe.folder),
                part,
                recipe.fingerprint[:12],
            )
        return state

    def close(self, exit_code: int, said: str = "") -> None:
        """Let go of what was begun, and leave word of how the job ended."""
        with stop.held():
            for draft in self.drafts:
                draft.lease.release(exit_code, said)


@dataclass(frozen=True)
class Door:
    """A command-line door to one mode."""

    mode: str
    teaches: str
    """The text of `--help`."""
    run: str
    """`package.module:function`, imported only when the config is good."""
    sections: tuple[str, ...]
    """Config sections that `--help` lists."""
    sharded: bool = False
    plans: bool = False
    """Whether it has a `--plan`."""
    asks: bool = False
    """Whether it takes a QUESTION and answers it, also as `--json`; such a door writes nothing."""

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the mode; returns the process's exit code."""
        arguments = self._parser().parse_intermixed_args(argv)
        _log_to_stderr()
        return guarded(lambda: self._work(arguments))

    def _work(self, arguments: argparse.Namespace) -> None:
        config = load_config(arguments.config, arguments.overrides)
        shard = self._shard(arguments.shards)
        started = time.monotonic()
        with scratch_folder(self.mode) as scratch:
            job = Job(
                mode=self.mode,
                config=config,
                store=Store(config.store),
                scratch=scratch,
                force=arguments.force,
                shard=shard,
                shards=arguments.shards,
                plan=self.plans and arguments.plan,
                question=arguments.question if self.asks else "",
                as_json=self.asks and arguments.json,
            )
            module, function = self.run.split(":")
            try:
                with _awaiting(arguments.await_inputs):
                    getattr(importlib.import_module(module), function)(job)
            except BaseException as error:
                job.close(exit_code_of(error), str(error))
                raise
            job.close(EXIT_DONE)
        log.info("%s: %.1f s", self.mode, time.monotonic() - started)

    def _shard(self, shards: int) -> int:
        """This process's index among `shards`, from the scheduler's environment."""
        if shards < 1:
            raise ConfigError(f"--shards {shards} must be at least 1")
        if shards == 1:
            return 0
        if not self.sharded:
            raise ConfigError(f"{self.mode} cannot be sharded", do="leave --shards out")
        return index_below(shards)

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=f"python -m jobs.{self.mode}",
            description=self.teaches,
            epilog=self._keys() + _exit_codes(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("config", metavar="CONFIG.yaml", help="the run's config")
        if self.asks:
            parser.add_argument("question", metavar="QUESTION", help="its id, or part of its text")
            parser.add_argument("--json", action="store_true", help="answer for machines")
        parser.add_argument(
            "overrides",
            nargs="*",
            default=(),
            metavar="section.key=value",
            help="config keys set on the command line",
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help=argparse.SUPPRESS
            if self.asks
            else "replace an artifact that is already there, once it is made anew",
        )
        parser.add_argument(
            "--await-inputs",
            action="store_true",
            help=argparse.SUPPRESS
            if self.asks
            else "end with 75 (try again), not 2, while an artifact that this mode reads is not "
            "there: for launchers that start all modes at once",
        )
        parser.add_argument(
            "--shards",
            type=int,
            default=1,
            metavar="N",
            help="work on one of N shards; its index comes from " + " or ".join(INDEX_VARIABLES)
            if self.sharded
            else argparse.SUPPRESS,
        )
        if self.plans:
            parser.add_argument(
                "--plan",
                action="store_true",
                help="say what it would take (steps, tokens, time, memory), from a short probe, "
                "and make nothing",
            )
        return parser

    def _keys(self) -> str:
        lines = ["config keys (type, default):"]
        for key, facts in keys_of(RunConfig):
            if "." not in key or key.split(".")[0] in self.sections:
                default = "required" if facts.is_required() else repr(facts.default)
                lines.append(f"  {key}  ({type_name(facts.annotation)}, {default})")
                lines.append(indent(facts.description or "", " " * 6))
        return "\n".join(lines)


@contextmanager
def _awaiting(awaits: bool) -> Iterator[None]:
    """Where inputs are awaited, one that is not made yet is a reason to try again."""
    try:
        yield
    except NotMade as error:
        if not awaits:
            raise
        raise TryAgain(error.what, where=error.where, do="it is awaited") from error


def index_below(shards: int) -> int:
    """Which of `shards` this process is, by what its launcher has set.

    Raises:
        ConfigError: nothing is set, or no index below `shards`.
    """
    for variable in INDEX_VARIABLES:
        if (text := os.environ.get(variable)) is not None:
            offset = os.environ.get(OFFSET_VARIABLE) or "0"
            told = f"{variable}={text}" + (
                f" + {OFFSET_VARIABLE}={offset}" if offset != "0" else ""
            )
            whole = all(part.isascii() and part.isdigit() for part in (text, offset))
            if not whole or int(text) + int(offset) >= shards:
                raise ConfigError(
                    f"{told} is not an index below --shards {shards}",
                    do="start indexes 0 to shards - 1",
                )
            return int(text) + int(offset)
    raise ConfigError(
        f"--shards {shards} needs an index",
        do=f"set {' or '.join(INDEX_VARIABLES)} (0 to {shards - 1})",
    )


@contextmanager
def scratch_folder(mode: str) -> Iterator[Path]:
    """A temporary folder for one job; those of jobs that were killed outright are removed first.

    A lock that ends with its process tells them apart.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*/{_LOCK}"):
        with suppress(OSError), left.open("rb") as handle:  # in use, or another user's
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{mode}-"))
    try:
        part = folder / f"{_LOCK}-"
        with part.open("wb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            part.rename(folder / _LOCK)
            yield folder
    finally:
        with stop.held():  # a signal that comes now would leave half of it
            shutil.rmtree(folder, ignore_errors=True)


def guarded(work: Callable[[], None]) -> int:
    """Run `work` with signals and errors turned into exit codes; the only broad `except`."""
    try:
        stop.listen()
        work()
        stop.done()
        return EXIT_DONE
    except (Preempted, KeyboardInterrupt, Exception) as raised:
        stop.done()
        error = _stopped_in(raised) or raised
        _explain(error)
        return exit_code_of(error)


def _stopped_in(error: BaseException) -> Preempted | None:
    """The stop that a stranger's code turned into an error of its own, as Python 3.11 does."""
    above: BaseException | None = error
    while above is not None and not isinstance(above, ForgeError):
        if isinstance(above, Preempted):
            return above
        above = above.__cause__ or above.__context__
    return None


def _explain(error: BaseException) -> None:
    """Say on stderr why the job ends."""
    if isinstance(error, ForgeError):
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, Preempted):
        print(f"error: {error}; run again to continue", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print("interrupted; run again to continue", file=sys.stderr)
    elif is_full_disk(error):
        where = getattr(error, "filename", None) or tempfile.gettempdir()
        print(f"error: {where}: no space left; free disk space, or set TMPDIR", file=sys.stderr)
    elif is_failing_disk(error):
        print(f"error: a disk failed ({error}); run again when it answers", file=sys.stderr)
    else:
        traceback.print_exception(error)


def exit_code_of(error: BaseException) -> int:
    """The exit code of a job that ends with this error."""
    if isinstance(error, ForgeError | Preempted):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return EXIT_TRY_AGAIN if is_full_disk(error) or is_failing_disk(error) else EXIT_BUG


def is_full_disk(error: BaseException) -> bool:
    """Whether a local disk is full, or its quota reached."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_failing_disk(error: BaseException) -> bool:
    """Whether a disk, perhaps of another machine, did not give what it holds."""
    return isinstance(error, OSError) and error.errno in (
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    # What the S3 client left unfinished when its connection broke; the error itself is raised.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def _exit_codes() -> str:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    return f"\n\nexit codes:\n{codes}\n"
