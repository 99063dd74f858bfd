"""Counters of all front processes, for Prometheus."""

from __future__ import annotations

import os

# Where the processes keep their counters; the supervisor sets it before anything is counted.
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
LATENESS_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0)
FIRST_BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0, 5.0)


class Metrics:
    """The counters of this process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()
        self._registry = registry
        self.sessions = Gauge(
            "being_sessions",
            "Sessions that run.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.frames = Counter(
            "being_frames_sent", "Pictures and coefficients of frames sent.", registry=registry
        )
        self.dropped = Counter(
            "being_frames_dropped", "Pictures left out because they were late.", registry=registry
        )
        self.shed = Counter(
            "being_frames_shed", "Pictures left out for slow clients.", registry=registry
        )
        self.interrupts = Counter("being_interrupts", "Interrupts.", registry=registry)
        self.refused = Counter(
            "being_sessions_refused", "Sessions refused.", ["code"], registry=registry
        )
        self.errors = Counter(
            "being_errors", "Errors told to clients.", ["code"], registry=registry
        )
        self.drawn_seconds = Counter(
            "being_drawn_seconds",
            "Processor time for sessions whose clients draw: speech encoder, coefficient net, "
            "sending.",
            ["part"],
            registry=registry,
        )
        self.lateness = Histogram(
            "being_frame_lateness_seconds",
            "Time from a picture's due time until it was handed to the socket.",
            buckets=LATENESS_BUCKETS,
            registry=registry,
        )
        self.first_sound = Histogram(
            "being_first_sound_seconds",
            "Time from a text to its first audible sound.",
            buckets=FIRST_BUCKETS,
            registry=registry,
        )

    def text(self) -> bytes:
        """The counters of all processes in the Prometheus format."""
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        if not os.environ.get(DIRECTORY):
            return bytes(generate_latest(self._registry))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return bytes(generate_latest(registry))


def forget_process(pid: int) -> None:
    """Take a process that has ended out of the gauges."""
    if os.environ.get(DIRECTORY):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid)
