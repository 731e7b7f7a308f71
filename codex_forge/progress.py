"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere.

Every item is also a place where a job that was asked to stop stops for certain.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

from codex_forge.stopping import stop

log = logging.getLogger("codex_forge")

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 10.0


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield from `items` while showing how far it is and how fast it goes.

    Args:
        items: the work.
        what: a word for the items, for example `chunks embedded`.
        total: how many there are; taken from `len(items)` when it has one.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        shown: Iterable[T] = tqdm(items, desc=what, total=total, leave=False, dynamic_ncols=True)
    else:
        shown = _lines(items, what, total)
    for item in shown:
        stop.check()
        yield item


def _lines(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            of = f" of {total:,} ({100 * done / total:.0f} %)" if total else ""
            log.info("  %s: %s%s, %.1f/s", what, f"{done:,}", of, done / (now - start))
