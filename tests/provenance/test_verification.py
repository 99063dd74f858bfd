"""Marks of written files are read back, signatures hold, and what was changed is seen."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from program import being as program
from signing_chain import write_chain

from being.data.consent import consent_note
from being.errors import BeingError, InputRejected, UsageError
from being.inference.i420 import VIDEO_COLOURS, i420_bytes, write_i420
from being.media import VideoSettings, VideoWriter
from being.media.live_video import mark_json, new_encoder
from being.media.png_sequence import PngSequenceWriter
from being.media.writing import sidecar_of
from being.provenance import content_credentials
from being.provenance.content_credentials import (
    CERTIFICATE,
    KEY,
    configured_key,
    read_credentials,
    read_key,
)
from being.provenance.file_marks import file_marks
from being.provenance.mark import Mark, identity_of, parse_mark
from being.provenance.verification import verify
from being.provenance.watermark import KEY_VARIABLE, Watermark
from being.provenance.watermark_pattern import PUBLIC_KEY

SIDE, FRAMES = 256, 5
CONSENT = {"confirmed": True, "statement": "my own face"}
IDENTITY = "5a" * 32
MANIFEST = {
    "name": "Zoë",
    "encoder": "hama",
    "consent": CONSENT,
    "files": {"model.safetensors": IDENTITY},
}
WRITTEN = [
    ("a.mp4", VideoSettings()),
    ("a.mov", VideoSettings()),
    ("p.mov", VideoSettings("prores")),
    ("a.mkv", VideoSettings()),
    ("a.webm", VideoSettings()),
]


@pytest.fixture(autouse=True)
def public_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (KEY_VARIABLE, CERTIFICATE, KEY):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, chain: dict[str, Path]) -> dict[str, Path]:
    """One signed and marked video of each type of file, and a folder of pictures."""
    folder, found = tmp_path_factory.mktemp("written"), {}
    key = read_key(chain["chain"], chain["key"])
    mark = Mark.of(MANIFEST, Watermark(IDENTITY, PUBLIC_KEY))
    tone = (0.1 * np.sin(np.arange(16_000 // 5) * 0.3)).astype(np.float32)
    for name, settings in WRITTEN:
        marks = file_marks(mark, key)
        with VideoWriter(folder / name, SIDE, SIDE, 25, tone, 16_000, settings, marks) as video:
            for frame in frames(mark):
                video.write(frame)
        found[name] = folder / name
    with PngSequenceWriter(folder / "png", tone, 16_000, file_marks(mark, key)) as pictures:
        for frame in frames(mark):
            pictures.write(frame)
    return {**found, "png": folder / "png"}


def frames(mark: Mark) -> Iterator[np.ndarray]:
    y, x = np.mgrid[:SIDE, :SIDE]
    assert mark.watermark is not None
    for k in range(FRAMES):
        grey = 120 + 40 * np.sin((x + k) / 31) + 30 * np.cos(y / 23)
        image = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
        yield mark.watermark.marked(image)


def states(path: Path, **options: Any) -> dict[str, str]:
    return {f.mark: f.state for f in verify(path, PUBLIC_KEY, **options).findings}


@pytest.mark.parametrize("name", [*(name for name, _ in WRITTEN), "png"])
def test_every_file_says_it_in_metadata_signature_and_pixels(
    written: dict[str, Path], name: str
) -> None:
    verdict = verify(written[name], PUBLIC_KEY)
    assert verdict.ai_generated and verdict.intact, verdict
    found = {finding.mark: finding for finding in verdict.findings}
    facts = found["metadata"].facts
    assert facts["avatar"] == {"name": "Zoë", "id": IDENTITY}
    assert facts["consent"] == {"given": True, "note": consent_note(CONSENT)}
    assert facts["model"]["name"] == "GaussianTalker" and facts["made"].endswith("+00:00")
    assert facts["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    signed = found["content credentials"]
    assert signed.state == "holds" and signed.ai_generated and signed.facts["mark"] == facts
    assert "Test signer" in signed.text and "on no list" in signed.text
    assert (
        found["watermark"].state == "holds" and "as the other marks say" in found["watermark"].text
    )
    beside = name in ("a.webm", "a.mkv")
    assert sidecar_of(written[name]).is_file() == beside
    assert ("beside the file" in signed.text) == beside


def test_the_sound_of_a_folder_says_it_too(written: dict[str, Path]) -> None:
    verdict = verify(written["png"] / "audio.wav", PUBLIC_KEY)
    assert verdict.ai_generated and {f.state for f in verdict.findings} == {"holds"}
    picture = Image.open(written["png"] / "000002.png")
    assert "trainedAlgorithmicMedia" in picture.info["XML:com.adobe.xmp"]


@pytest.mark.parametrize("name", ["a.mp4", "p.mov", "a.webm", "png"])
def test_one_flipped_byte_of_the_medium_is_seen(
    written: dict[str, Path], name: str, tmp_path: Path
) -> None:
    source = written[name] if name != "png" else written[name] / "000000.png"
    content = bytearray(source.read_bytes())
    marker = {"a.webm": b"\x1f\x43\xb6\x75", "png": b"IDAT"}.get(name, b"mdat")
    at = content.rindex(marker) + 2000
    content[at] ^= 1
    copy = tmp_path / source.name
    copy.write_bytes(content)
    if name == "a.webm":
        copy.with_suffix(".c2pa").write_bytes(sidecar_of(source).read_bytes())
    found = read_credentials(copy)
    assert found is not None and found.state == "Invalid"
    assert any("ismatch" in code for code in found.failures), found
    if name != "png":
        assert states(copy)["content credentials"] == "broken"


def test_the_list_of_roots_decides_whether_a_signer_is_trusted(
    written: dict[str, Path], chain: dict[str, Path], tmp_path: Path
) -> None:
    found = read_credentials(written["a.mp4"], chain["root"])
    assert found is not None and found.state == "Trusted" and not found.failures
    (tmp_path / "other").mkdir()
    other = write_chain(tmp_path / "other")
    found = read_credentials(written["a.mp4"], other["root"])
    assert found is not None and found.state == "Valid"
    with pytest.raises(InputRejected, match="is missing"):
        read_credentials(written["a.mp4"], tmp_path / "none.pem")


def test_a_key_is_refused_before_the_long_work(
    chain: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured_key() is None
    monkeypatch.setenv(CERTIFICATE, str(chain["chain"]))
    with pytest.raises(UsageError, match=f"{KEY} is not set"):
        configured_key()
    monkeypatch.setenv(KEY, str(chain["key"]))
    found = configured_key()
    assert found is not None and found.algorithm == "ES256"
    (tmp_path / "other").mkdir()
    monkeypatch.setenv(KEY, str(write_chain(tmp_path / "other")["key"]))
    with pytest.raises(UsageError, match="does not belong to"):
        configured_key()
    monkeypatch.setenv(KEY, str(chain["root"]))
    with pytest.raises(InputRejected, match="root.pem cannot be read"):
        configured_key()
    monkeypatch.setattr(content_credentials, "status", lambda: "no such package")
    with pytest.raises(BeingError, match="cannot be signed: no such package"):
        configured_key()


def test_a_recorded_stream_says_it_in_each_picture(tmp_path: Path) -> None:
    for codec, suffix in (("h264", ".h264"), ("jpeg", ".jpg")):
        encoder, i420 = new_encoder(codec, SIDE, SIDE), np.zeros(i420_bytes(SIDE), np.uint8)
        write_i420(np.full((SIDE, SIDE, 3), 120, np.uint8), i420, VIDEO_COLOURS)
        units = [
            encoder.encode(i420, k == 0, mark_json("Zoë", True, 960 * k, IDENTITY))[0]
            for k in range(3 if codec == "h264" else 1)
        ]
        file = tmp_path / f"stream{suffix}"
        file.write_bytes(b"".join(units))
        found = {f.mark: f for f in verify(file, PUBLIC_KEY, pixels=False).findings}
        assert found["stream"].state == "holds" and found["stream"].ai_generated
        assert f"{len(units)} of {len(units)} pictures" in found["stream"].text
        assert found["stream"].facts["first"]["id"] == IDENTITY[:16]


def test_the_watermark_of_another_avatar_is_told(written: dict[str, Path], tmp_path: Path) -> None:
    other = Mark.of({**MANIFEST, "files": {"model.safetensors": "c3" * 32}}, None)
    shown = frames(Mark.of(MANIFEST, Watermark(IDENTITY, PUBLIC_KEY)))
    with VideoWriter(tmp_path / "a.mp4", SIDE, SIDE, marks=file_marks(other)) as video:
        for frame in shown:
            video.write(frame)
    found = states(tmp_path / "a.mp4")
    assert found["watermark"] == "broken" and found["content credentials"] == "absent"


def test_the_command_says_what_holds_and_its_exit_code(
    written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = program("verify", str(written["a.mp4"]))
    assert result.exit_code == 0 and result.stdout.count(" holds ") == 3, result
    facts = json.loads(program("verify", str(written["a.mp4"]), "--json").stdout)
    assert facts["ok"] and facts["ai_generated"] and facts["intact"] and len(facts["marks"]) == 4

    # Nothing says so.
    Image.fromarray(np.full((SIDE, SIDE), 90, np.uint8)).save("plain.png")
    result = program("verify", "plain.png", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 5 and not facts["ok"] and facts["intact"]
    assert [mark["state"] for mark in facts["marks"]] == ["absent"] * 3

    # Files of other kinds, and broken ones.
    Path("a.txt").write_text("no video")
    Path("b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("c.json").write_text("[1]")
    Path("folder").mkdir()
    for name in ("a.txt", "b.png", "c.json", "folder", "none.mp4"):
        result = program("verify", name)
        assert result.exit_code == 4 and "internal error" not in result.stderr, (name, result)
    Path("session.json").write_text(json.dumps({**Mark.of(MANIFEST, None).facts(), "session": "x"}))
    assert program("verify", "session.json").exit_code == 0


def test_marks_of_foreign_files_are_read_with_care(tmp_path: Path) -> None:
    for text in ('{"ai_generated"', '{"ai_generated":false}', '{"ai_generated":true' + "[" * 9000):
        assert parse_mark(text) is None
    mark = parse_mark('words {"ai_generated":true,"avatar":[1],"consent":"x\\u001b[31m"}')
    assert mark is not None
    file = tmp_path / "session.json"
    file.write_text(json.dumps(mark))
    (found,) = verify(file, PUBLIC_KEY).findings
    assert found.state == "holds" and "avatar ?" in found.text
    for files in (None, [], {"model.safetensors": 3}, {"model.safetensors": "x" * 64}):
        assert identity_of({"files": files}) == ""
    assert os.path.getsize(file) > 0
