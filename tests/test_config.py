"""The config loader: bases, precedence, types, errors that point at the way out."""

import dataclasses
import typing

import pytest

from being.config import Config, ModelConfig, StageConfig, field_help, from_dict, load
from being.config_files import CONFIG_DIR
from being.errors import ExitCode, UsageError


@pytest.mark.parametrize("name", sorted(p.stem for p in CONFIG_DIR.glob("*.yaml")))
def test_shipped_configs_load_and_survive_a_round_trip(name):
    config = load(name, environment={})
    assert from_dict(config.to_dict()) == config


def test_the_record_config_is_the_reference_schedule():
    config = load("64_dim_1_transformer", environment={})
    assert dataclasses.replace(config.model, drop_prob=0.2) == ModelConfig()  # of the reference; ours drops nothing
    assert config.train.coarse == StageConfig(7999, 1)
    assert config.train.fine == StageConfig(10_000, 32)


def test_precedence_flag_over_override_over_environment_over_file_over_base(tmp_path):
    (tmp_path / "base.yaml").write_text("data: {size: 100, encoder: base}\ntrain: {seed: 1}")
    (tmp_path / "own.yaml").write_text("_base_: base.yaml\ndata: {size: 200}")
    environment = {"BEING_DATA__SIZE": "300", "BEING_HOME": "elsewhere"}
    assert load(tmp_path / "own.yaml", environment={}).data.size == 200
    assert load(tmp_path / "own.yaml", environment={}).data.encoder == "base"
    assert load(tmp_path / "own.yaml", environment=environment).data.size == 300
    assert load(tmp_path / "own.yaml", ["data.size=400"], environment=environment).data.size == 400
    flags = {"data.size": 500, "train.seed": None}
    config = load(tmp_path / "own.yaml", ["data.size=400"], flags, environment)
    assert (config.data.size, config.train.seed) == (500, 1)


@pytest.mark.parametrize("override, hint", [
    ("train.fine.step=3", "train.fine.steps"), ("data.sise=3", "data.size"), ("d_model=3", "model.d_model")])
def test_an_unknown_key_suggests_the_nearest(override, hint):
    with pytest.raises(UsageError, match=f"Did you mean '{hint}'") as caught:
        load(None, [override], environment={})
    assert caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize("override", ["data.size=big", "train.rate.means=[1]", "train.fine=3", "data.size=1.5",
                                      "model.plane_scales=2", "data.size"])
def test_values_of_the_wrong_type_are_refused(override):
    with pytest.raises(UsageError):
        load(None, [override], environment={})


def test_numbers_without_a_point_are_read_as_numbers():
    assert load(None, ["train.rate.means=[1e-4, 1e-6]"], environment={}).train.rate.means == (1e-4, 1e-6)


def test_broken_files_are_refused_with_their_name(tmp_path):
    for name, text in {"a.yaml": "data: [", "b.yaml": "- 1", "c.yaml": "_base_: none.yaml", "d.yaml": "_base_: d.yaml",
                       "e.yaml": "!!python/object/apply:os.system ['true']"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=name):
            load(tmp_path / name, environment={})
    with pytest.raises(UsageError, match="quick"):
        load("nowhere", environment={})


def test_gaussiantalker_python_config_is_read_without_running_it(tmp_path):
    path = tmp_path / "64.py"
    path.write_text("ModelHiddenParams = dict(kplanes_config={'output_coordinate_dim': 16, 'resolution': [32, 32, 32]},"
                    " multires=[1, 2], n_layer=2, d_model=32)\nOptimizationParams = dict(iterations=5, batch_size=7)\n"
                    "raise SystemExit('executed')\n")
    config = load(path, environment={})
    assert (config.model.plane_channels, config.model.plane_resolution, config.model.n_layer) == (16, 32, 2)
    assert (config.train.fine.steps, config.train.fine.batch) == (5, 7)
    path.write_text("ModelHiddenParams = dict(kplanes_config={'resolution': 32})\n")
    assert load(path, environment={}).model.plane_resolution == 32
    path.write_text("ModelHiddenParams = dict(kplanes_config={'resolution': []})\n")
    with pytest.raises(UsageError, match="plane_resolution"):
        load(path, environment={})


def test_field_docstrings_are_help_texts():
    assert field_help(ModelConfig)["n_head"] == "Attention heads."
    with pytest.raises(UsageError, match="at least 0 and at most 3.*Degree of the spherical harmonics"):
        load("quick", ["model.sh_degree=4"], environment={})
    sections = [Config]
    for section in sections:
        for name, kind in typing.get_type_hints(section).items():
            if dataclasses.is_dataclass(kind):
                sections.append(kind)
            else:
                assert field_help(section).get(name), f"{section.__name__}.{name} has no help"
    assert isinstance(Config().to_dict()["train"]["rate"]["means"], list)
