"""The data of an avatar on the CUDA device, and the buffers and steps of a batch of frames.

B frames, N Gaussians, P poses, D width of a token, S image side, E expression channels, C speech
feature channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from being.inference.backends.cuda.kernels.blend import blend_part
from being.inference.backends.cuda.kernels.deform import deform
from being.inference.backends.cuda.kernels.finish import finish
from being.inference.backends.cuda.kernels.i420 import to_i420
from being.inference.backends.cuda.kernels.tokens import PART, SCRATCH, encode_audio, tokens
from being.inference.feature_pool import FeaturePool
from being.inference.i420 import COLOURS, i420_bytes
from being.inference.plates import Plates
from being.model.avatar import Avatar
from being.model.folding import MIN_SIDE, fold
from being.model.gaussiantalker import GaussianTalker
from being.splat.cuda.graph_replay import rounded_capacity
from being.splat.cuda.stages import FUSED_MULTIPLY_ADD, CallSize, allocate_splats, project_batch
from being.splat.cuda.tile_lists import build_tile_lists

HEADER = 16  # bytes in front of the images: the number of pairs that the batch needed
# Positions in the input numbers of a frame: rows of the feature pool before POSE, expression from
# EXPRESSION on.
POSE, EXPRESSION = 8, 9
WINDOWS = 8  # feature windows of a frame
MIN_PAIRS = 1024
# A frame that is alone is blended in this many parts of its lists; more frames in fewer parts, as
# they fill the device anyway.
MAX_LIST_PARTS = 4
GAUSSIANS_PER_PROGRAM = 64  # of the deformation
PIXELS_PER_PROGRAM = 1024  # of the composite
SQUARES_PER_PROGRAM = 256  # of 2 x 2 pixels, of the conversion to I420
TORCH_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
TRITON_TYPES = {
    "float32": triton.language.float32,
    "float16": triton.language.float16,
    "bfloat16": triton.language.bfloat16,
}


def supports(network: GaussianTalker) -> bool:
    """Whether the kernels can run a network of these widths: powers of two, not too large."""
    config = network.config
    sides = (config.d_model, config.ffn_hidden, config.net_width)
    return (
        all(side >= MIN_SIDE and side & (side - 1) == 0 for side in sides)
        and config.d_model <= 128
        and network.expression_width <= 64
    )


class DeformationWeights:
    """The weights of the deformation as its kernel reads them: [in, out], layers stacked.

    The factors of products are of the type `dtype`; biases and norms are float32.
    """

    def __init__(self, network: GaussianTalker, dtype: torch.dtype, device: torch.device):
        def stacked(tensors: list[Tensor], to: torch.dtype = torch.float32) -> Tensor:
            return torch.stack(tensors).to(device, to).contiguous()

        # The transformer.
        layers: list[Any] = list(network.transformer.layers)
        norms = [(layer.norm1, layer.norm2) for layer in layers]
        self.gammas = stacked([torch.stack([norm.gamma for norm in pair]) for pair in norms])
        self.betas = stacked([torch.stack([norm.beta for norm in pair]) for pair in norms])
        self.eps = norms[0][0].eps
        self.ffn1 = stacked([layer.ffn.linear1.weight.T for layer in layers], dtype)
        self.ffn1_bias = stacked([layer.ffn.linear1.bias for layer in layers])
        self.ffn2 = stacked([layer.ffn.linear2.weight.T for layer in layers], dtype)
        self.ffn2_bias = stacked([layer.ffn.linear2.bias for layer in layers])

        # The first layers of the five decoding heads, side by side; the SH head is the last.
        heads = network.decoding_heads()
        *small, sh_head = heads
        first = torch.cat([head.get_parameter("1.weight") for head in heads])
        self.heads1 = stacked([first.T], dtype)
        self.heads1_bias = stacked([torch.cat([head.get_parameter("1.bias") for head in heads])])

        # The second layers of the four small heads, as one matrix [11, 4 * width], padded to 16.
        second = torch.block_diag(*(head.get_parameter("3.weight") for head in small))
        bias = torch.cat([head.get_parameter("3.bias") for head in small])
        self.small2 = stacked([F.pad(second, (0, 0, 0, 16 - len(second))).T], dtype)
        self.small2_bias = stacked([F.pad(bias, (0, 16 - len(bias)))])

        # The second layer of the SH head, padded to a power of two.
        sh, sh_bias = sh_head.get_parameter("3.weight"), sh_head.get_parameter("3.bias")
        self.coefficients = len(sh)
        self.sh_padded = max(MIN_SIDE, 1 << (len(sh) - 1).bit_length())
        padding = self.sh_padded - len(sh)
        self.sh2 = stacked([F.pad(sh, (0, 0, 0, padding)).T], dtype)
        self.sh2_bias = stacked([F.pad(sh_bias, (0, padding))])
        self.config = network.config


class DeviceAvatar:
    """The constants of an avatar that the kernels read, on the device."""

    def __init__(self, avatar: Avatar, camera: Tensor, precision: str):
        """camera: float32 [P, 12], the camera values of every pose; precision: of the products."""
        network, gaussians = avatar.model.network, avatar.model.gaussians
        self._set_common(avatar, camera)
        self.product_type = TRITON_TYPES[precision]
        self.weights = DeformationWeights(network, TORCH_TYPES[precision], self.device)
        self.folded = fold(network, camera).to(self.device)
        self.queries = network.queries(gaussians.means)[0].float().contiguous()

        # The raw parameters of the canonical Gaussians, [N, 11] and [N, coefficients].
        small = [
            gaussians.means,
            gaussians.log_scales,
            gaussians.quaternions,
            gaussians.opacity_logits,
        ]
        self.raw = torch.cat(small, 1).contiguous()
        self.raw_sh = gaussians.sh.flatten(1).contiguous()

    def _set_common(self, avatar: Avatar, camera: Tensor) -> None:
        """Set what a frame needs whatever deforms its Gaussians."""
        network = avatar.model.network
        self.device, self.size = camera.device, avatar.size
        self.count = len(avatar.model.gaussians)
        self.degree, self.channels = network.config.sh_degree, network.audio_width
        self.plates = Plates(avatar).all().to(self.device)
        rows = [[*colours.native.tolist(), colours.black] for colours in COLOURS]
        self.colours = torch.tensor(rows, dtype=torch.int32, device=self.device)
        self.world_to_camera = avatar.world_to_camera.contiguous()
        self.focal = torch.full((1,), float(avatar.focal), device=self.device)
        self.expression = avatar.expression.cpu().numpy()  # [P, E]


class FrameBatch:
    """The fixed buffers of a batch of frames, and the steps over them."""

    def __init__(
        self,
        avatar: DeviceAvatar,
        pool: FeaturePool,
        frames: int,
        pairs: float,
        planar: bool = False,
    ):
        """frames: B; pairs: (Gaussian, tile) pairs of a frame that memory is reserved for.

        planar: the output is I420, uint8 [B, 1.5 S^2], instead of RGB [B, S, S, 3].
        """
        self.avatar, self.pool, self.frames, self.planar = avatar, pool, frames, planar
        device, size = avatar.device, avatar.size

        # The inputs of each frame: pool rows, pose, expression (the bits of float32), in int32.
        numbers = EXPRESSION + avatar.expression.shape[1]
        pinned = device.type == "cuda"
        self.inputs = torch.zeros(frames, numbers, dtype=torch.int32, device=device)
        self.host_inputs = torch.zeros(frames, numbers, dtype=torch.int32, pin_memory=pinned)

        self._allocate_deformation()
        self.list_parts = max(1, MAX_LIST_PARTS // frames)
        self.call_size = CallSize(frames, avatar.count, size, size, avatar.degree)
        self.pair_capacity = rounded_capacity(max(pairs * frames, MIN_PAIRS))
        self.image_bytes = i420_bytes(size) if planar else size * size * 3
        self.output = torch.zeros(
            HEADER + frames * self.image_bytes, dtype=torch.uint8, device=device
        )
        # Colours of each frame: numbers of `i420.COLOURS`.
        self.colours = torch.zeros(frames, dtype=torch.int32, device=device)
        self.host_colours = torch.zeros(frames, dtype=torch.int32, pin_memory=pinned)

    def _allocate_deformation(self) -> None:
        """Make the buffers of `deformation_steps`."""
        device, folded, frames = self.avatar.device, self.avatar.folded, self.frames
        # The audio net's and the token MLPs' rows, and the records.
        rows, window_rows = _padded(frames), _padded(frames * WINDOWS)
        self.vectors = torch.zeros(rows * WINDOWS, 32, device=device)
        self.column_parts = -(-len(folded.null_columns) // PART.value)  # of a token's columns
        scratch_rows = max(rows * self.column_parts, window_rows)
        self.scratch1 = torch.zeros(scratch_rows, SCRATCH.value, device=device)
        self.scratch2 = torch.zeros(scratch_rows, SCRATCH.value, device=device)
        self.records = folded.empty_records(rows)

    def deformation_steps(self) -> list[tuple[str, Callable[[], None]]]:
        """The steps from the inputs to the Gaussians."""
        return [
            ("audio net", self.encode_audio),
            ("tokens", self.make_tokens),
            ("attention and heads", self.deform),
        ]

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """The steps of a batch in order, by name."""
        return [
            *self.deformation_steps(),
            ("rasterizer", self.splat),
            ("composite", self.finish),
            *([("I420", self.convert)] if self.planar else []),
        ]

    def run(self) -> None:
        """Copy the inputs to the device and run all steps."""
        self.inputs.copy_(self.host_inputs, non_blocking=True)
        if self.planar:
            self.colours.copy_(self.host_colours, non_blocking=True)
        for _, step in self.steps():
            step()

    def count_pairs(self) -> int:
        """The (Gaussian, tile) pairs that the frames in `inputs` need; waits for the device."""
        for _, step in self.deformation_steps():
            step()
        self.project()
        return int(self.splats.needed)

    def release_intermediates(self) -> None:
        """Forget the tensors between the steps; a CUDA graph keeps their memory."""
        for name in ("gaussians", "splats", "blended", "images"):
            self.__dict__.pop(name, None)

    def encode_audio(self) -> None:
        """Feature windows -> audio vectors."""
        avatar, windows = self.avatar, self.frames * WINDOWS
        folded = avatar.folded
        layers = [
            part for layer in (folded.first_convolution, *folded.audio_layers) for part in layer
        ]
        encode_audio[(-(-windows // MIN_SIDE),)](
            self.pool.table,
            self.inputs,
            self.inputs.shape[1],
            windows,
            *layers,
            self.scratch1,
            self.scratch2,
            self.vectors,
            channels=avatar.channels,
            part=32 if avatar.channels > MIN_SIDE else MIN_SIDE,
            **FUSED_MULTIPLY_ADD,
        )

    def make_tokens(self) -> None:
        """Audio vectors, expression and pose -> the frames' records."""
        folded = self.avatar.folded
        layers = [part for layer in folded.attention_layers for part in layer]
        tokens[(len(self.records) // MIN_SIDE, self.column_parts)](
            self.vectors,
            self.inputs,
            self.inputs.shape[1],
            self.inputs.view(torch.float32),
            self.frames,
            *layers,
            folded.audio_hidden,
            *folded.audio_columns,
            folded.blink_hidden,
            *folded.expression_columns,
            folded.camera_columns,
            folded.positions,
            self.scratch1,
            self.scratch2,
            self.records,
            folded.record_length,
            width=folded.width,
            columns=len(folded.null_columns),
            channels=self.inputs.shape[1] - EXPRESSION,
            **FUSED_MULTIPLY_ADD,
        )

    def deform(self) -> None:
        """Records and canonical Gaussians -> the frames' activated Gaussians."""
        avatar, weights, frames = self.avatar, self.avatar.weights, self.frames
        count = avatar.count
        self.gaussians = self.new_gaussians(weights.coefficients)
        deform[(-(-count // GAUSSIANS_PER_PROGRAM), frames)](
            avatar.queries,
            self.records,
            avatar.folded.record_length,
            weights.gammas,
            weights.betas,
            weights.ffn1,
            weights.ffn1_bias,
            weights.ffn2,
            weights.ffn2_bias,
            weights.heads1,
            weights.heads1_bias,
            weights.small2,
            weights.small2_bias,
            weights.sh2,
            weights.sh2_bias,
            avatar.raw,
            avatar.raw_sh,
            *self.gaussians,
            count,
            width=weights.config.d_model,
            heads=avatar.folded.heads,
            layers=avatar.folded.layers,
            ffn=weights.config.ffn_hidden,
            decoder_width=weights.config.net_width,
            coefficients=weights.coefficients,
            sh_padded=weights.sh_padded,
            eps=weights.eps,
            product_type=avatar.product_type,
            rows_=GAUSSIANS_PER_PROGRAM,
            num_warps=4,
            **FUSED_MULTIPLY_ADD,
        )

    def new_gaussians(self, harmonics: int) -> list[Tensor]:
        """Memory for the activated Gaussians; harmonics: of all colours together."""
        count, frames, like = self.avatar.count, self.frames, self.avatar.raw
        return [
            like.new_empty(frames, count, 3),  # means
            like.new_empty(frames, count, 4),  # quaternions
            like.new_empty(frames, count, 3),  # scales
            like.new_empty(frames, count),  # opacities
            like.new_empty(frames, count, harmonics // 3, 3),  # SH
        ]

    def project(self) -> None:
        """The Gaussians -> splats on the screen, and the pairs that they need."""
        poses = self.inputs[:, POSE].long()
        inputs = [*self.gaussians, self.avatar.world_to_camera[poses], self.avatar.focal]
        self.splats = allocate_splats(self.call_size, self.gaussians[0])
        project_batch(self.call_size, inputs, self.splats)

    def splat(self) -> None:
        """The Gaussians -> blended colour and transmittance, in parts of the tile lists."""
        self.project()
        splats, size = self.splats, self.call_size
        lists = build_tile_lists(
            splats.records, splats.depths, splats.touched, self.pair_capacity, size.tiles
        )
        tiles = size.tiles[0] * size.tiles[1]
        self.blended = splats.records.new_empty(
            self.frames, self.list_parts, 4, size.height, size.width
        )
        blend_part[(tiles, self.frames, self.list_parts)](
            splats.records,
            lists.splat,
            lists.bounds,
            self.blended,
            size.width,
            size.height,
            size.tiles[0],
            tiles,
            tiles * self.frames,
            num_warps=1,
            **FUSED_MULTIPLY_ADD,
        )
        self.output[:8].view(torch.int64).copy_(splats.needed)

    def finish(self) -> None:
        """The blended parts over the plates -> images."""
        pixels = self.avatar.size**2
        self.images = self.output[HEADER:]
        if self.planar:
            self.images = self.output.new_empty(self.frames * pixels * 3)
        finish[(-(-pixels // PIXELS_PER_PROGRAM), self.frames)](
            self.blended,
            self.avatar.plates,
            self.inputs,
            self.inputs.shape[1],
            self.images,
            pixels,
            PARTS=self.list_parts,
            BLOCK=PIXELS_PER_PROGRAM,
            **FUSED_MULTIPLY_ADD,
        )

    def convert(self) -> None:
        """The images -> I420."""
        size = self.avatar.size
        to_i420[(-(-((size // 2) ** 2) // SQUARES_PER_PROGRAM), self.frames)](
            self.images,
            self.colours,
            self.avatar.colours,
            self.output[HEADER:],
            size,
            size,
            BLOCK=SQUARES_PER_PROGRAM,
        )


def _padded(rows: int) -> int:
    """`rows` rounded up to a multiple of the rows that a program takes."""
    return -(-rows // MIN_SIDE) * MIN_SIDE
