"""Triplets in the shape of the manuals project, as many as it has, for a run at its size.

    python -m benchmarks.manuals_set --triplets 4010 --out FOLDER

The sample in `examples/manuals` has 600; here its code makes more of them, from more machines,
parts and wordings (`benchmarks.manuals_words`), in the same six domains and in equal shares. No two
questions are alike and no two passages; many differ in a name alone, as in real manuals. The file
is the same every time. What is printed runs the pipeline on it.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from benchmarks.manuals_words import large_book
from codex_forge.errors import InputError
from examples.manuals.make_sample import cases_of, triplets, write

CONFIG = "configs/manuals.yaml"
FILE = "triplets.csv.gz"


def write_set(folder: Path, count: int) -> Path:
    """Write `count` triplets into a folder; returns the file.

    Raises:
        InputError: that many there are not, or too few for a negative each.
    """
    book = large_book()
    cases = cases_of(book)
    machines = len(next(iter(book.domains.values())).machines)
    least = 2 * machines * len(book.domains)  # two faults of each machine
    if not least <= count <= len(cases):
        raise InputError(f"between {least} and {len(cases)} triplets can be made, not {count}")
    rows = triplets(book, cases[:count])
    write(rows, folder / FILE)
    return folder / FILE


def overrides(file: Path, count: int) -> list[str]:
    """What is put behind the config's name on the command line."""
    return [f"name=manuals-{count}", f"pairs.data={json.dumps([{'files': str(file)}])}"]


def main() -> None:
    """Read the arguments, write, and say what to run."""
    parser = argparse.ArgumentParser(description="Write triplets of six domains of manuals.")
    parser.add_argument("--triplets", type=int, default=4010)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the file to")
    given = parser.parse_args()
    file = write_set(given.out, given.triplets)
    print(f"wrote {given.triplets} triplets to {file}; to run the pipeline on them:")
    told = shlex.join(overrides(file, given.triplets))
    print(f"for job in pairs audit train; do python -m jobs.$job {CONFIG} {told} || break; done")


if __name__ == "__main__":
    main()
