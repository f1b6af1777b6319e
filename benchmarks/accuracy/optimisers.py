"""Optimisers that were compared with AdamW; what `fit` uses is in anygrid.training.

Each takes the parameter groups of AdamW and is stepped like it. Spectral weights are ``(..., in, out)``: one small matrix for each mode.
Vectors, and matrices with a side above 512, are left to AdamW's rule. ``finish`` puts the weights to evaluate into the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Groups = Iterable[dict[str, Any]]


def adam_update(p: Tensor, g: Tensor, state: dict[str, Any], betas: tuple[float, float]) -> Tensor:
    """Bias-corrected first moment over root of the second (Kingma and Ba 2015, algorithm 1)."""
    if not state:
        state |= {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
    state["step"] += 1
    state["m"].lerp_(g, 1 - betas[0])
    state["v"].mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    scale = math.sqrt(1 - betas[1] ** state["step"]) / (1 - betas[0] ** state["step"])
    return state["m"] / (state["v"].sqrt() + 1e-8) * scale


class Optimiser(torch.optim.Optimizer):
    """Decoupled weight decay around an update for each parameter."""

    def __init__(self, groups: Groups, lr: float, update: Callable[[Tensor, Tensor, dict[str, Any], float], Tensor]) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.update = update

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    change = self.update(p, p.grad, self.state[p], group["lr"])
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(change, alpha=-group["lr"])

    def finish(self) -> None:
        """Nothing to do: the parameters are the weights."""


def _matrices(p: Tensor) -> bool:
    return p.ndim >= 2 and min(p.shape[-2:]) > 1 and max(p.shape[-2:]) <= 512


def _whitened(x: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices, by the quintic iteration of Jordan et al., Muon, 2024."""
    turned = x.shape[-2] > x.shape[-1]
    x = x.mT if turned else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if turned else x


def muon(groups: Groups, lr: float, betas: tuple[float, float], momentum: float = 0.95) -> Optimiser:
    """Muon (Jordan et al. 2024) for matrices, one for each mode with real and imaginary part stacked; steps as large as AdamW's."""

    def update(p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> Tensor:
        if not _matrices(p):
            return adam_update(p, g, state, betas)
        if not state:
            state["m"] = torch.zeros_like(p)
        state["m"].lerp_(g, 1 - momentum)
        x = g.lerp(state["m"], momentum)
        complex_ = p.ndim > 3 and p.shape[0] == 2
        white = _whitened(torch.cat(x.unbind(), -2) if complex_ else x)
        white = 0.2 * math.sqrt(max(white.shape[-2:])) * white  # the root mean square of an AdamW step (Liu et al. 2025, eq. 4)
        return torch.stack(white.chunk(2, -2)) if complex_ else white

    return Optimiser(groups, lr, update)


def _rotation(factor: Tensor, old: Tensor | None) -> Tensor:
    """Eigenvectors, or one step of subspace iteration from the old ones."""
    return torch.linalg.eigh(factor.double())[1].to(factor) if old is None else torch.linalg.qr(factor @ old)[0]


def soap(groups: Groups, lr: float, betas: tuple[float, float], every: int = 10, *, shampoo: bool = False) -> Optimiser:
    """SOAP (Vyas et al. 2024, algorithm 3): Adam in the eigenbasis of Shampoo's factors, which all modes of a layer share.

    With ``shampoo`` the factors' inverse fourth roots instead, at the length of AdamW's step (Gupta et al. 2018; Anil et al. 2020).
    """

    def update(p: Tensor, g: Tensor, state: dict[str, Any], lr: float) -> Tensor:
        if not _matrices(p):
            return adam_update(p, g, state, betas)
        if not state:
            state |= {"count": 0, "adam": {}, "left": p.new_zeros(p.shape[-2], p.shape[-2]), "right": p.new_zeros(p.shape[-1], p.shape[-1])}
        rows = g.reshape(-1, *g.shape[-2:])
        tall, wide = rows.transpose(0, 1).flatten(1), rows.transpose(1, 2).transpose(0, 1).flatten(1)
        state["left"].lerp_(tall @ tall.T, 1 - betas[1])
        state["right"].lerp_(wide @ wide.T, 1 - betas[1])
        if state["count"] % every == 0:
            if shampoo:
                for side in ("left", "right"):
                    values, vectors = torch.linalg.eigh(state[side].double() + 1e-12 * state[side].trace() * torch.eye(len(state[side])))
                    state[f"{side}_root"] = ((vectors * values.clamp(min=1e-30) ** -0.25) @ vectors.T).to(p)
            else:
                for side in ("left", "right"):
                    state[f"{side}_basis"] = _rotation(state[side], state.get(f"{side}_basis") if state["count"] else None)
        state["count"] += 1
        if shampoo:
            change = adam_update(p, g, state["adam"], betas)
            turned = state["left_root"] @ state["adam"]["m"] @ state["right_root"]
            return turned * (change.norm() / turned.norm().clamp(min=1e-30))
        left, right = state["left_basis"], state["right_basis"]
        moments, rotated = state["adam"], left.T @ g @ right
        if not moments:
            moments |= {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        moments["step"] += 1
        moments["m"].lerp_(g, 1 - betas[0])
        moments["v"].mul_(betas[1]).addcmul_(rotated, rotated, value=1 - betas[1])
        scale = math.sqrt(1 - betas[1] ** moments["step"]) / (1 - betas[0] ** moments["step"])
        return left @ ((left.T @ moments["m"] @ right) / (moments["v"].sqrt() + 1e-8) * scale) @ right.T

    return Optimiser(groups, lr, update)


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free AdamW (Defazio et al. 2024, algorithm 1): a constant rate after the warm-up; the average is what is evaluated."""

    def __init__(self, groups: Groups, lr: float, betas: tuple[float, float], warm_up: int) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.peak, self.betas, self.warm_up, self.count, self.total = lr, betas, warm_up, 0, 0.0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        self.count += 1
        rate = self.peak * min(1.0, self.count / self.warm_up)
        self.total += rate**2
        share = rate**2 / self.total
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state |= {"x": p.clone(), "z": p.clone(), "v": torch.zeros_like(p)}
                state["v"].mul_(self.betas[1]).addcmul_(p.grad, p.grad, value=1 - self.betas[1])
                root = (state["v"] / (1 - self.betas[1] ** self.count)).sqrt() + 1e-8
                state["z"].sub_(rate * (p.grad / root + group["weight_decay"] * p))
                state["x"].lerp_(state["z"], share)
                p.copy_(state["z"].lerp(state["x"], self.betas[0]))

    @torch.no_grad()
    def finish(self) -> None:
        for p, state in self.state.items():
            p.copy_(state["x"])


class Averaged(torch.optim.AdamW):
    """AdamW with an exponential average of the weights, which is what is evaluated."""

    def __init__(self, groups: Groups, lr: float, betas: tuple[float, float], decay: float) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        self.decay = decay
        self.average = [p.detach().clone() for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        super().step()
        torch._foreach_lerp_(self.average, [p for group in self.param_groups for p in group["params"]], 1 - self.decay)

    @torch.no_grad()
    def finish(self) -> None:
        for average, p in zip(self.average, [p for group in self.param_groups for p in group["params"]], strict=True):
            p.copy_(average)
