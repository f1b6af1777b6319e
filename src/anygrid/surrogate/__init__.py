"""A trained operator with everything needed to use it rightly: variables, scaling, domain, provenance; and its one file."""

from anygrid.surrogate.confine import confined
from anygrid.surrogate.downscaling import Downscaling
from anygrid.surrogate.file import FORMAT_VERSION, kind_of, read_surrogate, write_surrogate
from anygrid.surrogate.geometry import grid_from_json, grid_to_json, snap, window
from anygrid.surrogate.imposed import Imposed, imposed_by
from anygrid.surrogate.model import Surrogate
from anygrid.surrogate.noise import Noise
from anygrid.surrogate.persistence import Persistence
from anygrid.surrogate.seen import InputRangeWarning, Seen

__all__ = [
    "FORMAT_VERSION",
    "Downscaling",
    "Imposed",
    "InputRangeWarning",
    "Noise",
    "Persistence",
    "Seen",
    "Surrogate",
    "confined",
    "grid_from_json",
    "grid_to_json",
    "imposed_by",
    "kind_of",
    "read_surrogate",
    "snap",
    "window",
    "write_surrogate",
]
