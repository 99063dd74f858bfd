"""The config loader: `_base_`, precedence, types, bounds, renamed keys and error messages."""

import copy
import json
import math
import pickle

import pytest
import yaml
from pydantic import ValidationError

from being.config import Config, ModelConfig, StageConfig, describe, from_dict, load
from being.config.files import CONFIG_DIR, REFERENCE_SETTINGS
from being.config.loader import RENAMED_KEYS
from being.config.schema import INTEGER_MAX
from being.errors import ExitCode, UsageError
from being.runs.run_directory import Run


@pytest.mark.parametrize("name", sorted(p.stem for p in CONFIG_DIR.glob("*.yaml")))
def test_shipped_configs_load_and_survive_a_round_trip(name):
    config = load(name, environment={})
    assert from_dict(config.to_dict()) == config


def test_the_record_config_is_the_reference_schedule():
    config = load("64_dim_1_transformer", environment={})
    # GaussianTalker drops 0.2, being nothing; its network reads audio, being's the mouth code.
    assert config.model.replace(drop_prob=0.2, mouth="audio") == ModelConfig()
    assert config.train.coarse == StageConfig(steps=7999, batch=1)
    # A quarter of GaussianTalker's fine stage; more steps gain nothing (docs/lab_log.md).
    assert config.train.fine == StageConfig(steps=2500, batch=32)


# GaussianTalker's own settings, from its config files and its code
REFERENCE = {
    "model": {
        "plane_resolution": 64,
        "plane_scales": [1, 2],
        "plane_channels": 32,
        "net_width": 128,
        "d_model": 64,
        "n_head": 2,
        "n_layer": 1,
        "ffn_hidden": 128,
        "drop_prob": 0.2,
        "sh_degree": 3,
        "mouth": "audio",
    },
    "data": {"size": 512, "expression": "blink", "initial_gaussians": 34_650},
    "train": {
        "coarse": {"steps": 7999, "batch": 1},
        "fine": {"steps": 10_000, "batch": 32},
        "mixed_precision": False,
        "lips": {"warmup_steps": 0, "closure_steps": 0},
        "augment": {"audio_features": False, "voices": 0, "silence_share": 0.0},
        "oversample": {"blink_share": 0.0, "rare_mouths": False},
        "sh_degree_every": 1000,
        "loss": {
            "l1": 0.8,
            "ssim": 0.2,
            "feature": 0.01,
            "lips": 0.4,
            "eyes": 0.0,
            "mask": 0.4,
            "plane_tv": 0.0,
        },  # plane_tv is 2e-4 in its config, but its code never uses it
        "density": {
            "start": 1000,
            "stop": 7000,
            "every": 100,
            "gradient": 0.001,
            "clone_scale": 0.01,
            "prune_start": 600,
            "prune_opacity": 0.005,
            "prune_scale": 0.1,
            "large_start": 3000,
            "limit": 50_000,
        },
        "rate": {
            "means": [1.6e-4, 1.6e-6],
            "network": [1e-4, 1e-5],
            "planes": [1.6e-3, 1.6e-4],
            "audio": 1.0,
            "sh_dc": 2.5e-3,
            "sh_rest": 1.25e-4,
            "opacity": 0.05,
            "scales": 0.005,
            "rotations": 0.001,
        },
        "checkpoint_every": 500,
        "until_plateau": False,
    },
}
# Keys of the split, the encoder, evaluation and output, and keys that another key turns off
NOT_IN_THE_REFERENCE = {
    "avatar.surround",
    "avatar.bases",
    "data.holdout",
    "data.fold",
    "data.seconds",
    "data.encoder",
    "data.bfm",
    "train.seed",
    "train.splat",
    "train.compat",
    "train.lips.true_mouth_share",
    "train.evaluate_every",
    "train.plateau.gain",
    "train.plateau.evaluations",
    "train.plateau.cool_down",
    "train.preview_seconds",
    "avatar.seconds",
    "avatar.plate_quality",
    "avatar.live_encoder",
}


def leaves(tree, prefix=""):
    """Dotted key and value of every setting of a nested dict."""
    for key, value in tree.items():
        yield from (
            leaves(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else [(f"{prefix}{key}", value)]
        )


def test_REFERENCE_SETTINGS_back_all_in_which_the_record_config_departs_from_the_reference():
    config = dict(
        leaves(load("64_dim_1_transformer", ["train.compat=reference"], environment={}).to_dict())
    )
    assert {key: value for key, value in config.items() if key not in NOT_IN_THE_REFERENCE} == dict(
        leaves(REFERENCE)
    )
    assert config["train.compat"] == "reference"
    plain = dict(leaves(load("64_dim_1_transformer", environment={}).to_dict()))
    assert set(REFERENCE_SETTINGS) <= set(plain) and any(
        plain[key] != value for key, value in REFERENCE_SETTINGS.items()
    )
    assert load("64_dim_1_transformer", ["train.compat=none"], environment={}).model.drop_prob == 0


def test_a_key_of_the_same_source_or_a_stronger_one_overrides_compat(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "_base_: 64_dim_1_transformer\ntrain: {compat: reference, loss: {feature: 0.2}}\n"
    )
    environment = {"BEING_TRAIN__COMPAT": "reference", "BEING_TRAIN__LIPS__WARMUP_STEPS": "7"}
    config = load(file, ["model.drop_prob=0.1"], environment={})
    assert (config.train.loss.feature, config.model.drop_prob, config.train.lips.warmup_steps) == (
        0.2,
        0.1,
        0,
    )
    assert (
        load(file, environment={"BEING_TRAIN__LIPS__WARMUP_STEPS": "7"}).train.lips.warmup_steps
        == 7
    )
    config = load(file, environment=environment)
    assert (config.train.loss.feature, config.train.lips.warmup_steps) == (0.01, 7), (
        "the environment overrides a file"
    )
    for order in (1, -1):
        items = ["train.compat=reference", "data.expression=full"][::order]
        config = load("quick", items, {"train.oversample.blink_share": 0.1}, environment)
        assert (
            config.data.expression,
            config.train.oversample.blink_share,
            config.train.lips.warmup_steps,
        ) == (
            "full",
            0.1,
            0,
        )
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert load(tmp_path / "run.yaml", environment={}) == config, (
        "the saved settings of a run load unchanged"
    )


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


@pytest.mark.parametrize(
    "override, hint",
    [
        ("train.fine.step=3", "train.fine.steps"),
        ("data.sise=3", "data.size"),
        ("d_model=3", "model.d_model"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(override, hint):
    with pytest.raises(UsageError, match=f"Did you mean '{hint}'") as caught:
        load(None, [override], environment={})
    assert caught.value.code == ExitCode.USAGE


WHOLE = "a whole number, at least 16 and at most 4096"
PAIR = "a list of 2 numbers, each at least 0 and finite"
SCALES = "a list of 1 to 16 whole numbers, each at least 1 and at most 64"


@pytest.mark.parametrize(
    "override, allowed",
    [
        ("data.size=big", WHOLE),
        ("data.size=1.5", WHOLE),
        ("data.size=1.0", WHOLE),
        ("data.size=true", WHOLE),
        ("data.size=null", WHOLE),
        ("data.size='64'", WHOLE),
        (f"data.size=0x{'f' * 5000}", WHOLE),
        ("train.loss.l1=true", "a number, at least 0 and finite"),
        ("train.loss.l1=.nan", "a number, at least 0 and finite"),
        ("train.loss.l1=inf", "a number, at least 0 and finite"),
        (f"train.loss.l1=1{'0' * 400}", "a number, at least 0 and finite"),
        ("train.until_plateau=1", "true or false"),
        ("data.encoder=3", "text"),
        ("model.mouth=lips", "one of code, audio"),
        ("train.compat=reverence", "one of none, reference"),
        ("train.rate.means=[1]", PAIR),
        ("train.rate.means=[1, 2, 3]", PAIR),
        ("train.rate.means=[1, true]", PAIR),
        ("train.rate.means=!!set {1, 2}", PAIR),
        ("model.plane_scales=2", SCALES),
        ("model.plane_scales=[]", SCALES),
        (f"model.plane_scales={[1] * 17}", SCALES),
        ("train.fine=3", "a mapping"),
        ("train.fine=null", "a mapping"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_its_source_and_what_is_allowed(override, allowed):
    with pytest.raises(UsageError) as refused:
        load(None, [override], environment={})
    key = override.partition("=")[0]
    assert f"'{key}' cannot be " in str(refused.value)
    assert f"it must be {allowed}; set by -o {key}=" in str(refused.value)
    assert refused.value.code == ExitCode.USAGE


def test_an_override_without_a_value_is_refused():
    with pytest.raises(UsageError, match="not of the form key.path=value"):
        load(None, ["data.size"], environment={})


def test_numbers_without_a_point_are_read_as_numbers():
    assert load(None, ["train.loss.l1=1e-3"], environment={}).train.loss.l1 == 1e-3
    l1 = load(None, ["train.loss.l1=2"], environment={}).train.loss.l1
    assert l1 == 2 and isinstance(l1, float)
    assert load(None, ["train.rate.means=[1e-4, 1e-6]"], environment={}).train.rate.means == (
        1e-4,
        1e-6,
    )


def test_a_base_is_a_file_beside_or_else_a_shipped_config(tmp_path):
    for name in ("quick", "quick.yaml"):
        (tmp_path / "own.yaml").write_text(f"_base_: {name}\ntrain: {{seed: 5}}")
        assert load(tmp_path / "own.yaml", environment={}).data.size == 256
    (tmp_path / "quick.yaml").write_text("data: {size: 64}")
    assert load(tmp_path / "own.yaml", environment={}).data.size == 64


def test_broken_files_are_refused_with_their_name(tmp_path):
    (tmp_path / "base.yml").write_text("train: {fine: 3}\nmodel: [1]")
    for name, text in {
        "a.yaml": "data: [",
        "b.yaml": "- 1",
        "c.yaml": "_base_: none.yaml",
        "d.yaml": "_base_: d.yaml",
        "f.yaml": "1: 2",
        "g.yaml": "_base_: base.yml\ntrain: {fine: {steps: 3}}",
        "h.yaml": "a: &x [*x]",
        "i.yaml": "_base_: base.yml\nmodel: {d_model: 3}",
        "j.yaml": "train.seed: 3",
        "e.yaml": "!!python/object/apply:os.system ['true']",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=name):
            load(tmp_path / name, environment={})
    with pytest.raises(UsageError, match="quick"):
        load("nowhere", environment={})


def test_gaussiantalker_python_config_is_read_without_running_it(tmp_path):
    path = tmp_path / "64.py"
    path.write_text(
        "ModelHiddenParams = dict("
        "kplanes_config={'output_coordinate_dim': 16, 'resolution': [32, 32, 32]},"
        " multires=[1, 2], n_layer=2, d_model=32)\n"
        "OptimizationParams = dict(iterations=5, batch_size=7)\n"
        "raise SystemExit('executed')\n"
    )
    config = load(path, environment={})
    assert (config.model.plane_channels, config.model.plane_resolution, config.model.n_layer) == (
        16,
        32,
        2,
    )
    assert (config.train.fine.steps, config.train.fine.batch) == (5, 7)
    path.write_text("ModelHiddenParams = dict(kplanes_config={'resolution': 32})\n")
    assert load(path, environment={}).model.plane_resolution == 32
    path.write_text("ModelHiddenParams = dict(kplanes_config={'resolution': []})\n")
    with pytest.raises(UsageError, match="plane_resolution"):
        load(path, environment={})


def test_field_docstrings_are_help_texts():
    assert ModelConfig.model_fields["n_head"].description == "Attention heads."
    with pytest.raises(
        UsageError, match="at least 0 and at most 3.*Degree of the spherical harmonics"
    ):
        load("quick", ["model.sh_degree=4"], environment={})
    assert isinstance(Config().to_dict()["train"]["rate"]["means"], list)


def test_describe_lists_every_key_with_value_help_and_bounds():
    config = load("quick", environment={})
    rows = {row.name: row for row in describe(config)}
    values = dict(leaves(config.to_dict()))
    assert list(rows) == [row.name for row in describe()], "the same keys without a config"
    assert rows.keys() == values.keys()
    for name, row in rows.items():
        value = list(row.value) if isinstance(row.value, tuple) else row.value
        assert value == values[name]
        assert row.help and "\n" not in row.help
    assert rows["model.n_head"].help == "Attention heads."
    assert rows["model.sh_degree"].bounds == (0, 3)
    assert rows["model.plane_scales"].bounds == (1, 64)
    assert rows["train.seed"].bounds == (0, math.inf)
    for name in ("data.encoder", "train.mixed_precision"):
        assert rows[name].bounds is None


def test_compat_names_existing_keys():
    assert set(REFERENCE_SETTINGS) <= {row.name for row in describe()}


def test_every_number_is_refused_just_outside_its_bounds():
    """The values at the bounds are taken, unless the widths of the model then contradict."""
    for name, value, _, limits in describe():
        if limits is None:
            continue
        whole = isinstance(value[0] if isinstance(value, tuple) else value, int)
        highest = INTEGER_MAX if whole and limits[1] == math.inf else limits[1]
        step = 1 if whole else 1e-3
        inside = [limits[0], *([highest] if highest < math.inf else [])]
        outside = [limits[0] - step, highest + step]
        for number in [*inside, *outside]:
            given = [number] * len(value) if isinstance(value, tuple) else number
            try:
                load(None, flags={name: given}, environment={})
                refused = ""
            except UsageError as error:
                refused = str(error)
            wrong = f"config key '{name}' cannot be" in refused
            assert wrong == (number in outside), (name, number, refused)
            assert not refused or wrong or "model.d_model" in refused


def test_a_section_is_frozen_checked_copied_and_pickled():
    config = load("quick", environment={})
    with pytest.raises(ValidationError):
        config.train.seed = 3
    other = config.train.replace(seed=3)
    assert (other.seed, config.train.seed) == (3, 0) and other.replace(seed=0) == config.train
    for changes in ({"seed": -1}, {"sead": 1}, {"seed": True}):
        with pytest.raises(ValidationError):
            config.train.replace(**changes)
    assert pickle.loads(pickle.dumps(config)) == config == copy.deepcopy(config)
    assert hash(config) == hash(load("quick", environment={}))


def test_every_renamed_key_points_at_an_existing_key():
    known = {row.name for row in describe()}
    assert set(RENAMED_KEYS.values()) <= known and not set(RENAMED_KEYS) & known


def nested(key, value):
    """The nested dict that sets one dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_an_old_key_is_refused_with_its_new_name(old, tmp_path):
    new = RENAMED_KEYS[old]
    message = f"{old} is now {new}".replace(".", r"\.")
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(nested(old, 1)))
    with pytest.raises(UsageError, match=message + ".*old.yaml"):
        load(file, environment={})
    with pytest.raises(UsageError, match=message + f".*set by -o {old}=1"):
        load("quick", [f"{old}=1"], environment={})
    variable = "BEING_" + old.upper().replace(".", "__")
    with pytest.raises(UsageError, match=message + f".*{variable}"):
        load("quick", environment={variable: "1"})
    with pytest.raises(UsageError, match=message):
        load("quick", flags={old: 1}, environment={})

    # The same for the config of an old run.
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"schema": 1, "dataset": "data"}))
    (run / "config.yaml").write_text(yaml.safe_dump(nested(old, 1)))
    with pytest.raises(UsageError, match=message + ".*config.yaml") as caught:
        Run.open(run).config  # noqa: B018
    assert caught.value.code == ExitCode.USAGE


def test_several_old_keys_are_refused_in_one_message(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text("data: {gaussians: 100}\ntrain: {closing: 5, rate: {sound: 0.1}}\n")
    with pytest.raises(UsageError) as refused:
        load(file, environment={})
    for old in ("data.gaussians", "train.closing", "train.rate.sound"):
        assert f"{old} is now {RENAMED_KEYS[old]}" in str(refused.value)


def test_a_width_that_the_tri_planes_do_not_give_is_refused():
    with pytest.raises(UsageError, match="tri-planes give 32 features"):
        load("quick", ["model.plane_channels=16"], environment={})
