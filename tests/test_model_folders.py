"""Model folders that are damaged, or want to run code: named before anything is spent on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codex_forge.config.sections import ModelConfig
from codex_forge.errors import EXIT_CHANGE_SOMETHING, EXIT_DONE, ConfigError
from codex_forge.model.encoder import Encoder, load_base, load_trained
from codex_forge.model.locate import locate, prompts
from tests.conftest import ROOT, Corpus, Knock
from tests.tiny_models import tiny_model

CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel

Path({told!r}).touch()


class MarvelConfig(BertConfig):
    model_type = "marvel"


class MarvelModel(BertModel):
    config_class = MarvelConfig
"""
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 90868376\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as sentence-transformers saves one."""
    made, found = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("saved")
    tiny_model("Bert", made).save_pretrained(str(found))
    return found


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "model")


def refusal(folder: Path, **settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        locate(ModelConfig(base=str(folder), **settings))
    assert refused.value.exit_code == EXIT_CHANGE_SOMETHING
    assert refused.value.do
    return refused.value


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def shorten(path: Path, to: float) -> None:
    found = path.read_bytes()
    path.write_bytes(found[: int(len(found) * to)])


# --- damaged -----------------------------------------------------------------------------------


def test_a_whole_folder_is_located_and_loads(folder: Path) -> None:
    config = ModelConfig(base=str(folder), device="cpu")
    assert load_base(locate(config).folder, config).encode(["w1 w2"]).shape == (1, 32)


def test_weights_that_are_cut_short_say_how_much_is_there(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.stat().st_size
    shorten(weights, 0.5)
    told = refusal(folder)
    assert told.where == str(weights)
    assert told.what == f"has {whole // 2:,} of its {whole:,} bytes"


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "holds no safetensors, or is cut short"),
        (b"\x20\0\0\0\0\0\0\0{", "holds no safetensors, or is cut short"),
        (b"\x80\x02}q\x00." * 400, "holds no safetensors, or is cut short"),
        (LFS.encode(), "is a pointer of Git LFS, not the weights"),
    ],
)
def test_weights_that_are_none_are_named(folder: Path, content: bytes, words: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    told = refusal(folder)
    assert told.where == str(folder / "model.safetensors")
    assert told.what == words


def test_a_missing_part_of_the_weights_is_named(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    parts = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": parts}))
    told = refusal(folder)
    assert told.where == str(index)
    assert told.what == "names model-00002-of-00002.safetensors, which is not there"


@pytest.mark.parametrize("file", ["config.json", "modules.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"{", b"", b'{"a": "\xe9"}'])
def test_a_damaged_json_file_is_named(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    told = refusal(folder)
    assert told.where == str(folder / file)
    assert told.what.startswith("is no JSON (")


def test_a_model_without_a_vocabulary_is_refused(folder: Path) -> None:
    """The libraries load it, and read every word as unknown."""
    (folder / "tokenizer.json").unlink()
    assert refusal(folder).what == f"model.base '{folder}' has no tokenizer"
    edit(folder / "tokenizer_config.json", tokenizer_class="ByT5Tokenizer")
    assert locate(ModelConfig(base=str(folder))).folder == folder


def test_a_module_without_its_folder_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "1_Pooling")
    assert "has no folder 1_Pooling, which its modules.json names" in refusal(folder).what


def test_a_module_with_nothing_to_save_needs_no_folder(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    kind = "sentence_transformers.models.Normalize"
    modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))
    assert locate(ModelConfig(base=str(folder))).folder == folder


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path).what == f"model.base '{tmp_path}' holds no model"
    (tmp_path / "config.json").write_text("{}")
    assert "has no safetensors weights" in refusal(tmp_path).what


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hidden_size": 64}, "mismatch"),
        ({"model_type": "marvel"}, "marvel"),
    ],
)
def test_what_only_loading_shows_is_told_with_the_folder(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    edit(folder / "config.json", **changes)
    config = ModelConfig(base=str(folder), device="cpu")
    for load in (load_base, load_trained):
        with pytest.raises(ConfigError, match=words) as refused:
            load(locate(config).folder, config)
        assert refused.value.where == str(folder)
        assert refused.value.what.startswith("the model cannot be loaded (")


def test_looking_at_a_folder_imports_no_torch(folder: Path) -> None:
    code_of_its_own(folder)
    program = f"""
import sys
from codex_forge.config.sections import ModelConfig
from codex_forge.errors import ConfigError
from codex_forge.model.locate import locate
try:
    locate(ModelConfig(base={str(folder)!r}))
except ConfigError:
    print(sorted({{"torch", "transformers", "sentence_transformers"}} & set(sys.modules)))
"""
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


def test_jobs_end_with_2_and_say_what_to_do(
    corpus: Corpus, folder: Path, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    config = corpus.write(train={"require_audit": False})
    assert knock("pairs", config) == EXIT_DONE
    shorten(folder / "model.safetensors", 0.9)
    for mode in ("audit", "train"):
        capsys.readouterr()
        assert knock(mode, config, f"model.base={folder}") == EXIT_CHANGE_SOMETHING
        told = capsys.readouterr().err
        assert f"error: {folder / 'model.safetensors'}: has " in told
        assert "copy or download the model again" in told
        assert "Traceback" not in told


# --- code of its own ---------------------------------------------------------------------------


def code_of_its_own(folder: Path, told: Path | str = "/nowhere/x", repository: str = "") -> None:
    """Make a model one that needs Python code, from its folder or from a repository of the hub."""
    before = f"{repository}--" if repository else ""
    names = {"AutoConfig": "MarvelConfig", "AutoModel": "MarvelModel"}
    edit(
        folder / "config.json",
        model_type="marvel",
        auto_map={key: f"{before}marvel.{name}" for key, name in names.items()},
    )
    if not repository:
        (folder / "marvel.py").write_text(CODE.format(told=str(told)))


def test_code_is_refused_before_it_could_run(folder: Path, tmp_path: Path) -> None:
    code_of_its_own(folder, tmp_path / "ran")
    told = refusal(folder)
    assert told.where == str(folder / "config.json")
    assert told.what == f"model.base '{folder}' needs Python code of its own (marvel.MarvelModel)"
    assert "model.trust_remote_code=true runs it" in told.do
    for load in (load_base, load_trained):
        with pytest.raises(ConfigError, match="needs Python code of its own"):
            load(folder, ModelConfig(base=str(folder), device="cpu"))
    assert not (tmp_path / "ran").exists()


def test_modules_that_are_not_the_librarys_are_refused(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    told = refusal(folder)
    assert told.where == str(folder / "modules.json")
    assert "(custom_st.Transformer)" in told.what


def test_trusted_code_runs_and_gives_the_same_vectors(folder: Path, tmp_path: Path) -> None:
    plain = ModelConfig(base=str(folder), device="cpu")
    expected = Encoder(load_base(folder, plain)).encode_query(["w1 w2 w3"])
    code_of_its_own(folder, tmp_path / "ran")
    trusting = plain.model_copy(update={"trust_remote_code": True})
    found = Encoder(load_base(locate(trusting).folder, trusting)).encode_query(["w1 w2 w3"])
    assert (tmp_path / "ran").exists()
    assert np.array_equal(found, expected)


def test_an_architecture_that_the_library_has_runs_no_code(folder: Path, tmp_path: Path) -> None:
    """As that of nomic-embed-text-v1.5, whose folder also names code."""
    (folder / "marvel.py").write_text(CODE.format(told=str(tmp_path / "ran")))
    edit(folder / "config.json", auto_map={"AutoModel": "marvel.MarvelModel"})
    config = ModelConfig(base=str(folder), device="cpu")
    load_base(locate(config).folder, config)
    assert not (tmp_path / "ran").exists()


def test_code_of_another_repository_is_fetched_and_part_of_the_identity(
    folder: Path, tmp_path: Path
) -> None:
    """As that of gte-large-en-v1.5. The hub's cache is set when Python starts: hence processes."""
    code_of_its_own(folder, repository="org/impl")
    home = tmp_path / "home"
    locating = f"""
from codex_forge.config.sections import ModelConfig
from codex_forge.model.locate import locate
config = ModelConfig(base={str(folder)!r}, device="cpu", trust_remote_code=True)
found = locate(config)
print(found.identity.digest)
"""
    loading = f"""{locating}
from codex_forge.model.encoder import load_base
assert load_base(found.folder, config).encode(["w1"]).shape == (1, 32)
"""
    refused = _python(locating, home)
    assert refused.returncode != EXIT_DONE
    words = "the code of model.base is in org/impl, which cannot be had from the hub"
    assert words in refused.stderr
    _in_cache(home, "org/impl", "a" * 40, CODE.format(told=str(tmp_path / "ran")))
    digests = {_python(locating, home).stdout.split()[-1]}
    assert not (tmp_path / "ran").exists()
    _in_cache(home, "org/impl", "b" * 40, CODE.format(told=str(tmp_path / "ran")))
    loaded = _python(loading, home)
    assert loaded.returncode == EXIT_DONE, loaded.stderr
    assert (tmp_path / "ran").exists()
    digests.add(loaded.stdout.split()[-1])
    assert len(digests) == 1  # the same code in another commit
    _in_cache(home, "org/impl", "c" * 40, CODE.format(told=str(tmp_path / "ran-other")))
    assert _python(locating, home).stdout.split()[-1] not in digests


def _python(program: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _in_cache(home: Path, repository: str, commit: str, code: str) -> None:
    """Code as the hub's client keeps it."""
    cache = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = cache / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "marvel.py").write_text(code)
    (cache / "refs").mkdir(exist_ok=True)
    (cache / "refs" / "main").write_text(commit)


# --- prompts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_prompts_of_the_model_are_used_whatever_it_calls_them(folder: Path, name: str) -> None:
    edit(
        folder / "config_sentence_transformers.json",
        prompts={"query": "w1 ", name: "w2 ", "clustering": "w3 "},
    )
    assert prompts(folder)["document"] == "w2 "
    model = load_base(folder, ModelConfig(base=str(folder), device="cpu"))
    assert (model.prompts["query"], model.prompts["document"]) == ("w1 ", "w2 ")
    encoder = Encoder(model)
    as_they_are = model.encode(["w1 w7", "w2 w7"], normalize_embeddings=True)
    assert np.allclose(encoder.encode_query(["w7"]), as_they_are[:1], atol=1e-6)
    assert np.allclose(encoder.encode_document(["w7"]), as_they_are[1:], atol=1e-6)


def test_prompts_of_the_config_win_and_travel_with_the_model(folder: Path, tmp_path: Path) -> None:
    edit(folder / "config_sentence_transformers.json", prompts={"query": "w1 ", "passage": "w2 "})
    config = ModelConfig(base=str(folder), device="cpu", document_prompt="w5 ")
    load_base(folder, config).save_pretrained(str(tmp_path / "trained"))
    again = load_trained(tmp_path / "trained", ModelConfig(base="any", device="cpu"))
    assert (again.prompts["query"], again.prompts["document"]) == ("w1 ", "w5 ")
