"""Errors of disks, networks and S3 as ours: what, which URL, what to do; and trying again."""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from codex_forge.errors import ConfigError, ForgeError, InputError, NotFound, StorageDown, TryAgain
from codex_forge.stopping import stop

log = logging.getLogger("codex_forge")

T = TypeVar("T")

PATIENCE_VARIABLE = "CODEX_FORGE_STORE_PATIENCE"
"""Seconds for which an operation is tried again while the storage does not answer."""

_PATIENCE = 60.0
_PATIENCE_WHEN_STOPPED = 5.0
_LONGEST_PAUSE = 10.0

_HEALS = {408, 409, 425, 429}
"""HTTP statuses below 500 that another attempt may not meet again."""

_HEALING_CODES = {"BadDigest", "IncompleteBody", "NoSuchUpload", "RequestTimeout"}
"""S3 codes of a request that was cut off on its way, or of an upload that is gone."""

_DOWN = "check AWS_ENDPOINT_URL, or run again"
_PERMISSIONS = "check the folder's permissions, and who you are"
_CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"


def seconds_from(variable: str, default: float, least: float = 0.0) -> float:
    """A number of seconds that the environment may set.

    Raises:
        ConfigError: it is no number, or below `least`.
    """
    text = os.environ.get(variable, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = math.nan
    if not seconds >= least or math.isinf(seconds):
        raise ConfigError(
            f"{text!r} is no number of seconds", where=variable, do=f"give {least:g} or more"
        )
    return seconds


def patiently(action: Callable[[], T], url: str, patience: float | None = None) -> T:
    """Do it, again and again with growing random pauses while the storage does not answer.

    Args:
        action: what may be done twice without harm.
        url: named in errors and in the log.
        patience: seconds; the environment's, or 60, when not given. After a signal to stop, few.

    Raises:
        StorageDown: it still does not answer.
        ForgeError: it answered with what no second attempt heals.
    """
    most = seconds_from(PATIENCE_VARIABLE, _PATIENCE) if patience is None else patience

    def enough(state: RetryCallState) -> bool:
        waited = state.seconds_since_start or 0.0
        # A single attempt that hangs may take longer than the patience: one more is always due.
        tired = waited >= most and (most == 0 or state.attempt_number > 1)
        return tired or stop.seconds_ago > _PATIENCE_WHEN_STOPPED

    def attempt() -> T:
        with faults(url):
            return action()

    retrying = Retrying(
        retry=retry_if_exception_type(StorageDown),
        wait=wait_random_exponential(multiplier=0.25, max=_LONGEST_PAUSE),
        stop=enough,
        before_sleep=_say,
        reraise=True,
    )
    return retrying(attempt)


def _say(state: RetryCallState) -> None:
    if state.outcome is not None and state.attempt_number > 1:
        log.warning("  %s; trying again", getattr(state.outcome.exception(), "what", "no answer"))


@contextmanager
def faults(url: str) -> Iterator[None]:
    """Turn errors of disks, networks and S3 into ours: what, which URL, what to do."""
    try:
        yield
    except ForgeError:
        raise
    except FileNotFoundError as error:
        if heals(error):
            raise _of_os(error, url) from error
        raise NotFound("not found", where=url, do="check the path, and the bucket") from error
    except OSError as error:
        raise _of_os(error, url) from error
    except Exception as error:
        known = _of_botocore(error, url)
        if known is None:
            raise
        raise known from error


def _of_os(error: OSError, url: str) -> ForgeError:
    code = _code(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TryAgain("no space left", where=url, do="free disk space and run again")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        why = "(read-only file system)" if error.errno == errno.EROFS else code
        do = _CREDENTIALS if "://" in url else _PERMISSIONS
        return InputError(f"access refused {why}".strip(), where=url, do=do)
    if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
        return InputError(f"not usable as a store ({error.strerror})", where=url)
    if _is_final(error):
        return InputError(f"refused by the storage ({code}: {error})", where=url, do="see the URL")
    if isinstance(error, TimeoutError):
        return StorageDown("storage did not answer in time", where=url, do=_DOWN)
    return StorageDown(f"storage failed ({error})", where=url, do="run again when it answers")


def status_of(error: OSError) -> int:
    """The HTTP status that an error of S3 came with; 0 when it came with none."""
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _response(error: OSError) -> Mapping[str, Any]:
    """What S3 answered, when it is S3 that refused."""
    return getattr(error.__cause__, "response", None) or {}


def _code(error: OSError) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def heals(error: OSError) -> bool:
    """Whether S3 named a cause that another attempt may not meet again."""
    return _code(error) in _HEALING_CODES


def _is_final(error: OSError) -> bool:
    """Whether the storage said that this request is wrong, and will be wrong again."""
    if heals(error):
        return False
    status = status_of(error)
    return 400 <= status < 500 and status not in _HEALS  # noqa: PLR2004


def _of_botocore(error: Exception, url: str) -> ForgeError | None:
    """Errors that botocore raises before any answer came; None for what is not its."""
    if not type(error).__module__.startswith(("botocore", "aiobotocore", "aiohttp", "fsspec")):
        return None
    name = type(error).__name__
    if "Credentials" in name or "Token" in name:
        return InputError(
            "no credentials",
            where=url,
            do="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod a role",
        )
    if "ParamValidation" in name or "InvalidBucket" in str(error):
        return InputError(f"not a usable S3 URL ({error})", where=url)
    return StorageDown(
        f"storage does not answer ({error or name})",
        where=url,
        do=_DOWN,
    )
