"""The trials of a sweep, from the config alone: which there are, what each is called and shares.

Trial i of a plan is started by its index; what it is depends on its overrides alone, so that a plan
with more trials keeps all that is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from codex_forge.config import RunConfig, changed, keys_of
from codex_forge.config.sweep import SweepConfig
from codex_forge.errors import ConfigError, nearest
from codex_forge.sweep.labels import label_of, name_of
from codex_forge.sweep.sharing import Before, shared, value_at

_NOT_VARIED = {
    "name": "each trial gets its own",
    "store": "all trials share one store",
    "use": "trials use what the run has made",
    "sweep": "it says what the trials are",
    "compare": "no trial reads it",
    "embed.model": "a trial's model is its own",
    "embed.served": "a served model is not trained",
    "embed.chroma": "trials write no collection",
    "evaluate": "all trials are measured alike",
}
"""Keys, or sections, that no trial may set, and why."""
_VARIED = ("evaluate.retriever", "evaluate.hybrid")
"""Of those, what a trial may set."""

_ALWAYS = {"embed.model": "trained", "embed.chroma": {}, "evaluate.part": "dev"}


@dataclass(frozen=True)
class Trial:
    """One run of the sweep: the config with some keys set otherwise."""

    index: int
    name: str
    label: str
    overrides: Mapping[str, Any]
    """Config key -> value, as the config reads it."""
    config: RunConfig
    run: RunConfig
    """The run that it is a trial of."""
    before: tuple[Before, ...] = ()
    """What is made for this trial, and others like it, because the run's cannot be shared."""

    @property
    def evaluate_name(self) -> str:
        """Name of the artifact with its scores on dev questions."""
        return self.config.evaluate_name


@dataclass(frozen=True)
class Plan:
    """All trials, each once."""

    name: str
    trials: tuple[Trial, ...]

    @property
    def keys(self) -> list[str]:
        """Keys that some trial sets otherwise than another, in the order of the config."""
        every = dict.fromkeys(key for trial in self.trials for key in trial.overrides)
        shown = {key: {_told(trial, key) for trial in self.trials} for key in every}
        return [key for key in every if len(shown[key]) > 1]

    def tree(self) -> dict[str, Any]:
        """For machines."""
        trials = [
            {"index": t.index, "name": t.name, "label": t.label, "overrides": dict(t.overrides)}
            for t in self.trials
        ]
        return {"name": self.name, "trials": trials, "array_size": len(self.trials)}


def plan_of(config: RunConfig) -> Plan:
    """The trials that a config asks for: the grid's in the order written, then the listed ones.

    Raises:
        ConfigError: a key or value that cannot be; or two trials that are the same. Names them.
    """
    _check_trains(config)
    known = [key for key, _ in keys_of(RunConfig) if "[]" not in key]
    seen: dict[str, str] = {}
    names: dict[str, str] = {}
    trials: list[Trial] = []
    # Without the list of trials, which each of them would carry.
    run = config.model_copy(update={"sweep": SweepConfig()})
    for where, given in _given(config):
        _check_keys(given, known, where)
        trial = _trial(run, len(trials), given, where)
        facts = trial.config.model_dump(mode="json", exclude={"name", "use"})
        _check_new(seen, json.dumps(_plain(facts), sort_keys=True), where, "are the same trial")
        _check_new(names, trial.name, where, f"would both be called {trial.name}")
        trials.append(trial)
    return Plan(config.run_name, tuple(trials))


def ranges(indexes: Iterable[int]) -> str:
    """Indexes of trials as array jobs take them: `0,3,5-7`."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _check_trains(config: RunConfig, where: str = "") -> None:
    """A trial must be judged by the vectors of a model of its own."""
    if config.embed.model != "trained":
        raise ConfigError(
            "trials train a model; this config asks for another",
            where=f"{where}embed.model={config.embed.model}",
            do="leave embed.model out",
        )
    if config.evaluate.retriever not in ("dense", "hybrid"):
        raise ConfigError(
            "would not tell trials apart by their models' vectors",
            where=f"{where}evaluate.retriever={config.evaluate.retriever}",
            do="set it to dense or hybrid for a sweep",
        )


def _given(config: RunConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where in the config, overrides) of each trial."""
    axes = config.sweep.axes
    for values in product(*axes.values()) if axes else ():
        given = dict(zip(axes, values, strict=True))
        told = ", ".join(f"{key}={value}" for key, value in given.items())
        yield f"sweep.grid ({told})", given
    for number, given in enumerate(config.sweep.trials):
        yield f"sweep.trials[{number}]", given


def _check_keys(given: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in given:
        for fixed, why in _NOT_VARIED.items():
            if _is_of(key, fixed) and not any(_is_of(key, free) for free in _VARIED):
                raise ConfigError(f"{key} cannot vary: {why}", where=where, do="leave it out")
        if above := next((each for each in given if each != key and _is_of(key, each)), None):
            said = f"{key} is given beside {above}, which holds it"
            raise ConfigError(said, where=where, do="give one of them")
        if key in known:
            continue
        if inside := [each for each in known if each.startswith(f"{key}.")]:
            do = f"give keys of it, such as {inside[0]}"
            raise ConfigError(f"{key} is a whole section", where=where, do=do)
        near = nearest(key, known)
        do = f"did you mean {near}?" if near else "python -m jobs.train --help lists keys"
        raise ConfigError(f"unknown key {key}", where=where, do=do)


def _is_of(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _check_new(seen: dict[str, str], what: str, where: str, said: str) -> None:
    if what in seen:
        raise ConfigError(f"{seen[what]} and {where} {said}", do="leave one of them out")
    seen[what] = where


def _trial(config: RunConfig, index: int, given: Mapping[str, Any], where: str) -> Trial:
    """A trial, with its values as the config reads them: 2 and 2.0 epochs are the same."""
    tried = changed(config, given, where=where)
    _check_trains(tried, f"{where}: ")
    tree = tried.model_dump(mode="json")
    overrides = {key: _plain(value_at(tree, key)) for key in given}
    label = label_of(overrides)
    shares = shared(config, tried, overrides)
    own = {**_ALWAYS, "name": name_of(config.name, label), "use": shares.use}
    trial = changed(tried, own, where=where)
    return Trial(index, trial.name, label, overrides, trial, config, shares.before)


def _plain(value: Any) -> Any:
    """A value with one zero: -0.0 is 0.0."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value + 0.0 if isinstance(value, float) else value


def _told(trial: Trial, key: str) -> str:
    missing = object()
    value = trial.overrides.get(key, missing)
    return "" if value is missing else json.dumps(value, sort_keys=True)
