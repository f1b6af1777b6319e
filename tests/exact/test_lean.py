"""The backward passes that recompute: same gradients as plain operations, once and twice, and less kept."""

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from anygrid.grid import Bounded, Box, Periodic, Points
from anygrid.operators import FNO, LatentFNO, lean, spectral, transforms
from anygrid.operators.layers import Pointwise


def _box(shape, periodic):
    return Box.uniform({f"x{k}": Periodic() if p else Bounded(0, 1) for k, p in enumerate(periodic)}, shape)


def _points():
    return Points(np.random.default_rng(3).random((60, 2)), ("x", "y"), (Periodic(), Periodic()))


CASES = {
    "fno 1d, Nyquist": (lambda: FNO(2, 1, [True], [16], width=5, depth=3), _box((16,), [True]), False),
    "fno 1d, activated twice": (lambda: FNO(2, 1, [True], [9], width=5, depth=4, activations=2), _box((20,), [True]), False),
    "fno 2d, odd": (lambda: FNO(2, 1, [True, True], [7, 6], width=5, depth=3), _box((13, 15), [True, True]), False),
    "fno 2d, Nyquist of an odd count": (lambda: FNO(2, 1, [True, True], [13, 13], width=5), _box((12, 12), [True, True]), False),
    "fno 2d, padded": (lambda: FNO(2, 1, [False, True], [7, 6], width=5, depth=3), _box((13, 16), [False, True]), False),
    "fno 2d, cosine before": (
        lambda: FNO(2, 1, [False, True], [5, 6], ["cosine", "fourier"], width=4),
        _box((13, 16), [False, True]),
        False,
    ),
    "fno 2d, cosine after": (
        lambda: FNO(2, 1, [True, False], [5, 6], ["fourier", "cosine"], width=4),
        _box((16, 13), [True, False]),
        False,
    ),
    "fno 2d, real": (lambda: FNO(2, 1, [False] * 2, [5, 6], ["sine", "legendre"], width=4), _box((16, 13), [False] * 2), False),
    "fno 3d": (lambda: FNO(2, 1, [True] * 3, [3, 4, 5], width=4, depth=3), _box((6, 8, 10), [True] * 3), False),
    "fno 2d, FFT": (lambda: FNO(2, 1, [True, True], [12, 13], width=5, depth=3), _box((12, 16), [True, True]), True),
    "fno 2d, FFT, odd count at Nyquist": (lambda: FNO(2, 1, [True, True], [13, 17], width=5, depth=3), _box((12, 16), [True, True]), True),
    "latent 1d": (lambda: LatentFNO(2, 1, [True], [24], [5], 3, width=5, depth=2), _box((24,), [True]), False),
    "latent 1d, no coordinates, stride 1": (
        lambda: LatentFNO(2, 1, [True], [24], [5], 1, width=5, depth=2, coordinates=False),
        _box((24,), [True]),
        False,
    ),
    "latent 2d": (lambda: LatentFNO(2, 3, [False, True], [17, 16], [5, 5], 2, width=5, depth=2), _box((17, 16), [False, True]), False),
}


@pytest.fixture(params=CASES)
def case(request, monkeypatch):
    make, grid, fft = CASES[request.param]
    if fft:
        monkeypatch.setattr(transforms, "use_fft", lambda *_: True)
    transforms.plan.cache_clear()
    torch.manual_seed(0)
    operator = make().double()
    yield operator, grid, torch.randn(3, 2, *grid.shape, dtype=torch.float64)
    transforms.plan.cache_clear()


def _plainly(monkeypatch):
    for module in (lean, spectral):
        monkeypatch.setattr(module, "recomputing", lambda _: False)


def _gradients(operator, grid, a, twice):
    a = a.clone().requires_grad_()
    u = operator(a, grid)
    found = torch.autograd.grad(u.sin().sum(), [a, *operator.parameters()], create_graph=twice)
    if twice:
        found = torch.autograd.grad(sum(g.sin().sum() for g in found), [a, *operator.parameters()])
    return [u, *found]


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_gradients_are_those_of_plain_operations(case, twice, monkeypatch):
    ours = _gradients(*case, twice)
    _plainly(monkeypatch)
    for left, right in zip(ours, _gradients(*case, twice), strict=True):
        assert (left - right).norm() <= 1e-11 * right.norm()


def test_scattered_points(monkeypatch):
    operator, grid = FNO(1, 1, [True, True], [5, 5], width=4).double(), _points()
    case = operator, grid, torch.randn(2, 1, *grid.shape, dtype=torch.float64)
    ours = _gradients(*case, False)
    _plainly(monkeypatch)
    for left, right in zip(ours, _gradients(*case, False), strict=True):
        assert (left - right).norm() <= 1e-11 * right.norm()


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch.func's own
def test_frozen_parameters_and_other_modes_of_differentiation():
    operator, grid = FNO(1, 1, [True], [9], width=4).double(), _box((32,), [True])
    a, direction = torch.randn(2, 2, 1, 32, dtype=torch.float64)
    operator.spectral[1].requires_grad_(False)
    operator.pointwise[1].requires_grad_(False)
    operator(a, grid).square().sum().backward()
    assert operator.spectral[1].weight.grad is None
    assert operator.spectral[0].weight.grad.abs().sum() > 0
    _, forward_mode = torch.func.jvp(lambda x: operator(x, grid), (a,), (direction,))
    step = 1e-6
    difference = (operator(a + step * direction, grid) - operator(a - step * direction, grid)) / (2 * step)
    assert (forward_mode - difference).norm() <= 1e-6 * difference.norm()
    each = torch.func.vmap(torch.func.grad(lambda x: operator(x[None], grid).square().sum()))(a)
    whole = torch.func.grad(lambda x: operator(x, grid).square().sum())(a)
    assert (each - whole).norm() <= 1e-12 * whole.norm()


@pytest.mark.parametrize("large", [False, True], ids=["hidden layer kept", "recomputed"])
def test_heads_pass_in_chunks(large, monkeypatch):
    torch.manual_seed(0)
    head = Pointwise(3, 16, 2).double()
    x = torch.randn(5, 300, 3, dtype=torch.float64, requires_grad=True)
    with monkeypatch.context() as patch:
        _plainly(patch)
        plain = torch.autograd.grad(head(x).sin().sum(), [x, *head.parameters()])
    monkeypatch.setattr(lean, "_LARGE", 0 if large else 1 << 30)
    monkeypatch.setattr(lean, "_CHUNK", 128)
    chunked = torch.autograd.grad(head(x).sin().sum(), [x, *head.parameters()])
    for left, right in zip(chunked, plain, strict=True):
        assert (left - right).norm() <= 1e-12 * right.norm()
    hidden = 5 * 300 * 16 * 8
    assert _kept(head, x) <= x.nbytes + (0 if large else hidden)


def test_without_gradients_same_values_and_nothing_wide(case, monkeypatch):
    operator, grid, a = case
    with torch.no_grad():
        ours = operator(a, grid)
        monkeypatch.setattr(lean, "_CHUNK", 8)
        chunked = operator(a, grid)
        _plainly(monkeypatch)
        plain = operator(a, grid)
    assert (ours - plain).norm() <= 1e-12 * plain.norm()
    assert (chunked - plain).norm() <= 1e-12 * plain.norm()


class _Largest(TorchDispatchMode):
    """The most numbers that one operation gave."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


def test_without_gradients_the_hidden_layer_is_never_whole(monkeypatch):
    monkeypatch.setattr(lean, "_CHUNK", 100)
    head, x = Pointwise(3, 16, 2), torch.randn(5, 300, 3)
    with torch.no_grad(), _Largest() as largest:
        head(x)
    assert largest.numbers <= 5 * 300 * 3


def test_tall_products_in_float32(monkeypatch):
    """Products of oneDNN agree with float64 to rounding, on transposed weights and on gradients that are one number repeated as well."""
    torch.manual_seed(0)
    weight, bias = torch.randn(7, 5), torch.randn(7)
    monkeypatch.setattr(lean, "_TALL", 1)
    for x in (torch.randn(4, 30, 5), torch.randn(5, 30).T, torch.randn(1, 1, 1).expand(4, 30, 5)):
        exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
        assert (lean.linear(x, weight, bias) - exact).norm() <= 1e-6 * exact.norm()
        exact = x.double() @ weight[:5].double()
        assert (lean.linear(x, weight[:5].T, None) - exact).norm() <= 1e-6 * exact.norm()


@pytest.mark.parametrize("name", ["fno 1d, activated twice", "fno 2d, odd", "latent 1d"])
def test_float32_gradients_are_those_of_plain_float64(name, monkeypatch):
    make, grid, _ = CASES[name]
    monkeypatch.setattr(lean, "_TALL", 1)
    torch.manual_seed(0)
    operator = make()
    a = torch.randn(3, 2, *grid.shape)
    ours = _gradients(operator, grid, a, False)
    _plainly(monkeypatch)
    for left, right in zip(ours, _gradients(operator.double(), grid, a.double(), False), strict=True):
        assert (left - right).norm() <= 1e-5 * right.norm()


def _kept(operator, *inputs):
    """Bytes that a forward pass keeps for the backward pass beside the parameters."""
    storages = {}

    def pack(t):
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with saved_tensors_hooks(pack, lambda t: t):
        operator(*inputs)
    own = {p.untyped_storage().data_ptr() for p in operator.parameters()}
    return sum(size for place, size in storages.items() if place not in own)


@pytest.mark.parametrize("activations", [1, 2])
def test_one_field_a_layer_is_kept(activations, monkeypatch):
    grid = _box((64, 64), [True, True])
    operator = FNO(1, 1, [True, True], [5, 5], width=16, depth=6, head=16, activations=activations)
    a = torch.randn(2, 1, 64, 64)
    field = 2 * 64 * 64 * 16 * 4
    lean_bytes = _kept(operator, a, grid)
    _plainly(monkeypatch)
    plain_bytes = _kept(operator, a, grid)
    # The lift's output and each layer's, and the head's hidden layer; plainly each activation as well.
    assert lean_bytes < 8.7 * field
    assert plain_bytes > (8 + 5 * activations) * field
