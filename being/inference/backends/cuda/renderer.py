"""The engine's way on CUDA: one frame, or one batch of frames, is one graph launch.

A frame's inputs are a few numbers (which rows of sound it hears, its pose, its expression), written
by the host into pinned memory. The graph copies them over, hears, makes tokens, deforms, splats and
composites over plates that lie on the device; the finished bytes are copied to pinned memory on a
stream of their own while the next batch renders. Nothing is read back in between. Should a batch
have needed more (Gaussian, tile) pairs than there was room for, its bytes say so, and it is
rendered again with more room before anyone sees it.

The kernels also run in Triton's interpreter, without a graph: TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from being.inference.backends.cuda.kernels.blend import blend_part
from being.inference.backends.cuda.kernels.deform import deform
from being.inference.backends.cuda.kernels.finish import finish
from being.inference.backends.cuda.kernels.tokens import PART, SCRATCH, hear, tokens
from being.inference.feature_pool import Sounds
from being.inference.plates import Plates
from being.model.avatar import Avatar
from being.model.folding import LEAST, fold
from being.model.gaussiantalker import GaussianTalker
from being.splat.cuda.lists import build
from being.splat.cuda.replay import MAX_PAIRS, rounded
from being.splat.cuda.stages import Size, make_splats, project_all
from being.splat.graph_capture import captured

SIZES = (
    1,
    2,
    4,
    8,
    16,
    32,
    64,
)  # batches that graphs are made for; others are filled up to the next
SLOTS = 3  # of each: one rendering, one on its way to the host, one being read
HEADER = 16  # bytes in front of the pictures: the pairs that the batch needed
POSE, FACE = 8, 9  # places in a frame's numbers: rows of sound before POSE, expression from FACE on
LEAST_PAIRS = 1024
SPARE = 1.4  # room for pairs, over the most of the poses tried
TRIED = 8  # poses
# that a frame's lists are blended in when it is alone; fewer of more frames, which fill the device
# anyway
PARTS = 4
# frames whose pictures the graph itself copies to the host: less time than it takes to ask for it
COPIED_WITHIN = 2
KINDS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TYPES = {
    "float32": triton.language.float32,
    "float16": triton.language.float16,
    "bfloat16": triton.language.bfloat16,
}
FUSED = {"enable_fp_fusion": True}


def foldable(network: GaussianTalker) -> bool:
    """Whether the kernels know a network of these widths."""
    config = network.config
    sides = (config.d_model, config.ffn_hidden, config.net_width)
    return (
        all(side >= LEAST and side & (side - 1) == 0 for side in sides)
        and config.d_model <= 128
        and network.expression_width <= 64
    )


class GraphHead:
    """One avatar on one device. Not for several threads at once."""

    def __init__(self, avatar: Avatar, camera: Tensor, precision: str):
        network, gaussians = avatar.model.network, avatar.model.gaussians
        self.device, self.size, self.count = camera.device, avatar.size, len(gaussians)
        self.degree, self.precision, self.channels = (
            network.config.sh_degree,
            precision,
            network.audio_width,
        )
        self.cuda = self.device.type == "cuda"
        self.stream: Any = torch.cuda.Stream(self.device) if self.cuda else None
        self.copying: Any = torch.cuda.Stream(self.device) if self.cuda else None
        if self.cuda:
            torch.cuda.synchronize(self.device)  # the model may still be on its way there
        with self.on_stream(), torch.no_grad():
            self.network = Network(network, KINDS[precision], self.device)
            self.folded = fold(network, camera).to(self.device)
            self.queries = network.queries(gaussians.means)[0].float().contiguous()
            self.raw = torch.cat(
                [
                    gaussians.means,
                    gaussians.log_scales,
                    gaussians.quaternions,
                    gaussians.opacity_logits,
                ],
                1,
            ).contiguous()
            self.raw_sh = gaussians.sh.flatten(1).contiguous()
            self.plates = Plates(avatar).all().to(self.device)
            self.world_to_camera = avatar.world_to_camera.contiguous()
            self.focal = torch.full((1,), float(avatar.focal), device=self.device)
            self.sounds = Sounds(
                network.audio_width, self.device, None, self.forget, self.on_stream
            )
            self.face = avatar.expression.cpu().numpy()
            self.slots: dict[int, list[Slot]] = {}
            self.pairs = 0.0  # of a frame, that there is room for
            self.pairs = self._pairs_of_a_frame()

    def on_stream(self) -> Any:
        """Work inside is ordered with the frames."""
        return torch.cuda.stream(self.stream) if self.cuda else nullcontext()

    def forget(self) -> None:
        """Drop all graphs; they are made anew when next needed."""
        if self.cuda:
            torch.cuda.synchronize(self.device)
        self.slots.clear()
        if self.cuda:
            torch.cuda.empty_cache()  # a dead graph's memory serves no other

    def pool(self) -> dict[str, Any]:
        """What a capture is told of the memory that living graphs share; once all are gone theirs
        is no more.
        """
        living = next((slot for slots in self.slots.values() for slot in slots), None)
        return {} if living is None else {"pool": living.graph.pool()}

    def _pairs_of_a_frame(self) -> float:
        """(Gaussian, tile) pairs of a frame, the most of some poses."""
        trial = Batch(self, 1)
        most = 1
        for pose in np.unique(np.linspace(0, len(self.face) - 1, TRIED).round().astype(int)):
            trial.given[0, POSE] = int(pose)
            trial.given[0, FACE:].view(torch.float32).copy_(torch.from_numpy(self.face[pose]))
            for _, step in trial.steps()[:3]:
                step()
            trial.project()
            most = max(most, int(trial.splats.needed))
        return most * SPARE

    def submit(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> Ticket:
        """Begin to render B frames: rows int32 [B, 8] of the table of sounds, poses int64 [B],
        expression [B, E].
        """
        frames = len(poses)
        assert 0 < frames <= SIZES[-1], f"{frames} frames in a batch; from 1 to {SIZES[-1]} go"
        size = next(size for size in SIZES if size >= frames)
        slots = self.slots.setdefault(size, [])
        with self.on_stream():
            if len(slots) < SLOTS:
                slots.append(Slot(self, size))
            else:
                slots.append(slots.pop(0))
            slot = slots[-1]
            slot.give(rows, poses, expression)
            slot.launch()
        return Ticket(self, slot, frames)

    def plates_of(self, poses: np.ndarray) -> None:
        """Nothing to do: all plates lie on the device."""

    def warm(self, frames: int) -> None:
        """Make the graphs for batches of `frames` now."""
        for _ in range(SLOTS):
            self.submit(
                np.zeros((frames, POSE), np.int32),
                np.zeros(frames, np.int64),
                self.face[:1].repeat(frames, 0),
            ).pictures()

    def again(self, slot: Slot, frames: int) -> Ticket:
        """The batch of a slot rendered once more, with the room that it needed."""
        given = slot.batch.host.numpy()[:frames].copy()
        pairs = slot.needed / slot.batch.frames * SPARE
        if pairs * slot.batch.frames > MAX_PAIRS:
            raise MemoryError(
                f"{slot.batch.frames} frames need {slot.needed:,} (Gaussian, tile) pairs: Gaussians are "
                "too many or too large"
            )
        if pairs > self.pairs:  # unless a batch before this one has made that room
            self.pairs = pairs
            self.forget()
        return self.submit(given[:, :POSE], given[:, POSE], given[:, FACE:].view(np.float32))

    def close(self) -> None:
        """Free the graphs."""
        self.forget()


class Network:
    """Weights of the deformation as its kernel reads them: [in, out], of type `kind`; biases and
    norms float32.
    """

    def __init__(self, network: GaussianTalker, kind: torch.dtype, device: torch.device):
        def moved(tensors: list[Tensor], type_: torch.dtype = torch.float32) -> Tensor:
            return torch.stack(tensors).to(device, type_).contiguous()

        layers: list[Any] = list(network.transformer.layers)
        norms = [(layer.norm1, layer.norm2) for layer in layers]
        self.gammas = moved([torch.stack([norm.gamma for norm in pair]) for pair in norms])
        self.betas = moved([torch.stack([norm.beta for norm in pair]) for pair in norms])
        self.eps = norms[0][0].eps
        self.ffn1 = moved([layer.ffn.linear1.weight.T for layer in layers], kind)
        self.ffn1_b = moved([layer.ffn.linear1.bias for layer in layers])
        self.ffn2 = moved([layer.ffn.linear2.weight.T for layer in layers], kind)
        self.ffn2_b = moved([layer.ffn.linear2.bias for layer in layers])
        small = (
            network.pos_deform,
            network.scales_deform,
            network.rotations_deform,
            network.opacity_deform,
        )
        heads = [*small, network.shs_deform]
        self.heads1 = moved([torch.cat([head.get_parameter("1.weight") for head in heads]).T], kind)
        self.heads1_b = moved([torch.cat([head.get_parameter("1.bias") for head in heads])])
        second = torch.block_diag(
            *(head.get_parameter("3.weight") for head in small)
        )  # [11, 4 deep]
        bias = torch.cat([head.get_parameter("3.bias") for head in small])
        self.small2 = moved([F.pad(second, (0, 0, 0, 16 - len(second))).T], kind)
        self.small2_b = moved([F.pad(bias, (0, 16 - len(bias)))])
        sh = network.shs_deform.get_parameter("3.weight")
        self.coefficients = len(sh)
        self.sh_wide = max(LEAST, 1 << (len(sh) - 1).bit_length())
        self.sh2 = moved([F.pad(sh, (0, 0, 0, self.sh_wide - len(sh))).T], kind)
        self.sh2_b = moved(
            [F.pad(network.shs_deform.get_parameter("3.bias"), (0, self.sh_wide - len(sh)))]
        )
        self.config = network.config


class Batch:
    """Fixed buffers of a batch of frames, and the steps over them."""

    def __init__(self, head: GraphHead, frames: int):
        self.head, self.frames = head, frames
        device, folded, size = head.device, head.folded, head.size
        numbers = FACE + head.face.shape[1]
        self.given = torch.zeros(frames, numbers, dtype=torch.int32, device=device)
        self.host = torch.zeros(frames, numbers, dtype=torch.int32, pin_memory=head.cuda)
        up = -(-frames // LEAST) * LEAST
        self.vectors = torch.zeros(up * 8, 32, device=device)
        self.parts = -(-len(folded.null) // PART.value)  # of a record's columns
        self.one, self.two = (
            torch.zeros(
                max(up * self.parts, -(-frames * 8 // LEAST) * LEAST), SCRATCH.value, device=device
            )
            for _ in range(2)
        )
        self.record = folded.empty_record(up)
        self.parts_of_a_tile = max(1, PARTS // frames)
        self.splat_size = Size(frames, head.count, size, size, head.degree)
        self.room = rounded(max(head.pairs * frames, LEAST_PAIRS))
        self.bytes = torch.zeros(
            HEADER + frames * size * size * 3, dtype=torch.uint8, device=device
        )

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """What a batch goes through, by name."""
        return [
            ("audio net", self.hear),
            ("tokens", self.make_tokens),
            ("attention and heads", self.deform),
            ("rasterizer", self.splat),
            ("composite", self.finish),
        ]

    def run(self) -> None:
        """All of it."""
        self.given.copy_(self.host, non_blocking=True)
        for _, step in self.steps():
            step()

    def drop(self) -> None:
        """Let go of what lies between the steps; a graph keeps its memory."""
        for name in ("gaussians", "splats", "blended"):
            self.__dict__.pop(name, None)

    def hear(self) -> None:
        """Windows of sound to vectors."""
        head, windows = self.head, self.frames * 8
        layers = [part for layer in (head.folded.conv, *head.folded.hear) for part in layer]
        part = 32 if head.channels > LEAST else LEAST
        hear[(-(-windows // LEAST),)](
            head.sounds.table,
            self.given,
            self.given.shape[1],
            windows,
            *layers,
            self.one,
            self.two,
            self.vectors,
            channels=head.channels,
            part=part,
            **FUSED,
        )

    def make_tokens(self) -> None:
        """Vectors, expression and pose to what the Gaussians meet."""
        folded = self.head.folded
        layers = [part for layer in folded.weigh for part in layer]
        tokens[(len(self.record) // LEAST, self.parts)](
            self.vectors,
            self.given,
            self.given.shape[1],
            self.given.view(torch.float32),
            self.frames,
            *layers,
            folded.lift,
            *folded.sound,
            folded.blink,
            *folded.face,
            folded.camera,
            folded.places,
            self.one,
            self.two,
            self.record,
            folded.record,
            width=folded.width,
            columns=len(folded.null),
            channels=self.given.shape[1] - FACE,
            **FUSED,
        )

    def deform(self) -> None:
        """The frames' Gaussians."""
        head, net, frames = self.head, self.head.network, self.frames
        number, like = head.count, head.raw
        self.gaussians = [
            like.new_empty(frames, number, 3),
            like.new_empty(frames, number, 4),
            like.new_empty(frames, number, 3),
            like.new_empty(frames, number),
            like.new_empty(frames, number, net.coefficients // 3, 3),
        ]
        rows = 64
        deform[(-(-number // rows), frames)](
            head.queries,
            self.record,
            head.folded.record,
            net.gammas,
            net.betas,
            net.ffn1,
            net.ffn1_b,
            net.ffn2,
            net.ffn2_b,
            net.heads1,
            net.heads1_b,
            net.small2,
            net.small2_b,
            net.sh2,
            net.sh2_b,
            head.raw,
            head.raw_sh,
            *self.gaussians,
            number,
            width=net.config.d_model,
            heads=head.folded.heads,
            layers=head.folded.layers,
            ffn=net.config.ffn_hidden,
            deep=net.config.net_width,
            coefficients=net.coefficients,
            sh_wide=net.sh_wide,
            eps=net.eps,
            kind=TYPES[head.precision],
            rows_=rows,
            num_warps=4,
            **FUSED,
        )

    def project(self) -> None:
        """The Gaussians onto the screen."""
        poses = self.given[:, POSE].long()
        inputs = [*self.gaussians, self.head.world_to_camera[poses], self.head.focal]
        self.splats = make_splats(self.splat_size, self.gaussians[0])
        project_all(self.splat_size, inputs, self.splats)

    def splat(self) -> None:
        """Blended colour and light, in parts."""
        self.project()
        splats, size = self.splats, self.splat_size
        lists = build(splats.records, splats.depths, splats.touched, self.room, size.tiles)
        tiles = size.tiles[0] * size.tiles[1]
        self.blended = splats.records.new_empty(
            self.frames, self.parts_of_a_tile, 4, size.height, size.width
        )
        blend_part[(tiles, self.frames, self.parts_of_a_tile)](
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
            **FUSED,
        )
        self.bytes[:8].view(torch.int64).copy_(splats.needed)

    def finish(self) -> None:
        """Pictures."""
        pixels, block = self.head.size**2, 1024
        finish[(-(-pixels // block), self.frames)](
            self.blended,
            self.head.plates,
            self.given,
            self.given.shape[1],
            self.bytes[HEADER:],
            pixels,
            PARTS=self.parts_of_a_tile,
            BLOCK=block,
            **FUSED,
        )


class Slot:
    """A batch, its graph, and the pinned memory that its pictures go to."""

    def __init__(self, head: GraphHead, frames: int):
        self.head, self.batch = head, Batch(head, frames)
        self.host = torch.empty(len(self.batch.bytes), dtype=torch.uint8, pin_memory=head.cuda)
        self.graph: Any = None
        self.within = frames <= COPIED_WITHIN
        self.turn = 0  # how many batches it has taken
        if not head.cuda:
            return
        self.rendered, self.copied = torch.cuda.Event(), torch.cuda.Event()
        self.batch.run()  # compiles the kernels
        self.batch.drop()
        head.stream.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with captured(self.graph, **head.pool()):
            self.batch.run()
            if self.within:
                self.host.copy_(self.batch.bytes, non_blocking=True)
        self.batch.drop()  # so that all graphs share this memory

    def give(self, rows: np.ndarray, poses: np.ndarray, expression: np.ndarray) -> None:
        """Write the inputs, once those before have been read; frames that fill up the batch repeat
        the last.
        """
        if self.graph is not None:
            self.copied.synchronize()
        self.turn += 1
        given = self.batch.host.numpy()
        frames = len(poses)
        given[:frames, :POSE], given[:frames, POSE] = rows, poses
        given[:frames, FACE:] = np.ascontiguousarray(expression, np.float32).view(np.int32)
        given[frames:] = given[frames - 1]

    def launch(self) -> None:
        """Render, then copy to the host."""
        if self.graph is None:
            self.batch.run()
            self.host.copy_(self.batch.bytes)
            return
        self.graph.replay()
        if self.within:
            self.copied.record()
            return
        self.rendered.record()
        self.head.copying.wait_event(self.rendered)
        with torch.cuda.stream(self.head.copying):
            self.host.copy_(self.batch.bytes, non_blocking=True)
            self.copied.record()

    @property
    def needed(self) -> int:
        """Pairs that the batch needed."""
        return int(self.host[:8].view(torch.int64))


class Ticket:
    """Frames that are being rendered."""

    def __init__(self, head: GraphHead, slot: Slot, frames: int):
        self.head, self.slot, self.frames, self.turn = head, slot, frames, slot.turn

    @property
    def ready(self) -> bool:
        """Whether `pictures` need not wait."""
        return self.slot.graph is None or self.slot.copied.query()

    def pictures(self) -> np.ndarray:
        """uint8 [B, S, S, 3], in memory that the batch SLOTS later takes again; waits until they
        are there.
        """
        slot = self.slot
        assert slot.turn == self.turn, (
            f"the pictures were not taken before {SLOTS} later batches of their size"
        )
        if slot.graph is not None:
            slot.copied.synchronize()
        if slot.needed > slot.batch.room:
            return self.head.again(slot, self.frames).pictures()
        size = self.head.size
        return slot.host[HEADER:].numpy().reshape(-1, size, size, 3)[: self.frames]
