"""A model on a store: a folder of files, or a train artifact; copied to this machine, once.

What a copy is filed under follows from the URL and the state of each file there: a model that
changed is another one.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from codex_forge.artifact import Artifact, hash_json, open_artifact
from codex_forge.errors import ConfigError, InputError, NotFound, TryAgain
from codex_forge.model.copies import Source, copy_of
from codex_forge.storage import Store

NOT_NEEDED = (
    "*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.onnx", "*.h5", "*.msgpack", "*.ot",
    "onnx/*", "openvino/*",
)  # fmt: skip
"""Files of a model that are never loaded: pickles, and what is for other engines."""


def fetch(url: str, name: str) -> Path:
    """A local folder with the files of the model at a URL, copied unless it is there.

    Args:
        url: of a model's folder (`s3://bucket/models/x`), or of a train artifact
            (`s3://bucket/forge/train/wiki`), which means its whole and newest model.
        name: what errors call the model: `model.base 's3://...'`.

    Raises:
        ConfigError: there is no model, or no room is given for a copy.
        InputError: the store refuses, or a file's name leaves its folder.
        TryAgain: the store does not answer, or the model is being replaced.
    """
    source = _source(url, name)
    return source if isinstance(source, Path) else copy_of(source, url)


class _Model(NamedTuple):
    """A folder of files, as `save_pretrained` or the model hub's client made it."""

    store: Store
    states: dict[str, str]

    @property
    def key(self) -> str:
        return hash_json([self.store.root, sorted(self.states.items())])

    def bring(self, into: Path) -> Path:
        where = self.store.url()
        for name in self.states:
            if not _is_plain(name):
                what = f"the name of file {name!r} leaves its folder"
                raise InputError(what, where=where, do="remove it there")
        try:
            for name in self.states:
                self.store.get(name, into / name)
        except NotFound as error:
            raise _is_changing(where) from error
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            what = f"{name!r} is a file and a folder at once"
            raise InputError(what, where=where, do="remove one of them") from error
        if _states(self.store) != self.states:
            raise _is_changing(where)
        return into


class _Trained(NamedTuple):
    """The model of a train artifact, whose manifest promises each file's sha256."""

    store: Store
    name: str
    artifact: Artifact

    @property
    def key(self) -> str:
        return hash_json([self.artifact.url, self.artifact.digest])

    def bring(self, into: Path) -> Path:
        found = open_artifact(self.store, "train", self.name, into)
        if found.digest != self.artifact.digest:
            raise _is_changing(self.artifact.url)
        return found.path_of_folder("model")


def _source(url: str, name: str) -> Source | Path:
    """Where the model is; a folder of this machine is used as it is."""
    if url.startswith(("http://", "https://")):
        raise ConfigError(
            "a model is not read from a web address",
            where=name,
            do="give its model hub id, its folder, or its s3:// URL",
        )
    store = Store(url)
    states = _states(store)
    if any(name.endswith(".json") and "/" not in name for name in states):
        return Path(store.root) if store.is_local else _Model(store, states)
    above, _, last = store.root.rpartition("/")
    root, _, kind = above.rpartition("/")
    if kind != "train" or root.endswith(":/"):  # a bucket of that name is no store
        what = "holds no model (no config.json)" if states else "there is nothing"
        do = "give the folder of a model, or of a train artifact: STORE/train/NAME"
        raise ConfigError(what, where=name, do=do)
    found = Store(root or "/")
    artifact = open_artifact(found, "train", last, Path())
    return artifact.path_of_folder("model") if store.is_local else _Trained(found, last, artifact)


def _states(store: Store) -> dict[str, str]:
    """The states of the files that are needed."""
    found = store.states("")
    needed = (n for n in found if not any(fnmatch(n, pattern) for pattern in NOT_NEEDED))
    return {name: found[name] for name in sorted(needed)}


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    whole = str(path) == name and not path.is_absolute() and ".." not in path.parts
    return whole and "\\" not in name and "\0" not in name


def _is_changing(where: str) -> TryAgain:
    return TryAgain("the model changed while it was copied", where=where, do="run again")
