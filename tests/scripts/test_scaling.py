"""The arithmetic of docs/scaling.md: its table is what the script computes from the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import scaling

MEASUREMENTS = Path(__file__).resolve().parents[2] / "docs" / "measurements.md"


def test_the_table_of_the_page_is_what_the_script_computes() -> None:
    page = scaling.DOC.read_text(encoding="utf-8")
    assert page == scaling.with_table(page), "run: python -m scripts.scaling --write"
    assert f"| sessions of pixels an H200 | {scaling.pixel_sessions_a_gpu()} |" in page


def test_measured_inputs_stand_on_the_measurements_page() -> None:
    page = MEASUREMENTS.read_text(encoding="utf-8")
    assert "fronts 605 s" in page and "150,109 pictures" in page
    assert f"| {scaling.RENDER_SESSIONS_A_GPU} |" in page
    assert f"{scaling.VIDEO_BITS_S / 1e6:.2f} Mbit/s" in page


def test_by_hand() -> None:
    """One session of pixels: 1.53 Mbit/s of video, half of 384 kbit/s, 50 headers of 24 bytes."""
    pixels = scaling.ways()[0]
    assert pixels.bits_s == pytest.approx(1_529_350 + 192_000 + 9_600)
    found = scaling.row(1000, pixels)
    assert found.gpus == 11  # 1000 / (0.8 * 114)
    assert found.machine_usd == pytest.approx(11 * 7.912 / 1000)
    month_gb = 1000 * pixels.bits_s / 8 * 3600 * 730 / 1e9
    tiers = 10_240 * 0.09 + 40_960 * 0.085 + 102_400 * 0.07 + (month_gb - 153_600) * 0.05
    assert found.egress_usd == pytest.approx(tiers / 730_000)
