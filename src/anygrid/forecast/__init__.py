"""Forecasts: an evolution map applied again and again, with valid times, forcings, and a store that can be resumed."""

from anygrid.forecast.roll import ForecastError, forecast
from anygrid.forecast.verify import truth_for

__all__ = ["ForecastError", "forecast", "truth_for"]
