"""A function of one tensor, recorded once as operations between fixed arrays and played again: small problems at the cost of arithmetic.

A step on a few hundred numbers takes torch longer to call than to compute: shapes are derived, results allocated and dispatched anew
every time. Nothing of that changes from step to step. Played again, views cost nothing, results go to the same few arrays, and sums and
products are NumPy's, which are called at a third of the price; whatever else the function does is done by torch as before. The recorded
function stays the definition, serves gradients, other devices and large problems, and the two agree to rounding.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

__all__ = ["Replay", "Replayed"]

Function = Callable[[Tensor], Tensor]
Instruction = tuple[Callable[..., object], tuple[Any, ...]]
Program = list[Instruction]
_AFTER = 3  # calls before a function is recorded, which costs about as much as five
_SHAPES = 8  # kept for a function
_LARGEST = 1 << 15  # numbers of a state up to which calls matter: measured

# Real numbers in a result up to which the side with the cheaper calls wins: measured (AMD EPYC Milan, torch 2.13, NumPy 2.4, SciPy 1.17).
_LARGEST_UFUNC, _LARGEST_FUSED, _LARGEST_POCKET = 1 << 14, 1 << 10, 20_000

_UFUNCS: dict[Any, tuple[Any, Any]] = {
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), (np.multiply, torch.mul)),
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), (np.add, torch.add)),
    **dict.fromkeys((torch.sub, Tensor.sub, Tensor.__sub__), (np.subtract, torch.sub)),
}
_JOINING = {torch.cat: False, torch.stack: True}
_FORWARD = {torch.fft.rfft, torch.fft.fft, torch.fft.rfftn, torch.fft.fftn}
_INVERSE = {torch.fft.irfft, torch.fft.ifft, torch.fft.irfftn, torch.fft.ifftn}
_CONSTANT = {"new_zeros", "new_ones", "zeros_like", "ones_like"}  # take only a shape from their argument
_QUESTIONS = {"__get__", "size", "stride", "dim", "numel", "is_complex", "is_floating_point", "is_contiguous", "__len__", "element_size"}


def _pocketfft() -> Any:
    """SciPy's compiled transforms without its public functions, which take three times as long to call; ``None`` if not as known."""
    try:
        kernel = importlib.import_module("scipy.fft._pocketfft.pypocketfft")
        out = np.empty(3, np.complex128)
        kernel.r2c(np.arange(4.0), (0,), True, 0, out, 1)
        kernel.c2c(out, (0,), False, 2, np.empty_like(out), 1)
        back = kernel.c2r(out, (0,), 4, False, 2, np.empty(4), 1)
    except (ImportError, AttributeError, TypeError):
        return None
    return kernel if np.allclose(back, np.arange(4.0)) else None


_POCKET = _pocketfft()


class _NotReplayableError(Exception):
    """The function does something that cannot be told from one call."""


class Replayed:
    """``function`` itself, and its replay where that serves: see the module.

    Parameters
    ----------
    function
        Of one tensor, giving one; the same operations whenever the shape and dtype are the same, and with no side effects. What else it
        uses must not need gradients while these are enabled.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self._calls: dict[tuple[torch.Size, torch.dtype], int | Replay | None] = {}

    def __call__(self, u: Tensor) -> Tensor:
        """Value of the function."""
        if not _plain(u):
            return self.function(u)
        key = u.shape, u.dtype
        found = self._calls.get(key, 0)
        if isinstance(found, int):
            if len(self._calls) > _SHAPES:
                self._calls.clear()
            self._calls[key] = found + 1 if found < _AFTER else Replay.record(self.function, u)
            return self.function(u)
        return self.function(u) if found is None else found(u)


def _plain(u: Tensor) -> bool:
    """Whether ``u`` is small, on the CPU, and nobody looks at the operations."""
    return (
        0 < u.numel() <= _LARGEST
        and u.device.type == "cpu"
        and type(u) is Tensor
        and not (u.requires_grad and torch.is_grad_enabled())
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_function_stack()
        and not torch._C._len_torch_dispatch_stack()
        and not torch.compiler.is_compiling()
    )


class Replay:
    """A function of a tensor of one shape and dtype as a program on arrays of its own; one call at a time, others compute plainly."""

    def __init__(self, function: Function, source: Tensor, result: Tensor, program: Program) -> None:
        self._function, self._program = function, program
        self._source, self._result = source.numpy(), result.numpy()
        self._lock = threading.Lock()

    @staticmethod
    def record(function: Function, example: Tensor) -> Replay | None:
        """Program of the function for tensors like ``example``; ``None`` if what it does depends on values."""
        source = example.detach().clone(memory_format=torch.contiguous_format)
        with torch.no_grad(), _Recorder() as recorder:
            result = function(source)
        try:
            operations = list(_moving(recorder.calls, source))
            program, result = _assemble(operations, source, result)
            return Replay(function, source, result, program)
        except _NotReplayableError:
            return None

    def __call__(self, u: Tensor) -> Tensor:
        """Value of the function, in memory of its own."""
        if not self._lock.acquire(blocking=False):
            return self._function(u)
        try:
            with np.errstate(all="ignore"):
                np.copyto(self._source, u.detach().numpy() if u.requires_grad else u.numpy())
                for function, arguments in self._program:
                    function(*arguments)
                return torch.from_numpy(self._result.copy())
        finally:
            self._lock.release()


@dataclass(frozen=True)
class _Call:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: Any

    def inputs(self) -> list[Tensor]:
        return [*_tensors(self.arguments), *_tensors(list(self.options.values()))]


class _Recorder(TorchFunctionMode):
    """Keeps every call and its result, so that no memory is used twice while it listens."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append(_Call(func, args, kwargs or {}, result))
        return result


def _moving(calls: list[_Call], source: Tensor) -> Iterator[_Call]:
    """Calls whose results depend on ``source``."""
    moving = {_memory(source)}
    for call in calls:
        if not any(_memory(t) in moving for t in call.inputs()):
            continue
        name, outputs = getattr(call.function, "__name__", ""), _tensors(call.result)
        writes = (name.endswith("_") and not name.endswith("__")) or name == "__setitem__" or (name.startswith("__i") and outputs != [])
        if writes or call.options.get("out") is not None or (not outputs and name not in _QUESTIONS):
            raise _NotReplayableError(name)
        if outputs and name not in _CONSTANT:
            moving.update(_memory(t) for t in outputs)
            yield call


def _assemble(calls: list[_Call], source: Tensor, result: Tensor) -> tuple[Program, Tensor]:
    """Program, and the tensor that its result is in. Arrays are used again once nothing needs what is in them."""
    last = {_memory(t): k for k, call in enumerate(calls) for t in call.inputs()}
    last[_memory(result)] = len(calls)
    now = {id(source): source}  # recorded tensor (by id) -> the one that stands for it
    free: dict[int, list[Tensor]] = {}
    used: dict[int, Tensor] = {}  # recorded memory -> its array
    program: Program = []

    def current(tensor: Tensor) -> Tensor:
        return now.get(id(tensor), tensor)

    for k, call in enumerate(calls):
        arguments, options = _replaced(call.arguments, current), {name: _replaced(v, current) for name, v in call.options.items()}
        outputs = _tensors(call.result)
        inputs = {_memory(t) for t in call.inputs()}
        if all(_memory(t) in inputs for t in outputs):
            again = _tensors(call.function(*arguments, **options))
            now.update((id(old), new) for old, new in zip(outputs, again, strict=True))
            continue
        if len(outputs) != 1 or outputs[0].layout != torch.strided or outputs[0].numel() == 0:
            raise _NotReplayableError(call.function)
        (output,) = outputs
        ended = [m for m in inputs if last[m] == k and m in used]
        # Elementwise operations may write where they read, if each element falls on itself.
        early = [m for m in ended if _elementwise(call.function) and all(_same_places(t, output) for t in call.inputs() if _memory(t) == m)]
        _release(free, [used.pop(m) for m in early])
        size = output.element_size() * (1 + sum((n - 1) * s for n, s in zip(output.shape, output.stride(), strict=True)))
        own = call.function in _JOINING and any(id(t) not in now for t in call.inputs())
        memory = free[size].pop() if free.get(size) and not own else torch.empty(size, dtype=torch.uint8)
        place = memory.view(output.dtype).as_strided(output.shape, output.stride())
        if not own:  # constant parts are written once, and must stay
            used[_memory(output)] = memory
        _release(free, [used.pop(m) for m in ended if m not in early])
        now[id(output)] = place
        moving = [id(t) in now for t in _tensors(call.arguments)]
        program += _instructions(call.function, arguments, options, place, moving)
    return program, current(result)


def _elementwise(function: Callable[..., Any]) -> bool:
    return function in _UFUNCS or function is torch.addcmul


def _same_places(t: Tensor, output: Tensor) -> bool:
    return (t.shape, t.stride(), t.dtype, t.storage_offset()) == (output.shape, output.stride(), output.dtype, 0)


def _release(free: dict[int, list[Tensor]], memories: list[Tensor]) -> None:
    for memory in memories:
        free.setdefault(memory.numel(), []).append(memory)


def _instructions(function: Any, arguments: tuple[Any, ...], options: dict[str, Any], output: Tensor, moving: list[bool]) -> Program:
    """What computes ``output`` from the arguments, quickest first choice."""
    size = output.numel() * (2 if output.is_complex() else 1)
    moves = iter(moving)
    operands = [_operand(x, output, isinstance(x, Tensor) and next(moves)) for x in arguments]
    if all(x is not None for x in operands) and not options and not _lazy(output):
        out = output.numpy()
        if function in _UFUNCS and len(operands) == 2:
            quick, wide = _UFUNCS[function]
            return [(quick, (*operands, out))] if size <= _LARGEST_UFUNC else [(partial(wide, out=output), arguments)]
        if function is torch.addcmul and len(operands) == 3 and size <= _LARGEST_FUSED:
            total, first, second = operands
            product = np.empty_like(out) if np.may_share_memory(total, out) else out
            return [(np.multiply, (first, second, product)), (np.add, (total, product, out))]
        if function is torch.addcmul:
            return [(partial(function, out=output), arguments)]
    if function in _JOINING and set(options) <= {"dim"} and not any(map(_lazy, _tensors(arguments))):
        axis = options.get("dim", arguments[1] if len(arguments) > 1 else 0)
        return _joined(arguments[0], axis, _JOINING[function], output, moving)
    if function in _FORWARD | _INVERSE:
        quick = _transform(function, arguments, options, output) if size <= _LARGEST_POCKET else None
        return [quick if quick is not None else (partial(function, **options, out=output), arguments)]
    return [(_write, (output, function, arguments, options))]


def _transform(function: Any, arguments: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> Instruction | None:
    """A Fourier transform by SciPy's own kernel, whose call costs less than torch's plan; ``None`` where the forms differ."""
    if _POCKET is None or len(arguments) != 1 or not set(options) <= {"n", "s", "dim"} or _lazy(arguments[0]):
        return None
    dim = options.get("dim", None if function in (torch.fft.rfftn, torch.fft.irfftn, torch.fft.fftn, torch.fft.ifftn) else -1)
    axes = (dim,) if isinstance(dim, int) else dim
    source, out = arguments[0].numpy(), output.numpy()
    if axes is None:
        return None
    real = source if function in (torch.fft.rfft, torch.fft.rfftn) else out if function in (torch.fft.irfft, torch.fft.irfftn) else None
    other = out if real is source else source
    expected = list(out.shape if real is None else real.shape)
    if real is not None:
        expected[axes[-1]] = expected[axes[-1]] // 2 + 1
    if list(other.shape) != expected or not np.iscomplexobj(other):
        return None  # cut or padded, or a real argument of a complex transform
    if real is None:
        return (_POCKET.c2c, (source, axes, function in _FORWARD, 0 if function in _FORWARD else 2, out, 1))
    if real is source:
        return (_POCKET.r2c, (source, axes, True, 0, out, 1))
    return (_POCKET.c2r, (source, axes, out.shape[axes[-1]], False, 2, out, 1))


def _operand(x: object, like: Tensor, moving: bool) -> NDArray[Any] | None:
    """``x`` as an array to compute with, where NumPy's arithmetic is that of torch: floating point, and nothing wider than the result."""
    if isinstance(x, Tensor):
        if _lazy(x) or not (x.is_floating_point() or x.is_complex()):
            return None
        real, own = x.dtype.to_real(), like.dtype.to_real()
        if real == own and (like.is_complex() or not x.is_complex()):
            return x.numpy()
        constant = x.ndim == 0 and not (moving or x.is_complex())
        return np.asarray(x.numpy(), dtype=like.numpy().real.dtype) if constant else None
    plain = isinstance(x, int | float) and not isinstance(x, bool)
    return np.asarray(x, dtype=like.numpy().real.dtype) if plain else None


def _joined(parts: Sequence[Tensor], axis: int, stacked: bool, output: Tensor, moving: list[bool]) -> Program:
    """Copies of the parts to their places; those that never change at once."""
    program: Program = []
    start = 0
    for k, part in enumerate(parts):
        place = output.select(axis, k) if stacked else output.narrow(axis, start, part.shape[axis])
        start += 0 if stacked else part.shape[axis]
        if moving[k]:
            program.append((np.copyto, (place.numpy(), part.numpy())))
        else:
            place.copy_(part)
    return program


def _write(output: Tensor, function: Callable[..., Tensor], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    output.copy_(function(*arguments, **options))


def _lazy(t: Tensor) -> bool:
    return t.is_conj() or t.is_neg()


def _memory(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _tensors(x: object) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x]
    return [t for part in x for t in _tensors(part)] if isinstance(x, tuple | list) else []


def _replaced(x: Any, current: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(x, Tensor):
        return current(x)
    return type(x)(_replaced(part, current) for part in x) if type(x) in (tuple, list) else x
