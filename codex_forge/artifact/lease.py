"""The right to write one slot of an artifact: one holder at a time, and a token that grows.

Each holder creates the lease object of the next token, which only one can (Gray and Cheriton, 1989,
on leases; the token is the fencing token of Kleppmann, 2016). It renews its own object and touches
nobody else's. Others take over when the holder has let go, when its process is known to be gone, or
when they watched it by their own clock for as long as the lease lasts and it was not renewed: no
two clocks are compared.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from codex_forge.artifact.places import place_of
from codex_forge.errors import ForgeError, Held, NotFound
from codex_forge.stopping import stop
from codex_forge.storage import Store
from codex_forge.storage.faults import seconds_from

log = logging.getLogger("codex_forge")

LEASE_VARIABLE = "CODEX_FORGE_LEASE_SECONDS"
"""Seconds after which a lease that is not renewed may be taken over."""

_SECONDS = 60.0
_RENEWALS = 4
_LONG_GONE = 20
"""Lease times after which what its holder left may be tidied away."""


@dataclass(frozen=True)
class Holder:
    """Who holds, or held, a lease: the contents of a lease object."""

    owner: str
    """Random; tells holders apart."""
    host: str
    process: int
    process_start: str
    """Tells a process from a later one of the same number."""
    machine: str
    """Boot id and process namespace: where a process number can be looked up."""
    job: str
    """The scheduler's name of the job, with the index of an array task."""
    restarts: int
    """How often the scheduler has started that job again."""
    since: str
    renewed: str
    seconds: float
    """How long the lease lasts without being renewed."""
    renewals: int = 0
    ended: bool = False
    exit_code: int | None = None
    said: str = ""

    def __str__(self) -> str:
        job = f", {self.job}" if self.job else ""
        return f"process {self.process} on {self.host}{job}, since {self.since}"

    @classmethod
    def this_process(cls) -> Holder:
        """This process as a holder."""
        now = _now()
        return cls(
            owner=secrets.token_hex(4),
            host=socket.gethostname(),
            process=os.getpid(),
            process_start=_start_of(os.getpid()),
            machine=_machine(),
            job=_job(),
            restarts=_number(os.environ.get("SLURM_RESTART_COUNT", "")),
            since=now,
            renewed=now,
            seconds=seconds_from(LEASE_VARIABLE, _SECONDS, least=0.1),
        )

    @classmethod
    def parse(cls, data: bytes | None) -> Holder | None:
        """What a lease object says; None when it is gone or cannot be read (half written)."""
        if data is None:
            return None
        try:
            found = cls(**json.loads(data))
            _ = datetime.fromisoformat(found.renewed)
        except (ValueError, TypeError):
            return None
        return found

    def is_gone(self, other: Holder) -> bool:
        """Whether `other` can tell that this holder will not write again, or is superseded.

        A job that the scheduler has restarted supersedes its earlier run, which may still write
        if its node was cut off: its token is lower, so it disturbs nobody.
        """
        if self.ended:
            return True
        if self.machine and self.machine == other.machine:
            return not _is_alive(self.process, self.process_start)
        return bool(self.job) and self.job == other.job and self.restarts < other.restarts

    @property
    def is_long_over(self) -> bool:
        """Whether its lease seems to be over many times; clocks differ, so only for tidying."""
        age = (datetime.now(UTC) - datetime.fromisoformat(self.renewed)).total_seconds()
        return age > _LONG_GONE * self.seconds

    @property
    def is_over(self) -> bool:
        """Whether it has let go of its slot, as far as can be told without watching."""
        return self.is_gone(Holder.this_process()) or self.is_long_over


class Lease:
    """A lease that this process holds; renewed in the background until it is released."""

    def __init__(self, store: Store, folder: str, slot: str, token: int, holder: Holder) -> None:
        """Use `acquire`."""
        self.token = token
        self._store, self._folder, self._slot, self._holder = store, folder, slot, holder
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def version(self) -> str:
        """Name of the folder that is this writer's alone.

        On a folder the token is unique; on a remote store, whose conditions may not hold what they
        promise, the owner makes it so.
        """
        return f"v{self.token}" if self._store.is_local else f"v{self.token}-{self._holder.owner}"

    @property
    def path(self) -> str:
        """Path of the lease object."""
        return lease_path(self._slot, self.token)

    def check(self) -> None:
        """Make sure that nobody has taken over.

        Raises:
            Held: somebody has; says who.
        """
        tokens = lease_tokens(self._store, self._folder, self._slot)
        newest = max(tokens, default=0)
        if newest != self.token:
            raise self._lost(newest)
        data = read_lease(self._store, self.path)
        found = Holder.parse(data)
        if data is None or (found is not None and found.owner != self._holder.owner):
            raise self._lost(self.token)

    def release(self, exit_code: int, said: str = "") -> None:
        """Let go, and leave word of how it ended; a storage that does not answer is no matter.

        May be called again when the job ends otherwise than its work, at a gate for example.
        """
        with self._lock, suppress(ForgeError):
            again = self._ended.is_set()
            self._ended.set()
            if again and self._holder.exit_code == exit_code:
                return
            if again and not self._store.hasty().exists(self.path):
                return
            self._holder = replace(
                self._holder, ended=True, exit_code=exit_code, said=said, renewed=_now()
            )
            self._write(self._holder)

    def abandon(self) -> None:
        """Let go of a lease under which nothing was written, and leave no word."""
        if not self._ended.is_set():
            self._ended.set()
            with self._lock, suppress(ForgeError):
                self._store.hasty().delete(self.path)

    def _lost(self, token: int) -> Held:
        holder = None
        with suppress(ForgeError):
            holder = Holder.parse(self._store.read(lease_path(self._slot, token)))
        return Held(
            f"another process has taken over: {holder or 'unknown'}",
            where=self._store.url(self._slot),
            do="the next run finds what that one made",
        )

    def _renew(self) -> None:
        pause = self._holder.seconds / _RENEWALS
        while not self._ended.wait(pause):
            with self._lock, suppress(ForgeError):
                if not self._ended.is_set():
                    now = replace(self._holder, renewed=_now(), renewals=self._holder.renewals + 1)
                    self._write(now)
                    self._holder = now

    def _write(self, holder: Holder) -> None:
        self._store.hasty().write(self.path, encode(holder))


def acquire(store: Store, folder: str, slot: str) -> Lease:
    """Become the writer of a slot of the artifact at `folder`.

    Raises:
        Held: another process holds it, and is alive; says who and since when.
    """
    watch = _Watch()
    while True:
        tokens = lease_tokens(store, folder, slot)
        last = max(tokens, default=0)
        me = Holder.this_process()
        data = read_lease(store, lease_path(slot, last)) if last else None
        if data is not None:
            holder = Holder.parse(data)
            if not (holder is not None and holder.is_gone(me)) and not watch.is_stale(data, holder):
                if watch.is_alive:
                    raise Held(
                        f"is being made by {holder or 'another process'}",
                        where=store.url(slot),
                        do="wait until that is done; when its process is gone, run again",
                    )
                time.sleep(watch.pause)
                continue
            if holder is not None and not holder.ended:
                log.info("  taking over from %s", holder)
        token = max([last, *_version_tokens(store, folder, slot)]) + 1
        # A version that came meanwhile has a lease that was not looked at: then from the start.
        newest = max(lease_tokens(store, folder, slot), default=0)
        if newest <= last and store.create(lease_path(slot, token), encode(me)):
            return Lease(store, folder, slot, token, me)
        watch = _Watch()


def is_free(store: Store, folder: str, slot: str) -> bool:
    """Whether a slot has no writer, as far as can be told without watching."""
    tokens = lease_tokens(store, folder, slot)
    data = read_lease(store, lease_path(slot, max(tokens))) if tokens else None
    if data is None:
        return True
    holder = Holder.parse(data)
    return holder is not None and holder.is_over  # one that cannot be read is half written


class _Watch:
    """One lease object, watched by this process's own clock."""

    def __init__(self) -> None:
        self._first: bytes | None = None
        self._since = time.monotonic()
        self._seconds = _SECONDS
        self.is_alive = False

    def is_stale(self, data: bytes, holder: Holder | None) -> bool:
        """Whether it has stayed the same for as long as the lease lasts."""
        if self._first is None:
            self._first, self._since = data, time.monotonic()
            self._seconds = holder.seconds if holder else _SECONDS
            if holder:
                log.info("  held by %s; watching whether it is alive", holder)
        self.is_alive = data != self._first
        stop.demand()
        return not self.is_alive and time.monotonic() - self._since > self._seconds

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return max(0.05, min(2.0, self._seconds / 20))


def lease_path(slot: str, token: int) -> str:
    """Path of the lease object of a token."""
    return f"{slot}/leases/{token:06d}.json"


def lease_tokens(store: Store, folder: str, slot: str) -> list[int]:
    """Tokens of the lease objects of a slot."""
    places = (place_of(folder, path) for path in store.list(f"{slot}/leases"))
    return [place.token for place in places if place and not place.version and place.token]


def encode(holder: Holder) -> bytes:
    """A lease object's bytes."""
    return json.dumps(asdict(holder), indent=1, sort_keys=True).encode()


def _version_tokens(store: Store, folder: str, slot: str) -> list[int]:
    """Tokens of the versions of a slot, whose leases may have been removed."""
    places = (place_of(folder, path) for path in store.list(slot))
    return [place.token for place in places if place and place.slot == slot and place.version]


def read_lease(store: Store, path: str) -> bytes | None:
    """The lease object, or None when its holder's successor has removed it meanwhile."""
    try:
        return store.read(path)
    except NotFound:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _job() -> str:
    """What the scheduler calls this job."""
    env = os.environ
    if number := env.get("SLURM_JOB_ID"):
        array = env.get("SLURM_ARRAY_JOB_ID")
        return (
            f"Slurm job {array}_{env.get('SLURM_ARRAY_TASK_ID')}"
            if array
            else (f"Slurm job {number}")
        )
    return f"pod {socket.gethostname()}" if "KUBERNETES_SERVICE_HOST" in env else ""


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _machine() -> str:
    """Boot id and process namespace of this process; empty where there are none (not Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_alive(process: int, start: str) -> bool:
    """Whether a process of this machine still runs; one that cannot be looked at does."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return _start_of(process) in ("?", start)


def _start_of(process: int) -> str:
    """When a process of this machine started, in clock ticks since boot.

    Empty when it is over and waits to be collected, `?` when that cannot be seen.
    """
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "?"
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]
