"""Errors that know their exit code, and say what is wrong, where, and what to do next.

Exit codes speak to the scheduler (see docs/exit-codes.md): a job that ends with 2 or 3 is never
retried, one that ends with 75 (``EX_TEMPFAIL`` of sysexits.h) is started again.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_CHANGE_SOMETHING = 2
EXIT_GATE_NOT_MET = 3
EXIT_TRY_AGAIN = 75

EXIT_CODES: dict[int, str] = {
    EXIT_DONE: "done, or already done",
    EXIT_CHANGE_SOMETHING: "you must change something (config, input, credentials)",
    EXIT_GATE_NOT_MET: "a gate was not met (audit failed, tier not reached)",
    EXIT_TRY_AGAIN: "try again (preempted, storage or disk not available now)",
    EXIT_BUG: "a bug in codex-forge, with a traceback",
}


class ForgeError(Exception):
    """What is wrong, where it is (file, line, key) and what to do next, in one printable line."""

    exit_code = EXIT_BUG

    def __init__(self, what: str, *, where: object = "", do: str = "") -> None:
        """`what` is wrong, `where` it is, and what to `do` about it."""
        self.what, self.where, self.do = what, str(where), do
        message = f"{where}: {what}" if self.where else what
        between = "" if message.endswith("\n") else "; "
        super().__init__(f"{message}{between}{do}" if do else message)


class ConfigError(ForgeError):
    """The config cannot be used as it stands."""

    exit_code = EXIT_CHANGE_SOMETHING


class InputError(ForgeError):
    """A file, record or artifact that the job reads is missing or malformed."""

    exit_code = EXIT_CHANGE_SOMETHING


class NotFound(InputError):
    """It is not there; unlike one that may not be read, which is there."""


class NotMade(InputError):
    """An artifact that another job makes is not there, or not all of it."""


class Damaged(InputError):
    """It is there, and not what was written."""


class GateNotMet(ForgeError):
    """The work is done and kept; its result does not pass the configured gate."""

    exit_code = EXIT_GATE_NOT_MET


class TryAgain(ForgeError):
    """Nothing is wrong with the job; the world (storage, disk, node) does not allow it now."""

    exit_code = EXIT_TRY_AGAIN


class Held(TryAgain):
    """Another process is making it; when that is done, or gone, the next attempt finds it."""


class StorageDown(TryAgain):
    """The storage does not answer, or not with what was asked; another attempt may find it up."""


class Preempted(BaseException):
    """The scheduler asked the process to stop. No `except Exception` on the way may hold it up."""

    exit_code = EXIT_TRY_AGAIN


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` may be a slip of; None when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return near[0] if near else None
