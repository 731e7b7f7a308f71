"""Several campaigns at a time, ended together when one of them, or the user, ends the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from tests.chaos.processes import Processes

T = TypeVar("T")


def all_of(tasks: Iterable[Callable[[], T]], workers: int, processes: Processes) -> list[T]:
    """Do all tasks, so many at a time; tasks are asked for as workers become free.

    The first error, or Ctrl-C, kills the processes of all others.
    """
    found: list[T] = []
    pending: set[Future[T]] = set()
    waiting = iter(tasks)
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            while len(pending) < workers and (task := next(waiting, None)) is not None:
                pending.add(pool.submit(task))
            if not pending:
                return found
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            found.extend(future.result() for future in done)
    except BaseException:
        processes.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
