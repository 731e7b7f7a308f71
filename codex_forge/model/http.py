"""What all models behind HTTP have in common: keys, and when to ask again."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from codex_forge.errors import ConfigError

_HEALS = {408, 409, 425, 429}


def heals(status: int) -> bool:
    """Whether another attempt may not meet this HTTP status again."""
    return status in _HEALS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def bearer(variable: str) -> dict[str, str]:
    """The header with the key that an environment variable holds; none when it holds none.

    Raises:
        ConfigError: what it holds can be no key.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return {}  # servers of one's own often want none
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError("holds signs that no key has", where=variable, do="set it anew")
    return {"Authorization": f"Bearer {key}"}


def without_key(text: str, headers: dict[str, str], most: int = 200) -> str:
    """The beginning of a server's words, on one line and without the key."""
    shown = " ".join(text.split())
    key = headers.get("Authorization", "").removeprefix("Bearer ")
    shown = (shown.replace(key, "...") if key else shown)[:most]
    return "".join(sign if sign.isprintable() else "?" for sign in shown)


def retry_after(text: str) -> float:
    """Seconds that the header asks to wait: a number or a date; 0 when it is neither."""
    if text.strip().isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
