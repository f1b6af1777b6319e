"""Forecasts: an evolution map applied again and again, with valid times, forcings, and a store that can be resumed."""

from anygrid.forecast.breed import breed
from anygrid.forecast.ensemble import ensemble
from anygrid.forecast.hybrid import Hybrid, Tally, calibrate, estimated_error, own_data
from anygrid.forecast.parareal import Parareal, parareal
from anygrid.forecast.perturb import Perturbation
from anygrid.forecast.roll import ForecastError, forecast
from anygrid.forecast.summary import Keep
from anygrid.forecast.verify import truth_for
from anygrid.forecast.view import View, on_grid

__all__ = [
    "ForecastError",
    "Hybrid",
    "Keep",
    "Parareal",
    "Perturbation",
    "Tally",
    "View",
    "breed",
    "calibrate",
    "ensemble",
    "estimated_error",
    "forecast",
    "on_grid",
    "own_data",
    "parareal",
    "truth_for",
]
