"""The folder that outlives a job, where there is one: CODEX_FORGE_CACHE; else one of this process.

The latter is removed when the process ends, or by the next job when it was killed.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

CACHE_VARIABLE = "CODEX_FORGE_CACHE"


def lasting_folder(name: str) -> Path:
    """The folder of this name below CODEX_FORGE_CACHE, or below one that ends with the process."""
    given = os.environ.get(CACHE_VARIABLE)
    return (Path(given).expanduser() if given else _own(os.getpid())[0]) / name


@cache
def _own(process: int) -> tuple[Path, IO[bytes]]:
    """A folder of this process, and the open file whose lock says that it lives.

    Jobs remove the folders `codex-forge-*` of a machine whose file `.in-use` nobody has locked.
    """
    folder = Path(tempfile.mkdtemp(prefix="codex-forge-models-"))
    handle = (folder / ".in-use-").open("wb")
    fcntl.flock(handle, fcntl.LOCK_EX)
    (folder / ".in-use-").rename(folder / ".in-use")
    atexit.register(_remove, process, folder)
    return folder, handle


def _remove(process: int, folder: Path) -> None:
    if os.getpid() == process:  # not in a child that was forked
        shutil.rmtree(folder, ignore_errors=True)
