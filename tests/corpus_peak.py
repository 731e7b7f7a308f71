"""Reads the chunks of a file with `reject`; prints by how many bytes the process grew at most."""

from __future__ import annotations

import resource
import sys

from codex_forge.config.sections import CorpusConfig
from codex_forge.corpus import find_files, read_corpus


def main() -> None:
    """Read them, and every text and bad record once more."""
    before = _peak()
    config = CorpusConfig(chunks=(sys.argv[1],))
    corpus = read_corpus(find_files(config), "reject")
    length = sum(map(len, corpus.chunks.texts())) + sum(len(str(bad)) for bad in corpus.bad)
    length += sum(len(chunk.text) for chunk in corpus.chunks[::-1])
    if not length:
        raise SystemExit(1)
    sys.stdout.write(str(_peak() - before))


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
