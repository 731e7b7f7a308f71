"""Find a base model's files and give them an identity, without importing torch."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_forge.artifact import Input, hash_file, hash_json
from codex_forge.config.section import refuse_secret
from codex_forge.config.sections import ModelConfig
from codex_forge.errors import ConfigError
from codex_forge.model.checks import check_folder, code_elsewhere, read_json
from codex_forge.model.fetch import NOT_NEEDED, fetch

_IDENTITY = {".json", ".txt", ".model", ".safetensors", ".py"}
DOCUMENT = ("document", "passage", "corpus")
"""Names under which a model may hold the prompt of documents, the first one first."""


@dataclass(frozen=True)
class BaseModel:
    """A model folder on this machine, and what artifacts record of it."""

    folder: Path
    identity: Input


def locate(config: ModelConfig, key: str = "model.base") -> BaseModel:
    """Find the base model: a folder, a URL, `package:NAME/FOLDER`, or a model hub id.

    Args:
        config: names it.
        key: the config key that errors speak of.

    Raises:
        ConfigError: there is no such model here; says how to get it.
        InputError: the store that it is on refuses.
        TryAgain: that store does not answer now.
    """
    folder = _folder(config, key)
    name = f"{key} {config.base!r}"
    check_folder(folder, name, trust_remote_code=config.trust_remote_code)
    most = _json(folder / "config.json").get("max_position_embeddings")
    if config.max_seq_length and isinstance(most, int) and config.max_seq_length > most:
        raise ConfigError(
            f"the model reads at most {most} tokens",
            where=f"model.max_seq_length={config.max_seq_length}",
            do=f"set it to {most} or less",
        )
    digest = hash_json(_hashes(folder))
    if config.trust_remote_code and (others := code_elsewhere(folder)):
        code = {name: _hashes(_code_of(name, key)) for name in others}
        digest = hash_json([digest, code])
    return BaseModel(folder, Input("model", config.base, digest, digest))


def _hashes(folder: Path) -> list[list[str]]:
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and p.suffix in _IDENTITY and not {"onnx", "openvino"} & set(p.parts)
    )
    return [[p.relative_to(folder).as_posix(), hash_file(p)] for p in files]


def _folder(config: ModelConfig, key: str) -> Path:
    if config.base.startswith("package:"):
        return _in_package(config.base, key)
    if "://" in config.base:
        return _from_store(config.base, key)
    path = Path(config.base).expanduser()
    if path.is_dir():
        return fetch(str(path.resolve()), f"{key} {config.base!r}") if _is_trained(path) else path
    if config.base.startswith((".", "/", "~")):
        raise ConfigError("no such folder", where=f"{key} {config.base!r}", do="check it")
    return _from_hub(config, key)


def _is_trained(folder: Path) -> bool:
    """Whether it is that of a train artifact: its versions hold the model."""
    return folder.resolve().parent.name == "train" and not any(folder.glob("*.json"))


def _from_store(url: str, key: str) -> Path:
    try:
        refuse_secret(url)
    except ValueError as error:
        raise ConfigError(str(error), where=key) from error
    return fetch(url, f"{key} {url!r}")


def _in_package(base: str, key: str) -> Path:
    package, _, folder = base.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"no installed Python package {package!r}",
            where=f"{key} {base!r}",
            do=f"pip install {package.replace('_', '-')}",
        )
    root = Path(spec.origin).resolve().parent
    path = (root / folder).resolve()
    if not path.is_relative_to(root) or not path.is_dir():
        raise ConfigError(f"the package has no folder {folder!r}", where=f"{key} {base!r}")
    return path


def _from_hub(config: ModelConfig, key: str) -> Path:
    return _snapshot(
        config.base,
        f"{key} {config.base!r} is neither a folder nor a model that can be had from the hub",
        revision=config.revision,
        ignore_patterns=list(NOT_NEEDED),
    )


def _code_of(name: str, key: str) -> Path:
    """The code that a model borrows from another repository, so that it can be loaded off-line."""
    what = f"the code of {key} is in {name}, which cannot be had from the hub"
    return _snapshot(name, what, allow_patterns="*.py")


def _snapshot(name: str, otherwise: str, **options: Any) -> Path:
    """Files of the model hub, in its cache on this machine.

    Raises:
        ConfigError: says what cannot be done `otherwise`, and why.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(name, **options)
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() not in ("", "0", "FALSE", "NO")
        raise ConfigError(
            f"{otherwise} ({type(error).__name__})",
            do="HF_HUB_OFFLINE is set: set it to 0 to download, or give the folder of a model"
            if offline
            else "download it where there is internet and give its folder, or check the name",
        ) from error
    return Path(found)


def max_seq_length(folder: Path) -> int | None:
    """Tokens that the model keeps of a text, as its own files say; None when they do not."""
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
        ("config.json", "max_position_embeddings"),
    ):
        value = _json(folder / name).get(key)
        if isinstance(value, int) and 0 < value < 10**6:
            return value
    return None


def prompts(folder: Path) -> dict[str, str]:
    """The prompts that travel with a model: name (`query`, `document`) -> text put before.

    Some models call that of documents `passage` or `corpus`.
    """
    found = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    names = next((n for n in DOCUMENT if found.get(n)), DOCUMENT[0])
    found = {**found, DOCUMENT[0]: found.get(names)}
    return {name: text for name, text in found.items() if text}


def _json(path: Path) -> dict[str, Any]:
    tree = read_json(path) if path.is_file() else {}
    return tree if isinstance(tree, dict) else {}
