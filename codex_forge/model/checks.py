"""A model folder is looked over before anything is spent on it: what is damaged, missing or not
allowed is named, with its file; torch-free.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_forge.errors import ConfigError

_READ = (
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors.index.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""JSON files that the libraries read."""
_VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.spm", "*.bpe",
    "whitespacetokenizer_config.json", "phrasetokenizer_config.json",
)  # fmt: skip
_BYTE_TOKENIZERS = ("ByT5", "Canine", "Perceiver")
"""They have no vocabulary."""
_WITHOUT_FOLDER = ("Normalize",)
"""Modules of the library that have nothing to save: a copy may leave their empty folders out."""
_LIBRARY = "sentence_transformers."
_LFS = b"version https://git-lfs"
_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000
_AGAIN = "copy or download the model again"


def check_folder(folder: Path, name: str, *, trust_remote_code: bool) -> None:
    """Refuse a folder that no model can be loaded from.

    Args:
        folder: with the files of a model; its weights are looked at, not read.
        name: what errors call the model: `model.base 'my-model'`.
        trust_remote_code: whether code that the model brings may run.

    Raises:
        ConfigError: says which file is missing, damaged, or wants code to be run.
    """
    if not any(folder.glob("*.json")):
        raise ConfigError(
            f"{name} holds no model",
            where=folder,
            do="give a folder with a config.json and safetensors weights",
        )
    for path in folder.rglob("*.json"):
        if path.name in _READ:
            read_json(path)
    _check_weights(folder, name)
    _check_tokenizer(folder, name)
    _check_modules(folder, name)
    if not trust_remote_code:
        _check_code(folder, name)


def read_json(path: Path) -> Any:
    """What a JSON file of a model holds.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:  # UnicodeDecodeError too
        raise ConfigError(f"is no JSON ({error})", where=path, do=_AGAIN) from error


def _check_weights(folder: Path, name: str) -> None:
    files = [path for path in folder.rglob("*.safetensors") if path.is_file()]
    if not files:
        raise ConfigError(
            f"{name} has no safetensors weights (pickled ones are not loaded)",
            where=folder,
            do="convert it with model.save_pretrained(..., safe_serialization=True)",
        )
    for path in files:
        _check_file(path)
    for index in folder.rglob("model.safetensors.index.json"):
        for part in sorted(set(read_json(index).get("weight_map", {}).values())):
            if not (index.parent / part).is_file():
                raise ConfigError(f"names {part}, which is not there", where=index, do=_AGAIN)


def _check_file(path: Path) -> None:
    """Its header says how many bytes there must be: https://github.com/huggingface/safetensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(len(_LFS))
        if begin == _LFS:
            raise ConfigError(
                "is a pointer of Git LFS, not the weights", where=path, do="run git lfs pull there"
            )
        length = _LENGTH.unpack_from(begin.ljust(_LENGTH.size, b"\0"))[0]
        file.seek(_LENGTH.size)
        header = file.read(min(length, _LONGEST_HEADER))
    try:
        tensors = json.loads(header)
        ends = [0, *(t["data_offsets"][1] for n, t in tensors.items() if n != "__metadata__")]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        what = "holds no safetensors, or is cut short"
        raise ConfigError(what, where=path, do=_AGAIN) from error
    whole = _LENGTH.size + length + max(ends)
    if size != whole:
        raise ConfigError(f"has {size:,} of its {whole:,} bytes", where=path, do=_AGAIN)


def _check_tokenizer(folder: Path, name: str) -> None:
    """The library makes up an empty vocabulary where there is none."""
    if any(path.is_file() for pattern in _VOCABULARIES for path in folder.rglob(pattern)):
        return
    for path in folder.rglob("tokenizer_config.json"):
        if str(read_json(path).get("tokenizer_class")).startswith(_BYTE_TOKENIZERS):
            return
    raise ConfigError(f"{name} has no tokenizer", where=folder, do=_AGAIN)


def _check_modules(folder: Path, name: str) -> None:
    for kind, path in _modules(folder):
        is_needed = kind.startswith(_LIBRARY) and not kind.endswith(_WITHOUT_FOLDER)
        if is_needed and path and not (folder / path).is_dir():
            raise ConfigError(
                f"{name} has no folder {path}, which its modules.json names",
                where=folder,
                do=_AGAIN,
            )


def _check_code(folder: Path, name: str) -> None:
    for where, code, is_needed in _code(folder):
        if is_needed:
            raise ConfigError(
                f"{name} needs Python code of its own ({code})",
                where=where,
                do="read that code; model.trust_remote_code=true runs it, and it may do all that "
                "you may",
            )


def code_elsewhere(folder: Path) -> list[str]:
    """Model hub ids of the repositories whose code a trusted model runs, its own aside."""
    return sorted({code.split("--")[0] for _, code, _ in _code(folder) if "--" in code})


def _code(folder: Path) -> Iterator[tuple[Path, str, bool]]:
    """The file that names code, the class, and whether the model cannot be loaded without it."""
    for kind, _ in _modules(folder):
        if kind and not kind.startswith(_LIBRARY):
            yield folder / "modules.json", kind, True
    for path in sorted([*folder.glob("config.json"), *folder.glob("*/config.json")]):
        config = _mapping(read_json(path))
        named = _mapping(config.get("auto_map"))
        for key in ("AutoModel", "AutoConfig"):
            if key in named:
                yield path, str(named[key]), not _is_known(str(config.get("model_type")))


def _is_known(model_type: str) -> bool:
    """Whether `transformers` has this architecture; looked up in its text, as importing it is slow.

    It is then loaded without code of the model's own, as long as that is not trusted.
    """
    found = importlib.util.find_spec("transformers")
    folders = (found and found.submodule_search_locations) or []
    lists = (path for folder in folders for path in Path(folder).glob("models/auto/*.py"))
    return any(f'("{model_type}", ' in path.read_text(encoding="utf-8") for path in lists)


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Class and folder of each module of a sentence-transformers model."""
    path = folder / "modules.json"
    found = read_json(path) if path.is_file() else []
    if not isinstance(found, list):
        raise ConfigError("is no list of modules", where=path, do=_AGAIN)
    return [(str(m.get("type") or ""), str(m.get("path") or "")) for m in map(_mapping, found)]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
