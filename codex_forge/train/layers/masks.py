"""Random masks that cost a CPU little: four numbers for each 64 bits of torch's generator.

torch draws a CPU's dropout number by number: a fifth of a training step. Here 16 random bits decide
on a number. The share of zeros is so rounded to 1/65536, and what stays is multiplied by what the
rounded share asks for: the mean stays the same, exactly. The same state of torch's generator gives
the same mask, so a resumed run and `torch.utils.checkpoint` see the ones they expect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_BITS = 16
_SHARES = 2**_BITS
_LOWEST = -(2 ** (_BITS - 1))
_NUMBERS_IN_WORD = 64 // _BITS


def can_keep(values: torch.Tensor, p: float) -> bool:
    """Whether `keep` serves: on a CPU, not inside `torch.compile`, with something left to keep."""
    is_eager = values.device.type == "cpu" and not torch.compiler.is_compiling()
    return is_eager and values.is_floating_point() and round(p * _SHARES) < _SHARES


def keep(shape: Sequence[int], p: float, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
    """Draw which numbers stay.

    Args:
        shape: of the mask.
        p: share of zeros, in [0, 1).
        dtype: of the mask.

    Returns:
        A mask of 1 and 0, and what to multiply the numbers that stay by.
    """
    count, zeros = math.prod(shape), round(p * _SHARES)
    words = torch.empty(-(-count // _NUMBERS_IN_WORD), dtype=torch.int64)
    words.random_(-(2**63), None)  # all 64 bits
    numbers = words.view(torch.int16)[:count].view(tuple(shape))
    mask = torch.empty(tuple(shape), dtype=dtype)  # filled at once, not by way of one of bool
    torch.ge(numbers, _LOWEST + zeros, out=mask)
    return mask, _SHARES / (_SHARES - zeros)
