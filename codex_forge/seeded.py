"""Random choices that depend on the seed and on what is chosen, not on the order of the work."""

from __future__ import annotations

import hashlib
import random


def generator(seed: int, *parts: object) -> random.Random:
    """A generator of its own for one decision, named by `parts`."""
    text = "\x00".join(map(str, (seed, *parts)))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - not for secrets


def draw(seed: int, *parts: object) -> float:
    """A number in [0, 1) that depends on the seed and on `parts`."""
    return generator(seed, *parts).random()
