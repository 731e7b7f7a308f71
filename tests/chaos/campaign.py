"""One artifact, made by a job that is killed up to three times and then left alone."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field

from codex_forge import upkeep
from tests.chaos.checks import Broken, left_over, work_of
from tests.chaos.draws import Point
from tests.chaos.ledger import Ledger
from tests.chaos.phases import phase_of
from tests.chaos.places import Place
from tests.chaos.processes import Process
from tests.chaos.world import RUN_SECONDS, World

EXIT_SECONDS = 60.0
"""A job that was asked to stop must have ended by then."""
_POLL_SECONDS = 0.02


@dataclass
class Kill:
    """What happened to one run that was sent a signal."""

    signal: str
    share: float
    aimed: bool
    at: float
    """Seconds after the start."""
    phase: str
    had_handler: bool
    exit_code: int | None = None
    seconds_to_exit: float = 0.0
    repeated: int | None = None
    """Steps or blocks that were done and had to be done again."""


@dataclass
class Campaign:
    """The story of one artifact."""

    place: str
    mode: str
    number: int
    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    late: bool = False
    """Whether a run was over before its signal came."""
    cut_off_writes: int = 0
    """Hidden `.part` files and unfinished uploads, which only `jobs gc` can know to be over."""
    failures: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """For people, and for `--campaign`."""
        return f"{self.place}/{self.mode}/{self.number}"


class Conductor:
    """Leads one campaign."""

    def __init__(self, world: World, place: Place, campaign: Campaign) -> None:
        """Prepare what the mode reads."""
        self._world, self._place, self._told = world, place, campaign
        self._mode = campaign.mode
        self._folder = world.path(self._mode)
        self._ledger = Ledger(self._mode)
        self._root = world.before(self._mode, place)
        self._before = work_of(self._root.store, self._folder)

    def run(self, points: list[Point]) -> None:
        """Kill at these points, then let the job finish; what is broken is noted."""
        try:
            if not any(self._run(point) for point in points) and not self._run(None):
                raise Broken("left alone, it did not finish")
            self._check_the_end()
        except Broken as broken:
            told = "\n".join(map(str, self._told.kills))
            self._told.failures.append(f"{self._told.label}: {broken}\nkills:\n{told}")
        finally:
            self._world.free(self._place, self._root)

    def _run(self, point: Point | None) -> bool:
        """One run; returns whether the artifact was finished in it."""
        self._before = work_of(self._root.store, self._folder)
        job = self._world.start(self._mode, self._root)
        self._told.runs += 1
        try:
            kill = None
            is_over = job.is_over_in(RUN_SECONDS) if point is None else self._wait(job, point)
            if point is not None and not is_over:
                kill = self._strike(job, point)
            self._told.late |= point is not None and kill is None
            self._check(job, kill)
            return job.result(0) == 0
        except Broken as broken:
            said = f"run {self._told.runs}: {broken}; it said:\n{job.said[-3000:]}"
            raise Broken(said) from broken
        finally:
            self._world.processes.end(job)

    def _wait(self, job: Process, point: Point) -> bool:
        """Wait for the moment; returns whether the job ended before."""
        timing = self._world.timings[self._place.name, self._mode]
        if not point.aimed:
            return job.is_over_in(point.share * timing.seconds)
        while not self._root.versions(self._folder) - self._before.versions:
            if job.is_over_in(_POLL_SECONDS) or job.age > RUN_SECONDS:
                return True
        return job.is_over_in(point.share * timing.publishing)

    def _strike(self, job: Process, point: Point) -> Kill | None:
        """Send the signal and wait for the end; None when the job had ended on its own."""
        now = work_of(self._root.store, self._folder)
        kill = Kill(
            signal=point.signal.name,
            share=round(point.share, 4),
            aimed=point.aimed,
            at=round(job.age, 3),
            phase=phase_of(self._mode, job.said, self._before, now),
            had_handler=job.catches(signal.SIGTERM),
        )
        if job.is_over_in(0):
            return None
        sent = time.monotonic()
        job.send(point.signal)
        kill.exit_code = job.result(EXIT_SECONDS)
        kill.seconds_to_exit = round(time.monotonic() - sent, 3)
        self._told.kills.append(kill)
        return kill

    def _check(self, job: Process, kill: Kill | None) -> None:
        """The exit code is one of those that may be, and nothing half is visible."""
        code, said = job.result(0), job.said
        if code is None:
            raise Broken("has not ended" + (f" {EXIT_SECONDS:.0f} s after the signal" * bool(kill)))
        if not _may_end(code, kill, said):
            raise Broken(f"exit code {code}")
        if "Traceback" in said:
            raise Broken("a traceback")
        if code >= 0 and (left := [path.name for path in job.temporary.glob("codex-forge-*")]):
            raise Broken(f"it left temporary files {left}")
        digest = self._world.visible(self._mode, self._root)
        if digest != self._world.digests[self._mode] and (digest or code == 0):
            raise Broken(f"exit code {code} and the digest {digest[:12] or 'of nothing'}")
        self._ledger.note(job, work_of(self._root.store, self._folder), kill)

    def _check_the_end(self) -> None:
        """Nothing but the artifact and its last lease is left, nor after a cleaning."""
        store = self._root.store
        left = left_over(store, self._folder)
        self._told.cut_off_writes = len(store.debris())
        for item in upkeep.garbage(store):
            store.delete(item.path)
        store.sweep(-1.0)
        after = [*left_over(store, self._folder), *(name for name, _ in store.debris())]
        digest = self._world.visible(self._mode, self._root)
        if digest != self._world.digests[self._mode]:
            raise Broken("cleaning has damaged the artifact")
        if after:
            raise Broken(f"even cleaning leaves {after}")
        if left:
            raise Broken(f"the finished artifact's folder still holds {left}")


def _may_end(code: int, kill: Kill | None, said: str) -> bool:
    if kill is None:
        return code == 0
    if code == -signal.SIGTERM:  # before Python could set a handler
        return kill.signal == "SIGTERM" and not kill.had_handler and not said
    return code in (0, 75 if kill.signal == "SIGTERM" else -signal.SIGKILL)
