"""Attention of every Gaussian's query over the few tokens of a frame (post-norm transformer layer)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.config import ModelConfig


class LayerNorm(nn.Module):
    """Layer normalisation with the reference's names and epsilon."""

    def __init__(self, width: int, eps: float = 1e-12):
        super().__init__()
        self.gamma, self.beta, self.eps = (
            nn.Parameter(torch.ones(width)),
            nn.Parameter(torch.zeros(width)),
            eps,
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta, self.eps)


class CrossAttention(nn.Module):
    """Multi-head attention, queries from Gaussians, keys and values from tokens."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.w_q, self.w_k, self.w_v, self.w_concat = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B|1, N, D], tokens [B, S, D] -> output [B, N, D], attention [B, H, N, S].

        Queries that are the same in every frame are projected once and broadcast over B.
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
        self.linear1, self.linear2, self.drop = (
            nn.Linear(width, hidden),
            nn.Linear(hidden, width),
            drop,
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        return self.linear2(F.dropout(F.relu(self.linear1(x)), self.drop, self.training))


class AttentionLayer(nn.Module):
    """Attention, add, norm; feed-forward, add, norm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.enc_dec_attention = CrossAttention(config.d_model, config.n_head)
        self.norm1, self.norm2 = LayerNorm(config.d_model), LayerNorm(config.d_model)
        self.ffn = FeedForward(config.d_model, config.ffn_hidden, config.drop_prob)
        self.drop = config.drop_prob

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B|1, N, D], tokens [B, S, D] -> new queries [B, N, D], attention averaged over
        heads [B, N, S].
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
        """Queries [1, N, D], tokens [B, S, D] -> features [B, N, D], attention [B, layers, N, S]."""
        attention = []
        for layer in self.layers:
            queries, weights = layer(queries, tokens)
            attention.append(weights)
        return queries, torch.stack(attention, 1)
