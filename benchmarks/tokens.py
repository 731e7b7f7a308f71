"""Token lengths: `audit_lengths` against a plain loop of the tokenizer, as a user would write it.

    python -m benchmarks.tokens

Same texts, same tokenizer, same lengths out; in turn, median of the ratios.
"""

from __future__ import annotations

import argparse

from benchmarks.side_by_side import machine, side_by_side
from codex_forge.config import load_config
from codex_forge.corpus import find_files, read_corpus
from codex_forge.model.locate import locate
from codex_forge.tokens import audit_lengths, load_tokenizer

_LOOP = 1000


def main() -> None:
    """Measure both ways on chunks of the sample, four joined to one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    from transformers import AutoTokenizer

    config = load_config("configs/quickstart.yaml")
    chunks = [chunk.text for chunk in read_corpus(find_files(config.corpus), "reject").chunks]
    texts = [" ".join(chunks[i % (len(chunks) - 4) :][:4]) for i in range(given.texts)]
    folder = locate(config.model).folder
    count = load_tokenizer(folder)
    theirs = AutoTokenizer.from_pretrained(str(folder))

    def loop() -> list[int]:
        return [
            len(ids)
            for at in range(0, len(texts), _LOOP)
            for ids in theirs(texts[at : at + _LOOP], verbose=False)["input_ids"]
        ]

    print(machine())
    assert audit_lengths(texts, count, 256).maximum == max(loop())
    total = sum(loop())
    ratio = side_by_side(
        f"count {total:,} tokens of {len(texts):,} texts",
        lambda: audit_lengths(texts, count, 256),
        loop,
        given.repeats,
    )
    print(f"tokenizer loop's time / ours: {ratio:.2f}")


if __name__ == "__main__":
    main()
