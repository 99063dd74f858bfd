"""The native head model: passes tokens, cameras and background images to the C++ library.

A model of bases gets coefficients in the place of tokens.

What does not depend on the frame is folded at load: the tri-plane features of all Gaussians, and
the projections of queries, keys, values and output of each attention layer
(`being.model.folding.attention_maps`). The library (`head.cpp`) then carries each block of
Gaussians through the whole network in the processor's cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from being.errors import EnvironmentFault, UsageError
from being.inference.backends.cpu import library as native_library
from being.model.attention import AttentionLayer
from being.model.bases import FIELD_WIDTHS, Bases
from being.model.folding import attention_maps
from being.model.talking_head import TalkingHead

PRECISIONS = ("auto", "float32", "bfloat16")


def status() -> str:
    """Return "OK (instruction set)", or why the native renderer cannot run here and what to do."""
    return native_library.status()


class NativeHeadModel:
    """A talking head in the native library's memory.

    `times`: seconds of each stage (`library.STAGES`) in the last call. B frames, S image side, D
    width of a token.
    """

    def __init__(
        self,
        model: TalkingHead,
        focal: float,
        size: int,
        threads: int | None = None,
        precision: str = "auto",
        library: str | None = None,
        bases: Bases | None = None,
    ):
        """focal: px; size: S in px; threads: default as many as torch uses.

        bases: deform by them, and not by the network.

        precision: number format of the network's layers, "float32" or "bfloat16" (sums are
        float32); "auto" is bfloat16 where the processor multiplies it. Of bases it is the format in
        which they are kept; every processor reads bfloat16. library: one of
        `library.LIBRARIES` by name; default the best. Raises UsageError for an unknown precision,
        EnvironmentFault where this machine lacks what was asked for.
        """
        if precision not in PRECISIONS:
            raise UsageError(
                f"the native renderer has no precision '{precision}'",
                fix=f"Use {', '.join(PRECISIONS)}",
            )
        assert 0 < size <= native_library.MAX_SIDE, (
            f"images of {size} px a side: at most {native_library.MAX_SIDE}"
        )
        loaded, detail = native_library.load(library)
        if loaded is None:
            raise EnvironmentFault("the native renderer cannot run here", detail)
        has_bfloat16 = bases is not None or bool(loaded.head_has_bfloat16())
        if precision == "bfloat16" and not has_bfloat16:
            raise EnvironmentFault(
                "this processor does not multiply bfloat16", f"it has {detail}", "Use float32"
            )

        self.size, self.isa, self.threads = size, detail, threads
        self.precision = "bfloat16" if has_bfloat16 and precision != "float32" else "float32"
        self.times: dict[str, float] = {}
        self._slots = 0  # key frames that are kept: slots 0 to _slots - 1
        config = model.network.config
        self.width = config.d_model if bases is None else bases.count
        self.count = len(model.gaussians)
        description = native_library.HeadDescription(
            self.count,
            config.d_model if bases is None else 0,
            config.n_head,
            config.n_layer,
            config.ffn_hidden,
            config.net_width,
            config.sh_degree,
            size,
            self.precision == "bfloat16",
            0 if bases is None else bases.count,
            focal,
        )
        tensors = native_tensors(model) if bases is None else native_bases(model, bases)
        self._handle = native_library.NativeHandle(loaded, description, tensors)

    def render(self, tokens: Tensor, world_to_camera: Tensor, plates: Tensor) -> Tensor:
        """Images uint8 [B, S, S, 3] RGB of B frames.

        tokens float32 [B, T, D], of bases the coefficients [B, 1, K]; world_to_camera float32
        [B, 4, 4], plates uint8 [B, S, S, 3], all on the CPU. A Gaussian that is not finite is left
        out, as in the rasterizer.
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
        """Deform B key frames and keep them in `slots` int64 [B], with the colours that
        `world_to_camera` sees.

        Slots are small numbers: memory is kept for all slots up to the largest. See `render`.
        """
        assert (
            slots.shape == tokens.shape[:1] and slots.dtype == torch.int64 and slots.min() >= 0
        ), slots
        self._slots = max(self._slots, int(slots.max()) + 1)
        self._run(tokens=tokens, world_to_camera=world_to_camera, slots=slots)

    def render_between(
        self, world_to_camera: Tensor, plates: Tensor, before: Tensor, after: Tensor, share: Tensor
    ) -> Tensor:
        """Images uint8 [B, S, S, 3] RGB of frames between two kept key frames each.

        before, after: slots int64 [B] of the key frames; share: float32 [B] in [0, 1], the distance
        from the key frame before. See `render`.
        """
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

    def _run(self, **arguments: Tensor) -> None:
        """Call the library with these fields of `library.FrameBatch`."""
        arguments = {
            name: (value.detach().float() if value.is_floating_point() else value).contiguous()
            for name, value in arguments.items()
        }
        seconds = self._handle.render(self.threads or torch.get_num_threads(), **arguments)
        self.times = dict(zip(native_library.STAGES, seconds, strict=True))


@torch.no_grad()
def native_tensors(model: TalkingHead) -> list[Tensor]:
    """The tensors that the library copies, float32, in its order.

    Layers of the transformer, decoding heads, canonical Gaussians, queries.
    """
    network = model.network
    tensors: list[Tensor] = []
    for layer in network.transformer.layers:
        assert isinstance(layer, AttentionLayer)
        first, second = layer.ffn.linear1, layer.ffn.linear2
        tensors += [
            *native_attention(layer),
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
    for head in network.decoding_heads():
        tensors += [
            head.get_parameter(name) for name in ("1.weight", "1.bias", "3.weight", "3.bias")
        ]
    raw = model.gaussians
    queries = network.queries(raw.means)[0]
    tensors += [raw.means, raw.log_scales, raw.quaternions, raw.opacity_logits, raw.sh, queries]
    return [tensor.detach().to("cpu", torch.float32).contiguous() for tensor in tensors]


@torch.no_grad()
def native_bases(model: TalkingHead, bases: Bases) -> list[Tensor]:
    """The tensors that the library copies for a model of bases, float32, in its order.

    Raw parameters of the mean frame, as the canonical Gaussians of `native_tensors`, then bases.
    """
    widths = [*FIELD_WIDTHS.values()][:-1]
    base = bases.base(model.gaussians)
    tensors = [*base.split([*widths, base.shape[1] - sum(widths)], 1), bases.basis]
    return [tensor.detach().to("cpu", torch.float32).contiguous() for tensor in tensors]


def native_attention(layer: AttentionLayer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A layer's attention in the library's layout: M [H, D + 1, D], m [H, D + 1], P [H, D, D], p
    [H, D], float64.

    For a token t, the first D rows of M t + m are A and the last is c; P t + p is U (see
    `being.model.folding`). The logits are in powers of two.
    """
    weight, bias = attention_maps(layer.enc_dec_attention, logit_unit=math.log2(math.e))
    return (
        torch.cat([weight.a.permute(2, 1, 0), weight.c.T[:, None]], 1),
        torch.cat([bias.a.T, bias.c[:, None]], 1),
        weight.u.permute(1, 2, 0),
        bias.u,
    )
