"""What an exported file says of itself: variables, units, axes, hashes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from anygrid.export.traceable import smallest
from anygrid.grid import Box, Sphere
from anygrid.surrogate import Surrogate

__all__ = ["facts", "metadata"]


def facts(surrogate: Surrogate) -> dict[str, Any]:
    """Variables, units, axes in the order of the tensor's dimensions, step in time, hash of the weights; JSON-able."""
    grid = surrogate.grid
    assert isinstance(grid, Box | Sphere)
    axes = [
        {
            "name": axis.name,
            "units": axis.units,
            "lower": axis.interval.lower,
            "upper": axis.interval.upper,
            "periodic": axis.periodic,
            "placement": axis.placement,
            "trained": axis.size,
            "smallest": least,
        }
        for axis, least in zip(grid.axes, smallest(surrogate), strict=True)
    ]
    return {
        "format": "anygrid export",
        "version": 1,
        "anygrid": version("anygrid"),
        "operator": type(surrogate.operator).__name__,
        "inputs": [asdict(v) for v in surrogate.inputs],
        "outputs": [asdict(v) for v in surrogate.outputs],
        "axes": axes,
        "dt": surrogate.dt,
        "weights_sha256": _weights_hash(surrogate),
    }


def metadata(surrogate: Surrogate) -> dict[str, str]:
    """The same facts as texts; what is no text is JSON."""
    return {f"anygrid.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in facts(surrogate).items()}


def _weights_hash(surrogate: Surrogate) -> str:
    """SHA-256 of the operator's weights and of its scaling."""
    digest = hashlib.sha256()
    scaling = {name: getattr(surrogate, name) for name in ("in_mean", "in_std", "out_mean", "out_std")}
    for name, tensor in sorted((scaling | surrogate.operator.state_dict()).items()):
        t = tensor.detach().cpu().contiguous()
        digest.update(f"\0{name}\0{t.dtype}\0{tuple(t.shape)}\0".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
