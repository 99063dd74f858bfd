"""Layers whose gradients on the CPU are the same to the bit for any number of threads.

torch's own sum the gradients of the parameters in one part for each thread. A training follows the
cores that are free (`being.threads`), and must end with the same weights all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv1d_input


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
        y, mean, rate = torch.native_layer_norm(x, x.shape[-1:], gamma, beta, eps)
        ctx.save_for_backward(x, mean, rate, gamma, beta)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rate, gamma, beta = ctx.saved_tensors

        def gradients(*wanted: bool) -> tuple[Tensor, Tensor, Tensor]:
            return torch.ops.aten.native_layer_norm_backward(
                d_y, x, x.shape[-1:], mean, rate, gamma, beta, list(wanted)
            )

        if torch.get_num_threads() == 1:
            return *gradients(True, True, True), None
        d_x = gradients(True, False, False)[0]
        with _one_thread():
            _, d_gamma, d_beta = gradients(False, True, True)
        return d_x, d_gamma, d_beta, None


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """The layer normalisation [..., D] of x [..., D]; gamma and beta [D]."""
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return _LayerNorm.apply(x, gamma, beta, eps)
    return F.layer_norm(x, x.shape[-1:], gamma, beta, eps)


class _Conv1d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv1d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = conv1d_input(x.shape, weight, d_y, ctx.stride, ctx.padding)

        # d_y [B, O, L] times the inputs [B, C, L, K] that each output read
        read = F.pad(x, (ctx.padding, ctx.padding)).unfold(2, weight.shape[2], ctx.stride)
        # Sample by sample, then their sum: in one product, threads may each sum a part of it.
        each = torch.bmm(d_y, read.transpose(1, 2).flatten(2))
        d_weight = each.sum(0).view(weight.shape)
        return d_x, d_weight, d_y.sum((0, 2)), None, None


class Conv1d(nn.Conv1d):
    """A convolution [B, C, L] -> [B, O, L'] with a stride and zeros at the ends.

    On the CPU it computes in float32, also inside autocast.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, L] to [B, O, L']."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            assert self.bias is not None and isinstance(self.padding[0], int)
            return _Conv1d.apply(x.float(), self.weight, self.bias, self.stride[0], self.padding[0])
