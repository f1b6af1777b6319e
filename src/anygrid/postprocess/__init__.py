"""Calibration after the forecast, fitted on validation cases only: EMOS, isotonic probabilities, conformal fields."""

from anygrid.postprocess.conformal import Conformal, fit_conformal
from anygrid.postprocess.emos import Emos, fit_emos
from anygrid.postprocess.isotonic import Isotonic, fit_isotonic

__all__ = ["Conformal", "Emos", "Isotonic", "fit_conformal", "fit_emos", "fit_isotonic"]
