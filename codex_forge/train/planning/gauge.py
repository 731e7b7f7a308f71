"""How much memory a device has, and how much of it this process takes."""

from __future__ import annotations

import os
import re
import resource
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Gauge:
    """Bytes: allocated on a GPU, or resident on the machine."""

    def __init__(self, device: torch.device) -> None:
        """Look at what is taken now, and forget earlier peaks."""
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.base = int(torch.cuda.memory_allocated(device))
        else:
            with suppress(OSError):  # no Linux, or not allowed: then the peak is the process's
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.base = _status("VmRSS") or _highest()
        """Taken when this began."""

    @property
    def peak(self) -> int:
        """The most that was taken since."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return _status("VmHWM") or _highest()


def memory_of(device: torch.device) -> int:
    """Bytes that the device has, or that this container may take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # not there, or `max`
            found.append(int(path.read_text(encoding="ascii")))
    return min(found)


def _status(name: str) -> int:
    """A line of this process's status, in bytes; 0 when there is none."""
    if not _STATUS.is_file():
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
