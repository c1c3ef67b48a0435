"""A run's settings: defaults as Calico's, files before defaults, options before files, and nothing unknown."""

import json

import pytest

from kipoi_borzoi.errors import ConfigError, InputError
from kipoi_borzoi.tracks import read_tracks
from kipoi_borzoi.training.config import RunConfig, choose_folds, read_config, write_config
from kipoi_borzoi.training.table import write_table

CALICO = {
    "train": {
        "batch_size": 2, "shuffle_buffer": 64, "optimizer": "adam", "learning_rate": 1e-4, "loss": "poisson_mn",
        "total_weight": 0.3, "warmup_steps": 500, "global_clipnorm": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.99,
        "patience": 7, "train_epochs_min": 4, "train_epochs_max": 30,
    },
    "transfer": {"mode": "adapter", "adapter": "lora", "adapter_latent": 4},
    "model": {
        "seq_length": 128, "augment_rc": True, "augment_shift": 2, "activation": "gelu", "norm_type": "batch",
        "trunk": [{"name": "conv_dna", "filters": 4}, {"name": "transformer_tower", "key_size": 4, "repeat": 1}],
        "head": {"name": "final", "units": 2, "activation": "softplus"},
    },
}  # fmt: skip


def write(path, text):
    path.write_text(text)
    return path


def test_files_go_before_defaults_and_options_before_files(tmp_path):
    params = write(tmp_path / "params.json", json.dumps(CALICO))
    run = write(tmp_path / "run.yaml", "learning_rate: 3e-4\npatience: 2\ntrain: [a, b]\n")
    config = read_config(run, {"patience": 1, "seed": None}, params)
    assert (config.method, config.settings) == ("lora", {"rank": 4, "alpha": 16})
    assert (config.batch_size, config.total_weight, config.warmup_steps, config.epochs_max) == (2, 0.3, 500, 30)
    assert (config.beta_1, config.beta_2, config.augment_shift, config.augment_rc) == (0.8, 0.99, 2, True)
    assert (config.learning_rate, config.patience, config.train, config.seed) == (3e-4, 1, ("a", "b"), 0)
    other = read_config(None, {"method": "linear"}, params)
    assert other.method == "linear" and other.settings == {}


def test_what_is_written_is_read_back(tmp_path):
    config = RunConfig("houlsby", {"latent": 4}, train=("x",), learning_rate=1e-5, global_clipnorm=None)
    write_config(tmp_path / "run.yaml", config)
    assert read_config(tmp_path / "run.yaml") == config
    assert read_config(write(tmp_path / "empty.yaml", "")) == RunConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metod: locon", "unknown setting 'metod'"),
        ("method: lokon", "unknown method 'lokon'"),
        ("settings: {rnk: 3}", "unknown setting 'rnk'"),
        ("patience: -1", "patience is -1"),
        ("batch_size: 1.5", "batch_size is 1.5"),
        ("learning_rate: fast", "learning_rate is 'fast'"),
        ("learning_rate: .nan", "learning_rate is nan"),
        ("beta_1: 2", "up to 1"),
        ("precision: float16", "precision is 'float16'"),
        ("dropout: 0.2", "expected true or false"),
        ("train: [a, a]", "has a name twice"),
        ("train: 3", "expected a list of names"),
        ("weight_range: 0.5", "weight_range"),
        ("epochs_min: 60", "more than epochs_max"),
        ("seed: 1\nseed: 2", "given twice"),
        ("- 1", "expected keys and values"),
        ("a: [", "not valid YAML"),
        ("cache_trunk: true", "for the method linear"),
        ("{method: linear, cache_trunk: true}", "augment_rc, augment_shift, dropout off"),
    ],
)
def test_what_is_not_understood_is_refused(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(write(tmp_path / "run.yaml", text))
    assert "run.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer 'sgd' is not supported"),
        ({"loss": "mse"}, "loss 'mse'"),
        ({"loss": None}, "loss None"),
        ({"agc_clip": 0.1}, "agc_clip"),
        ({"learning_rat": 1}, "unknown setting 'learning_rat'"),
    ],
)
def test_what_calicos_params_ask_for_in_vain_is_refused(change, message, tmp_path):
    params = write(tmp_path / "params.json", json.dumps({**CALICO, "train": {**CALICO["train"], **change}}))
    with pytest.raises(ConfigError, match=message):
        read_config(params=params)


def test_calicos_own_files_are_accepted(shared_data):
    found = {path.stem: read_config(params=path) for path in (shared_data / "transfer_params").glob("*.json")}
    assert {config.method for config in found.values()} == {"full", "linear", "lora", "ia3", "locon", "houlsby", "houlsby_se"}
    assert found["borzoilite_locon4"].warmup_steps == 20_000 and found["borzoilite_locon4"].learning_rate == 1e-4


def test_settings_that_depend_on_method_and_data():
    assert RunConfig("full").resolved(100).learning_rate == 1e-5
    config = RunConfig("lora").resolved(100)
    assert (config.learning_rate, config.warmup_steps, config.settings) == (6e-5, 500, {"rank": 8, "alpha": 16})
    assert RunConfig("lora").resolved(10**6).warmup_steps == 20_000
    assert RunConfig("lora", warmup_steps=7).resolved(10**6).warmup_steps == 7


def test_a_warm_up_longer_than_the_run_is_said(caplog):
    RunConfig("lora", warmup_steps=20_000).resolved(10)
    assert "the warm-up of 20000 steps is longer than the whole training (50 epochs of 10 steps)" in caplog.text


@pytest.mark.parametrize(
    ("folds", "given", "expected"),
    [
        (("train", "valid", "test"), {}, (("train",), ("valid",), ("test",))),
        (("train", "valid"), {}, (("train",), ("valid",), ())),
        (("f0", "f1", "f2", "f3"), {}, (("f0", "f1"), ("f2",), ("f3",))),
        (("f0", "f1", "f2", "f3"), {"test": "f0", "valid": ["f1"]}, (("f2", "f3"), ("f1",), ("f0",))),
        (("f0", "f1", "f2"), {"train": ["f2"]}, (("f2",), ("f0",), ("f1",))),
        (("f0", "f1"), {"train": ["f0"]}, (("f0",), ("f1",), ())),
        (("f0", "f1"), {}, (("f0",), ("f1",), ())),
    ],
)
def test_folds_are_chosen(folds, given, expected):
    chosen = choose_folds(RunConfig(**given), folds)
    assert tuple(chosen.values()) == expected


@pytest.mark.parametrize(
    ("folds", "given", "message"),
    [
        (("a",), {}, "no fold is left"),
        (("a", "b"), {"train": "c"}, "no fold 'c'; its folds: a, b"),
        (("a", "b", "c"), {"train": ["a", "b"], "valid": "b"}, "'b' is named for train and for valid"),
    ],
)
def test_folds_that_cannot_be_chosen(folds, given, message):
    with pytest.raises(ConfigError, match=message):
        choose_folds(RunConfig(**given), folds)


def test_a_written_table_is_read_back(tmp_path):
    from training_cases import some_tracks

    tracks = some_tracks(4, [1, 0, 2, 3]).select(["t2", "t1", "t0"])
    write_table(tmp_path / "targets.txt", tracks)
    again = read_tracks(tmp_path / "targets.txt", units=3)
    assert list(again.identifiers) == ["t2", "t1", "t0"] and again.strand_pair.tolist() == [0, 2, 1]
    assert again.clip.tolist() == [float("inf")] * 3 and list(again.descriptions) == list(tracks.descriptions)
    with pytest.raises(InputError, match="tab"):
        write_table(tmp_path / "x.txt", type(tracks)(**{**vars(tracks), "descriptions": ("a\tb", "", "")}))
