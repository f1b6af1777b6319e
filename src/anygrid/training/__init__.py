"""fit(): from data to a surrogate, within a budget, resumable exactly."""

from anygrid.training.budget import parse_duration
from anygrid.training.checkpoints import read_run, write_run
from anygrid.training.fit import Build, fit
from anygrid.training.losses import RelativeNorm
from anygrid.training.progress import Listener, Progress
from anygrid.training.settings import DEFAULTS, Settings
from anygrid.training.symmetries import Flip, Shift, Symmetry, Transpose

__all__ = [
    "DEFAULTS",
    "Build",
    "Flip",
    "Listener",
    "Progress",
    "RelativeNorm",
    "Settings",
    "Shift",
    "Symmetry",
    "Transpose",
    "fit",
    "parse_duration",
    "read_run",
    "write_run",
]
