"""A training that goes on from the weights of a surrogate: on other data, with longer roll-outs, or made random."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn

from anygrid.errors import UsageError
from anygrid.io.pairs import Pairs
from anygrid.operators.widen import widened
from anygrid.surrogate import Noise, Surrogate

__all__ = ["check_parent", "identity", "operator_of"]


def check_parent(parent: Surrogate, data: Pairs, noise: Noise, increment: bool, persistence: bool | None, *, alone: bool) -> None:
    """Refuse to go on from a surrogate of another map.

    Raises
    ------
    UsageError
        Unless it is ``alone``, without another operator or a search for one; for other variables, another domain or step, another form
        of the prediction, or other noise than its own, where it has some.
    """
    if not alone:
        raise UsageError("parent", "a parent, or an operator or a search", "both", "leave one out: a parent has its own operator")
    for what, own, asked in (("inputs", parent.inputs, data.inputs), ("outputs", parent.outputs, data.outputs)):
        if [v.name for v in own] != [v.name for v in asked]:
            expected, got = (", ".join(v.name for v in part) for part in (own, asked))
            raise UsageError(f"parent's {what}", expected, got, "name the same variables in the same order")
    if parent.dt != data.dt:
        raise UsageError("parent", f"its own step, {parent.dt or 'none'}", data.dt or "none", "give the lead that it was trained with")
    if parent.grid.domain != data.grid.domain:
        expected, got = (", ".join(f"{i.lower:g} to {i.upper:g}" for i in g.domain) for g in (parent.grid, data.grid))
        raise UsageError("parent", f"its own domain, {expected}", got, "its weights are those of a map on this domain")
    if parent.increment != increment:
        words = {True: "increments", False: "states"}
        raise UsageError(
            "parent", f"a prediction of {words[parent.increment]}, as its own", f"one of {words[increment]}", "leave increment out"
        )
    if persistence is not None and persistence != (parent.persistence is not None):
        words = {True: "damped persistence", False: "plain persistence"}
        raise UsageError("parent", f"its own {words[not persistence]}", words[persistence], "leave persistence out")
    if parent.noise and parent.noise.lengths != noise.lengths:
        had, given = len(parent.noise.lengths), len(noise.lengths)
        raise UsageError("parent", f"its own noise, noise={had}", f"noise={given}", f"give noise={had}, or a parent without noise")


def operator_of(parent: Surrogate, noise: int, seed: int) -> nn.Module:
    """Its operator, widened by the channels of noise that it lacks."""
    return widened(parent.operator, max(0, noise - len(parent.noise.lengths)), seed)


def identity(parent: Surrogate) -> str:
    """What tells this parent from others, for the arguments of a run: a hash of its operator, scaling and weights.

    Not of its file, whose bytes need not be the same twice.
    """
    operator = parent.operator
    arguments = [type(operator).__name__, operator.arguments, parent.statistics.to_json()]
    found = hashlib.sha256(json.dumps(arguments, default=str).encode())
    weights = dict(operator.state_dict())
    if parent.persistence is not None:
        found.update(json.dumps(parent.persistence.to_json()).encode())
        weights |= parent.persistence.tensors()
    for name, value in sorted(weights.items()):
        found.update(name.encode() + value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
