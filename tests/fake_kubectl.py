"""A kubectl for tests of `k8s/run.sh`: `kustomize` is the real one's, the cluster is a folder.

A Job that is applied runs for one look and then ends as `fates.json` says: the first fate of its
name that is left, or Complete. All that was asked stands in `calls.txt`; `check` is an apply that
only asks the server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CLUSTER = Path(os.environ["FAKE_CLUSTER"])


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def objects(arguments: list[str]) -> list[dict[str, Any]]:
    """What the file after `-f` holds."""
    text = Path(arguments[arguments.index("-f") + 1]).read_text()
    return [tree for tree in yaml.safe_load_all(text) if tree]


def place(tree: dict[str, Any]) -> Path:
    return CLUSTER / f"{tree['kind']}-{tree['metadata']['name']}.json"


def apply(arguments: list[str]) -> int:
    only_asks = "--dry-run=server" in arguments
    for tree in objects(arguments):
        path = place(tree)
        if path.exists() and json.loads(path.read_text())["tree"] != tree and "Job" in tree["kind"]:
            sys.stderr.write("error: spec.template: field is immutable\n")
            return 1
        if not (path.exists() or only_asks):
            path.write_text(json.dumps({"tree": tree, "looks": 0, "fate": fate(tree)}))
        tell(f"{tree['kind'].lower()}/{tree['metadata']['name']} applied")
    return 0


def fate(tree: dict[str, Any]) -> dict[str, Any]:
    path = CLUSTER / "fates.json"
    fates = json.loads(path.read_text()) if path.exists() else {}
    left = fates.get(tree["metadata"]["name"], [])
    found = left.pop(0) if left else {"type": "Complete"}
    path.write_text(json.dumps(fates))
    return dict(found)


def get(arguments: list[str]) -> int:
    if arguments[1] == "--raw":
        return 0
    if arguments[1] == "pods":
        name = arguments[arguments.index("-l") + 1].split("=")[1]
        (path,) = CLUSTER.glob(f"Job*-{name}.json")
        for pod, code, reason in json.loads(path.read_text())["fate"].get("pods", []):
            tell(f"{pod} {code} {reason}")
        return 0
    trees = objects(arguments)
    if len(trees) > 1:  # what kubectl says of a List
        tell(" List \nactive , succeeded , failed ")
        return 0
    (tree,) = trees
    path = place(tree)
    if not path.exists():
        return 0
    state = json.loads(path.read_text())
    state["looks"] += 1
    path.write_text(json.dumps(state))
    name, told = tree["metadata"]["name"], state["fate"]
    tell(f"{tree['metadata']['namespace']} {tree['kind']} {name}")
    if state["looks"] < 2:
        tell("active 1, succeeded , failed ")
        return 0
    failed = told["type"] == "Failed"
    tell("active , succeeded , failed 1" if failed else "active , succeeded 1, failed ")
    tell(f"{told['type']} {told.get('reason', '')}: {told.get('message', '')}")
    return 0


def main(arguments: list[str]) -> int:
    if arguments[0] == "kustomize":
        return subprocess.call([os.environ["REAL_KUBECTL"], *arguments])
    with (CLUSTER / "calls.txt").open("a") as calls:
        names = [t["metadata"]["name"] for t in objects(arguments)] if "-f" in arguments else []
        verb = "check" if "--dry-run=server" in arguments else arguments[0]
        calls.write(" ".join([verb, *(names or arguments[1:])]) + "\n")
    if (CLUSTER / "down").exists():
        sys.stderr.write("The connection to the server was refused\n")
        return 1
    if arguments[0] == "apply":
        return apply(arguments)
    if arguments[0] == "get":
        return get(arguments)
    if arguments[0] == "logs":
        tell(f"log of {' '.join(arguments[1:])}")
        return 0
    assert arguments[0] == "delete", arguments
    for tree in objects(arguments):
        place(tree).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
