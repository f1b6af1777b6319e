"""Fields with names, units and coordinates: roles of dimensions, the grid they lie on, and tensors out of them and back."""

from anygrid.fields.adopt import ConvertedWarning, adopt, check_units
from anygrid.fields.coordinates import find_grid, grid_coordinates
from anygrid.fields.layout import Layout, find_layout
from anygrid.fields.tensors import restore, to_dataset, to_tensor
from anygrid.fields.variables import Variable, select, variables_of

__all__ = [
    "ConvertedWarning",
    "Layout",
    "Variable",
    "adopt",
    "check_units",
    "find_grid",
    "find_layout",
    "grid_coordinates",
    "restore",
    "select",
    "to_dataset",
    "to_tensor",
    "variables_of",
]
