"""Memory that training takes, from the model's shape, or measured on the model itself.

Estimated, torch-free: a transformer layer keeps s (34 h + 5 a s) bytes of a text of s
tokens for its backward pass, at width h with a heads (Korthikanti et al., Reducing Activation
Recomputation in Large Transformer Models, 2022), counted in bytes of 16-bit numbers; 32 bits take
twice that. Of MiniLM it tells 12 % less than is measured: a guide, not a promise.

Measured, with `audit.probe`: what autograd saves in a forward pass of the real model (`probe`).

To either come the weights, their gradients and the two moments of AdamW, in 32 bits.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_forge.config import RunConfig
from codex_forge.tokens import LengthAudit

GIBIBYTES = (8, 16, 24, 40, 80)
_USABLE = 0.85
"""Of a device's memory; the rest is the context, the library's workspace and fragments."""
_BYTES_A_PARAMETER = 16
_WIDER = 2
_NAMES = (
    ("num_hidden_layers", "n_layers", "num_layers", "n_layer"),
    ("hidden_size", "dim", "d_model", "n_embd"),
    ("num_attention_heads", "n_heads", "num_heads", "n_head"),
)


def memory_of(
    folder: Path, config: RunConfig, audits: Mapping[str, LengthAudit], limit: int
) -> dict[str, Any] | None:
    """Bytes that training takes, and the largest batch by GiB; None when it cannot be told.

    A pair is a query and 1 + `train.num_negatives` chunks, each of the length that 99 % of its
    kind do not exceed.
    """
    if "query" not in audits or "positive" not in audits:
        return None
    query = _usual(audits["query"], limit)
    chunk = _usual(audits["positive"], limit)
    texts = [query, *[chunk] * (1 + config.train.num_negatives)]
    if config.audit.probe:
        from codex_forge.audit.probe import bytes_a_pair

        how, each = "measured on the model, 32 bits", bytes_a_pair(folder, config.model, texts)
    else:
        estimated = _estimate(folder, texts)
        if estimated is None:
            return None
        how, each = "estimated from the model's shape, 32 bits", estimated
    fixed = _BYTES_A_PARAMETER * parameters(folder)
    return {
        "how": how,
        "tokens_of_texts": texts,
        "bytes_a_pair": each,
        "fixed_bytes": fixed,
        "batch_sizes": {str(size): _fits(size, fixed, each) for size in GIBIBYTES},
    }


def parameters(folder: Path) -> int:
    """How many numbers the safetensors files of a model hold, as their headers say."""
    return sum(
        math.prod(entry["shape"])
        for path in sorted(folder.rglob("*.safetensors"))
        for name, entry in _header(path).items()
        if name != "__metadata__"
    )


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        tree: dict[str, Any] = json.loads(handle.read(length))
    return tree


def _usual(audit: LengthAudit, limit: int) -> int:
    return max(1, min(limit, math.ceil(audit.percentiles["p99"])))


def _estimate(folder: Path, texts: list[int]) -> int | None:
    path = folder / "config.json"
    shape = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = [next((int(shape[n]) for n in names if n in shape), 0) for names in _NAMES]
    if not all(found):
        return None
    layers, width, heads = found
    return _WIDER * layers * sum(s * (34 * width + 5 * heads * s) for s in texts)


def _fits(gibibytes: int, fixed: int, each: int) -> int:
    """The largest batch that fits: a power of two, or one and a half of it; 0 when none does."""
    room = (_USABLE * gibibytes * 2**30 - fixed) / max(1, each)
    sizes = sorted({n for k in range(15) for n in (2**k, 3 * 2**k // 2) if n <= room})
    return sizes[-1] if sizes else 0
