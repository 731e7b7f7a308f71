"""Load an embedding model from its folder (imports torch)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from codex_forge.config.sections import ModelConfig
from codex_forge.errors import ConfigError
from codex_forge.model.locate import prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MOST_SAID = 300
"""Letters of what a library says that are repeated."""


def load_base(folder: Path, config: ModelConfig) -> SentenceTransformer:
    """Load the base model of a run, with the config's prompts and length put on it.

    Raises:
        ConfigError: it cannot be loaded.
    """
    model = _load(folder, config)
    if config.max_seq_length is not None:
        model.max_seq_length = config.max_seq_length
    given = {"query": config.query_prompt, "document": config.document_prompt}
    given = {name: text for name, text in given.items() if text}
    model.prompts = {**model.prompts, **prompts(folder), **given}
    return model


def load_trained(folder: Path, config: ModelConfig) -> SentenceTransformer:
    """Load a model that `train` wrote; prompts and length are its own.

    Raises:
        ConfigError: it cannot be loaded.
    """
    return _load(folder, config)


def _load(folder: Path, config: ModelConfig) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from torch import cuda
    from transformers.utils import logging as transformers_logging

    if config.device == "cuda" and not cuda.is_available():
        raise ConfigError("there is no CUDA device here", where="model.device", do="set it to auto")

    transformers_logging.disable_progress_bar()
    with loading(folder):
        return SentenceTransformer(
            str(folder),
            device=None if config.device == "auto" else config.device,
            trust_remote_code=config.trust_remote_code,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Make an error of the libraries, which load a model in this block, one that names its folder.

    Raises:
        ConfigError: the folder's files do not make a model, or code of its own may not run.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (
        AttributeError, ImportError, LookupError, OSError, SafetensorError, TypeError, ValueError,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise  # the disk's
        raise _not_loaded(folder, error) from error
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise  # the device's
        raise _not_loaded(folder, error) from error


def _not_loaded(folder: Path, error: Exception) -> ConfigError:
    said = " ".join(str(error).split())
    if "trust_remote_code" in said:
        return ConfigError(
            "the model needs Python code of its own",
            where=folder,
            do="read that code; model.trust_remote_code=true runs it, and it may do all that "
            "you may",
        )
    said = said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]}..."
    return ConfigError(
        f"the model cannot be loaded ({type(error).__name__}: {said})",
        where=folder,
        do="copy or download it again, or take another",
    )
