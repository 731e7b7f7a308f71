"""What all parts share: corpus, config, the places to store, and what undisturbed runs give."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.chaos.checks import visible_digest
from tests.chaos.model import cut_out_model
from tests.chaos.places import Place, Root
from tests.chaos.processes import Process, Processes
from tests.conftest import MINILM, sample_corpus

_NAME = "small"
MODES = ("pairs", "train", "embed", "evaluate")
"""The modes that are disturbed."""
ORDER = ("pairs", "audit", "train", "embed", "evaluate")
LEASE_SECONDS = 5
RUN_SECONDS = 240.0
"""No undisturbed run may take longer."""


@dataclass(frozen=True)
class Size:
    """How large the jobs are."""

    model: str = "minilm"
    """`minilm`, or `cut-out`: a few megabytes cut out of it."""
    entities: int = 100
    steps: int = 8
    save_steps: int = 2
    pairs: int = 24
    """Trained on; a few steps make an epoch, so that kills hit evaluations and later epochs."""
    rows: int = 12
    retriever: str = "dense"
    """Of `evaluate`; `bm25` needs no model, and no time to load one."""


class Timing(NamedTuple):
    """How long an undisturbed run took, and the part of it in which it published."""

    seconds: float
    publishing: float


@dataclass
class World:
    """A corpus with its config, and what every mode makes of it when nothing disturbs it."""

    folder: Path
    size: Size
    processes: Processes
    config: Path = field(init=False)
    digests: dict[str, str] = field(default_factory=dict)
    """Of every mode's artifact; the place does not matter."""
    timings: dict[tuple[str, str], Timing] = field(default_factory=dict)
    references: dict[str, Root] = field(default_factory=dict)
    """By the name of the place: a root that holds all artifacts."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        corpus = sample_corpus(self.folder / "corpus", self.size.entities)
        base = MINILM
        if self.size.model != "minilm":
            base = str(cut_out_model(self.folder / "model"))
        self.config = corpus.write(
            model={"base": base, "device": "cpu"},
            train={
                "max_steps": self.size.steps,
                "batch_size": 8,
                "num_negatives": 1,
                "logging_steps": 1,
                "save_steps": self.size.save_steps,
                "save_minutes": 0,
                "max_pairs": self.size.pairs,
            },
            embed={"rows_per_block": self.size.rows, "batch_tokens": 512},
            evaluate={"retriever": self.size.retriever},
        )

    def start(
        self,
        mode: str,
        root: Root,
        *extra: str,
        launcher: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a mode on a root in a process of its own."""
        arguments = [*launcher, f"jobs.{mode}", str(self.config), f"store={root.url}", *extra]
        fixed = {
            "OMP_NUM_THREADS": "1",  # the order of sums, and so the digests, depend on it
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CODEX_FORGE_LEASE_SECONDS": str(LEASE_SECONDS),
        }
        folder = self.folder / "runs" / f"{next(self._numbers):05d}-{mode}"
        return self.processes.start(arguments, {**fixed, **root.environment, **(env or {})}, folder)

    def cache(self) -> Path:
        """A new folder for copies of remote files."""
        return self.folder / "caches" / f"{next(self._numbers):05d}"

    def path(self, mode: str) -> str:
        """The folder of a mode's artifact in its root."""
        is_bm25 = mode == "evaluate" and self.size.retriever == "bm25"
        return f"{mode}/{_NAME}-bm25" if is_bm25 else f"{mode}/{_NAME}"

    def visible(self, mode: str, root: Root) -> str:
        """The digest of a mode's artifact that opens as whole, else nothing (see `checks`)."""
        kind, _, name = self.path(mode).partition("/")
        return visible_digest(root.store, kind, name, self.cache())

    def prepare(self, place: Place, modes: Sequence[str] = ORDER) -> None:
        """Run these modes undisturbed: the first place tells the digests, others must agree."""
        root = self.references.setdefault(place.name, place.root())
        for mode in modes:
            self.timings[place.name, mode] = self._undisturbed(mode, root)
            digest = self.visible(mode, root)
            if digest != self.digests.setdefault(mode, digest):
                raise RuntimeError(f"{mode} on {place.name} gives another digest, undisturbed")

    def copy(self, source: Place, place: Place) -> None:
        """Prepare a place with what another one holds, which is quicker than to run all again."""
        root = self.references[place.name] = place.root()
        there, folder = self.references[source.name].store, self.cache()
        for path in there.list(""):
            there.get(path, folder / "object")
            root.store.put(folder / "object", path)
        for (name, mode), timing in list(self.timings.items()):
            if name == source.name:
                self.timings[place.name, mode] = timing

    def before(self, mode: str, place: Place, environment: Mapping[str, str] | None = None) -> Root:
        """A new root that holds all that a mode reads, and nothing that it writes."""
        root = place.root(environment)
        root.take_over(
            self.references[place.name], (self.path(m) for m in ORDER[: ORDER.index(mode)])
        )
        return root

    def free(self, place: Place, root: Root) -> None:
        """Remove a root, unless the suite is being ended: then its server may be gone, too."""
        if not self.processes.is_closed:
            place.free(root)

    def _undisturbed(self, mode: str, root: Root) -> Timing:
        job = self.start(mode, root)
        appeared = wrote = 0.0
        while not job.is_over_in(0.01) and job.age < RUN_SECONDS:
            if not appeared and root.versions(self.path(mode)):
                appeared = time.monotonic()
            if not wrote and "wrote " in job.said:
                wrote = time.monotonic()
        seconds = job.age
        code = job.result(0)
        self.processes.end(job)
        if code != 0:
            raise RuntimeError(f"{mode} on {root.url}, undisturbed, ended with {code}:\n{job.said}")
        return Timing(seconds, max(0.0, wrote - appeared) + 0.05)
