"""A talking head rendered by the native CPU library: the plain model's pictures, many times faster.

What does not depend on the frame is folded at load: tri-plane queries, and of each attention layer
the projections of queries, keys, values and output, which leave one map from a token to a row of
scores and one to a row of values. The library (`being/inference/backends/cpu`) then carries each block of
Gaussians through the whole network in the processor's cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from being.errors import EnvironmentFault, UsageError
from being.inference.backends.cpu import library as native_library
from being.model.attention import AttentionLayer
from being.model.talking_head import TalkingHead

PRECISIONS = ("auto", "float32", "bfloat16")


def status() -> str:
    """Return "OK (instruction set)" or why this machine has no native engine and what to do."""
    return native_library.status()


class NativeHead:
    """A head baked for the CPU, and the time its last call took."""

    def __init__(
        self,
        model: TalkingHead,
        focal: float,
        size: int,
        threads: int | None = None,
        precision: str = "auto",
        library: str | None = None,
    ):
        """`focal` in px, pictures of `size` px a side, `threads` as many as torch uses if not
        given.

        `precision`: the network's layers in "float32" or "bfloat16" (sums in float32), "auto" the
        latter where the processor multiplies it. `library` asks for one of
        `being.inference.backends.cpu.library.LIBRARIES` in place of the best. Raises UsageError for an unknown
        precision, EnvironmentFault where this machine has not what is asked for.
        """
        if precision not in PRECISIONS:
            raise UsageError(f"no {precision} on a CPU", fix=f"Use {', '.join(PRECISIONS)}")
        assert 0 < size <= native_library.MAX_SIDE, (
            f"pictures of {size} px a side: at most {native_library.MAX_SIDE}"
        )
        loaded, detail = native_library.load(library)
        if loaded is None:
            raise EnvironmentFault("the native engine cannot run here", detail)
        low = bool(loaded.head_has_bfloat16())
        if precision == "bfloat16" and not low:
            raise EnvironmentFault(
                "this processor does not multiply bfloat16", f"it has {detail}", "Use float32"
            )
        self.size, self.isa, self.threads = size, detail, threads
        self.precision = "bfloat16" if low and precision != "float32" else "float32"
        self.times: dict[str, float] = {}
        self._slots = 0  # of heads that are kept
        config = model.network.config
        self.width, self.count = config.d_model, len(model.gaussians)
        description = native_library.Description(
            self.count,
            config.d_model,
            config.n_head,
            config.n_layer,
            config.ffn_hidden,
            config.net_width,
            config.sh_degree,
            size,
            self.precision == "bfloat16",
            focal,
        )
        self._head = native_library.Head(loaded, description, folded(model))

    def render(self, tokens: Tensor, world_to_camera: Tensor, plates: Tensor) -> Tensor:
        """Return pictures uint8 [B, S, S, 3] RGB.

        `tokens` float32 [B, T, D], `world_to_camera` float32 [B, 4, 4], `plates` uint8 [B, S, S,
        3], all on the CPU. A Gaussian that is not finite is left out, as the rasterizer does.
        """
        frames = tokens.shape[0]
        assert tokens.dim() == 3 and tokens.shape[2] == self.width, (
            f"tokens [B, T, {self.width}]: {tokens.shape}"
        )
        assert world_to_camera.shape == (frames, 4, 4), (
            f"world_to_camera [{frames}, 4, 4]: {world_to_camera.shape}"
        )
        assert plates.shape == (frames, self.size, self.size, 3) and plates.dtype == torch.uint8, (
            f"plates uint8 [{frames}, {self.size}, {self.size}, 3]: {plates.dtype} {plates.shape}"
        )
        out = torch.empty_like(plates, memory_format=torch.contiguous_format)
        self._run(tokens=tokens, world_to_camera=world_to_camera, plates=plates, out=out)
        return out

    def keep(self, tokens: Tensor, world_to_camera: Tensor, slots: Tensor) -> None:
        """Deform the head by `tokens` and keep it under the numbers `slots` int64 [B], with its
        colours as seen by `world_to_camera`; small numbers, as memory is kept for all up to the
        largest. See `render`."""
        assert (
            slots.shape == tokens.shape[:1] and slots.dtype == torch.int64 and slots.min() >= 0
        ), slots
        self._slots = max(self._slots, int(slots.max()) + 1)
        self._run(tokens=tokens, world_to_camera=world_to_camera, slots=slots)

    def render_between(
        self, world_to_camera: Tensor, plates: Tensor, before: Tensor, after: Tensor, share: Tensor
    ) -> Tensor:
        """Pictures uint8 [B, S, S, 3] of heads that lie between two that were kept, in slots
        `before` and `after` int64 [B]: `share` float32 [B] of the way, in [0, 1]. See `render`."""
        for slots in (before, after):
            assert slots.dtype == torch.int64 and 0 <= slots.min() and slots.max() < self._slots, (
                slots
            )
        out = torch.empty_like(plates, memory_format=torch.contiguous_format)
        self._run(
            world_to_camera=world_to_camera,
            plates=plates,
            out=out,
            before=before,
            after=after,
            share=share,
        )
        return out

    def _run(self, **given: Tensor) -> None:
        given = {
            name: (value.detach().float() if value.is_floating_point() else value).contiguous()
            for name, value in given.items()
        }
        seconds = self._head.render(self.threads or torch.get_num_threads(), **given)
        self.times = dict(zip(native_library.STAGES, seconds, strict=True))


@torch.no_grad()
def folded(model: TalkingHead) -> list[Tensor]:
    """The tensors that the library copies: layers, heads, canonical Gaussians, queries; float32, in
    its order.
    """
    network = model.network
    tensors: list[Tensor] = []
    for layer in network.transformer.layers:
        assert isinstance(layer, AttentionLayer)
        first, second = layer.ffn.linear1, layer.ffn.linear2
        tensors += [
            *attention_maps(layer),
            layer.norm1.gamma,
            layer.norm1.beta,
            torch.tensor([layer.norm1.eps]),
            first.weight,
            first.bias,
            second.weight,
            second.bias,
            layer.norm2.gamma,
            layer.norm2.beta,
            torch.tensor([layer.norm2.eps]),
        ]
    for head in (
        network.pos_deform,
        network.scales_deform,
        network.rotations_deform,
        network.opacity_deform,
        network.shs_deform,
    ):
        tensors += [
            head.get_parameter(name) for name in ("1.weight", "1.bias", "3.weight", "3.bias")
        ]
    raw = model.gaussians
    queries = network.queries(raw.means)[0]
    tensors += [raw.means, raw.log_scales, raw.quaternions, raw.opacity_logits, raw.sh, queries]
    return [tensor.detach().to("cpu", torch.float32).contiguous() for tensor in tensors]


def attention_maps(layer: AttentionLayer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a token t gives to each head of a layer's attention: M [H, D + 1, D] t + m and P [H, D,
    D] t + p.

    With x a query, the score of t in powers of two is the first's leading D rows times x, plus its
    last row; the second is what t's share is multiplied by and added to x. The output's bias is in
    it: shares of a head sum to one.
    """
    attention = layer.enc_dec_attention
    heads = attention.heads

    def split(linear: torch.nn.Linear) -> tuple[Tensor, Tensor]:  # [H, d, D], [H, d]
        return linear.weight.double().unflatten(0, (heads, -1)), linear.bias.double().unflatten(
            0, (heads, -1)
        )

    (wq, bq), (wk, bk), (wv, bv) = split(attention.w_q), split(attention.w_k), split(attention.w_v)
    unit = math.log2(math.e) / math.sqrt(wq.shape[1])
    query = torch.cat([wq, bq[..., None]], 2).transpose(1, 2) * unit  # [H, D + 1, d]
    out = attention.w_concat.weight.double().unflatten(1, (heads, -1)).transpose(0, 1)  # [H, D, d]
    share = attention.w_concat.bias.double() / heads
    return (
        query @ wk,
        (query @ bk[..., None])[..., 0],
        out @ wv,
        (out @ bv[..., None])[..., 0] + share,
    )
