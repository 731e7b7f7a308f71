"""The doors: `python -m jobs` lists them, `python -m jobs.<mode> --help` explains one."""

import os
import signal
import sys


def _stop_at_once(number: int, _frame: object) -> None:
    """Answer a signal that comes before there is anything to finish: exit code 75, try again."""
    os.write(2, f"error: stopped by {signal.Signals(number).name}; run again\n".encode())
    os._exit(75)


# While `python -m jobs.<mode>` looks for the mode, Python's `sys.argv[0]` is `-m`: this is a job of
# its own, not an import into another program, whose signals are none of ours.
if sys.argv[:1] == ["-m"]:
    for _number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(_number, _stop_at_once)
