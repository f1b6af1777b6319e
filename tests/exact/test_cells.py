"""Cutting into cells and adding them up are convolutions: torch's own are the reference."""

import pytest
import torch

from anygrid.operators.cells import add_cells, cut_cells, gather, spread

CONV = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}
TRANSPOSED = {1: torch.nn.functional.conv_transpose1d, 2: torch.nn.functional.conv_transpose2d, 3: torch.nn.functional.conv_transpose3d}


@pytest.mark.parametrize(("d", "size", "stride"), [(1, 5, 2), (1, 7, 4), (1, 1, 1), (2, 5, 2), (2, 5, 3), (2, 3, 3), (3, 5, 2)])
def test_both_are_convolutions(d, size, stride):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *[size + 3 * stride] * d, dtype=torch.float64)
    weight = torch.randn(4, 3, *[size] * d, dtype=torch.float64)
    cells = cut_cells(x, size, stride)
    y = torch.movedim(cells @ weight.flatten(1).T, -1, 1)
    assert torch.allclose(y, CONV[d](x, weight, stride=stride), atol=1e-12)
    back = add_cells(torch.movedim(y, 1, -1) @ weight.flatten(1), 3, size, stride)
    assert torch.allclose(back, TRANSPOSED[d](y, weight, stride=stride), atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 3, 7])  # by products, and from three on by torch's convolutions
def test_gather_and_spread_are_linear_maps_of_cells(channels):
    torch.manual_seed(0)
    x, layer = torch.randn(2, channels, 11, 15), torch.nn.Linear(6, 25 * channels, bias=False)
    weight = torch.randn(6, 25 * channels)
    z = gather(x, weight, 5, 2)
    torch.testing.assert_close(z, torch.nn.functional.linear(cut_cells(x, 5, 2), weight), rtol=1e-4, atol=1e-4)
    wanted = add_cells(layer(torch.nn.functional.gelu(z)), channels, 5, 2)
    found = spread(z, layer, channels, 5, 2)
    assert found.shape == x.shape
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    slopes = [torch.autograd.grad(y.square().sum(), layer.weight, retain_graph=True)[0] for y in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-2)
