"""What it means when a database fails: is it away, does it refuse, or is something not there."""

from __future__ import annotations

from http import HTTPStatus

import httpx

from codex_forge.errors import ForgeError, InputError, NotFound, StorageDown

TOKEN_VARIABLE = "CODEX_FORGE_CHROMA_TOKEN"  # noqa: S105 - its name
"""The environment variable that holds a server's token, if it wants one."""

_HEALS = {408, 425, 429, 500, 502, 503, 504}
_SHOWN = 300


def judged(error: Exception, place: str, do: str) -> ForgeError | None:
    """The error as ours, with what to `do` when the database is away; None for another's error."""
    status = _status_of(error)
    said = " ".join(str(error).split())[:_SHOWN] or type(error).__name__
    if isinstance(error, httpx.TransportError) or "Could not connect" in said:
        return StorageDown(f"ChromaDB does not answer ({said})", where=place, do=do)
    if isinstance(error, httpx.InvalidURL):
        return InputError(f"is no usable URL ({said})", where=place)
    if status is None:
        return None
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return InputError(
            f"ChromaDB refuses access (HTTP {status})",
            where=place,
            do=f"set the token in {TOKEN_VARIABLE}",
        )
    if status in _HEALS:
        return StorageDown(f"ChromaDB failed ({said})", where=place, do=do)
    kind = NotFound if status == HTTPStatus.NOT_FOUND else InputError
    return kind(f"refused by ChromaDB ({said})", where=place, do="see embed.chroma")


def _status_of(error: BaseException) -> int | None:
    """The HTTP status that an error stands for; None when it is no answer of the database."""
    from chromadb.errors import ChromaError

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code
    if isinstance(error, ChromaError):
        return int(error.code())
    cause = error.__context__  # the client turns what it cannot read into a bare Exception
    return _status_of(cause) if isinstance(cause, httpx.HTTPStatusError | ChromaError) else None
