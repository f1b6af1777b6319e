"""How the work of a step is divided over ranks, and how weights live there.

Every rank takes some samples of the batch that a single process would take. The loss is a mean over samples, so a rank's mean, times its
part of them, summed over ranks, is the loss of the single process; and so are the gradients, to rounding. The sums go bucket by
bucket while the backward pass still runs. Or every rank takes all samples, and of each its own rows of the grid: see :class:`Domain`.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anygrid.errors import UsageError
from anygrid.grid import Grid
from anygrid.shard import sharded
from anygrid.surrogate import Surrogate
from anygrid.training.ranks import Ranks, Share

__all__ = ["Division", "Domain", "Parallel", "Replicas", "Shards", "division_of"]

Parallel = Literal["data", "sharded", "domain"]


class Division(ABC):
    """The part of a step that each rank takes. Concrete ones are final.

    Parameters
    ----------
    ranks
        The processes.
    """

    name: Parallel

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def rows(self, count: int) -> Share:
        """What this rank computes of ``count`` samples."""
        return self.ranks.rows(count)

    def part(self, fields: Sequence[Tensor], grid: Grid) -> tuple[list[Tensor], Grid]:
        """What this rank computes of fields ``(batch, lead, channel, *space)``, and the grid it lies on."""
        return list(fields), grid

    def passes(self, count: int, size: int) -> int:
        """Forward and backward passes of at most ``size`` samples that this rank takes for a batch of ``count``."""
        mine = self.rows(count).rows
        return -(-(mine.stop - mine.start) // size)

    @abstractmethod
    def place(self, model: Surrogate, device: torch.device) -> Surrogate:
        """The model as it is trained here; the operator of ``model`` itself may be changed for it."""

    @abstractmethod
    def spare(self, model: Surrogate, device: torch.device) -> Surrogate:
        """A copy of a model that was placed, for steps that must change nothing."""

    @abstractmethod
    def wrap(self, objective: nn.Module) -> Any:
        """The module of a step's loss, whose gradients, after the backward pass, are the mean over ranks."""

    @abstractmethod
    def delay(self, objective: Any, wait: bool) -> None:
        """Whether the next forward and backward pass is to leave the sum over ranks to a later one."""

    def evaluation(self) -> AbstractContextManager[object]:
        """Passes without gradients."""
        return torch.inference_mode()

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors with the parts of all ranks; every rank must ask."""
        return tensors

    def fill(self, target: Tensor, value: Tensor) -> None:
        """Write a whole value into a weight or a moment that may be a part here."""
        target.copy_(value)

    def like(self, target: Tensor, value: Tensor) -> Tensor:
        """A whole value as the part that ``target`` is of it, and where it is."""
        part = torch.empty_like(target, dtype=value.dtype)
        self.fill(part, value)
        return part

    def finish(self, model: Surrogate) -> None:
        """Leave a plain operator with the trained weights in ``model``."""
        return None


class Replicas(Division):
    """All weights on every rank: ``torch.nn.parallel.DistributedDataParallel``, and in a single process nothing at all."""

    name = "data"

    def place(self, model: Surrogate, device: torch.device) -> Surrogate:
        """The model on the device."""
        return model.to(device)

    def spare(self, model: Surrogate, device: torch.device) -> Surrogate:
        """A copy."""
        return copy.deepcopy(model)

    def wrap(self, objective: nn.Module) -> Any:
        """The objective itself, or with the sums of gradients over ranks."""
        return objective if self.ranks.alone else _summed(objective)

    def delay(self, objective: Any, wait: bool) -> None:
        """Sums over ranks now or later."""
        if not self.ranks.alone:
            objective.require_backward_grad_sync = not wait


class Domain(Division):
    """All weights and all samples on every rank, and of each sample this rank's rows of the grid's first axis.

    Operator and loss add up over ranks themselves what needs the whole field (:mod:`anygrid.collectives`), and every rank has the loss of
    the whole. It counts for its share of it, so that sums over ranks are what they are in the other divisions.
    """

    name = "domain"

    def rows(self, count: int) -> Share:
        """All samples."""
        return Share(slice(0, count), 1 / self.ranks.count)

    def part(self, fields: Sequence[Tensor], grid: Grid) -> tuple[list[Tensor], Grid]:
        """Rows of whole fields, those of this rank.

        Raises
        ------
        GridError
            For scattered points, or fewer rows than ranks.
        """
        shard = sharded(grid)
        return [shard.mine(field, 3).contiguous() for field in fields], shard

    def place(self, model: Surrogate, device: torch.device) -> Surrogate:
        """The model on the device."""
        return model.to(device)

    def spare(self, model: Surrogate, device: torch.device) -> Surrogate:
        """A copy."""
        return copy.deepcopy(model)

    def wrap(self, objective: nn.Module) -> Any:
        """The objective with the sums of gradients over ranks."""
        return _summed(objective)

    def delay(self, objective: Any, wait: bool) -> None:
        """Sums of gradients now or later."""
        objective.require_backward_grad_sync = not wait


class Shards(Division):
    """A part of every weight, gradient and moment on each rank: ``torch.distributed.fsdp.fully_shard``.

    The weights of one block at a time are gathered where it computes; a block is an entry of a ``ModuleList`` that is made of modules.
    """

    name = "sharded"

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(ranks)
        self._plain: nn.Module | None = None

    def place(self, model: Surrogate, device: torch.device) -> Surrogate:
        """The model with the operator's weights spread over ranks; a plain copy of the operator waits on the CPU for the end."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # Nothing is done in place to what the operator returns.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning)
        if self._plain is None:
            self._plain = copy.deepcopy(model.operator).cpu()
        operator, mesh = model.operator.to(device), init_device_mesh(device.type, (self.ranks.count,))
        for block in _blocks(operator):
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(operator, mesh=mesh, reshard_after_forward=True)  # type: ignore[arg-type]
        return model.to(device)

    def passes(self, count: int, size: int) -> int:
        """Those of the rank with the most samples: weights are gathered in every pass, and for that all ranks must be there."""
        most = -(-count // self.ranks.count)
        return -(-most // size)

    def spare(self, model: Surrogate, device: torch.device) -> Surrogate:
        """A copy with the weights of the beginning, for spread ones cannot be copied."""
        assert self._plain is not None
        spread, model.operator = model.operator, self._plain
        try:
            return self.place(copy.deepcopy(model), device)
        finally:
            model.operator = spread

    def wrap(self, objective: nn.Module) -> Any:
        """The objective itself: the operator inside it adds its gradients."""
        return objective

    def delay(self, objective: Any, wait: bool) -> None:
        """Sums over ranks now or later."""
        objective.model.operator.set_requires_gradient_sync(not wait)

    def evaluation(self) -> AbstractContextManager[object]:
        """Passes without gradients; weights gathered in inference mode would not serve a step afterwards."""
        return torch.no_grad()

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors with the parts of all ranks; every rank must ask."""
        parts: dict[str, Any] = tensors
        return {name: t.full_tensor() if _parted(t) else t for name, t in parts.items()}

    def fill(self, target: Tensor, value: Tensor) -> None:
        """Write this rank's part of a whole value."""
        if not _parted(target):
            target.copy_(value)
            return
        from torch.distributed.tensor import distribute_tensor

        part: Any = target
        target.copy_(distribute_tensor(value.to(part.device), part.device_mesh, part.placements))

    def finish(self, model: Surrogate) -> None:
        """The plain operator, with the trained weights."""
        assert self._plain is not None
        weights = {name: t.cpu() for name, t in self.whole(model.operator.state_dict()).items()}
        self._plain.load_state_dict(weights)
        model.operator = self._plain


def division_of(ranks: Ranks, parallel: Parallel) -> Division:
    """The division that was asked for.

    Raises
    ------
    UsageError
        For a name that is none.
    """
    known: dict[str, type[Division]] = {kind.name: kind for kind in (Replicas, Shards, Domain)}
    if parallel not in known:
        raise UsageError("parallel", " or ".join(map(repr, known)), repr(parallel))
    return Replicas(ranks) if ranks.alone else known[parallel](ranks)


def _summed(objective: nn.Module) -> nn.Module:
    """An objective whose gradients are summed over ranks while they are computed."""
    from torch.nn.parallel import DistributedDataParallel

    # An unused parameter keeps DDP from warning that it looked for some in vain. It looks for two reasons: an operator may have
    # some, and only then the buckets stay those of the first step, so that a resumed run adds in the same order.
    objective.register_parameter("_unused", nn.Parameter(torch.zeros((), device=next(objective.parameters()).device)))
    return DistributedDataParallel(objective, find_unused_parameters=True, gradient_as_bucket_view=True)


def _blocks(module: nn.Module) -> Iterable[nn.Module]:
    """Parts of an operator that read no weights but their own: a plain layer in a list may be read from outside. None lies in another."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if any(True for _ in block.children()))
        else:
            yield from _blocks(child)


def _parted(tensor: Tensor) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
