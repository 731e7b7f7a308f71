"""Divide ready-made records into train, dev and test, so that no text stands on two sides.

A part that the data gives wins. Of the rest, records that share a query, a positive or a text of a
scored pair stay together (connected components, by scipy), and with one that has a part. They are
dealt out along the domains, categories and phases, so that every part has each in its share.
Memory holds hashes only, no texts.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge.config.pairs import SplitConfig
from codex_forge.entities import normalise
from codex_forge.hashes import text_hash
from codex_forge.records import PARTS, ReadyPair, ScoredPair
from codex_forge.seeded import draw

log = logging.getLogger("codex_forge")

_NONE = -1
_FIELDS = ("domain", "category", "phase")


@dataclass(frozen=True)
class ReadySplit:
    """Who is where, by the position of a record in its stream."""

    parts: list[str]
    group_of: NDArray[np.int32]
    """Number of the group that a record stays together with."""
    groups: int
    largest_group: int
    given: int
    """Records whose part the data gave."""


class _Groups(NamedTuple):
    """What is dealt out, by the number of a group."""

    sizes: NDArray[np.int64]
    strata: NDArray[np.int32]
    keys: NDArray[np.uint64]
    """Hashes of ids, by which chance is drawn: the same in whatever order the records come."""


class _Facts:
    """What the split needs of each record."""

    def __init__(self, group_by: Sequence[str]) -> None:
        self._fields = [name for name in group_by if name in _FIELDS]
        self.keys = [array("Q") for _ in range(2 + len(self._fields))]
        self.ids, self.strata, self.given = array("Q"), array("i"), array("b")
        self.names: dict[tuple[str, str, str, str], int] = {}

    def add(self, record: ReadyPair | ScoredPair) -> None:
        """Take in one more."""
        found = [text_hash("text", normalise(text)) for text in _texts(record)]
        for name in self._fields:
            value = getattr(record, name)
            found.append(text_hash(name, normalise(value)) if value else found[0])
        for column, key in zip(self.keys, found, strict=True):
            column.append(key)
        kind = type(record).__name__
        stratum = (kind, record.domain, record.category, record.phase)
        self.strata.append(self.names.setdefault(stratum, len(self.names)))
        self.ids.append(text_hash(record.pair_id))
        self.given.append(PARTS.index(record.part) if record.part else _NONE)

    def ranks(self) -> NDArray[np.int32]:
        """Place of each stratum in the order of their names."""
        ordered = {name: rank for rank, name in enumerate(sorted(self.names))}
        return np.array([ordered[name] for name in self.names], dtype=np.int32)


def _texts(record: ReadyPair | ScoredPair) -> tuple[str, str]:
    """The texts that may stand on one side only; a negative says nothing of its query."""
    if isinstance(record, ScoredPair):
        return record.text_a, record.text_b
    return record.query, record.positive


def split_ready(
    records: Iterable[ReadyPair | ScoredPair], config: SplitConfig, seed: int
) -> ReadySplit:
    """The part of each record; the same seed gives the same split.

    A group that is larger than the test part is to be goes to train: what is left can then still
    be held out. `split.by` concerns the corpus alone; `split.group_by` may name `domain`,
    `category` or `phase`. With folds, test is the fold that is held out.
    """
    facts = _Facts(config.group_by)
    for record in records:
        facts.add(record)
    if not facts.ids:
        return ReadySplit([], np.zeros(0, dtype=np.int32), 0, 0, 0)
    group_of = _components([np.frombuffer(column, dtype=np.uint64) for column in facts.keys])
    given = np.frombuffer(facts.given, dtype=np.int8)
    dealt = np.full(int(group_of.max()) + 1, _NONE, dtype=np.int8)
    np.maximum.at(dealt, group_of, given)  # the most protected part that any of a group has
    groups = _groups(facts, group_of)
    for number, part in _deal(np.flatnonzero(dealt == _NONE), groups, config, seed):
        dealt[number] = PARTS.index(part)
    parts = np.where(given == _NONE, dealt[group_of], given)
    return ReadySplit(
        parts=[PARTS[part] for part in parts],
        group_of=group_of,
        groups=len(groups.sizes),
        largest_group=int(groups.sizes.max()),
        given=int((given != _NONE).sum()),
    )


def _components(keys: Sequence[NDArray[np.uint64]]) -> NDArray[np.int32]:
    """Number of the component of each record; records with an equal key are in one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(keys[0])
    distinct, key_of = np.unique(np.concatenate(keys), return_inverse=True)
    record_of = np.tile(np.arange(count), len(keys))
    size = count + len(distinct)
    ones = np.ones(len(key_of), dtype=np.bool_)
    graph = coo_array((ones, (record_of, count + key_of.ravel())), shape=(size, size))
    labels: Any = connected_components(graph, directed=False)[1][:count]
    return np.unique(labels, return_inverse=True)[1].astype(np.int32).ravel()


def _groups(facts: _Facts, group_of: NDArray[np.int32]) -> _Groups:
    """Every group, known by the member with the smallest hash."""
    ids = np.frombuffer(facts.ids, dtype=np.uint64)
    strata = facts.ranks()[np.frombuffer(facts.strata, dtype=np.int32)]
    order = np.lexsort((ids, group_of))
    _, first, sizes = np.unique(group_of[order], return_index=True, return_counts=True)
    leaders = order[first]
    return _Groups(sizes, strata[leaders], ids[leaders])


def _deal(
    numbers: NDArray[np.intp], groups: _Groups, config: SplitConfig, seed: int
) -> Iterator[tuple[int, str]]:
    """Each of these groups with the part that gets it."""
    ordered = _in_order(numbers, groups, seed)
    if not config.folds:
        yield from _by_share(ordered, groups, config)
        return
    even = {str(fold): 1 / config.folds for fold in range(config.folds)}
    rest = []
    for number, fold in _along(ordered, groups, even):
        if fold == str(config.fold):
            yield number, "test"
        else:
            rest.append(number)
    yield from _along(rest, groups, {"train": 1 - config.dev, "dev": config.dev})


def _in_order(numbers: NDArray[np.intp], groups: _Groups, seed: int) -> list[int]:
    """Stratum by stratum, and by chance within each."""
    chance = np.array([draw(seed, "split", int(key)) for key in groups.keys[numbers]])
    ordered: list[int] = numbers[np.lexsort((chance, groups.strata[numbers]))].tolist()
    return ordered


def _by_share(
    ordered: Sequence[int], groups: _Groups, config: SplitConfig
) -> Iterator[tuple[int, str]]:
    most = max(1.0, config.test * int(groups.sizes[ordered].sum()))
    rest = []
    for number in ordered:
        if config.train and groups.sizes[number] > most:
            log.warning(
                "  split: %d ready-made records hang together by their texts; all go to train, "
                "for the test part is to be smaller; give each a part to divide them",
                groups.sizes[number],
            )
            yield number, "train"
        else:
            rest.append(number)
    shares = {"train": config.train, "dev": config.dev, "test": config.test}
    yield from _along(rest, groups, shares)


def _along(
    ordered: Sequence[int], groups: _Groups, shares: Mapping[str, float]
) -> Iterator[tuple[int, str]]:
    """Each group in turn to the part that is furthest below its share so far."""
    wanted = {part: share for part, share in shares.items() if share > 0}
    dealt = dict.fromkeys(wanted, 0)
    total = 0

    def missing(part: str) -> float:
        return round(wanted[part] * total - dealt[part], 9)

    for number in ordered:
        size = int(groups.sizes[number])
        total += size
        part = max(wanted, key=missing)
        dealt[part] += size
        yield number, part
