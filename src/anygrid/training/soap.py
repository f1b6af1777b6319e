r"""SOAP made cheap: Adam in the eigenbasis of Shampoo's factors, with fewer products than the source.

.. math::

    A \leftarrow \beta_2 A + (1 - \beta_2)\, G G^T = U \Lambda U^T, \qquad B \leftarrow \beta_2 B + (1 - \beta_2)\, G^T G = V M V^T, \qquad
    W \leftarrow (1 - \eta \lambda) W - \eta\, U\, \mathrm{Adam}(U^T G V)\, V^T

Vyas et al. 2024 (SOAP: Improving and stabilizing Shampoo using Adam), algorithm 3. The weights of a spectral layer are one small matrix for
each mode, ``(..., in, out)``; its modes share the factors, whose Gram matrices are sums over them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["SOAP"]

_REFRESH = 20  # steps between two changes of the bases
_EARLY = (1, 2, 4, 8, 14)  # further changes, to all eigenvectors anew: the first gradients say little
_OBSERVE = 4  # steps between two gradients that the factors see: their products are as dear as a rotation
_LARGEST = 512  # side of a matrix above which its factors cost more than they bring


class SOAP(torch.optim.Optimizer):
    r"""SOAP for matrices, Adam for vectors and for matrices with a side above 512; weight decay is decoupled.

    Departures from the source: the first moment is kept in the rotated basis and turned when that changes, which is the same with
    two products less a step; the factors see every gradient of the first 20 steps and every fourth one after; the bases are eigenvectors
    at steps 0, 1, 2, 4, 8 and 14, and change by one subspace iteration every 20 steps after; and the first step is taken.

    Parameters
    ----------
    groups
        Parameter groups; each may have its own ``weight_decay``.
    lr
        Learning rate :math:`\eta`, as long as that of Adam.
    betas
        :math:`\beta_1, \beta_2`: decay of the first moment, and of the second and the factors.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float = 1e-8) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.betas, self.eps = betas, eps

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change the parameters by one step; those without a gradient stay."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    update = self._update(p, p.grad, self.state[p])
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _update(self, p: Tensor, g: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Adam's direction, in the rotated basis where there is one."""
        if not state:
            state |= {"step": torch.zeros(()), "first": torch.zeros_like(p), "second": torch.zeros_like(p)}
        count, factored = int(state["step"]), _factored(p)
        if factored:
            self._observe(g, state, count)
            g = _rotated(g, state["left"].mT, state["right"])
        state["step"] += 1
        first, second = self.betas
        state["first"].lerp_(g, 1 - first)
        state["second"].mul_(second).addcmul_(g, g, value=1 - second)
        bias = 1 - second ** (count + 1)
        update = (state["second"] / bias).sqrt_().add_(self.eps).reciprocal_().mul_(state["first"]).div_(1 - first ** (count + 1))
        return _rotated(update, state["left"], state["right"].mT) if factored else update

    def _observe(self, g: Tensor, state: dict[str, Tensor], count: int) -> None:
        """Average the factors, and bring the bases up to date when it is time."""
        early = count < _REFRESH
        if early or count % _OBSERVE == 0:
            share = 1 - self.betas[1] ** (1 if early else _OBSERVE)
            for name, x in (("left_factor", g.transpose(-1, -2).reshape(-1, g.shape[-2])), ("right_factor", g.reshape(-1, g.shape[-1]))):
                gram = x.T @ x
                state[name] = gram if count == 0 else state[name].lerp_(gram, max(share, 1 / (count + 1)))
        if count in _EARLY or count % _REFRESH == 0:  # step 0 among them
            before = state.get("left"), state.get("right")
            for side in ("left", "right"):
                factor = state[f"{side}_factor"]
                # Largest first: in the other order the iteration would turn each vector towards the largest.
                vectors = torch.linalg.eigh(factor.double())[1].flip(-1).to(g) if early else torch.linalg.qr(factor @ state[side])[0]
                state[side] = vectors
            if before[0] is not None and before[1] is not None:
                state["first"] = _rotated(state["first"], state["left"].mT @ before[0], before[1].mT @ state["right"])


def _factored(p: Tensor) -> bool:
    return p.ndim > 1 and min(p.shape[-2:]) > 1 and max(p.shape[-2:]) <= _LARGEST


def _rotated(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.matmul(left, torch.matmul(x, right))
