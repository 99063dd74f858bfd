"""The file of the mapping from a voice to the mouth code: written whole, refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from being.bench.avatars import random_voice
from being.errors import InputRejected
from being.model.voice_to_mouth import FACTS, VOICE_FILE, VoiceToMouth


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A saved mapping with random numbers."""
    voice = random_voice(5, centres=6)
    voice.save(tmp_path / VOICE_FILE)
    return tmp_path / VOICE_FILE


def test_a_saved_mapping_comes_back(file: Path) -> None:
    assert list(file.parent.iterdir()) == [file], "no part stays"
    before = file.read_bytes()
    VoiceToMouth.load(file).save(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "facts",
    ["", "{", "[]", "[" * 99_999, "{}", '{"units": {}, "gamma": 1, "closure_step": 0}', "1" * 999],
)
def test_facts_that_do_not_fit_are_refused(file: Path, facts: str) -> None:
    save_file(load_file(file), file, {FACTS: facts})
    with pytest.raises(InputRejected, match="is no mapping"):
        VoiceToMouth.load(file)


def test_a_cut_or_altered_file_is_refused(file: Path) -> None:
    whole, tensors = file.read_bytes(), load_file(file)
    header = int.from_bytes(whole[:8], "little")
    facts = json.loads(whole[8 : 8 + header])["__metadata__"]
    for content in (b"", whole[:4], whole[:100], whole[:-1]):
        file.write_bytes(content)
        with pytest.raises(InputRejected, match="cannot be read"):
            VoiceToMouth.load(file)
    tensors["weights"] = tensors["weights"][:, 1:]
    save_file(tensors, file, facts)
    with pytest.raises(InputRejected, match="weights is"):
        VoiceToMouth.load(file)
