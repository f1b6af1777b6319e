"""Tapes compute what SymPy computes, each common part once."""

import random

import numpy as np
import pytest
import sympy as sp
import torch

from anygrid.equations import tape as module
from anygrid.equations.parse import Scope, parse_expression
from anygrid.equations.tape import Leaf, Tape, record
from anygrid.errors import UsageError

x, y = sp.symbols("x y", real=True)
c = sp.Symbol("c", real=True)
u, v = sp.Function("u")(x, y), sp.Function("v")(x, y)
ATOMS = [x, y, c, u, v, sp.Derivative(u, x), sp.Derivative(v, x, (y, 2)), sp.Rational(1, 3), sp.pi, sp.Integer(2), sp.Float(0.7)]


def refuse(value: torch.Tensor, orders: tuple[int, ...]) -> torch.Tensor:
    raise AssertionError("no composite is differentiated here")


def grown(rng: random.Random, depth: int) -> sp.Expr:
    """Random expression that is finite for leaves between 0.5 and 1.5."""
    if depth == 0:
        return rng.choice(ATOMS)
    kind = rng.randrange(6)
    first, second = grown(rng, depth - 1), grown(rng, rng.randrange(depth))
    if kind == 0:
        return first + second
    if kind == 1:
        return first * second
    if kind == 2:
        return first - second
    if kind == 3:
        return rng.choice([sp.sin, sp.cos, sp.tanh, sp.Abs, sp.sign])(first)
    if kind == 4:
        return sp.sqrt(1 + first**2) / (2 + sp.sin(second)) ** rng.choice([1, 2, 3, 7])
    return sp.sin(first) ** rng.choice([2, 3, 5, 6, 11])


def run(tape: Tape, seed: int, dtype: torch.dtype = torch.float64) -> tuple[tuple[torch.Tensor, ...], dict[Leaf, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    values = {leaf: 0.5 + torch.rand(7, generator=generator, dtype=torch.float64).to(dtype) for leaf in tape.leaves}
    return tape(list(values.values()), refuse), values


@pytest.mark.parametrize("seed", range(16))
def test_random_expressions_against_numpy(seed: int) -> None:
    rng = random.Random(seed)
    expressions = [grown(rng, 4) for _ in range(3)]
    tape = record(expressions, (x, y))
    results, values = run(tape, seed)
    for expression, result in zip(expressions, results, strict=True):
        # Leaves become symbols for lambdify, derivatives first.
        slots: dict[sp.Expr, sp.Symbol] = {}
        for leaf in tape.leaves:
            e = {"x": x, "y": y, "c": c, "u": u, "v": v}[leaf.name]
            axes = [(a, n) for a, n in zip((x, y), leaf.orders, strict=True) if n]
            slots[sp.Derivative(e, *axes) if axes else e] = sp.Dummy(real=True)
        opened = expression.xreplace({e: s for e, s in slots.items() if e.is_Derivative}).xreplace(slots)
        with np.errstate(all="raise"):
            expected = sp.lambdify(list(slots.values()), opened, "numpy")(*[value.numpy() for value in values.values()])
        scale = 1 + np.abs(expected)
        assert np.max(np.abs(result.numpy() - expected) / scale) < 1e-12


@pytest.mark.parametrize("power", [*range(-12, 0), *range(1, 13)])
def test_whole_powers_of_negative_values_and_their_slopes(power: int) -> None:
    value = torch.tensor([-1.3, 0.7], dtype=torch.float64, requires_grad=True)
    for exponent in (sp.Integer(power), sp.Float(power)):
        result = record([sp.Pow(u, exponent)], (x, y))([value], refuse)[0]
        assert torch.allclose(result, value**power, rtol=1e-13)
        slope = torch.autograd.grad(result.sum(), value)[0]
        assert torch.allclose(slope, power * value.detach() ** (power - 1), rtol=1e-12)


def test_whole_powers_have_slopes_at_zero() -> None:
    value = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    for power in (1, 2, 3, 5, 12):
        result = record([u**power], (x, y))([value], refuse)[0]
        assert torch.autograd.grad(result.sum(), value)[0] == (power == 1)


def test_half_powers_and_roots_of_negative_values() -> None:
    value = torch.tensor([4.0, 2.25], dtype=torch.float64)
    for exponent in (0.5, -0.5, 1.5, 0.25, 2.3):
        e = parse_expression(f"u**{exponent}", Scope(("x", "y")))
        assert torch.allclose(record([e], (x, y))([value], refuse)[0], value**exponent, rtol=1e-14)
    root = record([parse_expression("(-u)**0.5", Scope(("x", "y")))], (x, y))([value], refuse)[0]
    assert root.isnan().all()  # as documented


def test_common_parts_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(value: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.sin(value)

    monkeypatch.setattr(module, "_FUNCTIONS", {**module._FUNCTIONS, sp.sin: counted})
    asked = []

    def slope(value: torch.Tensor, orders: tuple[int, ...]) -> torch.Tensor:
        asked.append(orders)
        return 2 * value

    flux = sp.Derivative(sp.sin(u) * v, x)
    tape = record([sp.sin(u) + flux, sp.sin(u) * flux**2, sp.Derivative(sp.sin(u) * v, x)], (x, y))
    ones = torch.ones(3, dtype=torch.float64)
    first, second, third = tape([ones] * len(tape.leaves), slope)
    assert tape.leaves == (Leaf("u", (0, 0)), Leaf("v", (0, 0))) or tape.leaves == (Leaf("v", (0, 0)), Leaf("u", (0, 0)))
    assert (len(calls), asked) == (1, [(1, 0)])
    s = float(np.sin(1.0))
    assert [float(r[0]) for r in (first, second, third)] == pytest.approx([3 * s, 4 * s**3, 2 * s], rel=1e-14)


def test_derivatives_of_functions_are_leaves_and_those_of_composites_are_asked_for() -> None:
    tape = record([sp.Derivative(u, x, (y, 2)) + sp.Derivative(c * sp.Derivative(u, y), (y, 1))], (x, y))
    assert set(tape.leaves) == {Leaf("u", (1, 2)), Leaf("u", (0, 1)), Leaf("c", (0, 0))}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_of_the_leaves_is_kept(dtype: torch.dtype) -> None:
    tape = record([sp.pi * u + sp.sqrt(2), sp.exp(-u) / 3], (x, y))
    results, _ = run(tape, 0, dtype)
    assert {result.dtype for result in results} == {dtype}


def test_what_cannot_be_computed_is_refused() -> None:
    for e in (sp.gamma(u), sp.zoo * u, sp.I * u, sp.sqrt(-2) * u, sp.exp(1000) * u, sp.Float("1e400") * u):
        with pytest.raises(UsageError):
            record([e], (x, y))


def test_negative_terms_are_subtracted_not_multiplied():
    x = sp.Symbol("x")
    u, v = sp.Function("u")(x), sp.Function("v")(x)
    tape = record([u**2 - v**2, -u - 2 * v, 1 - u], [x])
    a, b = torch.tensor([3.0, -1.0]), torch.tensor([0.5, 2.0])
    given = {"u": a, "v": b}
    values = tape([given[leaf.name] for leaf in tape.leaves], lambda value, orders: value)
    for value, wanted in zip(values, (a**2 - b**2, -a - 2 * b, 1 - a), strict=True):
        torch.testing.assert_close(value, wanted)
    alone = record([u**2 - v**2], [x])
    assert len(alone.operations) == 3  # two squares and a difference
