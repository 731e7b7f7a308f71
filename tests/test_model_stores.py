"""`model.base: s3://...`: copied once, whole, and the same model as in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codex_forge.config.sections import ModelConfig
from codex_forge.errors import (
    EXIT_CHANGE_SOMETHING,
    EXIT_DONE,
    EXIT_TRY_AGAIN,
    ConfigError,
    InputError,
)
from codex_forge.job import scratch_folder
from codex_forge.model import fetch as fetching
from codex_forge.model.encoder import Encoder, load_base
from codex_forge.model.locate import locate
from codex_forge.storage import Store
from tests.conftest import ROOT, Corpus, Knock
from tests.tiny_models import tiny_model

LOCATING = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from codex_forge.config.sections import ModelConfig
from codex_forge.job import guarded
from codex_forge.model.locate import locate

def work():
    found = locate(ModelConfig(base=sys.argv[1]))
    print(found.folder, found.identity.digest, flush=True)
    if len(sys.argv) > 2:
        sys.stdin.read()

sys.exit(guarded(work))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as sentence-transformers saves one, with what nobody loads beside it."""
    made, found = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("saved")
    tiny_model("Bert", made).save_pretrained(str(found))
    (found / "pytorch_model.bin").write_bytes(b"a pickle")
    (found / "onnx").mkdir()
    (found / "onnx" / "model.onnx").write_bytes(b"for another engine")
    return found


@pytest.fixture
def lasting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CODEX_FORGE_CACHE, an empty folder."""
    monkeypatch.setenv("CODEX_FORGE_CACHE", str(tmp_path / "lasting"))
    return tmp_path / "lasting"


@pytest.fixture
def stored(saved: Path, bucket: str) -> str:
    """The URL of that model on the S3 server."""
    upload(saved, f"{bucket}/models/tiny")
    return f"{bucket}/models/tiny"


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            Store(url).put(path, path.relative_to(folder).as_posix())


def digest(base: str | Path) -> str:
    return locate(ModelConfig(base=str(base))).identity.digest


def copies(lasting: Path) -> list[Path]:
    return sorted(p for p in (lasting / "models").iterdir() if not p.name.startswith("."))


def leftovers(lasting: Path) -> list[str]:
    return [p.name for p in (lasting / "models").glob(".*") if p.suffix != ".lock"]


def start(url: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LOCATING, url, *more],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- the same model ----------------------------------------------------------------------------


def test_it_is_the_model_that_it_is_in_a_folder(saved: Path, stored: str, lasting: Path) -> None:
    found = locate(ModelConfig(base=stored))
    assert found.identity.digest == digest(saved)
    assert found.identity.name == stored
    assert found.folder.is_relative_to(lasting)
    names = {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*") if p.is_file()}
    assert "model.safetensors" in names
    assert not {"pytorch_model.bin", "onnx/model.onnx"} & names
    given = ModelConfig(base=stored, device="cpu")
    there = Encoder(load_base(found.folder, given)).encode_query(["w1 w2 w3"])
    here = Encoder(load_base(saved, given)).encode_query(["w1 w2 w3"])
    assert np.array_equal(there, here)


def test_it_is_copied_once(stored: str, lasting: Path) -> None:
    first = locate(ModelConfig(base=stored)).folder
    before = {p: p.stat().st_mtime_ns for p in first.rglob("*")}
    assert locate(ModelConfig(base=f"{stored}/")).folder == first
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*")} == before
    assert copies(lasting) == [first.parent]


def test_a_model_that_changed_on_the_store_is_noticed(
    saved: Path, stored: str, lasting: Path, tmp_path: Path
) -> None:
    before = digest(stored)
    weights = load_file(saved / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1  # of the same size
    save_file(weights, tmp_path / "changed", metadata={"format": "pt"})
    Store(stored).put(tmp_path / "changed", "model.safetensors")
    assert digest(stored) != before
    assert len(copies(lasting)) == 2
    Store(stored).put(saved / "model.safetensors", "model.safetensors")
    assert digest(stored) == before


def test_a_copy_that_was_damaged_is_made_again(stored: str, lasting: Path) -> None:
    found = locate(ModelConfig(base=stored))
    whole = (found.folder / "model.safetensors").read_bytes()
    for harm in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-9], None):
        (found.folder / "model.safetensors").unlink()
        if harm is not None:
            (found.folder / "model.safetensors").write_bytes(harm)
        assert digest(stored) == found.identity.digest
        assert (found.folder / "model.safetensors").read_bytes() == whole
    (found.folder / "more.json").write_text("{}")
    assert digest(stored) == found.identity.digest
    assert leftovers(lasting) == []


# --- train artifacts ---------------------------------------------------------------------------


def test_a_train_artifact_is_its_newest_whole_model(
    corpus: Corpus, bucket: str, knock: Knock, lasting: Path, saved: Path
) -> None:
    base = {"base": str(saved), "device": "cpu"}
    config = corpus.write(store=bucket, model=base)
    short = ("train.require_audit=false", "train.max_steps=1")
    assert knock("pairs", config) == EXIT_DONE
    assert knock("train", config, *short) == EXIT_DONE
    first = digest(f"{bucket}/train/small")
    weights = next(n for n in Store(bucket).list("train/small") if n.endswith(".safetensors"))
    assert digest(f"{bucket}/{weights.rpartition('/')[0]}") == first  # the folder in it
    assert knock("train", config, *short, "model.query_prompt=w1 ", "--force") == EXIT_DONE
    second = digest(f"{bucket}/train/small")
    assert second != first
    further = ("name=further", f"model.base={bucket}/train/small")
    assert knock("pairs", config, *further) == EXIT_DONE
    assert knock("train", config, *short, *further) == EXIT_DONE
    manifests = [n for n in Store(bucket).list("train/further") if n.endswith("/manifest.json")]
    told = json.loads(Store(bucket).read(manifests[0]))["inputs"]["model"]
    assert (told["digest"], told["name"]) == (second, f"{bucket}/train/small")


def test_a_train_artifact_in_a_folder_is_used_where_it_is(
    corpus: Corpus, knock: Knock, lasting: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = corpus.write(model={"base": str(saved), "device": "cpu"})
    assert knock("pairs", config) == EXIT_DONE
    train = ("train.require_audit=false", "train.max_steps=1")
    assert knock("train", config, *train) == EXIT_DONE
    artifact = corpus.folder / "store" / "train" / "small"
    monkeypatch.chdir(corpus.folder / "store")
    for base in (str(artifact), f"file://{artifact}", "train/small"):
        assert locate(ModelConfig(base=base)).folder == artifact / "v1" / "model"
    with (artifact / "v1" / "model" / "model.safetensors").open("r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"\xff")
    with pytest.raises(InputError, match="is not what the manifest promises"):
        locate(ModelConfig(base=str(artifact)))
    assert not lasting.exists()


def test_teachers_come_from_a_store_too(
    corpus: Corpus, stored: str, knock: Knock, lasting: Path, saved: Path
) -> None:
    config = corpus.write(model={"base": str(saved), "device": "cpu"})
    assert knock("pairs", config) == EXIT_DONE
    losses = ("train.objective=distill_embedding", f"train.distillation.teachers=[{stored}]")
    train = ("train.require_audit=false", "train.max_steps=1", *losses)
    assert knock("train", config, *train) == EXIT_DONE
    manifest = corpus.folder / "store" / "train" / "small" / "v1" / "manifest.json"
    told = json.loads(manifest.read_text())["inputs"]["teacher-0"]
    assert (told["name"], told["digest"]) == (stored, digest(saved))


# --- several at once, and killed ----------------------------------------------------------------


def test_of_several_processes_one_copies(stored: str, lasting: Path) -> None:
    started = [start(stored) for _ in range(3)]
    told = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [EXIT_DONE] * 3, told
    assert len({out for out, _ in told}) == 1
    assert len(copies(lasting)) == 1
    said = "".join(err for _, err in told)
    assert said.count("copying s3://") == 1, said
    assert leftovers(lasting) == []


def _large(saved: Path, url: str, tmp_path: Path) -> None:
    """The model, and a file that takes a moment."""
    upload(saved, url)
    (tmp_path / "large").write_bytes(os.urandom(60_000_000))
    Store(url).put(tmp_path / "large", "zzz/notes.txt")


def _until_copying(lasting: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not list(lasting.glob("models/.*/brought/zzz/.*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_the_middle_leaves_no_half_of_it(
    saved: Path, bucket: str, lasting: Path, tmp_path: Path, number: signal.Signals
) -> None:
    url = f"{bucket}/large"
    _large(saved, url, tmp_path)
    first = start(url)
    _until_copying(lasting, first)
    first.send_signal(number)
    _, said = first.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert first.returncode == EXIT_TRY_AGAIN, said
        assert leftovers(lasting) == []
    else:
        assert first.returncode == -number
        assert len(leftovers(lasting)) == 1
    assert copies(lasting) == []
    assert len(digest(url)) == 64
    assert leftovers(lasting) == []
    assert (copies(lasting)[0] / "files" / "zzz" / "notes.txt").stat().st_size == 60_000_000


def test_one_that_waits_goes_on_when_the_other_is_killed(
    saved: Path, bucket: str, lasting: Path, tmp_path: Path
) -> None:
    url = f"{bucket}/large"
    _large(saved, url, tmp_path)
    first = start(url)
    _until_copying(lasting, first)
    second = start(url)
    time.sleep(1.0)
    first.kill()
    first.communicate(timeout=60)
    out, said = second.communicate(timeout=120)
    assert second.returncode == EXIT_DONE, said
    assert Path(out.split()[0]).is_dir()


def test_without_a_cache_the_copy_ends_with_the_process(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CODEX_FORGE_CACHE", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    whole = start(stored)
    out, said = whole.communicate(timeout=60)
    assert whole.returncode == EXIT_DONE, said
    assert Path(out.split()[0]).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
    killed = start(stored, "wait")
    assert killed.stdout is not None
    left = Path(killed.stdout.readline().split()[0])
    assert left.is_dir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_folder("other"):
        assert left.is_dir()  # its owner lives
    killed.kill()
    killed.communicate(timeout=60)
    assert left.is_dir()
    with scratch_folder("other"):
        assert not left.exists()


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/../../escaped.json", "//escaped.json", "/a/./../b.json"])
def test_a_name_that_leaves_the_folder_is_refused(
    s3: Any, stored: str, lasting: Path, name: str
) -> None:
    from tests.servers.s3 import client

    bucket, _, prefix = stored.removeprefix("s3://").partition("/")
    client(s3).put_object(Bucket=bucket, Key=prefix + name, Body=b"{}")
    with pytest.raises(InputError, match="leaves its folder"):
        locate(ModelConfig(base=stored))
    assert list(lasting.rglob("*.json")) == []
    assert copies(lasting) == []


@pytest.mark.parametrize(
    ("base", "what", "do"),
    [
        ("{bucket}/models/none", "there is nothing", "give the folder of a model"),
        ("{bucket}/models", "holds no model", "give the folder of a model"),
        ("{bucket}/train/none", "there is no train artifact 'none'", "run python -m jobs.train"),
        ("https://example.org/model", "not read from a web address", "s3:// URL"),
        ("gopher://x/y", "gopher:// is not supported", "use a path or s3://"),
        ("s3://key:secret@bucket/m", "credentials do not belong in a URL", ""),
        ("file:///nowhere/model", "there is nothing", "give the folder of a model"),
    ],
)
def test_what_is_no_model_is_told(
    stored: str, bucket: str, lasting: Path, base: str, what: str, do: str
) -> None:
    with pytest.raises((ConfigError, InputError)) as refused:
        locate(ModelConfig(base=base.format(bucket=bucket)))
    assert refused.value.exit_code == EXIT_CHANGE_SOMETHING
    assert what in str(refused.value)
    assert do in refused.value.do
    assert "secret@" not in str(refused.value)
    assert not lasting.exists()


def test_a_model_without_weights_is_named_by_its_url(stored: str, lasting: Path) -> None:
    Store(stored).delete("model.safetensors")
    with pytest.raises(ConfigError) as refused:
        locate(ModelConfig(base=stored))
    assert f"model.base '{stored}' has no safetensors weights" in str(refused.value)


def test_a_cache_that_cannot_be_written_is_told(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CODEX_FORGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="set CODEX_FORGE_CACHE to a folder that may be written"):
        locate(ModelConfig(base=stored))


def test_a_store_that_is_down_is_tried_again(stored: str, lasting: Path) -> None:
    env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "CODEX_FORGE_STORE_PATIENCE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOCATING, stored],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_TRY_AGAIN
    assert "storage does not answer" in done.stderr


def test_a_model_that_changes_while_it_is_copied_is_not_taken(
    saved: Path, bucket: str, lasting: Path, tmp_path: Path
) -> None:
    url = f"{bucket}/large"
    _large(saved, url, tmp_path)
    process = start(url)
    _until_copying(lasting, process)
    Store(url).write("1_Pooling/config.json", b"{}")
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_TRY_AGAIN
    assert "the model changed while it was copied; run again" in said
    assert copies(lasting) == []


def test_pickles_are_never_asked_for() -> None:
    assert {"*.bin", "*.pt", "*.pkl"} <= set(fetching.NOT_NEEDED)
