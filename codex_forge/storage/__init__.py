"""Storage: one `Store` for local folders and `s3://`, and inputs from anywhere fsspec reads.

Every object appears whole or not at all. What can heal is tried again with growing pauses; what
cannot becomes an error that names the URL and the cure.
"""

from codex_forge.storage.faults import faults
from codex_forge.storage.files import expand, filesystem, hash_of, open_text
from codex_forge.storage.store import Store

__all__ = ["Store", "expand", "faults", "filesystem", "hash_of", "open_text"]
