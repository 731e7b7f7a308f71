"""`python -m tests.chaos`: see the package."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import tests.chaos
from tests.chaos import faults
from tests.chaos.crew import all_of
from tests.chaos.kills import Kills
from tests.chaos.kills import report as report_kills
from tests.chaos.places import Place, local_place, s3_place
from tests.chaos.processes import Processes
from tests.chaos.ranks import Ranks
from tests.chaos.ranks import report as report_ranks
from tests.chaos.theatre import Theatre
from tests.chaos.world import MODES, ORDER, Size, World
from tests.servers.s3 import make_bucket, s3_server

_ENDING = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    """Run the parts that are asked for; returns the exit status."""
    given = _parser().parse_args(arguments)
    for number in _ENDING:
        signal.signal(number, _end)
    parts = PARTS if given.part == "all" else (given.part,)
    try:
        return max([PARTS[part](given) for part in parts])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _end(_number: int, _frame: object) -> None:
    """Ctrl-C or SIGTERM: clean up, and let no second one break into that."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _kills(given: argparse.Namespace) -> int:
    size = Size(model=given.model)
    with _world(given, size) as (world, places):
        kills = Kills(world, places, given.modes, given.seed)
        if given.campaign:
            kills.repeat(given.campaign)
        else:
            kills.run(given.kills, given.workers)
        return report_kills(kills, _settings(given, world))


def _faults(given: argparse.Namespace) -> int:
    given = argparse.Namespace(**{**vars(given), "places": ("s3",)})
    with _world(given, Size(model=given.model)) as (world, places):
        theatre = Theatre(world, places[0], given.patience)
        plays = faults.cases(theatre, given.modes, given.seed, given.rounds, given.cases)
        found = all_of(plays, given.workers, world.processes)
        return faults.report(found, _settings(given, world))


def _ranks(given: argparse.Namespace) -> int:
    size = Size(model="cut-out", entities=60, steps=120, save_steps=25, pairs=320)
    with _world(given, size, ("pairs", "audit")) as (world, places):
        ranks = Ranks(world, places, given.seed)
        ranks.prepare()
        ranks.run(given.stops, 1)  # there are two ranks already
        return report_ranks(ranks, _settings(given, world))


@contextmanager
def _world(
    given: argparse.Namespace, size: Size, modes: Sequence[str] = ORDER
) -> Iterator[tuple[World, list[Place]]]:
    """The world, prepared in all places; it and all its processes are gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        processes = stack.enter_context(Processes())
        places = [_place(name, folder, stack) for name in given.places]
        world = World(folder, size, processes)
        print(f"undisturbed runs on {', '.join(given.places)}", flush=True)
        all_of([partial(world.prepare, p, modes) for p in places], given.workers, processes)
        yield world, places


def _place(name: str, folder: Path, stack: ExitStack) -> Place:
    if name == "local":
        return local_place(folder / "local")
    server = stack.enter_context(s3_server(folder / "s3"))
    os.environ.update(server.environment())  # the suite looks at the store itself, too
    return s3_place(server, make_bucket(server, "chaos"), folder / "s3")


def _settings(given: argparse.Namespace, world: World) -> dict[str, Any]:
    timings = {"/".join(key): value._asdict() for key, value in world.timings.items()}
    return {"arguments": vars(given), "size": asdict(world.size), "undisturbed": timings}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=tests.chaos.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=(*PARTS, "all"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=208, help="kill points (kills)")
    parser.add_argument("--stops", type=int, default=50, help="stops of two ranks (ranks)")
    parser.add_argument("--rounds", type=int, default=1, help="times every weather (faults)")
    parser.add_argument("--cases", default="", help="only those that this regex finds (faults)")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds (faults)")
    parser.add_argument("--modes", type=_list_of(MODES), default=MODES, metavar=",".join(MODES))
    parser.add_argument(
        "--places", type=_list_of(("local", "s3")), default=("local", "s3"), metavar="local,s3"
    )
    parser.add_argument("--campaign", default="", help="only this one, such as s3/train/3 (kills)")
    parser.add_argument("--workers", type=int, default=2, help="campaigns at a time")
    parser.add_argument("--model", choices=("minilm", "cut-out"), default="minilm")
    return parser


PARTS: dict[str, Callable[[argparse.Namespace], int]] = {
    "kills": _kills,
    "faults": _faults,
    "ranks": _ranks,
}


def _list_of(known: Sequence[str]) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: none of {', '.join(known)}")
        return tuple(text.split(","))

    return parse


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
