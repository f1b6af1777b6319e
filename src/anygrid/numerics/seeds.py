"""Seeds of single samples: a function of the seed of the set and the sample's number, and of nothing else."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from anygrid.errors import UsageError

__all__ = ["SEED_RULE", "sample_generator", "sample_seed"]

_WORD = 1 << 32
_STRIDE = 0x9E3779B1  # odd, so that i -> i * stride is one to one modulo 2**32; far apart, so that neighbours share no digits

SEED_RULE = (
    "sample i is drawn with torch.Generator().manual_seed(s), "
    "s = (numpy.random.SeedSequence(seed).generate_state(1)[0] + 2654435761 * i) mod 2**32"
)


def sample_seed(seed: int, index: int) -> int:
    r""":math:`s_i = (h(\text{seed}) + 2654435761\, i) \bmod 2^{32}`, :math:`h` the first word of numpy's ``SeedSequence``.

    torch's CPU generator keeps the low 32 bits of its seed. Hashed 32-bit seeds would give two samples of a set of 100,000
    the same random numbers with probability 0.7; this rule gives every sample of a set its own for up to :math:`2^{32}` of them.

    Raises
    ------
    UsageError
        For a negative seed or index.
    """
    if seed < 0 or index < 0:
        raise UsageError("seed", "a number of 0 or more", f"seed {seed}, sample {index}", "use a seed such as 0")
    return (_first_word(seed) + _STRIDE * index) % _WORD


@lru_cache
def _first_word(seed: int) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def sample_generator(seed: int, index: int) -> torch.Generator:
    """Generator from which sample ``index`` of the set with this seed is drawn."""
    return torch.Generator().manual_seed(sample_seed(seed, index))
