"""The HTTP side of the live server against its own OpenAPI description, by schemathesis."""

from __future__ import annotations

from typing import Any

import pytest

schemathesis = pytest.importorskip("schemathesis")
LocalServer = pytest.importorskip("live_server").LocalServer

OPERATIONS = {"GET /info", "GET /health", "GET /metrics", "GET /", "POST /webrtc"}
# An offer that fits the schema is refused where its text is no SDP, and where aiortc is missing.
CONFIG = {
    "operations": [
        {
            "include-path": "/webrtc",
            "checks": {"positive_data_acceptance": {"expected-statuses": ["200", "400", "404"]}},
        }
    ]
}


@pytest.mark.slow
def test_answers_are_those_of_the_description() -> None:
    """Valid and invalid requests of all methods: no fault, no status or type that is not described.

    Without the page: its files are no part of the description.
    """
    from schemathesis.engine import events, from_schema

    with LocalServer() as server:
        config = schemathesis.config.SchemathesisConfig.from_dict(CONFIG)
        schema = schemathesis.openapi.from_url(server.http + "/openapi.json", config=config)
        tried: dict[str, int] = {}
        found: list[str] = []
        for event in from_schema(schema).execute():
            if isinstance(event, (events.NonFatalError, events.FatalError)):
                found.append(str(event))
            if isinstance(event, events.ScenarioFinished):
                tried[event.label] = tried.get(event.label, 0) + len(event.recorder.interactions)
                found += [_told(event, *item) for item in event.recorder.checks.items()]
    found = [line for line in found if line]
    assert not found, "\n".join(found)
    assert set(tried) == OPERATIONS and min(tried.values()) >= 5, tried


def _told(event: Any, case: str, checks: list[Any]) -> str:
    """The checks of a case that failed."""
    request = event.recorder.interactions[case].request
    return "; ".join(
        f"{request.method} {request.uri}: {check.failure_info.failure.title}"
        for check in checks
        if check.failure_info is not None
    )
