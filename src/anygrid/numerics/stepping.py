"""One-step methods for stiff semilinear systems ``du/dt = L u + N(u)`` with diagonal ``L``.

The state is a tensor of coefficients (Fourier, cosine, spherical harmonic...), ``L`` acts on each coefficient alone and
``N`` is given as a function. A method is built once for a step size, because its coefficients depend on it, and is then called once a step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from anygrid.errors import AnygridError, DataError, UsageError

__all__ = ["ETDRK2", "ETDRK4", "CrankNicolsonEuler", "Nonlinear", "Stepper", "finite_input", "hermite_defect", "march"]

Nonlinear = Callable[[Tensor], Tensor]
_TOGETHER = 1 << 14  # numbers that functions on the circle are computed for at once
_CONTOUR = 64  # points on the circle; the error of the trapezoid rule there is below 1e-15 from 32 points on


class Stepper(ABC):
    """Advance a state by the fixed step ``dt``.

    Parameters
    ----------
    linear
        The diagonal of ``L``, real (diffusion) or complex (dispersion), in a shape that broadcasts against the state.
    nonlinear
        ``N``, a function from a state to its tendency in the same layout and dtype.
    dt
        Size of the step, in the time units of ``L`` and ``N``.
    dtype
        Real dtype of the arithmetic. Coefficients are always computed in float64 first, then rounded.
    device
        Where the states live.
    factor
        Where it is given, the tendency is ``factor * nonlinear(u)``: it joins the coefficients, for which it costs nothing.

    Attributes
    ----------
    order
        Order of accuracy in ``dt``: the error at a fixed time falls as ``dt**order``.
    """

    order: int

    def __init__(
        self,
        linear: Tensor,
        nonlinear: Nonlinear,
        dt: float,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        factor: Tensor | None = None,
    ) -> None:
        if not dt > 0:
            raise UsageError(type(self).__name__, "a step above 0", f"{dt}", "give dt in the time units of the equation")
        self.dt, self.nonlinear = dt, nonlinear
        wide = linear.to(torch.complex128 if linear.is_complex() else torch.float64)
        self._real = not linear.is_complex() and (factor is None or not factor.is_complex())
        kind = dtype if self._real else (torch.complex64 if dtype == torch.float32 else torch.complex128)
        flow, parts = self._build(wide, dt)
        parts = parts if factor is None else tuple(part * factor for part in parts)
        self._coefficients = tuple(c.to(device, kind) for c in (flow, *parts))
        self._paired: tuple[Tensor, ...] = ()

    @abstractmethod
    def _build(self, linear: Tensor, dt: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Coefficients of the state and of its tendencies, in double precision."""

    @abstractmethod
    def _advance(self, u: Tensor, tendency: Callable[[Tensor], Tensor], coefficients: tuple[Tensor, ...]) -> Tensor:
        """One step, all products elementwise."""

    def __call__(self, u: Tensor) -> Tensor:
        """State one step later, in the shape and dtype of ``u``."""
        if not (self._real and u.is_complex()):
            return self._advance(u, self.nonlinear, self._coefficients)
        # Real coefficients on complex states: real arithmetic on (re, im) pairs, because torch promotes a mixed
        # real-complex product element by element, which costs more than the Fourier transforms do.
        if not self._paired:
            self._paired = tuple(c[..., None].expand(*c.shape, 2).contiguous() for c in self._coefficients)
        pairs = self._advance(torch.view_as_real(u), self._tendency_of_pairs, self._paired)
        return torch.view_as_complex(pairs)

    def _tendency_of_pairs(self, pairs: Tensor) -> Tensor:
        return torch.view_as_real(self.nonlinear(torch.view_as_complex(pairs)))


class ETDRK4(Stepper):
    r"""Exponential time differencing, Runge-Kutta, order 4.

    .. math::
        a &= e^{Lh/2} u + Q N(u), \quad b = e^{Lh/2} u + Q N(a), \quad c = e^{Lh/2} a + Q (2 N(b) - N(u)) \\
        u' &= e^{Lh} u + f_1 N(u) + 2 f_2 (N(a) + N(b)) + f_3 N(c)

    with :math:`Q = L^{-1}(e^{Lh/2} - 1)` and :math:`f_1, f_2, f_3` as in the source. The coefficients suffer cancellation for
    small ``L h`` and are means over a circle of radius 1 about each ``L h`` instead. The linear part is exact; the
    step is limited by the stability of ``N`` alone (about 2.8 / |eigenvalue| for advection) and order falls where
    strong stiffness meets boundary conditions, which a periodic problem does not have.

    Source: Cox and Matthews, J. Comput. Phys. 176 (2002) 430, eqs. 26-29; contour means of Kassam and Trefethen,
    SIAM J. Sci. Comput. 26 (2005) 1214, section 3.
    """

    order = 4

    def _build(self, linear: Tensor, dt: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        z = linear * dt
        q, f1, f2, f3 = dt * _on_circle(z, _fourth)
        half, full = torch.exp(z / 2), torch.exp(z)
        flow, first, second = (half, full, full), (q, f1 + 2 * f2, (half - 1) * q), (q, 2 * f2)
        return torch.stack(flow), (torch.stack(first), torch.stack(second), 2 * q, 2 * f2, f3)

    def _advance(self, u: Tensor, tendency: Callable[[Tensor], Tensor], coefficients: tuple[Tensor, ...]) -> Tensor:
        # Few and wide operations: what a tendency adds to several stages is one product. With b = a + Q (N(a) - N(u)), e^{Lh} = e^{Lh/2}^2
        #     (a, u', c) = (e^{Lh/2}, e^{Lh}, e^{Lh}) u + (Q, f1 + 2 f2, (e^{Lh/2} - 1) Q) N(u)
        #     (b, u')   += (Q, 2 f2) (N(a) - N(u)),    c += 2 Q N(b),    u' += 2 f2 N(b) + f3 N(c)
        *stacks, q, f2, f3 = coefficients
        flow, first, second = (c.reshape(len(c), *[1] * (u.ndim + 1 - c.ndim), *c.shape[1:]) for c in stacks)
        nu = tendency(u)
        start = torch.addcmul(flow * u, first, nu)
        na = tendency(start[0])
        b, out = torch.addcmul(start[:2], second, na - nu).unbind()
        nb = tendency(b)
        nc = tendency(torch.addcmul(start[2], q, nb))
        return torch.addcmul(torch.addcmul(out, f2, nb), f3, nc)


class ETDRK2(Stepper):
    r"""Exponential time differencing, Runge-Kutta, order 2.

    .. math::
        a = e^{Lh} u + h \varphi_1(Lh) N(u), \qquad u' = a + h \varphi_2(Lh) (N(a) - N(u))

    Two evaluations of ``N`` a step; its stability region touches the imaginary axis at the origin only, so that advection
    without diffusion grows slowly. Source: Cox and Matthews (2002), eq. 22.
    """

    order = 2

    def _build(self, linear: Tensor, dt: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        z = linear * dt
        phi1 = _on_circle(z, lambda s: (torch.exp(s) - 1) / s)
        phi2 = _on_circle(z, lambda s: (torch.exp(s) - 1 - s) / s**2)
        return torch.exp(z), (dt * phi1, dt * phi2)

    def _advance(self, u: Tensor, tendency: Callable[[Tensor], Tensor], coefficients: tuple[Tensor, ...]) -> Tensor:
        full, first, second = coefficients
        nu = tendency(u)
        a = torch.addcmul(full * u, first, nu)
        return torch.addcmul(a, second, tendency(a) - nu)


class CrankNicolsonEuler(Stepper):
    r"""Crank-Nicolson for ``L``, explicit Euler for ``N``, order 1.

    .. math:: u' = \frac{(1 + \tfrac h2 L) u + h N(u)}{1 - \tfrac h2 L}

    The scheme of the published Navier-Stokes data (Li et al., ICLR 2021, their ``ns_2d.py``). Euler is unstable for
    advection without diffusion at any step, which is why that recipe needs steps of 1e-4.
    """

    order = 1

    def _build(self, linear: Tensor, dt: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        below = 1 - 0.5 * dt * linear
        return (1 + 0.5 * dt * linear) / below, (dt / below,)

    def _advance(self, u: Tensor, tendency: Callable[[Tensor], Tensor], coefficients: tuple[Tensor, ...]) -> Tensor:
        full, forced = coefficients
        return torch.addcmul(full * u, forced, tendency(u))


def finite_input(a: Tensor, where: str) -> None:
    """Refuse states that are not finite.

    Raises
    ------
    DataError
        Naming the first sample (row of ``a``) at fault.
    """
    bad = ~torch.isfinite(a).flatten(1).all(1)
    if bad.any():
        got = f"NaN or inf in {int(bad.sum())} of {len(a)} samples, the first at index {int(bad.nonzero()[0, 0])}"
        raise DataError(where, "finite values", got, "check how the initial state was read or made")


def march(step: Stepper, u: Tensor, count: int, where: str, samples: list[int]) -> Tensor:
    """Take ``count`` steps from the states ``u`` of shape ``(batch, ...)``.

    Raises
    ------
    AnygridError
        If a state stops being finite, with the time since the start and the entry of ``samples`` (one name for each row) at fault.
    """
    start = u
    for _ in range(count):
        u = step(u)
    if torch.isfinite(u).all():
        return u
    u = start  # walk again and look after every step; only the rare failure pays for it
    for k in range(count):
        u = step(u)
        bad = ~torch.isfinite(u).flatten(1).all(1)
        if bad.any():
            row = int(bad.nonzero()[0, 0])
            got = f"NaN or inf in sample {samples[row]} at time {(k + 1) * step.dt:.6g} (internal step {step.dt:.3g})"
            hint = "the internal step is too large for this state: check its amplitude and units, or lower the step"
            raise AnygridError(where, "a finite solution", got, hint)
    return u


def hermite_defect(linear: Tensor, nonlinear: Nonlinear, a: Tensor, u: Tensor, dt: float) -> Tensor:
    r"""Defect of the variation-of-constants formula over one step, from the two end states alone.

    .. math::
        r = \frac{u - e^{L h} a}{h} - \int_0^1 e^{L h (1 - \theta)} H(\theta) \, d\theta

    where :math:`H` is the cubic Hermite interpolant in time of :math:`N`, from its values :math:`N(a), N(u)` and rates
    :math:`N'(w)(L w + N(w))` at both ends. The linear part is exact whatever its stiffness, so on a true solution ``r`` is the
    interpolation error alone: order 4 in ``h`` (Hermite's remainder :math:`h^4 N^{(4)} / 384`).

    Parameters
    ----------
    linear, nonlinear
        As in :class:`Stepper`, ``N`` a polynomial of degree 2 at most, so that its derivative is an exact central difference.
    a, u
        Coefficients at the start and ``dt`` later.

    Returns
    -------
    Tensor
        Tendency-like coefficients (state per time), shape and dtype of ``u``.
    """
    z = linear.to(torch.complex128 if linear.is_complex() else torch.float64) * dt
    phi2 = _on_circle(z, lambda s: (torch.exp(s) - 1 - s) / s**2)
    phi1 = 1 + z * phi2
    phi3 = _on_circle(z, lambda s: (torch.exp(s) - 1 - s - s**2 / 2) / s**3)
    phi4 = _on_circle(z, lambda s: (torch.exp(s) - 1 - s - s**2 / 2 - s**3 / 6) / s**4)
    total = (u - torch.exp(z) * a) / dt
    weights = ((a, phi1 - 6 * phi3 + 12 * phi4, phi2 - 4 * phi3 + 6 * phi4), (u, 6 * phi3 - 12 * phi4, 6 * phi4 - 2 * phi3))
    for state, value, slope in weights:
        n = nonlinear(state)
        total = total - value * n - dt * slope * _directional(nonlinear, state, linear * state + n)
    return total.to(u.dtype)


def _directional(f: Nonlinear, at: Tensor, along: Tensor) -> Tensor:
    """Derivative of a quadratic ``f``: the central difference is exact at any distance, rounding least where it is the size of ``at``."""
    size, speed = (torch.linalg.vector_norm(x.flatten(1), dim=1) for x in (at, along))
    distance = torch.where((size > 0) & (speed > 0), size / speed.clamp(min=1e-30), 1.0).reshape(-1, *[1] * (at.ndim - 1))
    return (f(at + distance * along) - f(at - distance * along)) / (2 * distance)


def _fourth(s: Tensor) -> Tensor:
    """Coefficients of ETDRK4 away from 0, stacked."""
    half = torch.exp(s / 2)
    full, square = half * half, s * s
    f1 = -4 - s + full * (4 - 3 * s + square)
    f2 = 2 + s + full * (s - 2)
    f3 = -4 - 3 * s - square + full * (4 - s)
    return torch.stack(((half - 1) * square, f1, f2, f3), 1) / (square * s)[:, None]


def _on_circle(z: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of an entire ``f`` over the circle of radius 1 about each ``z``, which by Cauchy's formula is ``f(z)``.

    Kassam and Trefethen (2005), eq. 3.1 with the trapezoid rule. ``f`` keeps the first axis, that of the points, and may add one behind it.
    """
    # The lower half of the circle repeats the upper one, conjugated, when z is real.
    count = _CONTOUR if z.is_complex() else _CONTOUR // 2
    angle = 2 * torch.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / _CONTOUR
    points = torch.polar(torch.ones_like(angle), angle).reshape(-1, *[1] * z.ndim).to(z.device)
    together = max(1, _TOGETHER // max(1, z.numel()))
    mean = sum((f(z + some).sum(0) for some in points.split(together)), torch.zeros((), device=z.device)) / count
    return mean if z.is_complex() else mean.real
