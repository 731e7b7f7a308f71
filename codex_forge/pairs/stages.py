"""How long each stage of making pairs took, as a line of the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("codex_forge")


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Log `what` and its seconds when the stage is done; nothing when it fails."""
    start = time.monotonic()
    yield
    log.info("  %s: %.1f s", what, time.monotonic() - start)
