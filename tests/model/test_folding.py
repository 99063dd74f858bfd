"""Folding: folded attention and records equal the attention and the tokens of torch."""

import pytest
import torch
from tiny_avatar import POSES, WIDTH, tiny_avatar

from being.audio.feature_windows import attention_windows
from being.data.conditions import Conditions
from being.model.attention import CrossAttention
from being.model.folding import TOKENS, attention_maps, fold, fold_tokens, token_records

LOG2_E = 1.4426950408889634


@pytest.fixture
def attention() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(12, 3).requires_grad_(False)


def test_folded_tokens_give_the_attention_of_torch(attention):
    queries, tokens = torch.randn(1, 9, 12), torch.randn(2, 4, 12)
    expected, shares = attention(queries, tokens)
    a, c, u = fold_tokens(attention, tokens)
    logits = torch.einsum("nd,bdhs->bhns", queries[0], a) + c[:, :, None]
    assert torch.allclose(logits.softmax(3), shares, atol=1e-6)
    assert torch.allclose(torch.einsum("bhns,bhsd->bnd", shares, u), expected, atol=1e-6)


@pytest.mark.parametrize("unit", [1.0, LOG2_E])
def test_the_affine_map_gives_the_folded_tokens(attention, unit):
    tokens = torch.randn(2, 4, 12)
    a, c, u = fold_tokens(attention, tokens)
    weight, bias = attention_maps(attention, unit)
    t = tokens.double()
    mapped_a = torch.einsum("bsi,idh->bdhs", t, weight.a) + bias.a[..., None]
    mapped_c = torch.einsum("bsi,ih->bhs", t, weight.c) + bias.c[:, None]
    mapped_u = torch.einsum("bsi,ihd->bhsd", t, weight.u) + bias.u[:, None]
    for mapped, folded in ((mapped_a, unit * a), (mapped_c, unit * c), (mapped_u, u)):
        assert torch.allclose(mapped, folded.double(), atol=1e-5)


@pytest.mark.parametrize(("layers", "channels"), [(1, 1), (2, 5)])
def test_records_hold_the_folded_tokens_of_every_layer(tmp_path, layers, channels):
    network = tiny_avatar(tmp_path, 10, layers=layers, channels=channels).model.network
    camera, poses = torch.randn(POSES, 12), torch.tensor([0, 3, 1])
    windows = attention_windows(torch.randn(3, 16, WIDTH), torch.arange(3))
    expression = torch.rand(3, channels)
    with torch.no_grad():
        tokens = network.tokens(Conditions(windows, expression, camera[poses]))

    folded = fold(network, camera)
    records = token_records(folded, windows.swapaxes(2, 3), expression, poses)
    width, both = folded.width, folded.heads * TOKENS
    for layer, record in zip(network.transformer.layers, records.chunk(layers, 1), strict=True):
        parts = record.split([width * both, both, both * width], 1)
        expected = fold_tokens(layer.enc_dec_attention, tokens)
        heads = layer.enc_dec_attention.heads
        found = (
            parts[0].view(3, width, folded.heads, TOKENS)[:, :, :heads],
            parts[1].view(3, folded.heads, TOKENS)[:, :heads],
            parts[2].view(3, folded.heads, TOKENS, width)[:, :heads],
        )
        for one, other in zip(found, expected, strict=True):
            assert (one - other).norm() < 1e-5 * other.norm()
