"""Finite differences fall at order 4, to the ends of bounded axes and on uneven ones; spectral derivatives faster than any order."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from anygrid.grid import Axis, Bounded, Box, Interval, Periodic
from anygrid.numerics.differentiation import differentiate


def axis(kind: str, n: int) -> Axis:
    even = np.arange(n) / n
    if kind == "vertices":
        return Axis("x", Bounded(), n + 1)
    if kind == "cells":
        return Axis("x", Bounded(), n, "cells")
    if kind == "stretched":
        nodes = np.linspace(0, 1, n + 1)
        return Axis("x", Bounded(), n + 1, "nodes", tuple((nodes + 0.1 * np.sin(2 * np.pi * nodes)).tolist()))
    nodes = even + 0.08 * np.sin(2 * np.pi * even)
    return Axis("x", Interval(0, 1, periodic=True), n, "nodes", tuple(nodes.tolist()))


@pytest.mark.parametrize("derivative", [1, 2])
@pytest.mark.parametrize("kind", ["vertices", "cells", "stretched", "uneven periodic"])
def test_order_four_in_the_maximum_norm(kind, derivative):
    errors = []
    for n in (32, 64, 128):
        line = axis(kind, n)
        x = torch.from_numpy(line.coordinates())
        got = differentiate(torch.sin(2 * math.pi * x)[None, None], Box((line,)), 0, derivative)[0, 0]
        exact = 2 * math.pi * torch.cos(2 * math.pi * x) if derivative == 1 else -4 * math.pi**2 * torch.sin(2 * math.pi * x)
        errors.append(float((got - exact).abs().max()))
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert rates[-1] > 3.8
    assert rates[-1] < 5.3


def test_spectral_derivative_converges_exponentially():
    errors = []
    for n in (9, 17, 33):
        box = Box.uniform({"x": Periodic(0, 2 * math.pi)}, n)
        x = box.points()[..., 0]
        exact = torch.cos(x) * torch.exp(torch.sin(x))
        errors.append(float((differentiate(torch.exp(torch.sin(x))[None, None], box, 0) - exact).abs().max()))
    assert errors[1] < 1e-3 * errors[0]
    assert errors[2] < 1e-12
