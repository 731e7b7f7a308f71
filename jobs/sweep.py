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
when trials are added, and a trial that was stopped goes on. --force starts without that gate and
makes anew what was made with other settings than now; it never throws away what is done.
"""

import argparse
import signal
import sys
from dataclasses import dataclass, replace

from codex_forge.errors import ConfigError
from codex_forge.job import Door

ASKED = {
    "plan": ("run:show_plan", "print the trials and the size of the array; nothing is run"),
    "size": ("run:show_size", "print the number of trials"),
    "missing": ("run:show_missing", "print the indexes of trials that failed or are not there"),
    "collect": ("collect:collect", "write the leaderboard, and score the winner on test questions"),
}
"""Switch -> module and function of the mode, help."""
MEANS = {
    "force": "start without sweep.gate, and make anew what was made with other settings than now; "
    "what is done stays",
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
        return parser

    def _work(self, arguments: argparse.Namespace) -> None:
        if arguments.json and not arguments.plan:
            raise ConfigError("--json goes with --plan", do="leave it out, or give both")
        if arguments.accept_missing and not arguments.collect:
            raise ConfigError("--accept-missing goes with --collect", do="give both")
        function = "run:run" if arguments.shards is None else "run:run_one"
        for name, (found, _) in ASKED.items():
            function = found if getattr(arguments, name) else function
        if arguments.plan and arguments.json:
            function = "run:show_plan_as_json"
        if arguments.collect and arguments.accept_missing:
            function = "collect:collect_what_is_there"
        if arguments.shards is None or function != "run:run_one":
            arguments.shards = 1
        if arguments.plan:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--plan | head` is no error
        Door._work(replace(self, run=f"codex_forge.sweep.{function}"), arguments)


DOOR = SweepDoor(
    "sweep", __doc__, "codex_forge.sweep.run:run", ("use", "sweep", "train"), sharded=True
)

if __name__ == "__main__":
    sys.exit(DOOR.main())
