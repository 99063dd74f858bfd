"""Checks that the packages of the extra `serve` are installed."""

from __future__ import annotations

from being.errors import EnvironmentFault


def check_server_packages(what: str = "the live server") -> None:
    """Raise EnvironmentFault where packages that `what` needs are missing."""
    from being.api.readiness import missing_packages

    if missing := missing_packages():
        raise EnvironmentFault(
            f"{what} is not installed",
            f"these packages are missing: {', '.join(missing)}",
            "pip install 'being[serve]'",
        )
