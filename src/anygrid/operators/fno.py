r"""Fourier neural operator, the textbook network (Li et al. 2021, arXiv:2010.08895, eq. 2-5).

.. math:: v_0 = P(a, x), \quad v_{t+1} = \sigma\big(W v_t + b + \mathcal F^{-1} R_t\, \mathcal F v_t\big), \quad u = Q(v_T)

without the activation after the last layer, as in the published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import DataError, UsageError
from anygrid.grid import Grid
from anygrid.operators.layers import Pointwise, check_input, coordinate_features, feature_count, make_bases, move
from anygrid.operators.spectral import SpectralConv, spectral_sum

__all__ = ["FNO"]


class FNO(nn.Module):
    """Textbook Fourier neural operator on any box, with other bases on request.

    Parameters
    ----------
    inputs, outputs
        Channels.
    periodic
        Which axes of the domain are periodic; its length is the number of axes.
    modes
        Functions kept along each axis: for ``fourier`` wave numbers ``-(m // 2)..(m - 1) // 2``.
    families, padding
        Basis and, on bounded Fourier axes, the fraction by which the period exceeds the domain. Default: Fourier
        everywhere, padding 0.25 on bounded axes (relative to the domain, so it means the same at every resolution).
    width, depth, head
        Channels inside, number of spectral layers, hidden channels of the projection ``Q``.
    coordinates
        Whether position enters as input channels.
    activations
        How many times GELU is applied between layers. Only neuraloperator 2.0 without channel MLPs applies it twice, and its
        weights mean nothing without that.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        periodic: Sequence[bool],
        modes: Sequence[int],
        families: Sequence[str] | None = None,
        padding: Sequence[float] | None = None,
        width: int = 32,
        depth: int = 4,
        head: int = 128,
        coordinates: bool = True,
        activations: int = 1,
    ) -> None:
        super().__init__()
        families = ["fourier"] * len(periodic) if families is None else list(families)
        padding = (
            [0.0 if p or f != "fourier" else 0.25 for p, f in zip(periodic, families, strict=True)] if padding is None else list(padding)
        )
        self.arguments: dict[str, Any] = {
            "inputs": inputs,
            "outputs": outputs,
            "periodic": list(periodic),
            "modes": list(modes),
            "families": families,
            "padding": padding,
            "width": width,
            "depth": depth,
            "head": head,
            "coordinates": coordinates,
            "activations": activations,
        }
        bases = make_bases(modes, families, padding)
        self.periodic = tuple(periodic)
        self.inputs, self.coordinates, self.activations = inputs, coordinates, activations
        self.lift = nn.Linear(inputs + (feature_count(periodic) if coordinates else 0), width)
        self.spectral = nn.ModuleList(SpectralConv(width, width, bases) for _ in range(depth))
        self.pointwise = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.project = Pointwise(width, head, outputs)

    def forward(
        self, a: Float[Tensor, "batch inputs *space"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """Apply the operator to ``a`` on ``grid``; evaluate the output on ``query`` (default: ``grid``).

        Raises
        ------
        GridError
            For a tensor that does not lie on ``grid``, a grid with other periodic axes, or too few points for the modes.
        """
        check_input(a, grid, self.inputs, self.periodic, "FNO")
        x = torch.movedim(a, 1, -1)
        if self.coordinates:
            position = coordinate_features(grid, a.dtype, a.device)
            x = torch.cat([x, position.expand(a.shape[0], *position.shape)], dim=-1)
        x = self.lift(x)
        last = len(self.spectral) - 1
        for k, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            assert isinstance(spectral, SpectralConv)
            assert isinstance(pointwise, nn.Linear)
            activations = self.activations if k else 0  # GELU lies between layers
            if k == last and query is not None and query != grid:
                for _ in range(activations):
                    x = nn.functional.gelu(x)
                x = spectral(x, grid, query) + move(pointwise(x), grid, query)
            else:
                x = spectral_sum(x, spectral, pointwise, grid, activations=activations)
        return torch.movedim(self.project(x), -1, 1)

    @classmethod
    def from_neuraloperator(cls, state: dict[str, Any], periodic: Sequence[bool]) -> FNO:
        """Take over the weights of a neuraloperator 2.0 ``FNO`` built with ``lifting_channel_ratio=0``,
        ``use_channel_mlp=False``, ``fno_skip="linear"``, ``positional_embedding=None`` and dense weights.

        Raises
        ------
        DataError
            When the state dictionary is of another variant of that network.
        """
        prefix = "fno_blocks.convs."
        weights = [state.get(f"{prefix}{k}.weight", state.get(f"{prefix}{k}.weight.tensor")) for k in range(len(state))]
        dense = [w for w in weights if w is not None]
        needed = ["lifting.fcs.0.weight", "projection.fcs.0.weight", "projection.fcs.1.weight", "fno_blocks.fno_skips.0.conv.weight"]
        missing = [name for name in needed if name not in state]
        if not dense or missing or "lifting.fcs.1.weight" in state or any("channel_mlp" in name for name in state):
            raise DataError(
                "FNO.from_neuraloperator",
                "the state of a textbook variant of neuraloperator's FNO",
                f"missing {missing}" if missing else "a lifting network or channel MLPs",
                "build it with lifting_channel_ratio=0, use_channel_mlp=False, fno_skip='linear', positional_embedding=None",
            )
        width, kept = dense[0].shape[0], dense[0].shape[2:]
        modes = [*kept[:-1], 2 * (kept[-1] - 1)]
        first, second = state["projection.fcs.0.weight"], state["projection.fcs.1.weight"]
        operator = cls(
            state["lifting.fcs.0.weight"].shape[1],
            second.shape[0],
            periodic,
            modes,
            padding=[0.0] * len(periodic),
            width=width,
            depth=len(dense),
            head=first.shape[0],
            coordinates=False,
            activations=2,
        )
        own = {
            "lift.weight": state["lifting.fcs.0.weight"].flatten(1),
            "lift.bias": state["lifting.fcs.0.bias"],
            "project.first.weight": first.flatten(1),
            "project.first.bias": state["projection.fcs.0.bias"],
            "project.second.weight": second.flatten(1),
            "project.second.bias": state["projection.fcs.1.bias"],
        }
        for k, w in enumerate(dense):
            own[f"spectral.{k}.weight"] = torch.view_as_real(torch.movedim(w, (0, 1), (-2, -1)).resolve_conj()).movedim(-1, 0)
            own[f"pointwise.{k}.weight"] = state[f"fno_blocks.fno_skips.{k}.conv.weight"].flatten(1)
            own[f"pointwise.{k}.bias"] = state[f"{prefix}{k}.bias"].flatten()
        operator.load_state_dict(own)
        return operator

    def to_neuraloperator(self) -> dict[str, Tensor]:
        """The weights as the state dictionary of neuraloperator's ``FNO``: the inverse of :meth:`from_neuraloperator`.

        ``peer.load_state_dict(operator.to_neuraloperator(), strict=False)`` for a peer with the same modes and widths. Same function on
        periodic grids of even size; at odd sizes upstream computes another one in two and three dimensions.

        Raises
        ------
        UsageError
            For a network that upstream has no counterpart of: coordinates as inputs, one activation between layers, a basis other than
            unpadded Fourier modes.
        """
        own = self.arguments
        differing = [
            what
            for what, differs in (
                ("coordinates=True", own["coordinates"]),
                (f"activations={own['activations']}", own["activations"] != 2),
                ("a basis other than Fourier", any(f != "fourier" for f in own["families"])),
                ("padding", any(own["padding"])),
            )
            if differs
        ]
        if differing:
            hint = "build it with coordinates=False, activations=2, families='fourier' and padding 0"
            raise UsageError("FNO.to_neuraloperator", "a network that upstream has too", ", ".join(differing), hint)
        ones = [1] * len(self.periodic)
        state = {
            "lifting.fcs.0.weight": self.lift.weight[..., None],
            "lifting.fcs.0.bias": self.lift.bias,
            "projection.fcs.0.weight": self.project.first.weight[..., None],
            "projection.fcs.0.bias": self.project.first.bias,
            "projection.fcs.1.weight": self.project.second.weight[..., None],
            "projection.fcs.1.bias": self.project.second.bias,
        }
        for k, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            assert isinstance(spectral, SpectralConv)
            assert isinstance(pointwise, nn.Linear)
            real, imaginary = torch.movedim(spectral.weight, (-2, -1), (1, 2))
            state |= {
                f"fno_blocks.convs.{k}.weight.tensor": torch.complex(real.contiguous(), imaginary.contiguous()),
                f"fno_blocks.convs.{k}.bias": pointwise.bias.view(-1, *ones),
                f"fno_blocks.fno_skips.{k}.conv.weight": pointwise.weight[..., None],
            }
        return {name: value.detach().clone() for name, value in state.items()}
