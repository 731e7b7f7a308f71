"""A store that refuses, breaks off, hangs or goes away: wait, or end cleanly and go on later."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tests.chaos.report import finish, print_table
from tests.chaos.theatre import Case, Theatre, Trouble
from tests.servers.fault_proxy import Fault, FaultProxy

RATES = (0.05, 0.15, 0.30)
READ_TIMEOUT = 30.0
"""Seconds for which a job waits for an answer: with less patience, one hanging request is all."""


def cases(
    theatre: Theatre, modes: Sequence[str], seed: int, rounds: int, only: str = ""
) -> Iterator[Callable[[], Case]]:
    """Each case whose name and mode `only` finds, as a task; every weather `rounds` times."""
    plays = [
        *(
            _weather(theatre, mode, seed, n, rate)
            for n in range(rounds)
            for rate in RATES
            for mode in modes
        ),
        *(play for mode in ("train", "embed") for play in _in_the_middle(theatre, mode)),
        _wrong_from_the_start(theatre),
    ]
    for case, play in plays:
        if case.mode in modes and re.search(only, f"{case.name} {case.mode}"):
            yield play


Play = tuple[Case, Callable[[], Case]]


def _weather(theatre: Theatre, mode: str, seed: int, number: int, rate: float) -> Play:
    """Each request is disturbed with a probability, from the start."""
    case = Case(f"weather {rate:.0%}", mode, (0, 75))
    drawn = random.Random(f"{seed}/{number}/{rate}/{mode}").randrange(2**32)
    return case, lambda: theatre.weather(case, drawn, rate)


def _wrong_from_the_start(theatre: Theatre) -> Play:
    """A secret key that is not the server's."""
    case = Case("wrong secret key", "pairs", (2,))
    return case, lambda: theatre.wrong_from_the_start(case)


def _in_the_middle(theatre: Theatre, mode: str) -> Iterator[Play]:
    """Outages, hanging requests and refusals that begin in the middle of the work."""
    hangs = (0,) if theatre.patience > READ_TIMEOUT else (0, 75)
    yield _play(theatre, Case("short outage", mode, (0,)), _go_down, theatre.patience / 2)
    yield _play(theatre, Case("outage", mode, (75,)), _go_down)
    hang = Fault("hang")
    yield _play(theatre, Case("one request hangs", mode, hangs), _strike(hang, "PUT", times=1))
    yield _play(theatre, Case("all requests hang", mode, (75,)), _strike(hang))
    for name, status, code in (
        ("credentials refused", 403, "InvalidAccessKeyId"),
        ("credentials expired", 400, "ExpiredToken"),
    ):
        refusal = Fault("status", status=status, code=code)
        yield _play(theatre, Case(name, mode, (2,)), _strike(refusal))


def _play(theatre: Theatre, case: Case, trouble: Trouble, seconds: float | None = None) -> Play:
    return case, lambda: theatre.trouble(case, trouble, seconds)


def _go_down(proxy: FaultProxy) -> None:
    proxy.down = True


def _strike(fault: Fault, method: str | None = None, times: int | None = None) -> Trouble:
    return lambda proxy: proxy.inject(fault, method=method, times=times)


def report(found: Sequence[Case], settings: dict[str, Any]) -> int:
    """A table, `build/chaos/faults.json`, and the exit status."""
    head = ("trouble", "mode", "exit", "seconds", "after it began", "struck", "requests")
    rows = (
        (c.name, c.mode, c.exit_code, c.seconds, c.after_trouble or "-", c.struck, c.requests)
        for c in sorted(found, key=lambda c: (c.name, c.mode))
    )
    print()
    print_table(head, rows)
    numbers = {**settings, "cases": [asdict(case) for case in found]}
    return finish("faults", numbers, [case.failure for case in found if case.failure])
