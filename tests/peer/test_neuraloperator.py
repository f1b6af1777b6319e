"""Our textbook FNO carries neuraloperator's weights: same function, same gradients."""

import warnings

import pytest
import torch

from anygrid.errors import DataError, UsageError
from anygrid.grid import Box, Periodic
from anygrid.operators.fno import FNO

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    neuralop = pytest.importorskip("neuralop.models")


def _peer(modes, seed=0):
    torch.manual_seed(seed)
    return neuralop.FNO(
        n_modes=modes,
        in_channels=2,
        out_channels=3,
        hidden_channels=8,
        n_layers=3,
        lifting_channel_ratio=0,
        projection_channel_ratio=2,
        use_channel_mlp=False,
        fno_skip="linear",
        positional_embedding=None,
    )


# Odd sizes are left to the float64 reference in tests/exact: upstream's own result is wrong there in 2D and 3D.
@pytest.mark.parametrize(("modes", "shape"), [((16,), (64,)), ((12, 12), (32, 40)), ((6, 6, 6), (12, 14, 16)), ((16, 16), (16, 16))])
def test_same_output_and_gradients(modes, shape):
    peer = _peer(modes)
    ours = FNO.from_neuraloperator(peer.state_dict(), [True] * len(shape))
    grid = Box.uniform({f"x{k}": Periodic() for k in range(len(shape))}, shape)
    a = torch.randn(2, 2, *shape)
    left, right = a.clone().requires_grad_(), a.clone().requires_grad_()
    u, v = ours(left, grid), peer(right)
    assert (u - v).norm() <= 1e-5 * v.norm()
    u.square().sum().backward()
    v.square().sum().backward()
    assert (left.grad - right.grad).norm() <= 1e-5 * right.grad.norm()
    mine = dict(ours.named_parameters())
    assert (mine["pointwise.1.weight"].grad - peer.fno_blocks.fno_skips[1].conv.weight.grad.flatten(1)).norm() <= 1e-4 * mine[
        "pointwise.1.weight"
    ].grad.norm()


@pytest.mark.parametrize(("modes", "shape"), [((16,), (64,)), ((12, 12), (32, 40)), ((13, 13), (32, 40)), ((6, 6, 6), (12, 14, 16))])
def test_weights_go_back(modes, shape):
    """A network that was made here computes the same there."""
    peer = _peer(modes)
    torch.manual_seed(1)
    ours = FNO(2, 3, [True] * len(shape), modes, width=8, depth=3, head=16, coordinates=False, activations=2)
    peer.load_state_dict(ours.to_neuraloperator(), strict=False)
    a, grid = torch.randn(2, 2, *shape), Box.uniform({f"x{k}": Periodic() for k in range(len(shape))}, shape)
    u, v = ours(a, grid), peer(a)
    assert (u - v).norm() <= 1e-5 * v.norm()
    again = FNO.from_neuraloperator(peer.state_dict(), [True] * len(shape))
    for name, value in ours.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_networks_without_counterpart_are_refused():
    with pytest.raises(UsageError, match="coordinates=True, activations=1, padding"):
        FNO(1, 1, [True, False], [4, 4], width=4).to_neuraloperator()


def test_other_variants_are_refused():
    state = neuralop.FNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=8).state_dict()
    with pytest.raises(DataError, match="textbook variant"):
        FNO.from_neuraloperator(state, [True, True])
