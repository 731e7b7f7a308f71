"""How far each trial is, from manifests and leases on the store; nothing is run or written."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from codex_forge.artifact import Artifact, Manifest, open_artifact
from codex_forge.artifact.lease import Holder, lease_path, lease_tokens, read_lease
from codex_forge.artifact.places import Version, stored_path, versions, whole_of
from codex_forge.errors import EXIT_DONE, EXIT_TRY_AGAIN, InputError
from codex_forge.pair_files import has_questions
from codex_forge.storage import Store
from codex_forge.sweep.inputs import other_than_said, reads
from codex_forge.sweep.made_with import differences
from codex_forge.sweep.plan import Plan, Trial
from codex_forge.sweep.steps import Step, all_steps

DONE, RUNNING, FAILED, MISSING, STALE = "done", "running", "failed", "missing", "stale"

_AT_ONCE = 16
_QUIET = 3
"""Lease times without renewal after which a holder that cannot be looked up counts as gone."""


class State(NamedTuple):
    """How far a trial is, and why it is no further."""

    word: str
    """`done`, `running`, `failed`, `missing` (not started, or stopped half-way), or `stale` (made
    with other settings or inputs than now)."""
    exit_code: int | None = None
    said: str = ""


class _Made(NamedTuple):
    """What is there of one step."""

    step: Step
    manifest: Manifest | None
    holder: Holder | None
    """Who makes it, or made it last."""
    is_held: bool
    is_torn: bool
    """A file that the manifest names is gone, or not whole."""


class States:
    """Looks at trials of one store."""

    def __init__(self, store: Store, cache: Path) -> None:
        """`cache` is a folder for copies of remote files."""
        self._store, self._cache = store, cache
        self._opened: dict[tuple[str, str], Artifact | None] = {}

    def pairs(self, name: str) -> Artifact | None:
        """A pairs artifact, if it is there; each is opened once."""
        return self._artifact("pairs", name)

    def _artifact(self, kind: str, name: str) -> Artifact | None:
        if (kind, name) not in self._opened:
            try:
                self._opened[kind, name] = open_artifact(self._store, kind, name, self._cache)
            except InputError:
                return None
        return self._opened[kind, name]

    def steps(self, trial: Trial) -> list[Step]:
        """The steps of a trial, as far as is known before its pairs are there."""
        pairs = self.pairs(trial.config.pairs_name)
        return all_steps(trial, asks=pairs is None or has_questions(pairs))

    def of(self, trial: Trial) -> State:
        """The state of one trial."""
        made = [self._made(step) for step in self.steps(trial)]
        held = [each for each in made if each.is_held and not each.step.shared]
        if held:
            return State(RUNNING, None, f"{held[-1].step.mode} is being made by {held[-1].holder}")
        if said := self._stale(trial, made):
            return State(STALE, None, said)
        if all(each.manifest is not None for each in made):
            return State(DONE)
        return _unfinished(made)

    def of_all(self, plan: Plan) -> list[State]:
        """The states of all trials, in the order of the plan."""
        for name in {trial.config.pairs_name for trial in plan.trials}:
            self.pairs(name)
        for name in {t.config.audit_name for t in plan.trials if reads(t, "audit")}:
            self._artifact("audit", name)
        # A remote store answers many as soon as one.
        with ThreadPoolExecutor(1 if self._store.is_local else _AT_ONCE) as pool:
            return list(pool.map(self.of, plan.trials))

    def _made(self, step: Step) -> _Made:
        whole = whole_of(versions(self._store, step.folder, strict=False))
        torn = bool(whole) and not self._has_all_files(step.folder, whole)
        tokens = lease_tokens(self._store, step.folder, step.folder)
        data = read_lease(self._store, lease_path(step.folder, max(tokens))) if tokens else None
        holder = Holder.parse(data)
        half_written = data is not None and holder is None
        held = half_written or (holder is not None and not _is_gone(holder))
        return _Made(step, whole[0].manifest if whole else None, holder, held, torn)

    def _has_all_files(self, folder: str, whole: Sequence[Version]) -> bool:
        sizes = self._store.sizes(folder)
        return all(
            sizes.get(stored_path(version, entry)) == entry.size
            for version in whole
            for entry in version.manifest.files
        )

    def _stale(self, trial: Trial, made: Sequence[_Made]) -> str:
        """What was made otherwise than the config says, or from other inputs; empty when none."""
        there: dict[str, Manifest] = {}
        for step, manifest, _, _, torn in made:
            if torn:
                return f"a file of {step.folder} is gone or not whole"
            if manifest is None:
                continue
            if found := differences(manifest, step.config):
                return f"{step.mode} was made with other settings: {'; '.join(found[:3])}"
            if not step.shared or step.mode == "audit":
                there[step.mode] = manifest
        return self._other_settings(trial) or self._other_inputs(trial, there)

    def _other_inputs(self, trial: Trial, there: Mapping[str, Manifest]) -> str:
        """What was made from something else than is there now; empty when none."""
        now = {mode: manifest.digest for mode, manifest in there.items()}
        pairs = self.pairs(trial.config.pairs_name)
        if pairs is not None:
            now["pairs"] = pairs.digest
            now |= {f"file {r}": given.digest for r, given in pairs.manifest.inputs.items()}
        for mode, manifest in there.items():
            for role, given in manifest.inputs.items():
                key = f"file {role}" if given.kind == "file" else given.kind
                if now.get(key, given.digest) != given.digest:
                    return f"{mode} was made from other {role} than is there now"
        return ""

    def _other_settings(self, trial: Trial) -> str:
        """What the run's pairs and audit have otherwise than its config says; empty when none."""
        given = {"pairs": self.pairs(trial.config.pairs_name)}
        if reads(trial, "audit"):
            given["audit"] = self._artifact("audit", trial.config.audit_name)
        for kind, artifact in given.items():
            if artifact is None or not reads(trial, kind):
                continue
            if said := other_than_said(artifact.manifest, trial.run):
                return said
        return ""


def _is_gone(holder: Holder) -> bool:
    """Whether nobody seems to be at work; whoever starts asks the lease itself."""
    if holder.is_over:
        return True
    age = (datetime.now(UTC) - datetime.fromisoformat(holder.renewed)).total_seconds()
    return age > _QUIET * holder.seconds


def _unfinished(made: Sequence[_Made]) -> State:
    """How the last step that was begun ended."""
    begun = [each for each in made if each.holder is not None]
    if not begun:
        return State(MISSING, None, "not started")
    last, holder = begun[-1].step.mode, begun[-1].holder
    if holder is None or not holder.ended or holder.exit_code is None:
        return State(MISSING, None, f"{last} was cut off; it goes on when it is started again")
    if holder.exit_code == EXIT_DONE:
        return State(MISSING, None, f"stopped after {last}; it goes on when it is started again")
    said = f"{last}: {holder.said}"
    if holder.exit_code == EXIT_TRY_AGAIN:
        return State(MISSING, EXIT_TRY_AGAIN, f"{said}; it goes on when it is started again")
    if holder.exit_code == 128 + signal.SIGINT:
        said = f"{last} was interrupted; it goes on when it is started again"
        return State(MISSING, holder.exit_code, said)
    return State(FAILED, holder.exit_code, said)
