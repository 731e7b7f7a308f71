"""Queries written by a language model: chunks drawn by seed, asked about once, within a budget."""

from __future__ import annotations

import heapq
import logging
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from typing import Any

from codex_forge.config.pairs import GeneratorConfig
from codex_forge.corpus import ChunkTable
from codex_forge.errors import InputError, TryAgain
from codex_forge.pairs.answers import questions_of
from codex_forge.pairs.endpoint import Answer, Endpoint
from codex_forge.pairs.journal import Journal, key_of
from codex_forge.pairs.query import Query, positions_of
from codex_forge.progress import progress
from codex_forge.seeded import draw
from codex_forge.stopping import stop
from codex_forge.storage import Store

log = logging.getLogger("codex_forge")

OVER_BUDGET = "not asked, the budget of tokens is used up"
NOTHING_USABLE = "the answer holds no question"

_HOPELESS = 8
"""So many problems and not one answer: the endpoint, not the texts, is at fault."""
_LOOK_SECONDS = 0.5
_WAIT_SECONDS = 60.0
"""For which other shards wait for the first one, which asks."""


class QueryGenerator:
    """Asks a model for questions that chunks answer.

    What came out is settled once for a recipe: a later run of it, and all its shards, have the same
    queries, whatever has been asked for other recipes since.
    """

    def __init__(
        self,
        chunks: ChunkTable,
        config: GeneratorConfig,
        seed: int,
        store: Store,
        fingerprint: str,
    ) -> None:
        """`fingerprint` is the recipe's; answers are kept on `store` (see `journal`)."""
        self._chunks, self._config, self._seed = chunks, config, seed
        self._journal = Journal(store, config.model, config.concurrency)
        self._fingerprint = fingerprint
        self.skipped: Counter[str] = Counter()
        """Chunks that no query came of, by reason; filled by `queries`."""

    def queries(self, shard: int = 0) -> Iterator[Query]:
        """At most `queries_per_chunk` queries of each drawn chunk, in the order of the corpus.

        Only shard 0 asks; the others wait for what it settled.

        Raises:
            InputError: the endpoint refuses the key or is none, or no answer is usable.
            TryAgain: the endpoint does not answer, or shard 0 has not settled it yet.
        """
        settled = self._journal.chosen(self._fingerprint)
        if settled is None and shard:
            settled = self._of_the_first_shard()
        elif settled is None:
            settled = self._journal.choose(self._fingerprint, self._made())
        self.skipped = Counter(settled["skipped"])
        for reason, count in self.skipped.items():
            log.info("  generator: %d chunks without queries: %s", count, reason)
        for position, texts in settled["questions"]:
            chunk_id = self._chunks.chunk_id(position)
            answers = positions_of((position,))
            for number, text in enumerate(texts):
                yield Query(
                    query_id=f"generated:{chunk_id}:{number}",
                    text=text,
                    topics=(),
                    positives=(position,),
                    answers=answers,
                    source="generated",
                )

    def _of_the_first_shard(self) -> Any:
        end = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < end:
            stop.check()
            time.sleep(_LOOK_SECONDS)
            if (settled := self._journal.chosen(self._fingerprint)) is not None:
                return settled
        raise TryAgain(
            "shard 0 is not done with asking the generator", where=self._journal.url, do="run again"
        )

    def _made(self) -> dict[str, Any]:
        """Ask what was never asked; the questions by position, and what gave none."""
        keys = {position: self._key(position) for position in self._drawn()}
        first: dict[str, int] = {}
        for position, key in keys.items():
            first.setdefault(key, position)
        answers = self._journal.read(first)
        skipped: Counter[str] = Counter()
        missing = {key: position for key, position in first.items() if key not in answers}
        log.info("  generator: %d answers are there, %d to ask", len(answers), len(missing))
        problems = self._ask(missing, answers) if missing else {}
        questions: list[tuple[int, list[str]]] = []
        for position in sorted(keys):
            key = keys[position]
            if key not in answers:
                skipped[problems.get(key, OVER_BUDGET)] += 1
            elif texts := self._questions(answers[key]):
                questions.append((position, texts))
            else:
                skipped[NOTHING_USABLE] += 1
        if not questions and set(skipped) - {OVER_BUDGET}:
            raise self._hopeless(skipped)
        return {"questions": questions, "skipped": dict(sorted(skipped.items()))}

    def _drawn(self) -> list[int]:
        """Positions of the chunks to ask about, in the order in which they are asked."""
        positions = progress(range(len(self._chunks)), "chunks drawn for the generator")
        return heapq.nsmallest(
            self._config.max_chunks,
            positions,
            key=lambda p: draw(self._seed, "generator", self._chunks.chunk_id(p)),
        )

    def _prompt(self, position: int) -> str:
        text = self._chunks.text(position)
        return self._config.prompt.format(count=self._config.queries_per_chunk, text=text)

    def _key(self, position: int) -> str:
        return key_of(self._config.model, self._config.temperature, self._prompt(position))

    def _questions(self, answer: Answer) -> list[str]:
        return questions_of(answer.text, answer.is_cut, self._config.queries_per_chunk)

    def _ask(self, missing: Mapping[str, int], answers: dict[str, Answer]) -> dict[str, str]:
        """Add answers as they come; returns the problems by key."""
        problems: dict[str, str] = {}
        with closing(self._asked(missing)) as asked:
            for key, answer in progress(asked, "chunks asked about", len(missing)):
                if not answer.problem:
                    answers[key] = answer
                    continue
                problems[key] = answer.problem
                if not answers and len(problems) >= _HOPELESS:
                    raise self._hopeless(Counter(problems.values()))
        log.info("  generator: %d tokens of %d used", self._journal.tokens, self._config.max_tokens)
        return problems

    def _asked(self, missing: Mapping[str, int]) -> Generator[tuple[str, Answer], None, None]:
        """(key, answer) as they come, those without a problem kept in the journal."""
        todo = iter(missing.items())
        pending: dict[Future[Answer], str] = {}
        with Endpoint(self._config) as endpoint:
            try:
                while self._send(endpoint, todo, pending):
                    stop.check()
                    done, _ = wait(pending, _LOOK_SECONDS, FIRST_COMPLETED)
                    for future in done:
                        yield self._taken(future, pending)
            finally:
                self._leave(pending)

    def _send(
        self,
        endpoint: Endpoint,
        todo: Iterator[tuple[str, int]],
        pending: dict[Future[Answer], str],
    ) -> bool:
        """Keep as many requests under way as may be; False when there are none any more."""
        while len(pending) < self._config.concurrency:
            if self._journal.tokens >= self._config.max_tokens:
                break
            if (item := next(todo, None)) is None:
                break
            key, position = item
            pending[endpoint.ask(self._prompt(position))] = key
        return bool(pending)

    def _taken(
        self, future: Future[Answer], pending: dict[Future[Answer], str]
    ) -> tuple[str, Answer]:
        answer, key = future.result(), pending[future]
        if not answer.problem:
            self._journal.add(key, answer)
        del pending[future]  # after it is kept: until then `_leave` would see to it
        return key, answer

    def _leave(self, pending: dict[Future[Answer], str]) -> None:
        """Keep what came meanwhile; what is under way is lost."""
        with stop.held():
            for future, key in pending.items():
                is_there = future.done() and not future.cancelled() and not future.exception()
                if is_there and not future.result().problem:
                    self._journal.add(key, future.result())
            self._journal.commit()

    def _hopeless(self, problems: Counter[str]) -> InputError:
        reason = problems.most_common(1)[0][0]
        return InputError(
            f"the generator gave no usable answer ({reason})",
            where=self._config.url,
            do="check pairs.synthesis.generator: url, model and prompt",
        )
