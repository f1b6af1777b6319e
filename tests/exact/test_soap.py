"""SOAP against what it is by hand: the polar factor at first, Adam between fixed singular vectors, Adam where nothing is factored."""

import torch

from anygrid.training.soap import SOAP


def test_first_step_is_along_the_polar_factor_of_the_gradient():
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(7, 7, dtype=torch.float64, generator=generator)
    left, _, right = torch.linalg.svd(gradient)
    weight = torch.nn.Parameter(torch.randn(7, 7, dtype=torch.float64, generator=generator))
    before = weight.detach().clone()
    optimizer = SOAP([{"params": [weight], "weight_decay": 0.1}], 0.01, (0.9, 0.98))
    weight.grad = gradient
    optimizer.step()
    # Adam's first step is a sign; in the eigenbases of both factors the gradient is diagonal, and zero beside it to rounding.
    torch.testing.assert_close(weight.detach(), before * (1 - 0.01 * 0.1) - 0.01 * left @ right, rtol=0, atol=1e-6)


def test_vectors_and_long_matrices_take_the_step_of_adam():
    generator = torch.Generator().manual_seed(1)
    for shape in ((5,), (3, 600), (4, 1)):
        start = torch.randn(shape, dtype=torch.float64, generator=generator)
        ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
        pair = SOAP([{"params": [ours]}], 0.01, (0.9, 0.98)), torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.98))
        for _ in range(30):
            ours.grad = torch.randn(shape, dtype=torch.float64, generator=generator)
            theirs.grad = ours.grad.clone()
            for optimizer in pair:
                optimizer.step()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)


def test_where_gradients_share_their_singular_vectors_it_is_adam_between_them():
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))[0] for _ in range(2))
    scales = 0.3 ** torch.arange(6, dtype=torch.float64)  # far apart, so that the order of the eigenvectors never changes
    ours, theirs = (torch.nn.Parameter(torch.zeros(6, 6, dtype=torch.float64)) for _ in range(2))
    pair = SOAP([{"params": [ours]}], 0.01, (0.9, 0.98)), torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.98))
    for _ in range(70):  # beyond several changes of the bases
        theirs.grad = torch.diag(scales * (0.5 + torch.rand(6, dtype=torch.float64, generator=generator)))
        ours.grad = left @ theirs.grad @ right.T
        for optimizer in pair:
            optimizer.step()
    torch.testing.assert_close(ours.detach(), left @ theirs.detach() @ right.T, rtol=0, atol=1e-4)
