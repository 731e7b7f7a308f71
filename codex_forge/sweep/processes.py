"""Which of several processes of one training this is, as the launcher says; without torch."""

from __future__ import annotations

import os


def together() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this one does what only one may do."""
    return together() == 1 or os.environ.get("RANK", "0") == "0"
