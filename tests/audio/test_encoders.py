"""Encoders by name: transformers models, features from files, and features added to a dataset."""

from __future__ import annotations

import json
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from program import being, refused

from being import assets
from being.audio import clip_features, encoder_interface, encoder_names, encoders
from being.audio.feature_files import read_feature_file
from being.conventions import SAMPLE_RATE
from being.data.dataset import Dataset
from being.errors import BeingError, EnvironmentFault, InputRejected, UsageError
from being.preprocess.speech_features import (
    FeatureChoice,
    add_features,
    choose_features,
    feature_entry,
)
from being.preprocess.workspace import digest_of

transformers = pytest.importorskip("transformers")
TINY = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=1,
    num_conv_pos_embedding_groups=2,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No network, and no encoder from another test."""
    monkeypatch.setenv("BEING_OFFLINE", "1")
    encoders.load_encoder.cache_clear()
    yield
    encoders.load_encoder.cache_clear()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of tiny random models; the real loading code reads them."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
        for name, model in {
            "eo": transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(vocab_size=44, **TINY)),
            "other": transformers.Wav2Vec2ForCTC(
                transformers.Wav2Vec2Config(vocab_size=32, **TINY)
            ),
            "hubert": transformers.HubertModel(
                transformers.HubertConfig(**{**TINY, "hidden_size": 1024})
            ),
            "text": transformers.BertModel(
                transformers.BertConfig(
                    hidden_size=8,
                    num_hidden_layers=1,
                    num_attention_heads=1,
                    intermediate_size=8,
                    vocab_size=9,
                )
            ),
        }.items():
            model.save_pretrained(folder / name)
            extractor.save_pretrained(folder / name)
    return folder


@pytest.fixture
def cache(monkeypatch, tmp_path, models):
    """A cache folder with the two known models."""
    monkeypatch.setenv("BEING_CACHE", str(tmp_path / "cache"))
    assets.cache_folder().mkdir()
    shutil.copytree(models / "eo", assets.cache_folder() / "wav2vec2-eo")
    shutil.copytree(models / "hubert", assets.cache_folder() / "hubert")
    return assets.cache_folder()


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=round(seconds * SAMPLE_RATE))).astype(
        np.float32
    )


@pytest.mark.parametrize(("name", "width"), [("wav2vec2-eo", 44), ("hubert", 1024), ("eo", 44)])
def test_known_models_are_taken_from_our_cache_at_their_width(cache, name, width):
    got = clip_features.encode_frames(noise(1.3), 33, name)
    assert got.shape == (33, 16, width) and got.dtype == np.float32 and np.isfinite(got).all()
    # Zeros at the clip's ends only.
    assert not got[0, :8].any() and not got[32, 10:].any() and got[0, 8:].any(-1).all()


def test_any_model_and_layer_can_be_named_by_its_folder(models):
    folder = models / "eo"
    for layer, width in (("", 16), (":last", 16), (":logits", 44), (":0", 16), (":2", 16)):
        found = encoders.load_encoder(f"{folder}{layer}")
        assert found.width == width and found.encode_clip(noise(0.5)).shape == (25, width)
    hidden = [encoders.load_encoder(f"{folder}:{k}").encode_clip(noise(0.5)) for k in (0, 1)]
    assert not np.allclose(*hidden)


def test_the_transformers_library_gives_the_same_logits(models):
    """Against transformers' own extractor and model on one piece padded as ours."""
    audio = noise(1.0)
    model = transformers.Wav2Vec2ForCTC.from_pretrained(models / "eo").eval()
    values = transformers.Wav2Vec2FeatureExtractor.from_pretrained(models / "eo")(
        audio, sampling_rate=SAMPLE_RATE, return_tensors="pt"
    ).input_values
    with torch.inference_mode():
        expected = model(torch.nn.functional.pad(values, (40, 40))).logits[0].numpy()
    got = encoders.load_encoder(f"{models / 'eo'}:logits").encode_clip(audio)
    assert got.shape == expected.shape == (50, 44) and np.allclose(got, expected, atol=1e-4)


def test_a_transformers_step_is_at_the_time_of_its_audio(models):
    """10 ms of reversed audio change the output at their own time, to within a step."""
    found = encoders.load_encoder(f"{models / 'eo'}:0")
    quiet = noise(2.0)
    for start in (SAMPLE_RATE, SAMPLE_RATE + 4000):
        clicked = quiet.copy()
        clicked[start : start + 160] = clicked[start : start + 160][::-1]
        error = np.square(found.encode_clip(clicked) - found.encode_clip(quiet)).sum(1)
        change = error * (error > 0.3 * error.max())
        middle = (change * (np.arange(100) + 0.5) / 50).sum() / change.sum()
        assert abs(middle - (start + 80) / SAMPLE_RATE) < 0.03


def test_transformers_models_can_stream(models):
    from being.audio.feature_stream import StepStream

    audio = noise(1.0)
    stream = StepStream(str(models / "eo"), "low")
    steps = np.concatenate([*(stream.push(part) for part in np.split(audio, 20)), stream.finish()])
    assert np.allclose(
        steps, encoders.load_encoder(f"{models / 'eo'}@low").encode_clip(audio), atol=1e-4
    )


def test_wrong_names_and_models_are_refused_with_the_reason(models, cache, tmp_path):
    for name, kind, match in (
        ("hamma", UsageError, "Did you mean 'hama'"),
        ("hama@lo", UsageError, "Did you mean 'low'"),
        (str(models / "text"), InputRejected, "does not encode speech"),
        (f"{models / 'eo'}:9", UsageError, "it has 2"),
        (f"{models / 'hubert'}:logits", InputRejected, "lacks weights"),
        ("someone/no-such-model", EnvironmentFault, "cannot be had"),
    ):
        with pytest.raises(kind, match=match):
            encoders.load_encoder(name)
    shutil.rmtree(cache / "wav2vec2-eo")
    with pytest.raises(EnvironmentFault, match="wav2vec2-eo"):
        encoders.load_encoder("wav2vec2-eo")
    shutil.copytree(models / "other", cache / "wav2vec2-eo")
    with pytest.raises(InputRejected, match="32 wide.*expected 44"):
        encoders.load_encoder("wav2vec2-eo")
    (cache / "hubert" / "config.json").write_text("{")
    with pytest.raises(BeingError):
        encoders.load_encoder("hubert")


def test_feature_files_are_read_clamped_and_checked(tmp_path):
    file = tmp_path / "aud_ds.npy"
    values = np.random.default_rng(0).normal(size=(50, 16, 29))
    np.save(file, values)
    for frames in (48, 50, 52):
        got = read_feature_file(file, frames, 29)
        assert got.dtype == np.float32 and np.allclose(
            got, values[np.minimum(np.arange(frames), 49)]
        )
    wrong = {
        "long": (values, 47),
        "narrow": (values[..., :28], 50),
        "transposed": (values.swapaxes(1, 2), 50),
        "flat": (values[0], 1),
        "numbers": (values.astype(int), 50),
        "not numbers": (np.where(values > 2, np.nan, values), 50),
        "empty": (values[:0], 0),
    }
    for name, (array, frames) in wrong.items():
        np.save(file, array)
        with pytest.raises(InputRejected):
            read_feature_file(file, frames, 29)
            raise AssertionError(name)
    file.write_bytes(b"\x93NUMPY")
    with pytest.raises(InputRejected, match="cannot be read"):
        read_feature_file(file, 50)
    with pytest.raises(UsageError, match="not computed from audio"):
        clip_features.encode_frames(noise(1), 25, "deepspeech")


def test_features_are_added_to_a_dataset_with_width_and_digest(scene, models, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(scene, folder)
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["steps"] = {"speech": {"digest": "old"}}
    (folder / "dataset.json").write_text(json.dumps(manifest))
    frames = manifest["frames"]
    name, width = add_features(folder, f"{models / 'eo'}:logits", "low")
    assert name == f"{models / 'eo'}:logits@low" and width == 44
    np.save(tmp_path / "ds.npy", np.ones((frames - 1, 16, 29), np.float32))
    assert add_features(folder, f"deepspeech={tmp_path / 'ds.npy'}") == ("deepspeech", 29)
    opened = Dataset.open(folder)
    assert opened.features("deepspeech").shape == (frames, 16, 29)
    assert (folder / "aud_ds.npy").is_file() and opened.features(name).shape == (frames, 16, 44)
    assert opened.manifest["steps"]["speech"]["digest"] == digest_of(folder, ("aud_*.npy",))
    assert set(manifest["features"]) < set(opened.manifest["features"])
    np.save(tmp_path / "ds.npy", np.ones((frames - 9, 16, 29), np.float32))
    with pytest.raises(InputRejected, match="rows"):
        add_features(folder, f"deepspeech={tmp_path / 'ds.npy'}")
    assert opened.features("deepspeech").shape == (
        frames,
        16,
        29,
    )


def test_the_choice_of_features_is_checked_before_any_work(tmp_path):
    with pytest.raises(InputRejected, match="is not there"):
        choose_features("deepspeech", None, tmp_path)
    with pytest.raises(UsageError, match="no latency"):
        choose_features("deepspeech", "low", tmp_path)
    with pytest.raises(UsageError, match="read from a file"):
        choose_features("hama=x.npy", None, tmp_path)
    np.save(tmp_path / "aud_ds.npy", np.zeros((3, 16, 29), np.float32))
    assert choose_features("deepspeech", None, tmp_path) == FeatureChoice(
        "deepspeech", tmp_path / "aud_ds.npy"
    )


def test_every_name_has_its_own_file_name_that_any_disk_accepts(models):
    names = [
        "hama",
        "hama@low",
        "hama@stream",
        "wav2vec2-eo",
        "wav2vec2-eo@low",
        "hubert",
        "deepspeech",
        "facebook/wav2vec2-base",
        "facebook/wav2vec2-base:7",
        "facebook/wav2vec2-base:logits@low",
        str(models / "eo"),
        f"{models / 'eo'}:1",
        f"{models / 'eo'}@low",
    ]
    files = [encoder_names.feature_file_name(name) for name in names]
    assert len(set(files)) == len(files) and all(
        set(file) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._") for file in files
    ), files


def test_the_command_adds_features_and_refuses_what_is_wrong_before_work(
    scene, models, tmp_path, monkeypatch
):
    folder = tmp_path / "data"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(scene, folder)
    result = being(
        "data", "features", folder, "--encoder", models / "eo", "--latency", "stream", "--json"
    )
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["encoder"] == f"{models / 'eo'}@stream" and answer["width"] == 16
    refused(
        2,
        "Did you mean|no speech encoder",
        "data",
        "features",
        folder,
        "--encoder",
        "hubart",
        watch=(folder,),
    )
    refused(
        2,
        "no latency",
        "data",
        "features",
        folder,
        "--encoder",
        models / "eo",
        "--latency",
        "slow",
        watch=(folder,),
    )
    refused(
        3, "cannot be had", "data", "features", folder, "--encoder", "wav2vec2-eo", watch=(folder,)
    )
    refused(
        4, "is not there", "data", "features", folder, "--encoder", "deepspeech", watch=(folder,)
    )


def test_preprocess_writes_the_default_features_and_those_asked_for(models, tmp_path, monkeypatch):
    from being import media
    from being.preprocess import steps

    class Loud(encoder_interface.PieceEncoder):
        name, width = "hama", 3

        def encode_pieces(self, pieces):
            return np.repeat(np.abs(pieces).reshape(len(pieces), -1, 320).mean(2)[..., None], 3, 2)

    monkeypatch.setitem(encoders.ENCODERS, "hama", Loud)
    media.write_wav(tmp_path / "aud.wav", noise(1.0))
    chosen = choose_features(str(models / "eo"), "low", tmp_path)
    settings = steps.Settings(features=chosen)
    work = SimpleNamespace(
        folder=tmp_path, settings=settings, record=SimpleNamespace(segments=[(0, 25)], frames=25)
    )
    steps.encode_speech(work, lambda count: None)
    assert [choice.name for choice in settings.all_features] == ["hama", f"{models / 'eo'}@low"]
    assert [feature_entry(tmp_path, choice)["width"] for choice in settings.all_features] == [3, 16]
    assert steps._speech_settings(work) == [chosen.name, None]
    assert steps.Settings().all_features == [FeatureChoice("hama")]
