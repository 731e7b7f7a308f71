"""The metric history, as it grows, on TensorBoard, Weights & Biases or MLflow (`train.report_to`).

One run there for the whole training, all stages and resumed parts included. What is sent are the
history's numbers and the config, which holds no secret; addresses and keys come from the
environment. A service that fails in the middle is left out with a warning: training goes on, and
`metrics.jsonl` has everything.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codex_forge.config import RunConfig
from codex_forge.config.train import TrainConfig
from codex_forge.errors import ConfigError, Preempted
from codex_forge.train.report.sinks import Ending, Mlflow, Sink, TensorBoard, Wandb

log = logging.getLogger("codex_forge")

_NO_MEASURES = ("step", "seconds")


def check_report_to(config: TrainConfig) -> None:
    """Refuse to report with packages that are not here; imports none of them.

    Raises:
        ConfigError: names the command that installs the package.
    """
    for name in config.report_to:
        # A folder of this name (W&B writes to `./wandb`) is found too, but has no origin.
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"the package {name} is not installed",
                where="train.report_to",
                do=f"pip install {name}, or leave it out",
            )


class Reporter:
    """Sends entries of the metric history to all that were asked for."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        """Use `reporting`."""
        self._sinks = list(sinks)

    def entry(self, step: int, values: Mapping[str, Any]) -> None:
        """Report the numbers among an entry's values; `step` counts over all stages."""
        self._send(self._sinks, step, values)

    def replay(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Report what a run that this one continues has measured to those that do not have it."""
        new = [sink for sink in self._sinks if sink.is_new]
        for entry in entries:
            self._send(new, int(entry["step"]), entry)

    def state(self) -> dict[str, str]:
        """The names of the runs, for a checkpoint."""
        return {sink.name: sink.run_id for sink in self._sinks if sink.run_id is not None}

    def close(self, ending: Ending = "finished") -> None:
        """Send what is left; later calls do nothing."""
        while self._sinks:
            sink = self._sinks.pop()
            try:
                sink.close(ending)
            except sink.errors as error:
                log.warning("  %s was not closed: %s", sink.name, error)

    def _send(self, sinks: Iterable[Sink], step: int, values: Mapping[str, Any]) -> None:
        found = dict(_numbers(values))
        for sink in list(sinks):
            if not found or sink not in self._sinks:
                continue
            try:
                sink.send(step, found)
            except sink.errors as error:
                log.warning("  %s takes no more, the rest goes unreported: %s", sink.name, error)
                self._sinks.remove(sink)


@contextmanager
def reporting(
    config: RunConfig, folder: Path | None, told: Mapping[str, str] | None = None
) -> Iterator[Reporter]:
    """A reporter until the end of the block; close it before the artifact is committed.

    Args:
        config: `train.report_to` names the places.
        folder: of the artifact; None on a rank that writes none, which reports nothing.
        told: `Reporter.state` of the run that this one continues.

    Raises:
        ConfigError: a service refuses.
        TryAgain: a service does not answer.
    """
    wanted = config.train.report_to if folder is not None else ()
    reporter = Reporter(())
    ending: Ending = "failed"
    try:
        for name in dict.fromkeys(wanted):
            reporter._sinks.append(_open(name, config, folder or Path(), (told or {}).get(name)))
        yield reporter
        ending = "finished"
    except (Preempted, KeyboardInterrupt):
        ending = "stopped"
        raise
    finally:
        reporter.close(ending)


def _open(name: str, config: RunConfig, folder: Path, run_id: str | None) -> Sink:
    if name == "tensorboard":
        return TensorBoard(config, folder)
    if name == "wandb":
        return Wandb(config, run_id)
    return Mlflow(config, run_id)


def _numbers(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by a name that all services take; what is inside a mapping is named by a path."""
    for key, value in values.items():
        if not above and key in _NO_MEASURES:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield re.sub(r"[^\w./ -]", "_", f"{above}{key}".replace("@", "_at_")), float(value)
