"""Positives that the miner is not told of: as good as none become negatives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.hidden_bank import ONLY_BM25, Bank, bank_of, ours, score, unguarded
from codex_forge.config import load_config


@pytest.fixture(scope="module", params=["quickstart", "codex"])
def bank(request: pytest.FixtureRequest) -> Iterator[Bank]:
    with bank_of(load_config(f"configs/{request.param}.yaml"), most=600) as found:
        yield found


def test_hidden_positives_are_hidden_and_the_others_told(bank: Bank) -> None:
    assert len(bank.asked) > 50
    for asked in bank.asked:
        kept = set(asked.kept.tolist())
        assert asked.positive in kept
        assert asked.hidden
        assert asked.hidden.isdisjoint(kept)
        assert len(asked.hidden) <= max(1, 0.3 * (len(kept) + len(asked.hidden)) + 0.5)


def test_topics_keep_hidden_positives_out_of_the_negatives(bank: Bank) -> None:
    for changed in ({}, ONLY_BM25):
        found = score(bank, ours(bank, changed, "asked"))
        assert found.negatives > 2.9 * len(bank.asked)
        assert found.taken == 0


def test_a_list_of_answers_that_is_not_complete_lets_few_become_negatives(bank: Bank) -> None:
    found = score(bank, ours(bank, ONLY_BM25, "given"))
    without = score(bank, unguarded(bank))
    assert found.taken <= 0.01 * found.negatives
    assert without.taken > 0.01 * without.negatives
    assert without.taken > 2 * found.taken
    assert found.hardness >= 0.9 * without.hardness


def test_without_topics_and_names_the_miner_cannot_know(bank: Bank) -> None:
    blind = score(bank, ours(bank, ONLY_BM25, "blind"))
    assert blind.taken > score(bank, ours(bank, ONLY_BM25, "given")).taken
