"""The attention network: every Gaussian's query attends to the few tokens of a frame.

Layers are post-norm transformer layers. The names of the parameters are those of GaussianTalker's
own code, so its checkpoints load. B frames, N Gaussians, S tokens, D width, H heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.config import ModelConfig
from being.model.cpu_gradients import layer_norm


class LayerNorm(nn.Module):
    """Layer normalisation with the parameter names and the epsilon of GaussianTalker's code."""

    def __init__(self, width: int, eps: float = 1e-12):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        return layer_norm(x, self.gamma, self.beta, self.eps)


class CrossAttention(nn.Module):
    """Multi-head attention: queries from Gaussians, keys and values from tokens."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.w_q, self.w_k, self.w_v, self.w_concat = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map queries [B|1, N, D] and tokens [B, S, D] to output [B, N, D], attention [B, H, N, S].

        Queries that are the same in every frame (leading 1) are projected once.
        """

        def split(x: Tensor) -> Tensor:  # [b, n, D] -> [b, H, n, D/H]
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.w_q(queries)), split(self.w_k(tokens)), split(self.w_v(tokens))
        attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return self.w_concat((attention @ v).transpose(1, 2).flatten(2)), attention


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, linear."""

    def __init__(self, width: int, hidden: int, drop: float):
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        return self.linear2(F.dropout(F.relu(self.linear1(x)), self.drop, self.training))


class AttentionLayer(nn.Module):
    """One transformer layer: attention, add, norm; feed-forward, add, norm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.enc_dec_attention = CrossAttention(config.d_model, config.n_head)
        self.norm1, self.norm2 = LayerNorm(config.d_model), LayerNorm(config.d_model)
        self.ffn = FeedForward(config.d_model, config.ffn_hidden, config.drop_prob)
        self.drop = config.drop_prob

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map queries [B|1, N, D] and tokens [B, S, D] to new queries [B, N, D].

        Also returns the attention averaged over heads, [B, N, S].
        """
        out, attention = self.enc_dec_attention(queries, tokens)
        x = self.norm1(queries + F.dropout(out, self.drop, self.training))
        x = self.norm2(x + F.dropout(self.ffn(x), self.drop, self.training))
        return x, attention.mean(1)


class Transformer(nn.Module):
    """`n_layer` attention layers, one after the other."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList(AttentionLayer(config) for _ in range(config.n_layer))

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map queries [1, N, D] and tokens [B, S, D] to features [B, N, D].

        Also returns the attention of every layer, [B, layers, N, S].
        """
        attention = []
        for layer in self.layers:
            queries, weights = layer(queries, tokens)
            attention.append(weights)
        return queries, torch.stack(attention, 1)
