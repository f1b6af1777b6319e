"""Steps of a periodic system: exponential methods on the modes that products act on, the exact solution of the linear part on all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from anygrid.equations.solution import Scheme
from anygrid.equations.spectral import SpectralSystem
from anygrid.equations.system import System
from anygrid.grid import Box
from anygrid.numerics.coupled import CoupledETDRK, apply_matrix, phi_functions
from anygrid.numerics.pseudospectral import to_spectrum
from anygrid.numerics.replay import Replayed
from anygrid.numerics.stepping import ETDRK4, Stepper

__all__ = ["Propagator", "Step", "propagator"]

Step = Callable[[Tensor], Tensor]
_STEPPERS = 32  # sizes of steps kept: a solution uses fewer, unless it blows up


@dataclass
class Propagator:
    """A discrete system with the steps built for it so far.

    Attributes
    ----------
    spectral
        Its matrices, forcing and tendency.
    method
        How it is advanced.
    graded
        Whether gradients with respect to parameters are wanted.
    """

    spectral: SpectralSystem
    method: type[Stepper]
    graded: bool = False
    _steps: dict[tuple[float, bool], Step] = field(default_factory=dict)
    _flows: dict[tuple[float, bool, bool], tuple[Tensor, Tensor | None]] = field(default_factory=dict)

    def step(self, h: float) -> Step:
        """One step of size ``h`` on kept coefficients."""
        # What is built without gradients must not serve with them, where parameters have gradients.
        key = h, self.graded and torch.is_grad_enabled()
        if key not in self._steps:
            if len(self._steps) >= _STEPPERS:
                self._steps.clear()
            one, matrix = self.spectral, self.spectral.compact(self.spectral.matrix)
            if one.coupled:
                step: Step = CoupledETDRK(matrix, one.tendency, h, self.method.order, one.dtype)
            else:
                diagonal = torch.diagonal(matrix, dim1=1, dim2=2).movedim(-1, 1)
                factor = one.factor if diagonal.is_complex() or (one.factor is not None and not one.factor.is_complex()) else None
                nonlinear = one.tendency if factor is None else one.products
                step = self.method(diagonal, nonlinear, h, one.dtype, matrix.device, factor)
            self._steps[key] = step if key[1] else Replayed(step)
        return self._steps[key]

    def forward(self, u: Tensor) -> Tensor:
        """Kept coefficients of states ``(batch, unknown, *space)``."""
        return self.spectral.compact(to_spectrum(u, self.spectral.grid.ndim))

    def backward(self, kept: Tensor) -> Tensor:
        """States of kept coefficients."""
        return self.spectral.truncation.to_field(kept)

    def exact(self, u: Tensor, time: float, *, held: bool = False) -> Tensor:
        """Full coefficients after ``time`` under the linear part and the forcing alone; ``held``: with no growth of any mode.

        Modes that products do not reach have nothing that would end their growth, so that rounding errors would fill them.
        """
        key = time, held, self.graded and torch.is_grad_enabled()
        if key not in self._flows:
            self._flows = {key: self._flow(time, held)}  # one is kept: its coefficients are large
        flow, forced = self._flows[key]
        flow = flow.to(u.dtype)
        out = apply_matrix(flow, u) if self.spectral.coupled else flow * u
        return out if forced is None else out + forced.to(u.dtype)

    def _flow(self, time: float, held: bool) -> tuple[Tensor, Tensor | None]:
        """``e^{A t}``, a number or matrix for each mode, and what the forcing makes of rest in ``time``."""
        matrix, source = self.spectral.matrix, self.spectral.source
        if self.spectral.coupled:
            a = matrix.movedim((1, 2), (-2, -1)) * time
            if held:
                with torch.no_grad():
                    growth = torch.linalg.eigvals(a).real.amax(-1).clamp(min=0)
                a = a - growth[..., None, None] * torch.eye(a.shape[-1], dtype=growth.dtype, device=a.device)
            flow, first = (each.movedim((-2, -1), (1, 2)) for each in phi_functions(a, 1))
            return flow, None if source is None else time * apply_matrix(first, source)
        z = torch.diagonal(matrix, dim1=1, dim2=2).movedim(-1, 1) * time
        z = z - z.real.clamp(min=0) if held else z
        safe = torch.where(z == 0, 1.0, z)
        return z.exp(), None if source is None else time * torch.where(z == 0, 1.0, torch.expm1(safe) / safe) * source

    def norms(self, u: Tensor) -> Tensor:
        """Root mean square over space of kept states, ``(batch, unknown)``, float64."""
        squares = torch.view_as_real(u.detach()).double().square().sum(-1)
        return (squares * self.spectral.truncation.weights().to(u.device)).flatten(2).sum(2).sqrt()

    def relative(self, wrong: Tensor, u: Tensor) -> Tensor:
        """Errors ``(batch,)`` in units of the state relative to the states ``u``, never below rounding."""
        size = u.detach().double().flatten(2).square().mean(2).sum(1).sqrt()
        least = torch.finfo(u.dtype).eps
        return (wrong / size.clamp(min=torch.finfo(u.dtype).tiny)).clamp(min=least).to(u.dtype)

    def scheme(self) -> Scheme:
        """What was chosen and why."""
        form, order = self.spectral.form, self.method.order
        if not form.bodies:
            reason = "every axis is periodic and even, and the equation is linear with constant coefficients"
            return Scheme("Fourier, exact in time", reason, "exact in time, spectral in space")
        joined = "as a matrix for each mode" if self.spectral.coupled else "mode by mode"
        kind = "products of degree" if form.polynomial else "terms that are no polynomials, treated as degree"
        parts = [
            "every axis is periodic and even",
            f"constant-coefficient linear part exact, {joined}",
            f"{kind} {form.degree}: modes from 1/{max(2, form.degree) + 1} of the points on are kept out of them",
            *form.remarks,
        ]
        return Scheme(f"Fourier pseudo-spectral, {self.method.__name__}", "; ".join(parts), f"{order} in time, spectral in space")


_KEPT: OrderedDict[object, Propagator] = OrderedDict()  # the last few, with their coefficients: a map is called many times


def propagator(system: System, box: Box, state: Tensor, known: Mapping[str, Tensor], method: type[Stepper] = ETDRK4) -> Propagator:
    """Propagator of a system for states like ``state`` ``(batch, unknown, *space)``, from a cache where values are the same."""
    given = {name: _shared(known[name], name in system.parameters) for name in (*system.parameters, *system.fields)}
    make = partial(SpectralSystem, system, box, given, state.dtype, state.device)
    if torch.is_grad_enabled() and any(value.requires_grad for value in given.values()):
        return Propagator(make(), method, graded=True)
    values = tuple((tuple(value.shape), value.detach().cpu().double().numpy().tobytes()) for value in given.values())
    key = (system, box, values, state.dtype, str(state.device), method, torch.is_inference_mode_enabled())
    if key not in _KEPT:
        with torch.no_grad():
            _KEPT[key] = Propagator(make(), method)
    _KEPT.move_to_end(key)
    while len(_KEPT) > 8:
        _KEPT.popitem(last=False)
    return _KEPT[key]


def _shared(value: Tensor, parameter: bool) -> Tensor:
    """One value for a parameter that all samples share: its coefficients are then computed once."""
    same = parameter and not value.requires_grad and value.ndim == 1 and bool((value == value[0]).all())
    return value[:1] if same else value
