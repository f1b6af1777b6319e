"""Files of bare arrays: MATLAB v5, NumPy, PyTorch. None of them is ever allowed to run code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from anygrid.errors import FileError
from anygrid.io.naming import name_dimensions

__all__ = ["read_mat5", "read_npy", "read_npz", "read_pt"]


def read_mat5(path: Path) -> xr.Dataset:
    """MATLAB files up to v7; the classical operator-learning files have samples first (``a`` (n, x), ``coeff`` (n, x, y))."""
    from scipy.io import loadmat
    from scipy.sparse import issparse

    held = loadmat(path, appendmat=False)
    arrays = {n: a for n, a in held.items() if not n.startswith("__") and isinstance(a, np.ndarray) and not issparse(a)}
    return name_dimensions(arrays, str(path))


def read_npy(path: Path) -> xr.Dataset:
    """One array, mapped into memory rather than read; the variable is called ``data``."""
    with path.open("rb") as file:
        _refuse_objects(file, path)
    return name_dimensions({"data": np.load(path, mmap_mode="r", allow_pickle=False)}, str(path))


def read_npz(path: Path) -> xr.Dataset:
    """Named arrays of an .npz file; arrays of Python objects are refused, because loading them would run code."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                _refuse_objects(file, path)
    with np.load(path, allow_pickle=False) as held:
        return name_dimensions({n: held[n] for n in held.files}, str(path))


def _refuse_objects(file: Any, path: Path) -> None:
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if header(file)[2].hasobject:
        hint = "save plain numeric arrays: np.savez(file, a=a.astype('float32'), ...)"
        raise FileError(str(path), "arrays of numbers", "Python objects, which only a pickle could load", hint)


def read_pt(path: Path) -> xr.Dataset:
    """A tensor, or a dictionary of tensors, saved by ``torch.save``; loaded with ``weights_only=True``, so no code runs."""
    import torch

    where = str(path)
    hint = "save a dictionary of tensors: torch.save({'a': a, 'u': u}, file)"
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(where, "tensors only", "objects that only running code could load, or damaged bytes", hint) from error
    if isinstance(held, torch.Tensor):
        held = {"data": held}
    if not isinstance(held, dict):
        raise FileError(where, "a tensor or a dictionary of tensors", type(held).__name__, hint)
    arrays = {str(n): _array(t) for n, t in held.items() if isinstance(t, torch.Tensor) and not t.is_sparse and not t.is_quantized}
    if not arrays:
        raise FileError(
            where, "a tensor or a dictionary of tensors", f"a dictionary without tensors ({', '.join(map(str, list(held)[:6]))})", hint
        )
    return name_dimensions(arrays, where)


def _array(tensor: Any) -> Any:
    import torch

    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    return wide.detach().numpy()
