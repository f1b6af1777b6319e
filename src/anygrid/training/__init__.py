"""fit(): from data to a surrogate, within a budget, resumable exactly."""

from anygrid.training.arguments import Build
from anygrid.training.budget import parse_duration
from anygrid.training.checkpoints import read_run, write_run
from anygrid.training.downscaling import fit_downscaling
from anygrid.training.fit import fit
from anygrid.training.losses import RelativeNorm
from anygrid.training.parallel import Parallel
from anygrid.training.physics import Physics
from anygrid.training.progress import Listener, Progress
from anygrid.training.settings import DEFAULTS, Settings
from anygrid.training.symmetries import Flip, Shift, Symmetry, Transpose
from anygrid.training.tuning import Tuned, fine_tune
from anygrid.training.weighting import AugmentedLagrangian, Fixed, GradientNorm, PrimalDual

__all__ = [
    "DEFAULTS",
    "AugmentedLagrangian",
    "Build",
    "Fixed",
    "Flip",
    "GradientNorm",
    "Listener",
    "Parallel",
    "Physics",
    "PrimalDual",
    "Progress",
    "RelativeNorm",
    "Settings",
    "Shift",
    "Symmetry",
    "Transpose",
    "Tuned",
    "fine_tune",
    "fit",
    "fit_downscaling",
    "parse_duration",
    "read_run",
    "write_run",
]
