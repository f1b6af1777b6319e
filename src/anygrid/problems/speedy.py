"""The weather of a numerical model of the whole atmosphere: SPEEDY's physics on a spectral core, run by `jcm` in its own process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from anygrid.errors import GridError, UsageError
from anygrid.fields import Variable
from anygrid.grid import Grid, Sphere
from anygrid.numerics.stepping import finite_input
from anygrid.problems.base import Card, Problem
from anygrid.problems.speedy_engine import Engine, SpeedyState, shared_engine
from anygrid.problems.speedy_fields import FORCINGS, STATIC, VARIABLES, variable

__all__ = ["GRID", "Speedy", "perturbed"]

GRID = Sphere.gauss(48, 96)
"""The grid of the model at T30."""

_SIGMA = (0.025, 0.095, 0.2, 0.34, 0.51, 0.685, 0.835, 0.95)
_COLUMNS = {
    "vo": ("s-1", "relative vorticity", "atmosphere_relative_vorticity"),
    "d": ("s-1", "divergence", "divergence_of_wind"),
    "t": ("K", "temperature", "air_temperature"),
    "q": ("kg kg-1", "specific humidity", "specific_humidity"),
}
_STATE = tuple(
    Variable(f"{short}_level{k}", units, f"{name} at sigma {sigma:g}", standard)
    for short, (units, name, standard) in _COLUMNS.items()
    for k, sigma in enumerate(_SIGMA, start=1)
)
_REFERENCE = 2001  # a year without leap day, for fractions of a year


@dataclass(frozen=True)
class Speedy(Problem):
    r"""The whole atmosphere ``dt`` seconds later: primitive equations on levels of :math:`\sigma = p / p_s`, with SPEEDY's physics.

    .. math::
        \partial_t \zeta &= \mathbf{k} \cdot \nabla \times \mathbf{F}, \qquad
        \partial_t \delta = \nabla \cdot \mathbf{F} - \nabla^2 \big(\Phi + \tfrac12 |\mathbf{v}|^2 + R \bar T \ln p_s\big) \\
        \partial_t T &= -\mathbf{v} \cdot \nabla T - \dot\sigma\,\partial_\sigma T + \kappa T \omega / p + Q_T, \qquad
        \partial_t q = -\mathbf{v} \cdot \nabla q - \dot\sigma\,\partial_\sigma q + Q_q \\
        \partial_t \ln p_s &= -\int_0^1 \big(\nabla \cdot \mathbf{v} + \mathbf{v} \cdot \nabla \ln p_s\big) \, d\sigma

    with convection, condensation, clouds, radiation, surface fluxes and vertical diffusion in :math:`\mathbf F, Q_T, Q_q`.

    The state is vorticity, divergence, temperature and humidity on the eight levels, the surface pressure, and the long-wave flux in
    four bands, which the model's radiation takes from the step before, on the model's Gaussian grid of 48 by 96 points, the only one it
    has. What else the physics needs depends on the season alone, so that the fraction of the year is one more input, a constant field; a
    roll-out that should see the seasons must set it (a known forcing), otherwise it stays.

    Fields on a few levels of pressure, as in ERA5, are not enough to start the model from;
    :func:`anygrid.io.weather_store.generate_weather` writes them, and beside them states that the model goes on from bit for bit.

    Parameters
    ----------
    dt
        Seconds from input to output, a multiple of 5400.
    start
        Date of the first fields of a long run.
    variables
        Short names of what a long run writes.
    spin_up
        Days from air at rest to the first state that is used.

    Notes
    -----
    Needs ``pip install 'anygrid[weather]'``. The model computes in float32, whatever the dtype of ``a``. From a state on levels it goes on
    as from its own spectral state to the rounding of one transform.

    Source: Molteni, Climate Dynamics 20 (2003) 175 (the physics); `jcm` 3.0.0 and `dinosaur`, Apache-2.0 (the code).
    """

    dt: float = 21600.0
    start: str = "2000-01-01"
    variables: tuple[str, ...] = VARIABLES
    spin_up: int = 180

    steps: ClassVar[int] = 40  # type: ignore[misc]
    inputs: ClassVar[tuple[Variable, ...]] = (
        *_STATE,
        Variable("sp", "Pa", "surface pressure", "surface_air_pressure"),
        *(Variable(f"longwave_band{k}", "W m-2", f"long-wave flux of the last step, spectral band {k}") for k in range(1, 5)),
        Variable("year_fraction", "1", "fraction of the year that has passed"),
    )
    outputs: ClassVar[tuple[Variable, ...]] = inputs[:-1]
    card: ClassVar[Card] = Card(
        title="Weather of SPEEDY: the whole atmosphere at T30 in eight levels",
        equation="primitive equations, with SPEEDY's convection, clouds, radiation, surface fluxes and vertical diffusion",
        boundary="mountains; land and sea; sea surface temperature, sea ice, snow and soil of the day of the year (climatology)",
        sampler="the model's own climate: air at rest with a little noise, `spin_up` days before a random day of the year",
        solver="jcm 3.0.0 in its own process: spectral (T30), semi-implicit, 30 minutes a step, float32",
        order="spectral in the horizontal, about 2 in the vertical; the physics is of order 1 in time",
        cost="measured in docs/weather-model.md",
        source="Molteni 2003; https://github.com/climate-analytics-lab/jax-gcm (Apache-2.0)",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "variables", tuple(self.variables))  # lists come out of JSON
        if not (math.isfinite(self.dt) and self.dt > 0) or self.dt % 5400:
            raise UsageError("Speedy(dt=...)", "a multiple of 5400 s", f"{self.dt:g} s", "leave it at 21600, or take 86400 for a day")
        if self.spin_up < 0:
            raise UsageError("Speedy(spin_up=...)", "0 days or more", str(self.spin_up))
        try:
            date = np.datetime64(self.start, "D")
        except ValueError as error:
            raise UsageError("Speedy(start=...)", "a date", repr(self.start), "for example 2000-01-01") from error
        if np.datetime64(self.start) != date or np.isnat(date):
            raise UsageError("Speedy(start=...)", "a date without a time", repr(self.start), "for example 2000-01-01")
        for name in self.variables:
            variable(name)
        if not set(self.variables) - set(STATIC) - set(FORCINGS):
            raise UsageError(
                "Speedy(variables=...)", "one of the model's own fields", ", ".join(self.variables) or "none", "for example z500"
            )

    @property
    def unit(self) -> int:
        """Seconds of one compiled call of the engine: the greatest common divisor of ``dt`` and six hours."""
        return math.gcd(round(self.dt), 21600)

    @property
    def time_unit(self) -> str:
        return "s"

    def grid(self, resolution: int | tuple[int, ...]) -> Sphere:
        """The model's own grid.

        Raises
        ------
        GridError
            For another resolution than 48 or (48, 96).
        """
        if resolution not in (48, (48, 96)):
            raise GridError("Speedy.grid", "48x96, the only grid of the model", str(resolution), "write 48")
        return GRID

    def sample(self, n: int, grid: Grid, generator: torch.Generator) -> Float[Tensor, "batch 38 lat lon"]:
        """Weather on random days (float32). Each sample costs a spin-up."""
        _own(grid, "Speedy.sample")
        drawn = torch.randint(0, 1 << 31, (n, 2), generator=generator).tolist()
        engine, states = shared_engine(self.unit), []
        for seed, day in drawn:
            begin = np.datetime64(f"{_REFERENCE}-01-01", "s") + np.timedelta64(day % 365 - self.spin_up, "D")
            state = engine.rest(begin, seed)
            if self.spin_up:
                state = engine.advance(state, self.spin_up * 86400 // self.unit, "last")[1]
            states.append(self.tensor(state, engine))
        return torch.stack(states) if states else torch.empty(0, len(self.inputs), *GRID.shape)

    def solve(self, a: Float[Tensor, "batch 38 lat lon"], grid: Grid) -> Float[Tensor, "batch 37 lat lon"]:
        """The state ``dt`` later, in the dtype of ``a``.

        Raises
        ------
        GridError
            On another grid than the model's.
        DataError
            If ``a`` is not finite, or the model's fields stop being so.
        UsageError
            When `jcm` is not installed.
        AnygridError
            When the process of the model ends.
        """
        _own(grid, "Speedy.solve")
        finite_input(a, "Speedy.solve")
        engine, out = shared_engine(self.unit), torch.empty(len(a), len(self.outputs), *GRID.shape, dtype=a.dtype)
        for k, one in enumerate(a):
            _, end = engine.advance(self.state(one, engine), round(self.dt) // self.unit, "last")
            out[k] = _tensor(engine.spread(end))
        return out.to(a.device)

    def residual(
        self, a: Float[Tensor, "batch 38 lat lon"], u: Float[Tensor, "batch 37 lat lon"], grid: Grid
    ) -> Float[Tensor, "batch 37 lat lon"]:
        r"""Defect of the model's flow over one step, :math:`(u - \Psi_{\Delta t}(a)) / \Delta t`; it costs a solve."""
        return (u - self.solve(a, grid)) / self.dt

    def tensor(self, state: SpeedyState, engine: Engine) -> Float[Tensor, "38 lat lon"]:
        """A whole state of the model as an input of :meth:`solve` (float32)."""
        year = state.time.astype("datetime64[Y]")
        begin, end = year.astype("datetime64[s]"), (year + 1).astype("datetime64[s]")
        fraction = float((state.time - begin) / (end - begin))
        return torch.cat([_tensor(engine.spread(state)), torch.full((1, *GRID.shape), fraction)])

    def state(self, a: Float[Tensor, "38 lat lon"], engine: Engine) -> SpeedyState:
        """Inverse of :meth:`tensor` to the rounding of one transform, at that fraction of the year 2001, on a step of the model."""
        values = a.detach().to("cpu", torch.float32).numpy()
        step = round(float(values[-1].mean()) % 1 * 365 * 86400 / self.unit) * self.unit
        columns = 4 * len(_SIGMA)
        fields = dict(zip(_COLUMNS, values[:columns].reshape(4, len(_SIGMA), *GRID.shape), strict=True))
        fields |= {"ps": values[columns], "flux": values[columns + 1 : -1]}
        return engine.compose(np.datetime64(f"{_REFERENCE}-01-01", "s") + step, fields)


def perturbed(state: SpeedyState, amplitude: float, seed: int) -> SpeedyState:
    r"""A member of an ensemble: every spectral coefficient of vorticity and temperature but the mean times :math:`1 + \epsilon \xi`.

    :math:`\xi` is standard normal, drawn by ``seed`` alone, so that the perturbation has the spectrum and the zonal pattern of the flow.

    Raises
    ------
    UsageError
        For an amplitude below 0.
    """
    if not amplitude >= 0:
        raise UsageError("perturbed(amplitude=...)", "a number of 0 or more", str(amplitude), "for example 0.01")
    random = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = dict(state.arrays)
    for name in ("vorticity", "temperature_variation"):
        factor = 1 + amplitude * random.standard_normal(arrays[name].shape)
        factor[..., 0, 0] = 1
        arrays[name] = (arrays[name] * factor).astype(np.float32)
    return SpeedyState(state.time, arrays)


def _tensor(fields: Mapping[str, NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate([*(fields[name] for name in _COLUMNS), fields["ps"][None], fields["flux"]]))


def _own(grid: Grid, where: str) -> None:
    if grid != GRID:
        shown = "x".join(map(str, grid.shape))
        raise GridError(where, "the model's Gaussian grid of 48x96 points", f"{type(grid).__name__} {shown}", "take problem.grid(48)")
