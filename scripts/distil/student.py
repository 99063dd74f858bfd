"""The network that is distilled: two blocks of the phoneme conformer, made causal.

It starts with the conformer's own weights. Three things differ: attention reads the last
`MEMORY` steps instead of the whole piece, the depthwise convolutions read `AHEAD` later steps
instead of 15, and a small head gives the articulation channels, for which the conformer needs its
two other blocks. `being.audio.causal_conformer` computes the same step by step in numpy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from being.audio.causal_conformer import AHEAD, BLOCKS, HEAD_KERNEL, HEAD_WIDTH, MEMORY
from being.audio.conformer_shape import HEADS
from being.audio.phoneme_conformer import Attention, Block, Conformer

ARTICULATION = 2


class CausalBlock(Block):
    """A conformer block whose attention and convolution read a bounded stretch, [B, S, C]."""

    def __init__(self, width: int, inner: int, kernel: int, ahead: int):
        super().__init__(width, inner, kernel)
        self.ahead = ahead

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.ffn1(x)
        x = x + self._attend(self.attn, self.attn_norm(x))
        x = x + self._convolve(x)
        x = x + 0.5 * self.ffn2(x)
        return self.norm(x)

    def _attend(self, attention: Attention, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        split = attention.in_proj(x).view(batch, steps, 3, HEADS, width // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        back = torch.arange(steps)[:, None] - torch.arange(steps)
        read = F.scaled_dot_product_attention(
            query, key, value, attn_mask=(back >= 0) & (back < MEMORY)
        )
        return attention.out_proj(read.transpose(1, 2).reshape(batch, steps, width))

    def _convolve(self, x: Tensor) -> Tensor:
        conv = self.conv
        x = F.glu(conv.pointwise1(conv.norm(x).transpose(1, 2)), dim=1)
        # Taps that lie further ahead are left out: the kernel has kernel // 2 + 1 + ahead taps.
        kernel = conv.depthwise.weight[..., : conv.depthwise.kernel_size[0] // 2 + 1 + self.ahead]
        past = kernel.shape[2] - 1 - self.ahead
        x = F.conv1d(F.pad(x, (past, self.ahead)), kernel, conv.depthwise.bias, groups=x.shape[1])
        return conv.pointwise2(F.silu(x)).transpose(1, 2)


class Student(nn.Module):
    """Log-mel [B, 80, 2 S + 1] -> hidden states [B, S, 144], articulation logits [B, S, 2]."""

    def __init__(self, teacher: Conformer):
        super().__init__()
        bands, inner = teacher.subsample.in_channels, teacher.blocks[0].ffn1.fc1.out_features
        kernel = teacher.blocks[0].conv.depthwise.kernel_size[0]
        self.subsample = nn.Conv1d(bands, teacher.width, 3, stride=2)
        self.blocks = nn.ModuleList(
            CausalBlock(teacher.width, inner, kernel, ahead) for ahead in AHEAD[:BLOCKS]
        )
        self.head = nn.Conv1d(teacher.width, HEAD_WIDTH, HEAD_KERNEL)
        self.head_out = nn.Linear(HEAD_WIDTH, ARTICULATION)
        self.subsample.load_state_dict(teacher.subsample.state_dict())
        for block, taught in zip(self.blocks, teacher.blocks, strict=False):
            block.load_state_dict(taught.state_dict())

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        x = F.gelu(self.subsample(mel), approximate="tanh").transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        history = F.pad(x.transpose(1, 2), (HEAD_KERNEL - 1, 0))
        read = F.silu(self.head(history)).transpose(1, 2)
        return x, self.head_out(read)
