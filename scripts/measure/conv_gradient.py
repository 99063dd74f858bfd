"""Measure the audio network's training with its convolutions' gradients summed in three ways.

    python -m scripts.measure.conv_gradient [--threads 2] [--rounds 40] [--batch 4] [--width 16]

Forward and backward of the audio net and its attention, with the shapes of the fine stage (quick
config: batch 4, 16 numbers of mouth code). The ways take turns in every round: "now", the
package's; "einsum", one product of the whole batch on one thread, as before commit 3e579d7;
"torch", torch's own convolution, whose sums depend on the number of threads. The last line is JSON:
median ms of wall and processor time, and the medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv1d_input

from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW
from being.model import cpu_gradients
from being.model.tokens import AudioAttention, AudioNet

CALLS = 20  # of forward and backward, timed as one


@once_differentiable
def _einsum_backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    d_x = None
    if ctx.needs_input_grad[0]:
        d_x = conv1d_input(x.shape, weight, d_y, ctx.stride, ctx.padding)
    read = F.pad(x, (ctx.padding, ctx.padding)).unfold(2, weight.shape[2], ctx.stride)
    with cpu_gradients._one_thread():
        d_weight = torch.einsum("bol,bclk->ock", d_y, read)
    return d_x, d_weight, d_y.sum((0, 2)), None, None


@contextmanager
def summed(way: str) -> Iterator[None]:
    """Let the package's convolutions sum their gradients in this way."""
    function, layer = cpu_gradients._Conv1d, cpu_gradients.Conv1d
    backward, forward = function.backward, layer.forward
    if way == "einsum":
        function.backward = staticmethod(_einsum_backward)  # type: ignore[method-assign]
    elif way == "torch":
        layer.forward = nn.Conv1d.forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        function.backward, layer.forward = (  # type: ignore[method-assign]
            staticmethod(backward),
            forward,
        )


def step(batch: int, width: int) -> Callable[[], None]:
    """One forward and backward of the audio net [8 B, C, 16] and its attention [B, 8, 32]."""
    torch.manual_seed(0)
    net, attention = AudioNet(width), AudioAttention()
    windows = torch.randn(batch * ATTENTION_WINDOW, width, FEATURE_WINDOW)
    parameters = [*net.parameters(), *attention.parameters()]

    def run() -> None:
        vectors = net(windows).view(batch, ATTENTION_WINDOW, -1)
        torch.autograd.grad(attention(vectors).square().sum(), parameters)

    return run


def main() -> None:
    """Take turns, print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=16, help="numbers of a feature step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = step(options.batch, options.width)
    ways = ("now", "einsum", "torch")
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(options.rounds + 1):
        for way in ways if number % 2 else ways[::-1]:
            with summed(way):
                wall, used = time.perf_counter(), time.process_time()
                for _ in range(CALLS):
                    run()
                spent = time.perf_counter() - wall, time.process_time() - used
            if number:  # the first round warms up
                times[way].append((spent[0] / CALLS * 1e3, spent[1] / CALLS * 1e3))
    found: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds}
    for kind, what in enumerate(("wall", "processor")):
        for way in ways:
            found[f"{way}_{what}_ms"] = round(statistics.median(t[kind] for t in times[way]), 3)
        for way in ways[1:]:
            pairs = zip(times["now"], times[way], strict=True)
            ratio = statistics.median(one[kind] / other[kind] for one, other in pairs)
            found[f"now_to_{way}_{what}"] = round(ratio, 3)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
