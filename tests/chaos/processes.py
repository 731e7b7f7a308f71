"""Jobs in processes of their own: started, watched, signalled, and ended whatever happens."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.conftest import ROOT

MARK = "CODEX_FORGE_CHAOS_FOLDER"
"""Every process of the suite, and what it starts in turn, has it in its environment."""


class Interrupted(Exception):
    """The suite is being ended: no process is started any more."""


class Process:
    """`python -m ...` with its stderr in a file and a temporary folder of its own."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        """Start it; `folder` must be new."""
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._stderr = folder / "stderr.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        with self._stderr.open("wb") as stderr:
            self._popen = subprocess.Popen(
                [*_dying_with_us(), sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={**inherited, **env, "TMPDIR": str(self.temporary), MARK: str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C is for the suite alone
            )
        self._handle = os.pidfd_open(self._popen.pid)
        self.folder = folder
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    def catches(self, number: signal.Signals) -> bool:
        """Whether it has a handler for the signal at this moment."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone."""
        self._popen.send_signal(number)

    def is_over_in(self, seconds: float) -> bool:
        """Wait so long at most; returns whether it has ended."""
        ready = select.select([self._handle], [], [], max(0.0, seconds))[0]
        return bool(ready)

    def result(self, seconds: float) -> int | None:
        """Its exit code; None when it has not ended after so many seconds."""
        return self._popen.wait() if self.is_over_in(seconds) else None

    def family(self) -> list[int]:
        """Living processes that it or its children started, itself included."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_ours = mark in (entry / "environ").read_bytes().split(b"\0")
                if is_ours and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(int(entry.name))
        return sorted(found)

    def end(self) -> None:
        """Kill what is left of it and of its children."""
        for pid in self.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Processes:
    """All processes of a part of the suite; none outlives the block."""

    def __init__(self) -> None:
        """None yet."""
        self._running: set[Process] = set()
        self._lock = threading.Lock()
        self.is_closed = False
        """Whether the suite is being ended."""

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, arguments: Sequence[str], env: Mapping[str, str], folder: Path) -> Process:
        """Start `python -m ...`.

        Raises:
            Interrupted: the suite is being ended.
        """
        with self._lock:
            if self.is_closed:
                raise Interrupted
            process = Process(arguments, env, folder)
            self._running.add(process)
        return process

    def end(self, process: Process) -> None:
        """Make sure that it and its children are gone."""
        process.end()
        with self._lock:
            self._running.discard(process)

    def close(self) -> None:
        """End all that run, and start no more."""
        with self._lock:
            self.is_closed = True
            running, self._running = self._running, set()
        for process in running:
            with suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)


def _dying_with_us() -> list[str]:
    """What makes the kernel end a command when the suite itself is killed outright."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
