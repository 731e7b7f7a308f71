"""Kill a process at any of its changes to a store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from codex_forge.storage import Store

CHANGES = ("write", "create", "put", "delete")


def killed_at(change: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed before its nth change to a store.

    Returns whether it was killed; otherwise the work has fewer.
    """
    process = os.fork()
    if process == 0:
        try:
            _kill_at(change)
            work()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL), "the work itself failed"
    return code != 0


def _kill_at(change: int) -> None:
    done = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal done
            done += 1
            if done == change:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        return call

    for name in CHANGES:
        setattr(Store, name, counted(getattr(Store, name)))
