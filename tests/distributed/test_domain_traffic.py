"""What a training step on a shared grid sends: as the formula says, the same at every resolution, and less than a distributed FFT."""

import pytest
import torch
import torch.distributed as dist

from anygrid.collectives import measured_traffic, sum_over_ranks
from anygrid.grid import Box, Periodic
from anygrid.numerics.bases import Basis
from anygrid.operators import FNO, LatentFNO
from anygrid.operators.spectral import SpectralConv
from anygrid.operators.transforms import coefficient_shape
from anygrid.shard import sharded
from anygrid.training.losses import RelativeNorm

BATCH, INPUTS, WIDTH, DEPTH, MODES, FINE = 2, 3, 4, 2, (9, 11), (32, 32)


def square(n):
    return Box.uniform({"x": Periodic(), "y": Periodic()}, (n, n))


def step(kind, n):
    """Bytes and messages of one training step, the sum of the gradients apart, and the number of parameters."""
    torch.manual_seed(0)
    shard = sharded(square(n))
    operator = (
        FNO(INPUTS, 1, [True, True], MODES, width=WIDTH, depth=DEPTH, head=4)
        if kind == "fno"
        else LatentFNO(INPUTS, 1, [True, True], FINE, MODES, 2, width=WIDTH, depth=DEPTH)
    )
    a, truth = torch.randn(BATCH, INPUTS, *shard.shape), torch.randn(BATCH, 1, *shard.shape)
    with measured_traffic() as sent:
        loss = RelativeNorm(torch.ones(1), torch.ones(1))(operator(a, shard), truth, shard)
        (loss / shard.rows.ranks).backward()
    with measured_traffic() as gradients:
        sum_over_ranks(torch.cat([p.grad.flatten() for p in operator.parameters()]), shard.rows)
    return sent.bytes, sent.messages, gradients.bytes, sum(p.numel() for p in operator.parameters())


@pytest.mark.parametrize("kind", ["fno", "latent"])
def test_bytes_follow_the_formula_at_every_resolution(processes, kind):
    found = {n: processes.run(2, step, kind, n) for n in (64, 512)}
    norm = 2 * 2 * BATCH * 4  # two squared norms a sample, forward and backward
    if kind == "fno":
        wanted, messages = 2 * DEPTH * BATCH * 2 * MODES[0] * (MODES[1] // 2 + 1) * WIDTH * 4 + norm, 2 * DEPTH + 2
    else:
        wanted, messages = BATCH * INPUTS * FINE[0] * FINE[1] * 4 + norm, 3
    for ranks in found.values():
        for bytes_, count, gradients, parameters in ranks:
            assert (bytes_, count) == (wanted, messages)
            assert gradients == 4 * parameters


class _SlabFFT:
    """One spectral layer by a slab-decomposed FFT: rows apart, transposed to columns apart and back; counts what leaves the process."""

    def __init__(self, pruned):
        self.pruned, self.sent, self.ranks = pruned, 0, dist.get_world_size()

    def transpose(self, z, split, join):
        pieces = torch.view_as_real(torch.stack(z.tensor_split(self.ranks, split)).contiguous())
        out = torch.empty_like(pieces)
        dist.all_to_all_single(out, pieces)
        self.sent += pieces[0].nbytes * (self.ranks - 1)
        return torch.cat(torch.view_as_complex(out).unbind(), join)

    def __call__(self, x, layer, n):
        second = layer.bases[1].highest + 1
        z = torch.fft.rfft(x, dim=2, norm="forward")
        z = z[:, :, :second] if self.pruned else _padded(z, -(-z.shape[2] // self.ranks) * self.ranks)
        z = torch.fft.fft(self.transpose(z, 2, 1), dim=1, norm="forward")
        places = torch.arange(-(layer.bases[0].count // 2), (layer.bases[0].count - 1) // 2 + 1) % n
        width, rank = z.shape[2], dist.get_rank()
        weight = torch.complex(layer.weight[0], layer.weight[1])
        own = torch.zeros_like(z[:, : len(places), :, : weight.shape[-1]])
        kept = range(max(0, min(second - rank * width, width)))
        for k in kept:
            own[:, :, k] = torch.einsum("bmc,mco->bmo", z[:, places, k], weight[:, rank * width + k])
        full = torch.zeros(x.shape[0], n, width, weight.shape[-1], dtype=z.dtype)
        full[:, places] = own
        z = self.transpose(torch.fft.ifft(full, dim=1, norm="forward"), 1, 2)
        return torch.fft.irfft(_padded(z, n // 2 + 1)[:, :, : n // 2 + 1], n=n, dim=2, norm="forward")


def _padded(z, size):
    """``z`` with zeros up to ``size`` columns."""
    return torch.cat([z, z.new_zeros(*z.shape[:2], max(0, size - z.shape[2]), z.shape[3])], 2)


def layer(n, pruned):
    torch.manual_seed(0)
    shard = sharded(square(n))
    conv = SpectralConv(WIDTH, WIDTH, [Basis("fourier", m) for m in MODES]).double()
    x = torch.randn(BATCH, n, n, WIDTH, dtype=torch.float64)
    x = shard.mine(x, 1)
    with torch.no_grad(), measured_traffic() as sent:
        ours = conv(x, shard)
        fft = _SlabFFT(pruned)
        theirs = fft(x, conv, n)
    return float((ours - theirs).norm() / ours.norm()), sent.bytes, fft.sent, coefficient_shape(conv.bases)


@pytest.mark.parametrize("pruned", [True, False])
def test_a_distributed_fft_of_the_same_layer_sends_more(processes, pruned):
    found = {n: processes.run(2, layer, n, pruned) for n in (64, 256)}
    for n, ranks in found.items():
        columns = MODES[1] // 2 + 1 if pruned else 2 * -(-(n // 2 + 1) // 2)
        for difference, ours, theirs, _ in ranks:
            assert difference <= 1e-12
            assert ours == BATCH * 2 * MODES[0] * (MODES[1] // 2 + 1) * WIDTH * 8
            # Two transposes, of which each of two ranks sends half of its half of the rows, complex.
            assert theirs == 2 * BATCH * (n // 2) * (columns // 2) * WIDTH * 16
    assert found[256][0][2] >= (4 if pruned else 15) * found[64][0][2]
    assert found[256][0][1] < found[256][0][2]
