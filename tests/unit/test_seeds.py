import numpy as np
import pytest
import torch

from anygrid.errors import UsageError
from anygrid.numerics.seeds import sample_generator, sample_seed


def test_seeds_of_a_set_never_repeat():
    # Hashed 32-bit seeds would repeat in a set of 100,000 with probability 0.7; the rule is one to one.
    n = 50_000
    assert len({sample_seed(3, i) for i in range(n)}) == n


def test_seed_is_the_stated_rule():
    first = int(np.random.SeedSequence(7).generate_state(1)[0])
    assert [sample_seed(7, i) for i in (0, 1, 5)] == [(first + 2654435761 * i) % 2**32 for i in (0, 1, 5)]


def test_neighbouring_samples_are_uncorrelated_and_repeatable():
    draws = torch.stack([torch.randn(400, generator=sample_generator(0, i), dtype=torch.float64) for i in range(200)])
    again = torch.randn(400, generator=sample_generator(0, 17), dtype=torch.float64)
    assert torch.equal(draws[17], again)
    correlation = torch.corrcoef(draws) - torch.eye(200, dtype=torch.float64)
    assert correlation.abs().max() < 5.5 / 400**0.5  # 20,000 pairs: the largest of as many normal values is near 4
    assert abs(float(draws.mean())) < 4 / draws.numel() ** 0.5
    assert abs(float(draws.var()) - 1) < 4 * (2 / draws.numel()) ** 0.5


def test_sets_of_different_seeds_differ():
    assert not {sample_seed(0, i) for i in range(1000)} & {sample_seed(1, i) for i in range(1000)}


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1)])
def test_negative_is_refused(seed, index):
    with pytest.raises(UsageError, match="0 or more"):
        sample_seed(seed, index)
