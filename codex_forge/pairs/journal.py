"""What a language model has answered, kept on the store: nothing is asked, or paid, twice.

    generated/<model>/answers/<sha256>.jsonl     some answers; written once, never changed
    generated/<model>/chosen/<fingerprint>.json  what one recipe made of them; the first counts

It stands beside the artifacts and in none of them: a changed recipe finds the answers again. The
name of an object of answers is the hash of its content, so that writers cannot disturb each other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Collection
from typing import Any

from codex_forge.pairs.endpoint import Answer
from codex_forge.progress import progress
from codex_forge.stopping import stop
from codex_forge.storage import Store

log = logging.getLogger("codex_forge")

FOLDER = "generated"
"""Of the store; no artifact has this name."""

_SECONDS = 2.0
_DEBRIS_SECONDS = 3600.0


def key_of(model: str, temperature: float, prompt: str) -> str:
    """Names one request; `prompt` holds the text that is asked about."""
    return _sha256(json.dumps([model, temperature, prompt]).encode())


class Journal:
    """The answers of one model on one store."""

    def __init__(self, store: Store, model: str, batch: int) -> None:
        """Nothing is read yet; answers are committed by `batch`, or after two seconds."""
        self._store, self._batch = store, batch
        self._folder = f"{FOLDER}/{_sha256(model.encode())[:16]}"
        self._new: dict[str, Answer] = {}
        self._since = time.monotonic()
        self.tokens = 0
        """That all answers took which were ever committed, and those to come."""

    @property
    def url(self) -> str:
        """Where it is."""
        return self._store.url(self._folder)

    def read(self, keys: Collection[str]) -> dict[str, Answer]:
        """The answers to some requests; counts the tokens of all."""
        if self._store.is_local:
            self._store.sweep(_DEBRIS_SECONDS, self._folder)  # of writers that were cut off
        found: dict[str, Answer] = {}
        tokens: dict[str, int] = {}
        paths = self._store.list(f"{self._folder}/answers")
        for path in progress(paths, "pieces of the journal read"):
            for key, answer in self._answers(path):
                tokens[key] = answer.tokens
                if key in keys:
                    found.setdefault(key, answer)
        self.tokens = sum(tokens.values())
        return found

    def add(self, key: str, answer: Answer) -> None:
        """Take an answer, and commit it with others soon."""
        if not self._new:
            self._since = time.monotonic()
        self._new[key] = answer
        self.tokens += answer.tokens
        if len(self._new) >= self._batch or time.monotonic() - self._since > _SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write what is not written yet, also when the process was asked to stop."""
        if not self._new:
            return
        with stop.held():
            lines = [json.dumps({"key": key, **a._asdict()}) for key, a in self._new.items()]
            data = "".join(f"{line}\n" for line in lines).encode()
            self._store.write(f"{self._folder}/answers/{_sha256(data)}.jsonl", data)
            self._new.clear()

    def chosen(self, fingerprint: str) -> Any:
        """What was chosen for a recipe; None when nothing was yet."""
        path = self._chosen(fingerprint)
        if not self._store.exists(path):
            return None
        try:
            tree = json.loads(self._store.read(path))
            if tree["sum"] == _sha256(json.dumps(tree["chosen"]).encode()):
                return tree["chosen"]
        except (ValueError, KeyError, TypeError):
            pass
        log.warning("  damaged, and made again: %s", self._store.url(path))
        self._store.delete(path)
        return None

    def choose(self, fingerprint: str, value: Any) -> Any:
        """Settle what is chosen for a recipe; of several who do, the first one's is returned."""
        tree = {"chosen": value, "sum": _sha256(json.dumps(value).encode())}
        with stop.held():
            if self._store.create(self._chosen(fingerprint), json.dumps(tree).encode()):
                return value
        return self.chosen(fingerprint) or value

    def _chosen(self, fingerprint: str) -> str:
        return f"{self._folder}/chosen/{fingerprint}.json"

    def _answers(self, path: str) -> list[tuple[str, Answer]]:
        """The answers in one object; none when it is not what was written."""
        data = self._store.read(path)
        if f"{_sha256(data)}.jsonl" != path.rpartition("/")[2]:
            log.warning("  damaged, and passed over: %s", self._store.url(path))
            return []
        records = (json.loads(line) for line in data.splitlines())
        return [(record.pop("key"), Answer(**record)) for record in records]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
