"""Try many settings: each trial trained, embedded and scored on dev questions, the best one chosen.

    python -m jobs.sweep configs/sweep.yaml --plan              # the trials, and how many
    python -m jobs.sweep configs/sweep.yaml                     # all that are not done, in turn
    JOB_COMPLETION_INDEX=3 python -m jobs.sweep configs/sweep.yaml --shards 27    # only number 3
    python -m jobs.sweep configs/sweep.yaml --missing           # which are to be started: 0,3,5-7
    python -m jobs.sweep configs/sweep.yaml --collect           # the leaderboard, and the winner

reads   <store>/pairs/<name>/, <store>/audit/<name>/, <store>/compare/<name>/, `model.base`, the
        chunks and indexes of `corpus`
writes  <store>/train/<trial>/, <store>/embed/<trial>/, <store>/evaluate/<trial>-dev/; a trial is
        called <name>-<what it has otherwise>
        with --collect also <store>/evaluate/<winner>/ on test questions, once no trial is missing,
        and <store>/sweep/<name>/
          leaderboard.json, leaderboard.md, leaderboard.html    a row a trial, and the choice
          plan.json                                             the trials as --plan --json tells

Trials come from `sweep.grid` (every combination) and `sweep.trials` (a list). They start once
compare/<name>/ is there and passes `sweep.gate`; else this exits 3. What is done stays done, also
when trials are added, and a trial that was stopped goes on. --no-gate starts without that gate.
--force makes anew what was made with other settings than now, or is damaged; it never throws away
what is done, nor what another run has made.
"""

import argparse
import os
import signal
import sys
from dataclasses import dataclass, replace

from codex_forge.errors import ConfigError
from codex_forge.job import Door
from codex_forge.launching import INDEX_VARIABLES

ASKED = {
    "plan": ("run:show_plan", "print the trials and the size of the array; nothing is run"),
    "size": ("run:show_size", "print the number of trials"),
    "missing": ("run:show_missing", "print the indexes of trials that failed or are not there"),
    "collect": ("collect:collect", "write the leaderboard, and score the winner on test questions"),
}
"""Switch -> module and function of the mode, help."""
MEANS = {
    "force": "make anew what was made with other settings than now, or is damaged; what is done "
    "stays",
    "shards": "run one trial: N is their number; the index comes from JOB_COMPLETION_INDEX or "
    "SLURM_ARRAY_TASK_ID",
}
"""What options of all doors mean here."""


@dataclass(frozen=True)
class SweepDoor(Door):
    """A door with switches: each is another function of the mode."""

    def _parser(self) -> argparse.ArgumentParser:
        parser = super()._parser()
        parser.set_defaults(shards=None)
        for action in parser._actions:
            action.help = MEANS.get(action.dest, action.help)
        asked = parser.add_mutually_exclusive_group()
        for name, (_, told) in ASKED.items():
            asked.add_argument(f"--{name}", action="store_true", help=told)
        parser.add_argument("--json", action="store_true", help="with --plan: for machines")
        parser.add_argument(
            "--accept-missing",
            action="store_true",
            help="with --collect: choose among the trials that are there",
        )
        parser.add_argument(
            "--no-gate", action="store_true", help="start whatever sweep.gate would say"
        )
        return parser

    def _work(self, arguments: argparse.Namespace) -> None:
        if arguments.json and not arguments.plan:
            raise ConfigError("--json goes with --plan", do="leave it out, or give both")
        if arguments.accept_missing and not arguments.collect:
            raise ConfigError("--accept-missing goes with --collect", do="give both")
        function = _asked(arguments) or _trials(arguments)
        if arguments.shards is None or _asked(arguments):
            arguments.shards = 1
        if arguments.plan or arguments.size or arguments.missing:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--plan | head` is no error
        Door._work(replace(self, run=f"codex_forge.sweep.{function}"), arguments)


def _asked(arguments: argparse.Namespace) -> str:
    """The function of the switch that is given; empty when trials are to be run."""
    if arguments.plan and arguments.json:
        return "run:show_plan_as_json"
    if arguments.collect and arguments.accept_missing:
        return "collect:collect_what_is_there"
    return next((found for name, (found, _) in ASKED.items() if getattr(arguments, name)), "")


def _trials(arguments: argparse.Namespace) -> str:
    """All trials, or one of them."""
    ending = "_without_gate" if arguments.no_gate else ""
    if arguments.shards is not None:
        return f"run:run_one{ending}"
    if given := next((name for name in INDEX_VARIABLES if name in os.environ), None):
        raise ConfigError(
            f"{given}={os.environ[given]} asks for one trial, and no --shards is given; each task "
            "of the array would run all of them",
            do="give --shards N, the number of trials (see --size)",
        )
    return f"run:run{ending}"


DOOR = SweepDoor(
    "sweep", __doc__, "codex_forge.sweep.run:run", ("use", "sweep", "train"), sharded=True
)

if __name__ == "__main__":
    sys.exit(DOOR.main())
