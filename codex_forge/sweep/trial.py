"""One trial, from training to its score on dev questions: modes one after another in this process.

Each mode runs in a job of its own and leaves an ordinary artifact under the trial's name. A trial
that is started again goes on where it was; one that is done is left alone.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from codex_forge.artifact import Artifact, Draft, Recipe, open_artifact
from codex_forge.artifact.lease import acquire, is_free
from codex_forge.artifact.places import versions
from codex_forge.errors import (
    EXIT_DONE,
    EXIT_TRY_AGAIN,
    ForgeError,
    Held,
    InputError,
    NotMade,
)
from codex_forge.job import Job, exit_code_of
from codex_forge.pair_files import has_questions
from codex_forge.stopping import stop
from codex_forge.storage import Store
from codex_forge.sweep.made_with import differences
from codex_forge.sweep.plan import Trial
from codex_forge.sweep.processes import is_first, together
from codex_forge.sweep.states import DONE, States
from codex_forge.sweep.steps import Step, after_training, before_training, training

log = logging.getLogger("codex_forge")

Modes = Mapping[str, Callable[[Job], None]]

_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class _Mode:
    """A mode of this package, imported when it is first run: it may bring torch."""

    name: str

    def __call__(self, job: Job) -> None:
        importlib.import_module(f"codex_forge.{self.name}.run").run(job)


MODES: Modes = {name: _Mode(name) for name in ("pairs", "audit", "train", "embed", "evaluate")}


class StepJob(Job):
    """The job of one step: `--force` replaces what was made otherwise or is damaged, never what is
    done, and nothing of another run.
    """

    def begin(self, recipe: Recipe) -> Draft | Artifact | None:
        """Start the artifact, or say that it is there.

        Raises:
            InputError: another artifact has this name; with `--force`: another run's has.
        """
        try:
            there = Job.begin(replace(self, force=False), recipe)
            if self.force and isinstance(there, Artifact):
                check_files(there)
            return there
        except InputError:
            if not self.force:
                raise
            self._refuse_another_run_s(recipe)
            return super().begin(recipe)

    def _refuse_another_run_s(self, recipe: Recipe) -> None:
        """A manifest holds the config, and that of a trial says of which run it is one."""
        config = self.config
        for version in versions(self.store, recipe.folder, strict=False):
            made = version.manifest.config
            told = (made.get("name"), (made.get("use") or {}).get("sweep"))
            if told != (config.name, config.use.sweep):
                raise InputError(
                    f"is of another run than the sweep of {config.use.sweep or config.name!r}, "
                    "and is kept",
                    where=self.store.url(recipe.folder),
                    do="give the run of the sweep another name, or delete what is there",
                )


def check_files(artifact: Artifact) -> None:
    """Read all files of an artifact.

    Raises:
        InputError: one is not what the manifest promises.
    """
    for name in artifact.files:
        artifact.path(name)


def run_trial(job: Job, trial: Trial, modes: Modes = MODES) -> None:
    """Do what is missing of a trial.

    Of several processes of one training the first does the rest alone.

    Raises:
        ForgeError: a step failed; the next start goes on from there.
        Preempted: a signal came; likewise.
    """
    if together() == 1 and _is_done(job, trial):
        log.info("%s: already done", trial.name)
        return
    log.info("trial %d, %s", trial.index, trial.label)
    with tempfile.TemporaryDirectory(dir=job.scratch) as scratch:
        own = replace(job, scratch=Path(scratch), shard=0, shards=1, drafts=[])
        _run(own, trial, modes)


def _is_done(job: Job, trial: Trial) -> bool:
    """With `--force` every file of the trial is read: one may be damaged, and as long as it was."""
    states = States(job.store, job.scratch)
    if states.of(trial).word != DONE:
        return False
    try:
        for step in states.steps(trial) if job.force else ():
            check_files(open_artifact(job.store, step.mode, step.name, job.scratch))
    except InputError as error:
        log.warning("%s", error)
        return False
    return True


def _run(job: Job, trial: Trial, modes: Modes) -> None:
    before = before_training(trial)
    if not is_first():
        _wait_for(job, before)
        run_step(job, training(trial), modes)
        return
    for step in before:
        _run_shared(job, step, modes)
    run_step(job, training(trial), modes)
    pairs = open_artifact(job.store, "pairs", trial.config.pairs_name, job.scratch)
    for step in after_training(trial, asks=has_questions(pairs)):
        run_step(job, step, modes)


def _run_shared(job: Job, step: Step, modes: Modes) -> None:
    """Make what several trials read, or wait until another has made it; a signal ends the wait."""
    while True:
        try:
            run_step(job, step, modes)
            return
        except Held as error:
            log.info("  waiting for %s %s: %s", step.mode, step.name, error)
            time.sleep(_POLL_SECONDS)


def run_step(job: Job, step: Step, modes: Modes = MODES) -> None:
    """One mode, with the word that a job leaves of how it ended."""
    started = time.monotonic()
    own = StepJob(step.mode, step.config, job.store, job.scratch, force=job.force)
    try:
        modes[step.mode](own)
    except BaseException as error:
        # A stop may come as an error of somebody else's making.
        code = EXIT_TRY_AGAIN if stop.requested else exit_code_of(error)
        own.close(code, str(error))
        if not own.drafts and is_first():
            _leave_word(job.store, step, code, error)
        raise
    own.close(EXIT_DONE)
    log.info("%s %s: %.1f s", step.mode, step.name, time.monotonic() - started)


def _leave_word(store: Store, step: Step, code: int, error: BaseException) -> None:
    """A step that ended before it began an artifact has said nowhere why; now it has.

    What only has to be tried again, or waits for another job, is no failure of this trial.
    """
    if code == EXIT_TRY_AGAIN or isinstance(error, NotMade) or not isinstance(error, Exception):
        return
    with suppress(ForgeError), stop.held():
        if is_free(store, step.folder, step.folder):
            acquire(store, step.folder, step.folder).release(code, str(error))


def _wait_for(job: Job, steps: list[Step]) -> None:
    """The first process makes what training reads, perhaps anew; a signal ends the wait."""
    for step in steps:
        while not _is_as_said(job, step):
            time.sleep(_POLL_SECONDS)


def _is_as_said(job: Job, step: Step) -> bool:
    """Whether what is there was made with the settings, and from the artifacts, of now."""
    try:
        found = open_artifact(job.store, step.mode, step.name, job.scratch).manifest
        now = {
            given: open_artifact(job.store, given.kind, given.name, job.scratch).digest
            for given in found.inputs.values()
            if given.kind in ("pairs", "embed")
        }
    except InputError:  # not there, or just replaced
        return False
    fresh = all(given.digest == digest for given, digest in now.items())
    return fresh and not differences(found, step.config)
