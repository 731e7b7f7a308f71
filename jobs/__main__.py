"""List the modes, print the config's schema, look at a store, or tidy it.

python -m jobs                  the modes, a line each
python -m jobs MODE ...         the same as python -m jobs.MODE ...
python -m jobs schema           a JSON schema that editors understand
python -m jobs status STORE     what is on a store: whole, partial, being made by whom, last exit
python -m jobs gc STORE         what nothing needs any more; --delete removes it
python -m jobs bank CONFIG DIR  the questions, their answers and the corpus in BEIR's layout
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from codex_forge.storage import Store

ORDER = ("pairs", "audit", "train", "embed", "evaluate", "compare")
MANY = ("sweep",)
ASKING = ("why",)
LAUNCHERS = ("torchrun",)


def listing() -> str:
    """The modes in the order of a run, with the first line of what each door says of itself."""
    lines = ["modes, in the order of a run:"]
    lines += [f"  python -m jobs.{mode:<9} CONFIG.yaml   {_first_line(mode)}" for mode in ORDER]
    lines += ["", "many runs of one config:"]
    lines += [f"  python -m jobs.{name:<9} CONFIG.yaml   {_first_line(name)}" for name in MANY]
    lines += ["", "a question about a run:"]
    lines += [
        f"  python -m jobs.{name:<9} CONFIG.yaml QUESTION   {_first_line(name)}" for name in ASKING
    ]
    lines += ["", "several processes:"]
    lines += [f"  python -m jobs.{name:<9} ...           {_first_line(name)}" for name in LAUNCHERS]
    lines += [
        "",
        "a store (a folder or s3://bucket/prefix):",
        "  python -m jobs status STORE            what is there, who is writing, the last exits",
        "  python -m jobs gc STORE                what nothing needs any more; --delete removes it",
        "",
        "for other tools:",
        "  python -m jobs bank CONFIG.yaml FOLDER the questions, their answers and the corpus in",
        "                                         BEIR's layout, which MTEB reads too",
        "",
        "`python -m jobs.<mode> --help` explains one; `python -m jobs schema` prints the",
        "JSON schema of the config.",
    ]
    return "\n".join(lines)


def _first_line(name: str) -> str:
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").splitlines()[0]


def schema() -> str:
    """The JSON schema of a run's config."""
    from codex_forge.config import RunConfig

    tree = RunConfig.model_json_schema()
    tree["title"] = "codex-forge run"
    return json.dumps(tree, indent=1)


def show_status(arguments: list[str]) -> None:
    """`python -m jobs status STORE`."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs status", description="What is on a store; nothing is changed."
    )
    parser.add_argument("store", metavar="STORE", help="a folder, or s3://bucket/prefix")
    parser.add_argument("--json", action="store_true", help="for machines")
    given = parser.parse_args(arguments)
    from codex_forge import upkeep

    store = _store_at(given.store)
    reports = upkeep.status(store)
    if given.json:
        print(json.dumps([report.as_json() for report in reports], indent=1))
        return
    print("\n".join(upkeep.describe(reports)) or f"{store.url()}: no artifacts")
    if debris := upkeep.debris(store):
        print(f"{len(debris)} cut-off writes; python -m jobs gc {given.store} shows them")


def tidy(arguments: list[str]) -> None:
    """`python -m jobs gc STORE`."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs gc",
        description="Show what nothing needs any more: versions that were replaced or never "
        "finished, work on artifacts that are whole, cut-off writes. --delete looks again, under "
        "the lease of each artifact, and removes it. Artifacts, work to go on from, all that is "
        "being written, and whatever is not codex-forge's stay.",
    )
    parser.add_argument("store", metavar="STORE", help="a folder, or s3://bucket/prefix")
    parser.add_argument("--delete", action="store_true", help="remove what is shown")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="also the checkpoints, blocks and shards of unfinished artifacts",
    )
    given = parser.parse_args(arguments)
    from codex_forge import upkeep

    store = _store_at(given.store)
    look = upkeep.remove_garbage if given.delete else upkeep.garbage
    found = look(store, partial=given.partial)
    for item in found:
        print(f"{upkeep.size_text(item.size):>9}  {item.path}  ({item.reason})")
    total = f"{len(found)} objects, {upkeep.size_text(sum(item.size for item in found))}"
    if given.delete:
        print(f"removed {total} and {upkeep.remove_debris(store)} cut-off writes")
        return
    debris = [name for name, age in upkeep.debris(store) if age > upkeep.DEBRIS_SECONDS]
    for name in debris:
        print(f"{'':>9}  {name}  (a cut-off write)")
    print(f"{total}; {len(debris)} cut-off writes; nothing removed, --delete removes them")


def _store_at(url: str) -> Store:
    """The store; a folder must be there, or a slip of the pen would look like an empty one."""
    from codex_forge.errors import InputError
    from codex_forge.storage import Store

    store = Store(url)
    if store.is_local and not Path(store.root).is_dir():
        raise InputError("there is no such folder", where=url, do="check the path")
    return store


def write_bank(arguments: list[str]) -> None:
    """`python -m jobs bank CONFIG.yaml FOLDER`."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs bank",
        description="Write the question bank of a run in BEIR's layout: corpus.jsonl, "
        "queries.jsonl and qrels/<part>.tsv. It is read from the pairs artifact.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the run's config")
    parser.add_argument("folder", metavar="FOLDER", help="an empty folder, or one to make")
    parser.add_argument("--part", choices=("train", "dev", "test"), default="test")
    parser.add_argument(
        "overrides", nargs="*", default=(), metavar="section.key=value", help="config keys"
    )
    given = parser.parse_intermixed_args(arguments)
    from codex_forge.config import load_config
    from codex_forge.evaluate.export import export
    from codex_forge.job import Job, scratch_folder
    from codex_forge.storage import Store

    config = load_config(given.config, given.overrides)
    with scratch_folder("bank") as scratch:
        job = Job("bank", config, Store(config.store), scratch)
        counts = export(job, Path(given.folder), given.part)
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"wrote {given.folder}: {told}")


def show_schema(_: list[str]) -> None:
    """`python -m jobs schema`."""
    print(schema())


COMMANDS = {"status": show_status, "gc": tidy, "bank": write_bank, "schema": show_schema}


def main(arguments: list[str]) -> int:
    """Answer `python -m jobs ...`."""
    if arguments and arguments[0] in (*ORDER, *MANY, *ASKING, *LAUNCHERS):
        door = importlib.import_module(f"jobs.{arguments[0]}")
        answer: Callable[[list[str]], int] = getattr(door, "DOOR", door).main
        return answer(arguments[1:])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `python -m jobs schema | head` is no error
    if arguments and arguments[0] in COMMANDS:
        from codex_forge.job import guarded

        return guarded(lambda: COMMANDS[arguments[0]](arguments[1:]))
    print(listing())
    known = not arguments or arguments[0] in ("-h", "--help", "list")
    if not known:
        print(f"\nerror: unknown command {arguments[0]!r}", file=sys.stderr)
    return 0 if known else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
