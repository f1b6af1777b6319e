r"""Spherical Fourier neural operator: each degree of the spherical harmonics has one matrix, which all its orders share.

.. math::

    v_0 = P(a, x), \quad v_{t+1} = \sigma\big(W v_t + b + \mathcal S_t v_t\big), \quad u = Q(v_T), \qquad
    (\mathcal S v)(x) = \sum_{l \le L} \sum_{|m| \le l} Y_l^m(x)\, R_l\, \hat v_l^m

A linear map of fields on the sphere commutes with all rotations exactly if it acts on degrees alone (Schur's lemma; Driscoll and Healy
1994, theorem 1), so :math:`\mathcal S` is the most general convolution with a kernel that depends on distance. The network is that of
Bonev et al. 2023 (arXiv:2306.03838), with real matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.numerics.spherical_harmonics import analyse, merge, split, synthesise
from anygrid.operators.lean import perceptron
from anygrid.operators.sphere_layers import check_sphere, evaluate, linear_map, moved, with_position

__all__ = ["SphericalFNO"]


class SphericalFNO(nn.Module):
    """Spherical Fourier neural operator on any global grid with an exact latitude quadrature.

    Without ``coordinates`` it commutes with every rotation of the sphere, not only those about the axis: exactly but for GELU, whose output
    has degrees that the grid cannot tell apart. The error falls with the resolution (``tests/exact/test_spherical_fno.py``).

    Parameters
    ----------
    inputs, outputs
        Channels.
    degree
        Highest degree of the spectral layers: at most ``nlat - 1`` and below half the number of longitudes of every grid it will see. On
        even latitudes the layer is exact, and the same at every resolution, up to ``(nlat - 1) // 2``
        (:func:`~anygrid.numerics.spherical_harmonics.exact_degree`).
    width, depth, head
        Channels inside, number of spectral layers, hidden channels of the projection ``Q``.
    coordinates
        Whether position enters, as the three components of the unit vector to the point. Weather needs them: the Earth turns about one
        axis, and has mountains.
    """

    def __init__(
        self, inputs: int, outputs: int, degree: int, width: int = 32, depth: int = 4, head: int = 128, coordinates: bool = True
    ) -> None:
        super().__init__()
        if min(inputs, outputs, width, depth, head) < 1 or degree < 0:
            found = f"{inputs} -> {outputs} channels, degree {degree}, width {width}, depth {depth}, head {head}"
            raise UsageError("SphericalFNO", "sizes of 1 or more and a degree of 0 or more", found)
        self.arguments: dict[str, Any] = {
            "inputs": inputs,
            "outputs": outputs,
            "degree": degree,
            "width": width,
            "depth": depth,
            "head": head,
            "coordinates": coordinates,
        }
        self.inputs, self.degree, self.coordinates = inputs, degree, coordinates
        self.lift = nn.Linear(inputs + (3 if coordinates else 0), width)
        # Half the variance of what passes through the pointwise path beside it, which starts as torch starts it.
        self.spectral = nn.ParameterList(nn.Parameter(torch.randn(degree + 1, width, width) / (6 * width) ** 0.5) for _ in range(depth))
        self.pointwise = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.first, self.second = nn.Linear(width, head), nn.Linear(head, outputs)

    def forward(
        self, a: Float[Tensor, "batch inputs lat lon"], grid: Grid, query: Grid | None = None
    ) -> Float[Tensor, "batch outputs *query"]:
        """Apply the operator to ``a`` on ``grid``; evaluate the output on ``query`` (default: ``grid``).

        The query may be any :class:`Sphere`, a window too, or :class:`Points` of latitude and longitude. The harmonics of the last layer
        are evaluated there; its pointwise path follows by harmonics on Gaussian latitudes and by a cubic spline in latitude on even ones,
        whose quadrature sees only half the degrees that the points resolve.

        Raises
        ------
        GridError
            For a tensor that does not lie on ``grid``, and a grid that is no global sphere, has uneven latitudes, or too few points.
        """
        sphere = check_sphere(a, grid, self.inputs, "SphericalFNO")
        x = linear_map(with_position(a, sphere) if self.coordinates else a, self.lift)
        elsewhere = query is not None and query != grid
        for k, (weight, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            assert isinstance(pointwise, nn.Linear)
            x = nn.functional.gelu(x) if k else x
            mixed = _mix(analyse(x, sphere, self.degree), weight)
            beside = linear_map(x, pointwise)
            if elsewhere and k == len(self.spectral) - 1:
                assert query is not None
                x = evaluate(mixed, query, "SphericalFNO") + moved(beside, sphere, query, "SphericalFNO")
            else:
                x = synthesise(mixed, sphere) + beside
        return torch.movedim(perceptron(torch.movedim(x, 1, -1), self.first, self.second), -1, 1)


def _mix(c: Float[Tensor, "batch inputs degree order 2"], weight: Float[Tensor, "degree inputs outputs"]) -> Tensor:
    """One matrix for each degree; orders, batch and both parts are rows."""
    flat = split(c).unflatten(2, (len(c), -1, 2))
    mixed = torch.einsum("mlbip,lio->mlbop", flat, weight)
    return merge(mixed.reshape(*mixed.shape[:2], -1), len(c))
