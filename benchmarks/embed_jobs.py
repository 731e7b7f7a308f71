"""The mode `embed` in processes of its own: what it encodes after an edit, and its memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from codex_forge.artifact import open_artifact
from codex_forge.config import load_config
from codex_forge.corpus import find_files, read_corpus
from codex_forge.storage import Store

_WORDS = 24
"""Of a made-up chunk."""
_MEBIBYTE = 1024


def edit(share: float) -> None:
    """Embed the sample, change a share of its chunks, embed again; print the share encoded.

    The model is a very small one, as that share does not depend on it.
    """
    corpus = load_config("configs/quickstart.yaml").corpus
    texts = list(read_corpus(find_files(corpus), "reject").chunks.texts())
    changed = list(texts)
    for at in random.Random(3).sample(range(len(texts)), round(share * len(texts))):
        changed[at] += " (revised)"
    with _world() as world:
        _embed(world, texts)
        _embed(world, changed, "--force")
        counts = open_artifact(Store(str(world / "store")), "embed", "bench-base", world).counts
    encoded = counts["encoded"] / counts["chunks"]
    print(
        f"{share:.2%} of {len(texts)} chunks edited: {counts['encoded']} encoded ({encoded:.2%}), "
        f"{counts['reused']} reused"
    )


def memory(chunks: int) -> None:
    """Peak memory of `embed` with a very small model on ever more chunks."""
    with _world() as world:
        for count in (chunks // 4, chunks // 2, chunks):
            texts = _made_up(count)
            fresh = _embed(world, texts, "--force", "embed.reuse=false")
            texts[:: max(1, count // 100)] = _made_up(len(texts[:: max(1, count // 100)]), seed=1)
            again = _embed(world, texts, "--force")
            print(
                f"{count:,} chunks: peak {fresh[1]:.0f} MiB in {fresh[0]:.0f} s anew, "
                f"{again[1]:.0f} MiB in {again[0]:.0f} s after an edit"
            )


@contextmanager
def _world() -> Iterator[Path]:
    """A folder with a config and a very small model."""
    with tempfile.TemporaryDirectory(prefix="bench-embed-") as name:
        folder = Path(name)
        tree = {
            "name": "bench",
            "store": str(folder / "store"),
            "corpus": {"chunks": str(folder / "chunks.jsonl")},
            "model": {"base": str(folder / "model"), "device": "cpu"},
            "embed": {"model": "base"},
        }
        (folder / "run.yaml").write_text(yaml.safe_dump(tree))
        _save_small_model(folder / "model")
        yield folder


def _embed(world: Path, texts: list[str], *arguments: str) -> tuple[float, float]:
    """Seconds of processor time, and MiB at the peak, of one run on these chunks."""
    with (world / "chunks.jsonl").open("w") as out:
        for number, text in enumerate(texts):
            out.write(json.dumps({"text": text, "filename": f"{number}.md"}) + "\n")
    command = [sys.executable, "-m", "jobs.embed", str(world / "run.yaml"), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    assert process.returncode == 0, said
    return used.ru_utime + used.ru_stime, used.ru_maxrss / _MEBIBYTE


def _made_up(count: int, seed: int = 0) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(f"w{dice.randrange(900)}" for _ in range(_WORDS)) for _ in range(count)]


def _save_small_model(folder: Path) -> None:
    """One layer of 64 numbers: memory is then that of the job, not of the model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = {word: n for n, word in enumerate([*special, *(f"w{n}" for n in range(900))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    parts = folder.with_name("parts")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(parts)
    config = BertConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(parts)
    modules = [Transformer(str(parts)), Pooling(64, "mean")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder))
