"""One table of truth: page, Makefile and code say what the table says of launching."""

from __future__ import annotations

import re
from collections.abc import Iterator

from codex_forge.errors import EXIT_CODES
from codex_forge.launching import (
    CHAIN,
    GRACE_SECONDS,
    RESOURCES,
    SHARED_MEMORY_GIB,
    SHUTDOWN_SECONDS,
    TREATMENT,
    VARIABLES,
)
from codex_forge.stopping import SIGNALS
from jobs.__main__ import MANY, ORDER
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "launching.md").read_text()
SET_BY_OTHERS = {"RANK", "WORLD_SIZE", "WANDB_PROJECT", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"}
"""Variables that torchrun, a tracker and Slurm set for themselves."""


def table(heading: str) -> Iterator[list[str]]:
    """Rows of the table under a heading of the page."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    for row in rows[2:]:
        yield [cell.strip().replace("`", "") for cell in row]


def names(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(", ")) if cell else ()


def test_the_steps_of_the_page_are_the_chain() -> None:
    told = [(step, mode, names(how), names(after)) for step, mode, how, after in table("Steps")]
    assert told == [(step.name, step.mode, step.overrides, step.after) for step in CHAIN]


def test_a_step_comes_after_those_that_it_needs() -> None:
    done: set[str] = set()
    for step in CHAIN:
        assert set(step.after) <= done
        done.add(step.name)
    assert {step.mode for step in CHAIN} == set(ORDER)


def test_make_demo_runs_the_chain() -> None:
    makefile = (ROOT / "Makefile").read_text()

    def commands(target: str) -> list[tuple[str, tuple[str, ...]]]:
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert recipe, target
        found: list[tuple[str, tuple[str, ...]]] = []
        for line in recipe[1].splitlines():
            if called := re.search(r"\$\(MAKE\) --no-print-directory ([a-z0-9 ]+)$", line):
                for each in called[1].split():
                    found += commands(each)
            elif job := re.search(r"jobs\.(\w+) \$\(CONFIG\)((?: \S+=\S+)*) \$\(ARGS\)", line):
                found.append((job[1], tuple(job[2].split())))
            else:
                raise AssertionError(line)
        return found

    told = commands("demo")
    assert sorted(told) == sorted((step.mode, step.overrides) for step in CHAIN)
    order = [next(s.name for s in CHAIN if (s.mode, s.overrides) == job) for job in told]
    for step in CHAIN:
        assert all(order.index(name) < order.index(step.name) for name in step.after)


def test_the_exit_codes_are_treated_as_the_page_says() -> None:
    assert TREATMENT.keys() == EXIT_CODES.keys()
    assert {int(row[0]): row[1] for row in table("Exit codes")} == TREATMENT


def test_the_resources_of_the_page_are_the_table() -> None:
    assert {row[0]: tuple(map(int, row[1:])) for row in table("Resources")} == RESOURCES
    assert RESOURCES.keys() == {*ORDER, *MANY}
    assert f"/dev/shm ({SHARED_MEMORY_GIB} GiB)" in PAGE


def test_signals_and_times_of_the_page() -> None:
    signals = PAGE.split("## Signals\n")[1].split("\n## ")[0]
    assert all(number.name in signals for number in SIGNALS)
    assert [int(n) for n in re.findall(r"\b(\d{3})\b", signals)] == [
        GRACE_SECONDS,
        SHUTDOWN_SECONDS,
    ]
    assert SHUTDOWN_SECONDS < GRACE_SECONDS


def test_every_variable_that_is_read_is_told() -> None:
    """Those of ours by their prefix, others where they are looked up by name."""
    told = {name for row in table("Environment") for name in names(row[0])}
    assert told == {name for key in VARIABLES for name in names(key)}
    read: set[str] = set()
    for folder in ("codex_forge", "jobs"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            read |= set(re.findall(r"\bCODEX_FORGE_[A-Z_]*[A-Z]\b", text))
            read |= set(re.findall(r"environ(?:\.\w+\(|\[)\"([A-Z_]+)\"", text))
    assert read - told <= SET_BY_OTHERS | {
        "TOKENIZERS_PARALLELISM",
        "TORCHELASTIC_SIGNALS_TO_HANDLE",
    }
    for path in (ROOT / "configs").glob("*.yaml"):
        read |= set(re.findall(r"\$\{(CODEX_FORGE_[A-Z_]+)", path.read_text()))
    ours = {name for name in told if name.startswith("CODEX_FORGE_")}
    assert ours <= read
