"""The web bundle that a server offers is made once for each content of an avatar."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from web_avatar import random_bases, write_web_avatar

from being.errors import BeingError
from being.interop.web.cached import cached_bundle
from being.interop.web.exporter import is_web_export
from being.model.avatar_writing import add_bases


def test_a_bundle_is_made_once_and_anew_for_other_bases(tmp_path: Path) -> None:
    avatar, cache = tmp_path / "avatar", tmp_path / "cache"
    write_web_avatar(avatar, gaussians=60)
    first = cached_bundle(avatar, cache)
    assert first is not None and is_web_export(first.parent)
    made = (first / "manifest.json").stat().st_mtime_ns
    assert cached_bundle(avatar, cache) == first
    assert (first / "manifest.json").stat().st_mtime_ns == made

    # One that was damaged is made again.
    (first / "manifest.json").unlink()
    assert cached_bundle(avatar, cache) == first and (first / "manifest.json").is_file()

    torch.manual_seed(5)
    add_bases(avatar, random_bases(60, 3), {})
    other = cached_bundle(avatar, cache)
    assert other is not None and other != first
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        [first.parent.name, other.parent.name]
    )


def test_an_avatar_without_bases_has_none(tmp_path: Path) -> None:
    from tiny_avatar import write_tiny_avatar

    assert (
        cached_bundle(write_tiny_avatar(tmp_path / "avatar", "hama", 10), tmp_path / "cache")
        is None
    )
    assert not (tmp_path / "cache").exists()


def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    avatar, cache = tmp_path / "avatar", tmp_path / "cache"
    write_web_avatar(avatar, gaussians=60)
    (avatar / "bases.safetensors").write_bytes(b"damaged")
    with pytest.raises(BeingError) as caught:
        cached_bundle(avatar, cache)
    assert "bases.safetensors" in str(caught.value)
    assert not list(cache.iterdir())
