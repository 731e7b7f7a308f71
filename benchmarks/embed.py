"""Encoding: our `Encoder` against `SentenceTransformer.encode` as it is by default.

    python -m benchmarks.embed                     speed and cosines, fp32 and bf16
    python -m benchmarks.embed --openvino          the same of embed.engine=openvino, and int8
    python -m benchmarks.embed --sweep             the same for several batches of ours
    python -m benchmarks.embed --edit 0.01         chunks encoded after 1 % of the corpus changed
    python -m benchmarks.embed --rss 200000        memory of `embed` on so many made-up chunks

Texts are one to four neighbouring chunks of the shipped samples, shuffled; a fifth are repeats.
Times are of the processor, not of the clock. With `--openvino`, ndcg@10 of the quickstart's dev
questions is measured too, with each engine and precision.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from benchmarks.embed_jobs import edit, memory
from benchmarks.side_by_side import machine
from codex_forge.artifact import open_artifact
from codex_forge.config import load_config
from codex_forge.corpus import find_files, read_corpus
from codex_forge.model.encoder import Encoder, load_base
from codex_forge.model.locate import locate
from codex_forge.storage import Store
from codex_forge.train.dev.dev_reading import read_dev_set
from codex_forge.train.dev.dev_set import DevSet
from codex_forge.train.dev.validation import measure
from jobs.pairs import DOOR as PAIRS

SAMPLES = ("configs/quickstart.yaml", "configs/codex.yaml")
SWEEP = (512, 1024, 2048, 4096)
OPENVINO = ("fp32", "bf16", "int8")
_MOST_CHUNKS = 4


class Way(NamedTuple):
    """How texts are encoded."""

    engine: str
    precision: str
    batch: int | None


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--repeats", type=float, default=0.2, help="share of texts that repeat")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--openvino", action="store_true")
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
        kinds = [("torch", precision) for precision in given.precision]
        kinds += [("openvino", precision) for precision in OPENVINO if given.openvino]
        ways = [Way(*kind, batch) for kind in kinds for batch in batches]
        found = speed(some_texts(given.texts, given.repeats), ways, given.rounds)
        if given.openvino:
            quality({way[:2]: encoder for way, encoder in found.items()})


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


def speed(texts: list[str], ways: list[Way], rounds: int) -> dict[Way, Encoder]:
    """Time the ways in turn with the library's, and print the medians of the ratios."""
    model = _model()

    def library() -> NDArray[np.float32]:
        found: NDArray[np.float32] = model.encode(
            texts, normalize_embeddings=True, show_progress_bar=False
        )
        return found

    encoders = {way: _encoder(model, way) for way in ways}
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
    for kind in dict.fromkeys(way[:2] for way in ways):
        _print_shares(next(encoders[way] for way in ways if way[:2] == kind), texts)
    return encoders


def _model() -> SentenceTransformer:
    config = load_config("configs/quickstart.yaml").model
    return load_base(locate(config).folder, config)


def _encoder(model: SentenceTransformer, way: Way) -> Encoder:
    """OpenVINO takes the place of a model's transformer, so it gets a model of its own."""
    start = time.perf_counter()
    own = model if way.engine == "torch" else _model()
    encoder = Encoder(own, way.batch, way.precision, way.engine)
    if way.engine != "torch":
        seconds = time.perf_counter() - start
        print(f"  {way.engine} {way.precision}: loaded and converted in {seconds:.1f} s")
    return encoder


def quality(encoders: Mapping[tuple[str, str], Encoder]) -> None:
    """Print ndcg@10 of the quickstart's dev questions, and what is lost against torch's fp32."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config("configs/quickstart.yaml", [f"store={folder}/store"])
        if PAIRS.main(["configs/quickstart.yaml", f"store={folder}/store"]):
            raise SystemExit("the pairs were not made")
        pairs = open_artifact(Store(config.store), "pairs", config.run_name, Path(folder) / "local")
        dev = read_dev_set(pairs, config.train.validation, config.seed)
    print(f"{len(dev.questions)} dev questions of the quickstart, {len(dev.chunks)} chunks")
    whole: float | None = None
    for kind, encoder in encoders.items():
        ndcg = _ndcg(dev, encoder)
        whole = ndcg if whole is None else whole
        print(f"  {' '.join(kind)}: ndcg@10 {ndcg:.4f}, lost {1 - ndcg / whole:.2%}")


def _ndcg(dev: DevSet, encoder: Encoder) -> float:
    def encode(texts: Any, role: str) -> NDArray[np.float32]:
        return encoder.encode_query(texts) if role == "query" else encoder.encode_document(texts)

    return float(measure(dev, encode, scale=20.0, batch_size=64)["ndcg@10"])


def _timed(work: Callable[[], NDArray[np.float32]]) -> tuple[NDArray[np.float32], float]:
    """Seconds of processor time, of all threads: other work on the machine counts little."""
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def _print_way(
    way: Way,
    encoder: Encoder,
    texts: list[str],
    times: list[float],
    ratios: list[float],
) -> None:
    seconds, ratio = statistics.median(times), statistics.median(ratios)
    tally = encoder.tally
    tokens = tally.tokens * len(texts) / tally.asked
    print(
        f"  {way.engine} {way.precision}, {encoder.batch_tokens} tokens at once: {ratio:.2f} x the "
        f"library ({min(ratios):.2f} to {max(ratios):.2f}); {len(texts) / seconds:.1f} texts/s, "
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
    print(f"  {encoder.engine} {encoder.precision}, where the time goes: {told}")


if __name__ == "__main__":
    main()
