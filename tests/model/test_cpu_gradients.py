"""The layers whose gradients do not depend on the number of threads: against torch's own, to the
bit with other numbers of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.model.cpu_gradients import Conv1d, layer_norm


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """torch.set_num_threads, undone afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The output and the gradients of a weighted sum of it."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    output = function(*leaves)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return [output, *torch.autograd.grad((output * weights).sum(), leaves)]


def normalised() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3001, 64), torch.randn(64), torch.randn(64)]


@pytest.mark.parametrize("x", [normalised()[0], normalised()[0][0, 0]], ids=["rows", "one row"])
def test_layer_norm_is_that_of_torch(x: Tensor) -> None:
    _, gamma, beta = normalised()
    ours = gradients(lambda *v: layer_norm(*v, 1e-12), x, gamma, beta)
    theirs = gradients(lambda x, g, b: F.layer_norm(x, (64,), g, b, 1e-12), x, gamma, beta)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [1, 7, 300])
def test_a_convolution_is_that_of_torch(stride: int, batch: int) -> None:
    torch.manual_seed(0)
    layer, x = Conv1d(5, 6, 3, stride=stride, padding=1), torch.randn(batch, 5, 16)
    plain = nn.Conv1d(5, 6, 3, stride=stride, padding=1)
    plain.load_state_dict(layer.state_dict())
    for call in (lambda net: net(x), lambda net: net(x.requires_grad_())):
        ours, theirs = call(layer), call(plain)
        torch.testing.assert_close(ours, theirs)
        wanted = [*layer.parameters(), *([x] if x.requires_grad else [])]
        other = [*plain.parameters(), *([x] if x.requires_grad else [])]
        for a, b in zip(
            torch.autograd.grad(ours.sin().sum(), wanted),
            torch.autograd.grad(theirs.sin().sum(), other),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_convolution_computes_in_float32_inside_autocast() -> None:
    layer = Conv1d(5, 6, 3, padding=1)
    x = torch.randn(2, 5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer(x.double().float()))
        assert layer(x).dtype == torch.float32


def test_gradients_are_the_same_with_any_number_of_threads(
    threads: Callable[[int], None],
) -> None:
    torch.manual_seed(0)
    layer, x = Conv1d(32, 32, 3, stride=2, padding=1), torch.randn(64, 32, 16)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(
            gradients(lambda *v: layer_norm(*v, 1e-12), *normalised())
            + gradients(convolve, x, *layer.parameters())
        )
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))
