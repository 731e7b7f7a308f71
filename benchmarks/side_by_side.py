"""Two ways of doing the same work, run in turn; the median of the ratios is what counts."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable


def side_by_side(
    title: str, ours: Callable[[], object], theirs: Callable[[], object], repeats: int = 3
) -> float:
    """Run both in turn, `repeats` times each, and print times and the median ratio.

    Returns:
        Their time divided by ours: above 1 we are faster.
    """
    times: list[tuple[float, float]] = []
    for _ in range(repeats):
        pair = []
        for work in (ours, theirs):
            start = time.perf_counter()
            work()
            pair.append(time.perf_counter() - start)
        times.append((pair[0], pair[1]))
    ratio = statistics.median(theirs / ours for ours, theirs in times)
    ours_median = statistics.median(ours for ours, _ in times)
    theirs_median = statistics.median(theirs for _, theirs in times)
    print(f"{title}: ours {ours_median:.2f} s, theirs {theirs_median:.2f} s, ratio {ratio:.2f}")
    return ratio


def machine() -> str:
    """What the numbers were measured on."""
    return f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
