"""Tiny models of each architecture with random weights, made in a second."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = [f"w{n}" for n in range(40)]
LAYERS = 3
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_SMALL = {
    "vocab_size": len(_SPECIAL) + len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
}
_DECODER = {"num_key_value_heads": 1, "head_dim": 16}
_KINDS: dict[str, dict[str, Any]] = {
    "Bert": {},
    "MPNet": {},
    "Roberta": {},
    "XLMRoberta": {},
    "DistilBert": {"hidden_dim": 48},
    "Electra": {"embedding_size": 16},
    # local attention of 4 tokens in the middle layer: its kind is told by the layer's number
    "ModernBert": {"global_attn_every_n_layers": 2, "local_attention": 4},
    "NomicBert": {},
    "Qwen2": {"num_key_value_heads": 1},
    "Qwen3": {
        **_DECODER,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "sliding_window": 3,
        "use_sliding_window": True,
    },
    "Llama": _DECODER,
}
KINDS = tuple(_KINDS)
_KINDS["T5"] = {"d_kv": 16, "d_ff": 48, "num_layers": LAYERS}  # its first layer tells the others
_KINDS["Albert"] = {"embedding_size": 16}  # has one layer that runs again and again
DECODERS = ("Qwen2", "Qwen3", "Llama")


def tiny_model(kind: str, folder: Path, *, dropout: bool = False) -> SentenceTransformer:
    """A SentenceTransformer of this kind (`Bert`, `Qwen3` ...); mean pooling, or the last token's.

    Weights are drawn wide enough for layers to matter; dropout is off unless asked for.
    """
    config = getattr(transformers, f"{kind}Config")(**{**_SMALL, **_KINDS[kind]})
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, float) and not dropout:
            setattr(config, name, 0.0)
    torch.manual_seed(7)
    network = getattr(transformers, f"{kind}Model")(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    _tokenizer(kind in DECODERS).save_pretrained(folder)
    transformer = Transformer(str(folder))
    pooling = Pooling(_SMALL["hidden_size"], "lasttoken" if kind in DECODERS else "mean")
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    model.max_seq_length = 60
    return model


def some_texts(count: int, longest: int = 30) -> list[str]:
    """Texts of the models' words, of 1 to `longest` words; the same each time."""
    draw = random.Random(count)
    return [
        " ".join(draw.choices(WORDS, k=1 + number * longest // count)) for number in range(count)
    ]


def _tokenizer(is_decoder: bool) -> PreTrainedTokenizerFast:
    words = {word: number for number, word in enumerate(_SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]" if is_decoder else "[CLS] $A [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=60,
        model_input_names=["input_ids", "attention_mask"],
    )
