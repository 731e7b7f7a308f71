"""Every distinct text of a training, tokenised once: its token ids lie in a file, not in memory.

What stays in memory is a number and a hash for each text, about 150 bytes.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

QUERY, DOCUMENT = "query", "document"
ROLES = (QUERY, DOCUMENT)
_BLOCK = 1024
_CHECKED = 8
_THREADS = min(16, os.cpu_count() or 1)


class TextTable:
    """Texts by number. A text has a role, `query` or `document`, which decides its prompt."""

    def __init__(self, model: SentenceTransformer, folder: Path) -> None:
        """Token ids and texts go into files in `folder`, which must exist."""
        self._model = model
        self._ids_file, self._texts_file = folder / "ids.bin", folder / "texts.bin"
        self._ids_file.write_bytes(b"")
        self._texts_file.write_bytes(b"")
        self._numbers: dict[bytes, int] = {}
        self._roles = bytearray()
        self._lengths = array("i")
        self._ends, self._text_ends = array("q", [0]), array("q", [0])
        self._waiting: list[str] = []
        self._written: list[bytes] = []
        self._digest = hashlib.blake2b(digest_size=16)
        self._tokenizer = _untied(model)
        self._pool = ThreadPoolExecutor(_THREADS)
        self._plain: bool | None = None if self._tokenizer else False
        self._known_lengths = np.zeros(0, dtype=np.int32)
        self._mapped: NDArray[np.int32] | None = None
        self._mapped_texts: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self._roles)

    def add(self, text: str, role: str) -> int:
        """The number of a text; the same text in the same role has one."""
        key = hashlib.blake2b(f"{role}\0{text}".encode(), digest_size=16).digest()
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._roles)
            self._roles.append(ROLES.index(role))
            self._digest.update(key)
            encoded = text.encode()
            self._written.append(encoded)
            self._text_ends.append(self._text_ends[-1] + len(encoded))
            self._waiting.append(self.prompt(role) + text)
            self._mapped = self._mapped_texts = None
            if len(self._waiting) == _BLOCK:
                self._tokenise()
        return number

    def add_all(self, texts: Sequence[str], role: str) -> NDArray[np.int32]:
        """The numbers of texts of one role, shape (texts,)."""
        return np.fromiter((self.add(text, role) for text in texts), np.int32, len(texts))

    def prompt(self, role: str) -> str:
        """What the model wants before texts of a role."""
        return self._model.prompts.get(role) or ""

    @property
    def digest(self) -> str:
        """Hash of all texts and roles in their order."""
        return self._digest.hexdigest()

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each text after truncation, special ones and prompt included."""
        self._tokenise()
        if len(self._known_lengths) != len(self._lengths):
            self._known_lengths = np.array(self._lengths, dtype=np.int32)
        return self._known_lengths

    def role(self, number: int) -> str:
        """`query` or `document`."""
        return ROLES[self._roles[number]]

    def text(self, number: int) -> str:
        """A text, without its prompt."""
        if self._mapped_texts is None:
            self._tokenise()
            self._mapped_texts = _map(self._texts_file, np.uint8)
        start, end = self._text_ends[number], self._text_ends[number + 1]
        return self._mapped_texts[start:end].tobytes().decode()

    def ids(self, number: int) -> NDArray[np.int32]:
        """The token ids of a text as the model reads it: prompt and special tokens included."""
        if self._mapped is None:
            self._tokenise()
            self._mapped = _map(self._ids_file, np.int32)
        return self._mapped[self._ends[number] : self._ends[number + 1]]

    def _tokenise(self) -> None:
        """Write the texts that wait, and their token ids, behind those that were written."""
        if not self._waiting:
            return
        found = [np.asarray(ids, dtype=np.int32) for ids in self._token_ids(self._waiting)]
        with self._ids_file.open("ab") as out:
            out.writelines(ids.tobytes() for ids in found)
        with self._texts_file.open("ab") as out:
            out.writelines(self._written)
        for ids in found:
            self._lengths.append(len(ids))
            self._ends.append(self._ends[-1] + len(ids))
        self._waiting.clear()
        self._written.clear()

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        """Ids as the model's own preprocessing gives them, by its tokenizer alone where that does.

        Some models do more than their tokenizer (templates, query expansion): a look at a few
        texts tells.
        """
        if self._plain is None:
            few = sorted(texts, key=len)[:: max(1, len(texts) // _CHECKED)]
            self._plain = self._by_tokenizer(few) == self._by_model(few)
        return self._by_tokenizer(texts) if self._plain else self._by_model(texts)

    def _by_tokenizer(self, texts: list[str]) -> list[list[int]]:
        size = max(16, -(-len(texts) // (2 * _THREADS)))
        parts = [texts[at : at + size] for at in range(0, len(texts), size)]
        # The library lets go of the interpreter while it works, so that threads share a block.
        encode = self._tokenizer.encode_batch_fast
        return [found.ids for part in self._pool.map(encode, parts) for found in part]

    def _by_model(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = []
        for start in range(0, len(texts), 64):
            features: dict[str, Any] = self._model.preprocess(texts[start : start + 64])
            for ids, mask in zip(features["input_ids"], features["attention_mask"], strict=True):
                found.append(ids[mask.bool()].tolist())
        return found


def _untied(model: SentenceTransformer) -> Any:
    """A copy of the model's fast tokenizer that truncates as the model does; None without one."""
    from tokenizers import Tokenizer

    fast = getattr(model.tokenizer, "backend_tokenizer", None)
    if fast is None:
        return None
    copy = Tokenizer.from_str(fast.to_str())
    copy.no_padding()
    if model.max_seq_length is not None:
        copy.enable_truncation(model.max_seq_length)
    return copy


def _map(path: Path, kind: Any) -> NDArray[Any]:
    """A file as an array that is read where it is looked at."""
    if not path.stat().st_size:
        return np.zeros(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")
