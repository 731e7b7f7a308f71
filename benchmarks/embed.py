"""Encoding: our `Encoder` against `SentenceTransformer.encode` as it is by default.

    python -m benchmarks.embed                     speed and cosines, fp32 and bf16
    python -m benchmarks.embed --sweep             the same for several batches of ours
    python -m benchmarks.embed --edit 0.01         chunks encoded after 1 % of the corpus changed
    python -m benchmarks.embed --rss 200000        memory of `embed` on so many made-up chunks

Texts are one to four neighbouring chunks of the shipped samples, shuffled; a fifth are repeats.
Times are of the processor, not of the clock.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.embed_jobs import edit, memory
from benchmarks.side_by_side import machine
from codex_forge.config import load_config
from codex_forge.corpus import find_files, read_corpus
from codex_forge.model.encoder import Encoder, load_base
from codex_forge.model.locate import locate

SAMPLES = ("configs/quickstart.yaml", "configs/codex.yaml")
SWEEP = (512, 1024, 2048, 4096)
_MOST_CHUNKS = 4


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--repeats", type=float, default=0.2, help="share of texts that repeat")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--edit", type=float, metavar="SHARE")
    parser.add_argument("--rss", type=int, metavar="CHUNKS")
    given = parser.parse_args()
    print(machine())
    if given.edit is not None:
        edit(given.edit)
    elif given.rss is not None:
        memory(given.rss)
    else:
        batches = SWEEP if given.sweep else (None,)
        ways = [(precision, batch) for precision in given.precision for batch in batches]
        speed(some_texts(given.texts, given.repeats), ways, given.rounds)


def some_texts(count: int, repeats: float) -> list[str]:
    """Texts of mixed lengths, of which a share repeats others; the same each time."""
    dice = random.Random(7)
    chunks = [chunk for sample in SAMPLES for chunk in _chunks(sample)]
    distinct = round(count * (1 - repeats))
    starts = dice.sample(range(len(chunks) - _MOST_CHUNKS), distinct)
    texts = [" ".join(chunks[at : at + dice.randint(1, _MOST_CHUNKS)]) for at in starts]
    texts += dice.choices(texts, k=count - distinct)
    dice.shuffle(texts)
    return texts


def _chunks(path: str) -> list[str]:
    return list(read_corpus(find_files(load_config(path).corpus), "reject").chunks.texts())


def speed(texts: list[str], ways: list[tuple[str, int | None]], rounds: int) -> None:
    """Time the ways in turn with the library's, and print the medians of the ratios."""
    config = load_config("configs/quickstart.yaml").model
    model = load_base(locate(config).folder, config)

    def library() -> NDArray[np.float32]:
        found: NDArray[np.float32] = model.encode(
            texts, normalize_embeddings=True, show_progress_bar=False
        )
        return found

    encoders = {way: Encoder(model, way[1], way[0]) for way in ways}
    for encoder in encoders.values():
        encoder.encode_document(texts[:64])  # the first call loads kernels
    times: dict[Any, list[float]] = {way: [] for way in [*ways, "library"]}
    ratios: dict[Any, list[float]] = {way: [] for way in ways}
    found: dict[Any, NDArray[np.float32]] = {}
    for _ in range(rounds):
        expected, theirs = _timed(library)
        times["library"].append(theirs)
        for way in ways:
            encoder = encoders[way]
            found[way], ours = _timed(lambda encoder=encoder: encoder.encode_document(texts))  # type: ignore[misc]
            times[way].append(ours)
            ratios[way].append(theirs / ours)
    print(f"{len(texts)} texts, {len(set(texts))} of them distinct; library: "
          f"{len(texts) / statistics.median(times['library']):.1f} texts/s")  # fmt: skip
    for way in ways:
        _print_way(way, encoders[way], texts, times[way], ratios[way])
        cosines = (found[way].astype(np.float64) * expected).sum(axis=1)
        print(f"    cosine to the library's: least {cosines.min():.7f}, mean {cosines.mean():.7f}")
    for precision in dict.fromkeys(precision for precision, _ in ways):
        _print_shares(next(encoders[way] for way in ways if way[0] == precision), texts)


def _timed(work: Callable[[], NDArray[np.float32]]) -> tuple[NDArray[np.float32], float]:
    """Seconds of processor time, of all threads: other work on the machine counts little."""
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def _print_way(
    way: tuple[str, int | None],
    encoder: Encoder,
    texts: list[str],
    times: list[float],
    ratios: list[float],
) -> None:
    seconds, ratio = statistics.median(times), statistics.median(ratios)
    tally = encoder.tally
    tokens = tally.tokens * len(texts) / tally.asked
    print(
        f"  {way[0]}, {encoder.batch_tokens} tokens at once: {ratio:.2f} x the library "
        f"({min(ratios):.2f} to {max(ratios):.2f}); {len(texts) / seconds:.1f} texts/s, "
        f"{tokens / seconds:,.0f} tokens/s, padding {1 - tally.tokens / tally.padded:.1%}"
    )


def _print_shares(encoder: Encoder, texts: list[str]) -> None:
    """Where the time of one call goes."""
    forward: list[float] = []
    hooks = [
        encoder.model.register_forward_pre_hook(lambda *_: forward.append(-time.process_time())),
        encoder.model.register_forward_hook(lambda *_: forward.append(time.process_time())),
    ]
    start = time.process_time()
    prepared = encoder.prepare(texts, "document")
    tokenised = time.process_time() - start
    encoder.finish(prepared)
    whole = time.process_time() - start
    for hook in hooks:
        hook.remove()
    shares = {"tokenise": tokenised, "forward": sum(forward)}
    shares["rest"] = whole - sum(shares.values())
    told = ", ".join(f"{name} {seconds / whole:.1%}" for name, seconds in shares.items())
    print(f"  {encoder.precision}, where the time goes: {told}")


if __name__ == "__main__":
    main()
