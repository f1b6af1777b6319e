"""Runtime shape and type checks on for the whole package under pytest."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from types import ModuleType

import torch
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

torch.set_num_threads(1)

# An int where a float is asked for is fine (PEP 484), which beartype takes only when told; the hook wants a name to import.
checker = ModuleType("anygrid_type_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
install_import_hook("anygrid", "anygrid_type_checker.check")
