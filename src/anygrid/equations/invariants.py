r"""What every solution of a system satisfies: constant values on walls, and the means that are conserved.

The mean of :math:`u_i` is conserved when :math:`\int F_i \, dx = 0` for every state that satisfies the boundary conditions: its rate is the
divergence of a flux that leaves the domain nowhere. That is tried on random smooth states, parameters and fields, with derivatives
exact to rounding and a quadrature that resolves their products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import sympy as sp
import torch
from jaxtyping import Float
from torch import Tensor

from anygrid.equations.boundary import Boundary, Condition, derivative_orders
from anygrid.equations.pointwise import pointwise_residual
from anygrid.equations.system import System
from anygrid.grid import Interval

__all__ = ["conserved_means", "constant_values"]

_RELATIVE = 1e-9  # mean of a rate that counts as none, as a part of its mean size
_DRAWS, _WAVES = 3, 3  # draws of everything, and waves along each axis
_POINTS = {1: 128, 2: 56, 3: 24}  # of the quadrature along each axis, by dimension
_FAR = 1e6  # beyond this a range is taken for unbounded


def constant_values(system: System, boundary: Boundary) -> tuple[Condition, ...]:
    """Conditions that give an unknown of ``system.state`` a constant value on a side.

    Only those that the solution takes on: where an unknown is differentiated once along an axis, a value holds where it flows in alone.
    """
    found = []
    for condition in boundary.conditions:
        name = condition.unknown
        carrier = name.removesuffix("_t") if name.removesuffix("_t") in system.state else name  # a rate has the kind of its unknown
        reached = derivative_orders(system, condition.axis).get(carrier, 0) > 1
        if condition.kind == "value" and name in system.state and reached and condition.value.is_number:
            found.append(condition)
    return tuple(found)


def conserved_means(
    system: System,
    domain: Mapping[str, Interval],
    boundary: Boundary,
    numbers: Mapping[str, tuple[float, float]],
    fields: Mapping[str, tuple[float, float]],
    given: Mapping[str, sp.Expr],
) -> tuple[str, ...]:
    """Unknowns of an evolution whose mean over the domain no solution changes.

    Parameters
    ----------
    numbers, fields
        Least and greatest value of every parameter, and of every field that is drawn at random.
    given
        Fields that are expressions of the coordinates, numbers and random fields.
    """
    swap = {system.function(name): expression for name, expression in given.items()}
    written = replace(
        system,
        parameters=tuple(numbers),
        fields=tuple(fields),
        rates=tuple(e.xreplace(swap) for e in system.rates),
        constraints=tuple(e.xreplace(swap) for e in system.constraints),
    )
    points, weights = _quadrature(domain)
    kept = list(system.state[: len(system.rates)])
    for seed in range(_DRAWS):
        if kept:
            rng = np.random.default_rng(seed)
            known: dict[str, Tensor | Callable[[Tensor], Tensor]] = {}
            for name, bounds in numbers.items():
                known[name] = torch.tensor(_between(bounds, rng.random()), dtype=torch.float64)
            for name, bounds in fields.items():
                known[name] = _varying(bounds, domain, rng)
            unknowns = [_smooth(domain, boundary, name, rng) for name in (*system.state, *system.auxiliary)]
            rates = _rates(written, unknowns, points, known)
            mean, size = weights @ rates, weights @ rates.abs()
            flat = mean.abs() <= _RELATIVE * size  # never for NaN, where a state leaves the range of a function
            kept = [name for name, fine in zip(system.state, flat.tolist(), strict=False) if fine and name in kept]
    return tuple(kept)


def _rates(
    system: System,
    unknowns: Sequence[Callable[[Tensor], Tensor]],
    points: Float[Tensor, "points axis"],
    known: Mapping[str, Tensor | Callable[[Tensor], Tensor]],
) -> Float[Tensor, "points rate"]:
    at = torch.cat([points, torch.zeros(len(points), 1, dtype=torch.float64)], 1)  # the time, on which nothing here depends

    def state(x: Tensor) -> Tensor:
        return torch.stack([unknown(x) for unknown in unknowns], 1)

    return -pointwise_residual(system, state, at, known).detach()[:, : len(system.rates)]


def _quadrature(domain: Mapping[str, Interval]) -> tuple[Float[Tensor, "points axis"], Float[Tensor, " points"]]:
    """Even points on periodic axes and Gauss points on bounded ones; the weights sum to 1."""
    n = _POINTS[len(domain)]
    nodes, gauss = np.polynomial.legendre.leggauss(n)
    axes = [
        interval.lower + interval.length * (np.arange(n) / n if interval.periodic else 0.5 + 0.5 * nodes) for interval in domain.values()
    ]
    shares = [np.full(n, 1 / n) if interval.periodic else 0.5 * gauss for interval in domain.values()]
    points = np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], 1)
    weights = np.prod([w.ravel() for w in np.meshgrid(*shares, indexing="ij")], 0)
    return torch.from_numpy(points), torch.from_numpy(weights)


def _smooth(
    domain: Mapping[str, Interval], boundary: Boundary, name: str, rng: np.random.Generator
) -> Callable[[Tensor], Float[Tensor, " points"]]:
    """Random function of points that satisfies the homogeneous conditions on ``name``, and varies about a value above 0 where it may."""
    waves, level = [], 1.0 + 0.3 * rng.random()  # lower end, factor of the wave number, what is taken off it, phase of each wave
    for axis, interval in domain.items():
        lower, upper = (_kind(condition) for condition in boundary.both(name, axis))
        factor, half, phase = math.pi / interval.length, 0.0, rng.uniform(0, 2 * math.pi, _WAVES)
        if interval.periodic:
            factor *= 2
        elif "free" not in (lower, upper):
            half = 0.0 if lower == upper else 0.5
            phase = np.full(_WAVES, -0.5 * math.pi if lower == "value" else 0.0)
            level = level if lower == upper == "normal" else 0.0
        waves.append((interval.lower, factor * torch.arange(1, _WAVES + 1, dtype=torch.float64) - factor * half, torch.from_numpy(phase)))
    amplitude = torch.from_numpy(rng.normal(size=(_WAVES,) * len(domain))) * 0.3 / math.sqrt(_WAVES ** len(domain))

    def function(x: Tensor) -> Tensor:
        total = amplitude.expand(len(x), *amplitude.shape)
        for k, (begin, numbers, phase) in enumerate(waves):
            total = torch.einsum("pw...,pw->p...", total, torch.cos((x[:, k, None] - begin) * numbers + phase))
        return level + total

    return function


def _kind(condition: Condition | None) -> str:
    """A homogeneous condition by its kind; any other binds the test functions to nothing, which only makes the test harder."""
    return condition.kind if condition is not None and condition.homogeneous else "free"


def _between(bounds: tuple[float, float], share: float) -> float:
    low, high = (bound if abs(bound) < _FAR else math.copysign(1.0, bound) for bound in bounds)
    return low + (high - low) * share


def _varying(bounds: tuple[float, float], domain: Mapping[str, Interval], rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """Random smooth field between two values."""
    wave = _smooth(domain, Boundary(), "", rng)
    return lambda x: _between(bounds, 0.5) + (_between(bounds, 1.0) - _between(bounds, 0.0)) * 0.4 * torch.tanh(wave(x) - 1.15)
