"""Making pairs: how time and memory grow with the corpus, and against the usual way.

    python -m benchmarks.pairs                                   # about a minute
    python -m benchmarks.pairs --chunks 10000 100000 1000000     # needs 5 GB of disk
    python -m benchmarks.pairs --chunks 100000 --shards          # one of two shards
    python -m benchmarks.pairs --library 2000                    # against mine_hard_negatives

Each size is a whole run of `python -m jobs.pairs` in a process of its own, over a corpus of
`benchmarks.pairs_corpus`, with the default config. Memory is the process's peak.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.pairs_corpus import write_corpus
from benchmarks.pairs_library import beside_the_library
from benchmarks.side_by_side import machine

STAGES = (
    "corpus read", "queries made", "topics matched", "questions divided", "queries checked",
    "words indexed", "negatives mined",
)  # fmt: skip
_COLUMNS = ("read", "made", "matched", "divided", "checked", "indexed", "mined", "other")
_ROOT = Path(__file__).resolve().parent.parent


class Ran(NamedTuple):
    """One run of the door."""

    chunks: int
    pairs: int
    seconds: float
    peak: float
    """GiB of resident memory at most."""
    stages: dict[str, float]
    """Seconds of each."""


def run_door(config: Path, chunks: int, shards: int = 1) -> Ran:
    """Run the door as a process, and wait for it.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "jobs.pairs", str(config), "--force"]
    command += ["--shards", str(shards)] if shards > 1 else []
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "JOB_COMPLETION_INDEX": "0"}
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        child = subprocess.Popen(command, cwd=_ROOT, env=environment, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = log.read().decode()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{said[-3000:]}")
    stages = {name: sum(map(float, re.findall(rf"  {name}: ([0-9.]+) s", said))) for name in STAGES}
    pairs = re.search(r"pairs_train: (\d+)", said)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * unit / 2**30
    return Ran(chunks, int(pairs[1]) if pairs else 0, seconds, peak, stages)


def growth(runs: Sequence[Ran]) -> float:
    """The slope of log seconds over log chunks, by least squares: 1 is linear."""
    xs = [math.log(run.chunks) for run in runs]
    ys = [math.log(run.seconds) for run in runs]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((value - x) ** 2 for value in xs)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / spread


def measure(sizes: Sequence[int], shards: bool) -> None:
    """Print a table of all sizes."""
    columns = "".join(f"{name:>9}" for name in _COLUMNS)
    print(f"{'chunks':>10} {'shards':>6} {'pairs':>8} {'seconds':>8} {'GiB':>6} {columns}")
    runs = []
    for chunks in sizes:
        with tempfile.TemporaryDirectory() as folder:
            config = write_corpus(Path(folder), chunks).config
            runs.append(run_door(config, chunks))
            _show(runs[-1], 1)
            if shards:
                _show(run_door(config, chunks, shards=2), 2)
    if len(sizes) > 1:
        print(f"seconds grow as chunks to the power of {growth(runs):.2f}")


def _show(ran: Ran, shards: int) -> None:
    other = ran.seconds - sum(ran.stages.values())
    told = "".join(f"{seconds:9.1f}" for seconds in (*ran.stages.values(), other))
    print(
        f"{ran.chunks:>10,} {f'1/{shards}':>6} {ran.pairs:>8,} {ran.seconds:8.1f} {ran.peak:6.2f} "
        f"{told}",
        flush=True,
    )


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, nargs="*", default=[10_000, 30_000])
    parser.add_argument("--shards", action="store_true", help="also time one of two shards")
    parser.add_argument("--library", type=int, default=0, help="queries to mine with a model too")
    given = parser.parse_args()
    print(machine())
    if given.library:
        beside_the_library(given.library)
    else:
        measure(given.chunks, given.shards)


if __name__ == "__main__":
    main()
