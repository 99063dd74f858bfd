"""Machines, bandwidth and cost up to 100,000 live sessions: the table of docs/scaling.md.

    python -m scripts.scaling            # prints the table, as Markdown
    python -m scripts.scaling --write    # puts it into docs/scaling.md

Every input is measured (docs/measurements.md), exact, cited, or named as a goal or an assumption.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

DOC = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- table: python -m scripts.scaling --write -->", "<!-- end of the table -->"
SESSIONS = (1, 10, 100, 1_000, 10_000, 100_000)

FPS = 25
# Measured on one H200 with 16 cores, 100 sessions for 60 s: fronts 605 s, 150,109 pictures.
FRONT_S_A_PICTURE = 605 / 150_109
# Measured: most sessions that the engine renders on one H200 with p99 within 40 ms.
RENDER_SESSIONS_A_GPU = 268
# Measured: the built-in clip through the encoder of live sessions, 512², 500 pictures.
VIDEO_BITS_S = 1_529_350
# Exact: PCM of 24,000 samples of 16 bits; silence has no samples.
SOUND_BITS_S = 24_000 * 16
# Exact: 20 bytes of header and 4 of WebSocket a packet, a picture and a sound each 40 ms.
HEADER_BITS_S = 2 * FPS * (20 + 4) * 8
# The figure for a frame of coefficients; not measured.
COEFFICIENT_BYTES = 200
# A goal; not measured.
COEFFICIENT_SESSIONS_A_GPU = 1_000
# Cited: AWS p5en.48xlarge, on demand, us-east-1: 8 H200, 192 vCPU.
MACHINE_USD_H, GPUS_A_MACHINE, CORES_A_MACHINE = 63.296, 8, 192
# Cited: AWS, data out to the internet: up to these GB a month, USD a GB.
EGRESS_USD_GB = ((10_240, 0.09), (51_200, 0.085), (153_600, 0.07), (math.inf, 0.05))
# Assumptions.
LOAD = 0.5  # of the front cores and of the GPU: at two thirds p99 was missed
FILL = 0.8  # of the places that are taken, where replicas come and go (TARGET_SHARE)
SPEECH = 0.5  # of the time that the avatar speaks
HOURS_A_MONTH = 730


@dataclass(frozen=True)
class Way:
    """What a session costs when the server sends pixels, or coefficients."""

    name: str
    sessions_a_gpu: int
    bits_s: float  # that the server sends a session


@dataclass(frozen=True)
class Row:
    """A number of sessions, one way."""

    sessions: int
    way: Way
    gpus: int
    gbit_s: float
    machine_usd: float  # a session-hour
    egress_usd: float  # a session-hour


def pixel_sessions_a_gpu() -> int:
    """Sessions of one H200 with its share of the machine's cores, one of which renders."""
    cores = CORES_A_MACHINE / GPUS_A_MACHINE - 1
    by_fronts = LOAD * cores / (FPS * FRONT_S_A_PICTURE)
    return math.floor(min(by_fronts, LOAD * RENDER_SESSIONS_A_GPU))


def ways() -> tuple[Way, Way]:
    """Pixels, and coefficients."""
    sound = SPEECH * SOUND_BITS_S + HEADER_BITS_S
    return (
        Way("pixels", pixel_sessions_a_gpu(), VIDEO_BITS_S + sound),
        Way("coefficients", COEFFICIENT_SESSIONS_A_GPU, COEFFICIENT_BYTES * 8 * FPS + sound),
    )


def egress_usd(gigabytes: float) -> float:
    """The price of so much data a month."""
    total, below = 0.0, 0.0
    for limit, price in EGRESS_USD_GB:
        total += price * max(0.0, min(gigabytes, limit) - below)
        below = limit
    return total


def row(sessions: int, way: Way) -> Row:
    """The arithmetic of so many sessions at a time, all day."""
    gpus = math.ceil(sessions / (FILL * way.sessions_a_gpu))
    gigabytes = sessions * way.bits_s / 8 * 3600 * HOURS_A_MONTH / 1e9
    return Row(
        sessions,
        way,
        gpus,
        sessions * way.bits_s / 1e9,
        gpus * MACHINE_USD_H / GPUS_A_MACHINE / sessions,
        egress_usd(gigabytes) / (sessions * HOURS_A_MONTH),
    )


def table() -> str:
    """The table, as Markdown."""
    lines = [
        "| sessions at a time | sent | H200 | machines of 8 | Gbit/s out | "
        "USD a session-hour: GPU | data out | together |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way in ways():
        for sessions in SESSIONS:
            found = row(sessions, way)
            cells = [
                f"{sessions:,}",
                way.name,
                f"{found.gpus:,}",
                f"{math.ceil(found.gpus / GPUS_A_MACHINE):,}",
                f"{found.gbit_s:.3g}",
                f"{found.machine_usd:.4f}",
                f"{found.egress_usd:.4f}",
                f"{found.machine_usd + found.egress_usd:.4f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """The text of the page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def main() -> None:
    """Print or write the table; see the module."""
    if "--write" in sys.argv[1:]:
        DOC.write_text(with_table(DOC.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
