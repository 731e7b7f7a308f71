"""Ways to train the shipped sample, each for real: dev measures before and after, and what it cost.

    python -m benchmarks.recipes --pairs 1500

Plain ranking, a curriculum, SimCSE before the pairs, LoRA, frozen layers, Matryoshka, and a
distillation from two teachers (the models of the first two recipes). The dev measures chose among
the weights, and come from a small pool of chunks: they compare recipes, they prove nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_forge.artifact import open_artifact
from codex_forge.storage import Store
from jobs.audit import DOOR as AUDIT
from jobs.pairs import DOOR as PAIRS
from jobs.train import DOOR as TRAIN

_CURRICULUM = [
    {"name": "easy", "phases": ["easy"]},
    {"name": "medium", "phases": ["medium"]},
    {"name": "hard", "phases": ["hard"]},
]
_TEXTS_FIRST = [
    {"name": "texts", "objective": "simcse", "learning_rate": 3e-5},
    {"name": "pairs"},
]
RECIPES: dict[str, list[str]] = {
    "ranking": [],
    "curriculum": [f"train.stages={json.dumps(_CURRICULUM)}"],
    "simcse, then pairs": [f"train.stages={json.dumps(_TEXTS_FIRST)}"],
    "lora": ["train.lora={rank: 16}", "train.learning_rate=2e-3"],
    "4 of 6 layers frozen": ["train.freeze_layers=4"],
    "matryoshka": ["train.matryoshka_dims=[256, 128, 64]"],
}
_TAUGHT = "taught by the first two"


def main() -> None:
    """Train all of them in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--pairs", type=int, default=1500, help="of each stage, at most")
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [_line(name, summary) for name, summary in _trained(given, Path(folder))]
    head = ("recipe", "ndcg@10", "base", "pairs/s", "padding", "train s", "trainable")
    for cells in (head, *rows):
        first, *others = cells
        print(f"{first:<24}" + "".join(f"{cell:>12}" for cell in others))


def _trained(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    store = f"store={folder}/store"
    shared = [
        "train.phases=[easy, medium, hard]",
        f"train.max_pairs={given.pairs}",
        f"train.learning_rate={given.learning_rate}",
        f"train.epochs={given.epochs}",
        "train.validation.metric=ndcg@10",
    ]
    _run(PAIRS, given.config, store)
    _run(AUDIT, given.config, store)
    for number, (name, own) in enumerate(RECIPES.items()):
        kept = folder / f"model-{number}" if number < 2 else None
        yield name, _train(given, folder, [store, *shared, *own], kept)
    teachers = json.dumps([str(folder / f"model-{number}") for number in range(2)])
    taught = [
        f"train.distillation.teachers={teachers}",
        "train.objective=distill_embedding",
        "train.texts=both",
    ]
    yield _TAUGHT, _train(given, folder, [store, *shared, *taught], None)


def _train(
    given: argparse.Namespace, folder: Path, overrides: list[str], kept: Path | None
) -> dict[str, Any]:
    _run(TRAIN, given.config, *overrides, "--force")
    name = next(path.name for path in (folder / "store" / "train").iterdir())
    artifact = open_artifact(Store(str(folder / "store")), "train", name, folder / "copies")
    if kept is not None:
        shutil.copytree(artifact.path_of_folder("model"), kept)
    found: dict[str, Any] = json.loads(artifact.path("metadata.json").read_text())
    return found


def _run(door: Any, *arguments: str) -> None:
    if door.main(list(arguments)):
        raise SystemExit(f"{door.mode} failed")


def _line(name: str, summary: dict[str, Any]) -> tuple[str, ...]:
    dev = summary["dev"]
    return (
        name,
        f"{dev['best']:.4f}",
        f"{dev['base']:.4f}",
        f"{summary['pairs_per_second']:.1f}",
        f"{summary['padding_share']:.1%}",
        f"{summary['seconds_by_phase']['train']:.0f}",
        f"{summary['trainable_parameters'] / 1e6:.2f} M",
    )


if __name__ == "__main__":
    main()
