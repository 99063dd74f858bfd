"""The hub is asked only when nothing forbids it."""

from __future__ import annotations

import pytest

from being.assets.cache import OFFLINE_SWITCHES
from being.assets.hub import local_first


@pytest.mark.parametrize("switch", OFFLINE_SWITCHES)
def test_each_switch_keeps_the_hub_out(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def load(local: bool) -> str:
        asked.append(local)
        if local:
            raise OSError("not in the cache")
        return "from the hub"

    for name in OFFLINE_SWITCHES:
        monkeypatch.delenv(name, raising=False)
    assert local_first(load) == "from the hub" and asked == [True, False]
    asked.clear()
    monkeypatch.setenv(switch, "1")
    with pytest.raises(OSError):
        local_first(load)
    assert asked == [True]
