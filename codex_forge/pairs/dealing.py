"""Deal groups of questions out to train, dev and test, or to folds, each in its share.

Shares hold within each stratum (category and domain) as well as overall, as far as whole groups
allow. The same seed deals the same way, in whatever order the groups come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from codex_forge.config.pairs import SplitConfig
from codex_forge.records import PARTS, Question
from codex_forge.seeded import draw

Group = list[Question]
Stratum = tuple[str, str]

_ALL: Stratum = ("", "all strata")


def shares_of(config: SplitConfig) -> dict[str, float]:
    """The share of all questions that each part asks for.

    With folds, test is one of them and `dev` is a share of the others.
    """
    if not config.folds:
        return {"train": config.train, "dev": config.dev, "test": config.test}
    test = 1 / config.folds
    dev = config.dev * (1 - test)
    return {"train": 1 - test - dev, "dev": dev, "test": test}


def deal(groups: Sequence[Group], config: SplitConfig, seed: int) -> Iterator[tuple[str, Group]]:
    """Every group with the part that gets it."""
    if config.folds:
        return _cross_fit(groups, config, seed)
    if config.by == "question":
        return _by_stratum(groups, config, seed)
    return _largest_first(groups, shares_of(config), seed)


def _cross_fit(
    groups: Sequence[Group], config: SplitConfig, seed: int
) -> Iterator[tuple[str, Group]]:
    """Which fold a group is in does not depend on which fold is held out."""
    even = {str(fold): 1 / config.folds for fold in range(config.folds)}
    rest = []
    for fold, group in _largest_first(groups, even, seed):
        if fold == str(config.fold):
            yield "test", group
        else:
            rest.append(group)
    yield from _largest_first(rest, {"train": 1 - config.dev, "dev": config.dev}, seed)


def _by_stratum(
    groups: Sequence[Group], config: SplitConfig, seed: int
) -> Iterator[tuple[str, Group]]:
    """Within each stratum, each group to the part furthest below its share of it so far."""
    strata: dict[Stratum, list[Group]] = {}
    for group in groups:
        strata.setdefault(_stratum(group[0]), []).append(group)
    shares = shares_of(config)
    for stratum in sorted(strata):
        dealt = dict.fromkeys(PARTS, 0)
        total = 0
        for group in sorted(strata[stratum], key=lambda g: draw(seed, "split", g[0].query_id)):
            total += len(group)
            part = max(PARTS, key=lambda p: shares[p] * total - dealt[p] if shares[p] else -1e9)
            dealt[part] += len(group)
            yield part, group


def _largest_first(
    groups: Sequence[Group], shares: Mapping[str, float], seed: int
) -> Iterator[tuple[str, Group]]:
    """Each group to the part furthest below its share, of the bank and of the group's strata.

    Groups may be large and hold several categories; the small ones come last and level out (a
    greedy form of iterative stratification: Sechidis et al., ECML PKDD 2011).
    """
    balance = _Balance(shares)
    for group in sorted(groups, key=lambda g: (-len(g), draw(seed, "split", g[0].query_id))):
        yield balance.place(Counter(map(_stratum, group))), group


class _Balance:
    """How far each part is from its share of what was dealt so far."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = {part: share for part, share in shares.items() if share > 0}
        self._dealt: dict[str, Counter[Stratum]] = {part: Counter() for part in self._shares}
        self._seen: Counter[Stratum] = Counter()

    def place(self, strata: Counter[Stratum]) -> str:
        """The part for a group with so many questions of each stratum; counts it there."""
        size = strata.total()
        weights = {stratum: count / size for stratum, count in strata.items()}
        counts = Counter({**strata, _ALL: size})
        self._seen += counts
        part = max(self._shares, key=lambda p: self._missing(p, {**weights, _ALL: 1.0}))
        self._dealt[part] += counts
        return part

    def _missing(self, part: str, weights: Mapping[Stratum, float]) -> float:
        share, dealt = self._shares[part], self._dealt[part]
        short = sum(w * (share * self._seen[s] - dealt[s]) for s, w in weights.items())
        return round(short, 9)  # noise of the last bits must not decide a tie


def _stratum(question: Question) -> Stratum:
    return question.category, str(question.fields.get("domain") or "")
