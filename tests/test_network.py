"""No command connects to anything that its help does not name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from needs import load_or_skip
from network import BlockedNetwork
from program import being
from tiny_home import TINY, grey_clip, hum

from being import assets
from being.config.files import set_key

# onnxruntime's telemetry looks its collector up 8 s after the start.
WAIT_S = 14
OPEN_SESSION = """
import time
from onnx import TensorProto, helper
{load}
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
model.ir_version = 8
onnxruntime.InferenceSession(model.SerializeToString())
time.sleep({wait})
"""
DOOR = "from being.onnx_runtime import load_onnxruntime; onnxruntime = load_onnxruntime()"
COMMAND = """
import sys, time
from being.cli.app import app
try:
    app({arguments!r})
except SystemExit as end:
    code = end.code
time.sleep({wait})
sys.exit(code)
"""


@pytest.fixture
def network(tmp_path: Path) -> BlockedNetwork:
    return BlockedNetwork(tmp_path)


def test_the_watch_sees_look_ups_and_connections(network: BlockedNetwork) -> None:
    network.run(
        "import socket\n"
        "place, datagram = ('127.0.0.1', 9), socket.socket(type=socket.SOCK_DGRAM)\n"
        "for connect in (lambda: socket.create_connection(('example.invalid', 80)),\n"
        "                lambda: socket.socket().connect(place),\n"
        "                lambda: datagram.sendto(b'x', place)):\n"
        "    try: connect()\n"
        "    except OSError: pass\n"
    )
    assert [line.split()[0] for line in network.attempts] == ["getaddrinfo", "connect", "sendto"]


def test_onnxruntime_is_loaded_without_its_telemetry(network: BlockedNetwork) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    done = network.run(OPEN_SESSION.format(load=DOOR, wait=WAIT_S), BEING_OFFLINE="")
    assert done.returncode == 0, done.stderr
    assert not network.attempts
    assert not list((network.log.parent / "home").rglob("*onnxruntime*")), "a device id is kept"


@pytest.mark.parametrize("switch", ["BEING_OFFLINE", "HF_HUB_OFFLINE"])
def test_a_name_of_the_hub_is_looked_for_on_this_machine_first(
    switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from being.assets.hub import local_first

    monkeypatch.delenv("BEING_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    asked: list[bool] = []

    def load(local: bool) -> str:
        asked.append(local)
        if local:
            raise OSError("not here")
        return "fetched"

    assert local_first(load) == "fetched" and asked == [True, False]
    monkeypatch.setenv(switch, "1")
    asked.clear()
    with pytest.raises(OSError, match="not here"):
        local_first(load)
    assert asked == [True]


@pytest.mark.parametrize(
    "command, words",
    [
        ("preprocess", "fetched|hub"),
        ("data features", "fetched|hub"),
        ("data import", "fetched"),
        ("import-checkpoint", "fetched"),
        ("train", "fetched|Weights"),
        ("render", "fetched"),
        ("tts-video", "fetched|online"),
        ("bench-fps", "fetched"),
        ("eval", "fetched|Download"),
        ("demo", "fetched"),
        ("assets pull", "fetched"),
    ],
)
def test_the_help_names_what_a_command_connects_to(command: str, words: str) -> None:
    text = " ".join(being(*command.split(), "--help").output.split())
    assert all(word in text for word in words.split("|")), text


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["tts-video", "--text", "Hello"],
        ["render", "--audio", "tone.mp4"],
        ["export", "--onnx"],
        ["demo", "--config", "tiny.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_with_cached_files_connects_to_nothing(
    command: list[str], network: BlockedNetwork, home: Path, speech_encoder: None
) -> None:
    """Until 60 s after the command has ended."""
    for name in ("face_landmarker", "selfie_segmentation", "hama", "lpips_alex", "lpips_vgg16"):
        load_or_skip(lambda name=name: assets.fetch(name))
    grey_clip(Path("tone.mp4"), 0.4, hum(0.4))
    tree: dict[str, Any] = {}
    for setting in TINY:
        key, _, value = setting.partition("=")
        set_key(tree, key, yaml.safe_load(value), setting)
    Path("tiny.yaml").write_text(yaml.safe_dump(tree))
    program = COMMAND.format(arguments=command, wait=60)
    done = network.run(program, BEING_OFFLINE="", BEING_CACHE=str(assets.cache_folder()))
    assert done.returncode in (0, 5), done.stderr  # 5: the lips of so short a training
    assert not network.attempts
