"""Calico's params are read strictly, understood as Calico's code does, and written back."""

import copy
import json
import logging
import math

import pytest
from network_cases import CASES, CONV_DNA, CONV_NAC, CROP, HEAD, TOWER, TRANSFORMER, UNET, borzoi_like, make_params

from kipoi_borzoi.errors import ConfigError
from kipoi_borzoi.network.config import NetworkConfig, read_params
from kipoi_borzoi.network.layout import Layout
from kipoi_borzoi.network.schema import weight_shapes

PUBLISHED = {
    "model": {
        "seq_length": 524288, "activation": "gelu", "norm_type": "batch-sync", "bn_momentum": 0.9,
        "trunk": [
            {"name": "conv_dna", "filters": 512, "kernel_size": 15, "norm_type": None, "activation": "linear",
             "pool_size": 2},
            {"name": "res_tower", "filters_init": 608, "filters_end": 1536, "divisible_by": 32, "kernel_size": 5,
             "num_convs": 1, "pool_size": 2, "repeat": 6},
            {"name": "transformer_tower", "key_size": 64, "heads": 8, "num_position_features": 32, "dropout": 0.2,
             "repeat": 8},
            {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
            {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
            {"name": "Cropping1D", "cropping": 16},
            {"name": "conv_nac", "filters": 1920, "dropout": 0.1},
        ],
        "head_human": {"name": "final", "units": 7611, "activation": "softplus"},
        "head_mouse": {"name": "final", "units": 2608, "activation": "softplus"},
    }
}  # fmt: skip


def read(params):
    return NetworkConfig.from_params(params)


def changed(params, **settings):
    """The params with settings of the model section replaced."""
    return {"model": {**params["model"], **settings}}


# What is understood


def test_published_borzoi():
    config = read(PUBLISHED)
    assert (config.seq_length, config.bins, config.bin_size, config.crop) == (524288, 16352, 32, 16)
    assert [head.key for head in config.heads] == ["human", "mouse"]
    assert config.trunk[1].level_filters() == [608, 736, 896, 1056, 1280, 1536]
    sizes = [math.prod(shape) for shape in weight_shapes(config.with_heads("human")).values()]
    assert sum(sizes) == 185_917_723
    assert sum(sizes) - sum(math.prod(shape) for shape in weight_shapes(config.with_heads()).values()) == 1921 * 7611
    lengths = [unit.out_length for unit in config.layout.units]
    assert lengths == [262144, 131072, 65536, 32768, 16384, 8192, *[4096] * 9, 8192, 16384, 16352, 16352]
    assert [unit.skip_from for unit in config.layout.units if unit.skip_from] == [6, 5]


def test_shared_copy_of_the_published_params(shared_data):
    config = read(shared_data / "borzoi" / "params_pred.json")
    assert weight_shapes(config) == weight_shapes(read(PUBLISHED))
    assert (config.crop, config.trunk[0].norm_type, config.trunk[2].mha_l2_scale) == (16, None, 1e-8)


def test_every_shared_params_file(shared_data):
    paths = [*shared_data.glob("transfer_params/*.json"), *shared_data.glob("*/params.json")]
    assert len(paths) > 10
    for path in paths:
        assert read(path).bins > 0


def test_training_crop_keeps_the_weights():
    config, training = read(PUBLISHED), read(PUBLISHED).with_crop(5120)
    assert (training.bins, training.crop, training.bin_size) == (6144, 5120, 32)
    assert training.bins * training.bin_size == 196_608
    assert weight_shapes(training) == weight_shapes(config)


@pytest.mark.parametrize(
    ("settings", "filters"),
    [
        ({"filters_init": 32, "filters_end": 64, "repeat": 3}, [32, 45, 64]),  # 32 * sqrt(2) = 45.25
        ({"filters_init": 40, "filters_end": 64, "repeat": 6, "divisible_by": 8}, [40, 40, 48, 56, 56, 64]),
        ({"filters_init": 10, "filters_mult": 1.5, "repeat": 3}, [10, 15, 22]),  # 22.5 rounds to even
        ({"filters_init": 12, "filters_mult": 1, "repeat": 1, "divisible_by": 8}, [16]),  # 1.5 rounds to 2
    ],
)
def test_filters_of_a_tower(settings, filters):
    config = read(make_params(CONV_DNA, {"name": "res_tower", "pool_size": 1, **settings}))
    assert config.trunk[1].level_filters() == filters


def test_shared_settings_reach_blocks_that_do_not_override_them():
    blocks = [{"name": "conv_nac", "filters": 4}, {"name": "conv_nac", "filters": 4, "norm_type": "layer",
              "activation": "relu"}, {"name": "conv_nac", "norm_type": None, "activation": None}]  # fmt: skip
    config = read(make_params(*blocks, bn_momentum=0.7, l2_scale=1e-4, kernel_initializer="lecun_normal"))
    assert [block.norm_type for block in config.trunk] == ["batch", "layer", None]
    assert [block.activation for block in config.trunk] == ["gelu", "relu", "linear"]
    assert {block.bn_momentum for block in config.trunk} == {0.7}
    assert {part.l2_scale for part in (*config.trunk, *config.heads)} == {1e-4}
    assert {part.kernel_initializer for part in (*config.trunk, *config.heads)} == {"lecun_normal"}


def test_absent_shared_settings_leave_calicos_defaults():
    params = {
        "model": {
            "seq_length": 64,
            "activation": None,
            "trunk": [{"name": "conv_nac"}, {"name": "conv_nac", "activation": "tanh"}],
        }
    }
    config = read(params)
    assert (config.activation, config.heads) == ("linear", ())
    assert [block.activation for block in config.trunk] == ["relu", "tanh"]
    assert config.trunk[0].norm_type is None and config.trunk[0].bn_momentum == 0.99


def test_heads_are_numbered_in_natural_order():
    config = read(borzoi_like(head10=HEAD, head9=HEAD, head_b=HEAD, head=HEAD))
    assert [head.name for head in config.heads] == ["head", "head9", "head10", "head_b"]
    assert [head.key for head in config.heads] == ["", "9", "10", "b"]


def test_a_head_is_chosen_by_either_name():
    config = read(PUBLISHED)
    assert config.head("mouse") is config.head("head_mouse") is config.heads[1]
    assert config.with_heads("mouse").head() is config.heads[1]
    assert read(borzoi_like()).head().units == 3


def test_the_model_section_may_stand_alone():
    assert read(PUBLISHED["model"]) == read(PUBLISHED)


def test_bins_of_other_windows_and_crops():
    config = read(borzoi_like())
    assert (config.bins, config.bin_size, config.crop) == (122, 2, 3)
    assert (config.with_seq_length(64).bins, config.with_seq_length(64).seq_length) == (26, 64)
    assert (config.with_crop(0).bins, config.with_crop(63).bins) == (128, 2)
    without = read(make_params(CONV_DNA))
    assert (without.crop, without.bins, without.with_crop(4).bins, without.with_crop(4).crop) == (0, 64, 56, 4)


# What is written back


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name):
    config = read(CASES[name])
    written = json.loads(json.dumps(config.to_params()))
    again = read(written)
    assert again == config
    assert again.to_params() == written
    assert weight_shapes(again) == weight_shapes(config)


def test_round_trip_of_a_config_with_other_heads_crop_and_window():
    config = read(PUBLISHED).with_heads("mouse").with_crop(5120).with_seq_length(393216)
    again = read(config.to_params())
    assert again == config and again.bins == 12288 - 10240
    assert [head.name for head in again.heads] == ["head_mouse"]


def test_written_params_do_not_lean_on_defaults():
    config = NetworkConfig(64, (read(make_params(CONV_DNA)).trunk[0],), (), "relu")
    assert read(config.to_params()) == config


def test_configs_are_values():
    config = read(PUBLISHED)
    assert config == read(copy.deepcopy(PUBLISHED)) and hash(config) == hash(read(PUBLISHED))
    assert config != config.with_crop(0)
    with pytest.raises(AttributeError):
        config.seq_length = 5


# What is refused

BAD_MODELS = {
    "no window": ({"seq_length": None}, r"model: seq_length is None, expected int"),
    "window as text": ({"seq_length": "524288"}, r"model: seq_length is '524288', expected int"),
    "window of 0": ({"seq_length": 0}, r"model: seq_length is 0, expected 1 or more"),
    "window is true": ({"seq_length": True}, r"seq_length is True, expected int"),
    "window with a fraction": ({"seq_length": 64.5}, r"seq_length is 64\.5, expected int"),
    "trunk is no list": ({"trunk": {"name": "conv_dna"}}, "'trunk' must be a list of one block or more"),
    "empty trunk": ({"trunk": []}, "'trunk' must be a list of one block or more"),
    "block is no object": ({"trunk": ["conv_dna"]}, "trunk block 0 is not an object with a 'name'"),
    "block without a name": ({"trunk": [CONV_DNA, {"filters": 3}]}, "trunk block 1 is not an object with a 'name'"),
    "name is no text": ({"trunk": [{"name": ["conv_dna"]}]}, r"trunk block 0 is \['conv_dna'\], which is not supported"),
    "activation": ({"activation": "swish"}, "activation is 'swish'; supported: linear, relu, gelu"),
    "norm": ({"norm_type": "group"}, r"trunk block 1 \(res_tower\): norm_type is 'group'; supported: batch, batch-sync, layer, null"),
    "initializer": ({"kernel_initializer": "he"}, "kernel_initializer is 'he'; supported: glorot_normal"),
    "padding": ({"padding": "valid"}, "model: padding = 'valid' is not supported"),
    "l1 of everything": ({"l1_scale": 0.1}, r"model: l1_scale = 0\.1 is not supported"),
    "momentum": ({"bn_momentum": 1.5}, r"bn_momentum is 1\.5, expected 0 to 1"),
    "head is no object": ({"head": 5}, "head: only a head that is one 'final' block is supported"),
    "head of another block": ({"head": {"name": "dense_block", "units": 2}}, "head: only a head that is one 'final'"),
    "head of two blocks": ({"head_human": [CONV_NAC, HEAD]}, "head_human: a head of 2 blocks is not supported"),
    "head without units": ({"head": {"name": "final"}}, "head: units must be given"),
    "head of no units": ({"head": {**HEAD, "units": 0}}, "head: units is 0, expected 1 or more"),
    "head that flattens": ({"head": {**HEAD, "flatten": True}}, "head: flatten is not supported"),
    "head with exact gelu": ({"head": {"name": "final", "units": 2}}, "head: activation is 'gelu'; supported: linear, relu"),
    "head with an unknown option": ({"head": {**HEAD, "bias": 1}}, "head: unknown option 'bias'; known: "),
    "odd name of a head": ({"head/human": HEAD}, "'head/human': the name of a head may hold only letters"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_model_section(name):
    settings, message = BAD_MODELS[name]
    with pytest.raises(ConfigError, match=rf"^params: .*{message}"):
        read(changed(make_params(CONV_DNA, TOWER), **settings))


BAD_BLOCKS = {
    "unknown block": ({"name": "conv_block"}, r"block 2 is 'conv_block', which is not supported; known: conv_dna, conv_nac, "),
    "Keras layer": ({"name": "Dropout"}, "block 2 is 'Dropout', which is not supported"),
    "unknown option": ({**CONV_NAC, "filter": 3}, r"block 2 \(conv_nac\): unknown option 'filter'; known: filters, kernel_size"),
    "text for a number": ({**CONV_NAC, "filters": "3"}, r"block 2 \(conv_nac\): filters is '3', expected int or NoneType"),
    "true for a number": ({**CONV_NAC, "kernel_size": True}, r"\(conv_nac\): kernel_size is True, expected int"),
    "list for a number": ({**CONV_NAC, "pool_size": [2]}, r"\(conv_nac\): pool_size is \[2\], expected int"),
    "number for a flag": ({**CONV_NAC, "residual": 1}, r"\(conv_nac\): residual is 1, expected bool"),
    "null where none may be": ({**CONV_NAC, "kernel_size": None}, r"\(conv_nac\): kernel_size is None, expected int"),
    "no filters": ({**CONV_NAC, "filters": 0}, r"\(conv_nac\): filters is 0, expected 1 or more"),
    "no dilation": ({**CONV_NAC, "dilation_rate": 0}, r"\(conv_nac\): dilation_rate is 0, expected 1 or more"),
    "dropout of more than all": ({**CONV_NAC, "dropout": 1.2}, r"\(conv_nac\): dropout is 1\.2, expected 0 to 1"),
    "stride": ({**CONV_NAC, "stride": 2}, r"\(conv_nac\): stride = 2 is not supported, only 1"),
    "softmax pooling": ({**CONV_NAC, "pool_type": "softmax"}, r"\(conv_nac\): pool_type = 'softmax' is not supported, only 'max'"),
    "squeeze-excite": ({**CONV_NAC, "se": True}, r"\(conv_nac\): se = True is not supported"),
    "separable": ({**CONV_NAC, "conv_type": "separable"}, r"\(conv_nac\): conv_type = 'separable' is not supported"),
    "valid padding": ({**CONV_NAC, "padding": "valid"}, r"\(conv_nac\): padding = 'valid' is not supported, only 'same'"),
    "exp": ({**CONV_NAC, "activation": "exp"}, r"\(conv_nac\): activation is 'exp'; supported: linear"),
    "residual of other width": ({**CONV_NAC, "residual": True}, r"conv_nac: a residual needs as many filters \(10\) as input channels \(8\)"),
    "conv_dna with residual": ({**CONV_DNA, "residual": True}, r"\(conv_dna\): residual = True is not supported"),
    "conv_dna without filters": ({"name": "conv_dna"}, r"\(conv_dna\): filters must be given"),
    "tower of unknown growth": ({"name": "res_tower", "filters_init": 4}, r"\(res_tower\): .*one of filters_end and filters_mult must be given"),
    "tower of one level and an end": ({**TOWER, "repeat": 1}, r"\(res_tower\): .*filters_end needs repeat of 2 or more"),
    "tower that shrinks to nothing": ({"name": "res_tower", "filters_init": 4, "filters_mult": 0.1, "repeat": 3}, "expected 1 or more at each"),
    "tower that grows beyond numbers": ({"name": "res_tower", "filters_init": 4, "filters_mult": 1e300, "repeat": 3}, "expected 1 or more at each"),
    "tower divided by 0": ({**TOWER, "divisible_by": 0}, "divisible_by is 0, expected 1 or more"),
    "transformer without key size": ({"name": "transformer_tower"}, r"\(transformer_tower\): key_size must be given"),
    "heads that do not divide": ({**TRANSFORMER, "heads": 3}, r"transformer_tower\.0: 8 channels cannot be divided among 3 heads"),
    "other kind of transformer": ({**TRANSFORMER, "block_type": "swin"}, "block_type = 'swin' is not supported, only 'transformer'"),
    "odd position features": ({**TRANSFORMER, "num_position_features": 7}, "num_position_features is 7, expected an even number"),
    "negative position features": ({**TRANSFORMER, "num_position_features": -2}, "num_position_features is -2, expected 0 or more"),
    "positions trained on nothing": ({**TRANSFORMER, "seqlen_train": 0}, "seqlen_train is 0, expected 1 or more"),
    "no width of projections": ({**TRANSFORMER, "qkv_width": 0}, "qkv_width is 0, expected 1 or more"),
    "perceptron of nothing": ({**TRANSFORMER, "dense_expansion": 0.1}, r"transformer_tower\.0: dense_expansion 0\.1 of 8 channels leaves none"),
    "negative perceptron": ({**TRANSFORMER, "dense_expansion": -1}, "dense_expansion is -1, expected 0 or more"),
    "U-net stride": ({**UNET, "stride": 4}, r"\(unet_conv\): stride = 4 is not supported, only 2"),
    "negative crop": ({**CROP, "cropping": -1}, r"\(Cropping1D\): cropping is -1, expected 0 or more"),
    "unequal crop": ({**CROP, "cropping": [1, 2]}, r"\(Cropping1D\): cropping is \[1, 2\], expected one number for both ends"),
    "crop of everything": ({**CROP, "cropping": 8}, r"cropping1d: removing 8 bins at each end of 16 leaves none"),
    "crop without a number": ({"name": "Cropping1D"}, r"\(Cropping1D\): cropping must be given"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_bad_block(name):
    block, message = BAD_BLOCKS[name]
    with pytest.raises(ConfigError, match=rf"^params: .*{message}"):
        read(make_params(CONV_DNA, TOWER, block))


def test_equal_crop_of_both_ends_may_be_a_list():
    assert read(make_params(CONV_DNA, {**CROP, "cropping": [3, 3]})).crop == 3


def test_whole_floats_count_as_integers():
    assert read(make_params({**CONV_DNA, "filters": 6.0}, seq_length=128.0)) == read(make_params(CONV_DNA))


def test_unet_needs_a_representation_of_twice_the_length():
    with pytest.raises(
        ConfigError, match=r"unet_conv: no earlier representation has 34 positions, twice the current 17"
    ):
        read(make_params(CONV_DNA, TOWER, UNET, seq_length=130))
    with pytest.raises(ConfigError, match="unet_conv_2: no earlier representation has 128"):
        read(make_params(CONV_DNA, TOWER, UNET, UNET, UNET))


def test_unet_does_not_add_what_it_comes_from():
    # 64 positions come out of the tower's end as well, which Calico's code would add here.
    with pytest.raises(ConfigError, match="unet_conv: adding the pooled output of res_tower.1 is not supported"):
        read(make_params(CONV_DNA, {**TOWER, "pool_size": 2}, {**CONV_NAC, "pool_size": 2}, UNET))


@pytest.mark.parametrize("key", ["seq_length", "trunk", "activation"])
def test_missing_key(key):
    params = make_params(CONV_DNA)
    del params["model"][key]
    with pytest.raises(ConfigError, match=f"^params: the model section has no '{key}'"):
        read(params)


@pytest.mark.parametrize("model", [[], "x", 3, None])
def test_model_section_of_another_type(model):
    with pytest.raises(ConfigError, match="the model section is a .*, expected an object"):
        read({"model": model})


def test_two_croppings_have_no_crop_to_change():
    config = read(make_params(CONV_DNA, CROP, CROP))
    assert config.crop == 6
    with pytest.raises(ConfigError, match="2 Cropping1D blocks: which one to change is not defined"):
        config.with_crop(1)


@pytest.mark.parametrize("bins", [-1, 64, 1.5, "3", True])
def test_impossible_crop(bins):
    with pytest.raises(
        ConfigError, match=r"(cropping is .*, expected|removing 64 bins at each end of 128 leaves none)"
    ):
        read(borzoi_like()).with_crop(bins)


@pytest.mark.parametrize("length", [0, -8, 60.5, "64", 62])
def test_impossible_window(length):
    with pytest.raises(ConfigError, match=r"(seq_length is .*, expected|no earlier representation has)"):
        read(borzoi_like()).with_seq_length(length)


def test_unknown_heads_are_named():
    config = read(PUBLISHED)
    with pytest.raises(ConfigError, match="no head 'rat'; it has: human, mouse"):
        config.with_heads("human", "rat")
    with pytest.raises(ConfigError, match=r"2 heads \(human, mouse\): say which one"):
        config.head()
    with pytest.raises(ConfigError, match=r"0 heads"):
        config.with_heads().head()
    with pytest.raises(ConfigError, match="a head appears twice among head_human, head_human"):
        config.with_heads("human", "head_human")


def test_settings_without_effect_are_said_and_survive_reading(caplog):
    params = changed(PUBLISHED, verbose=False, strand_pair=[[0]], augment_rc=True, hic=True)
    with caplog.at_level(logging.WARNING, "kipoi_borzoi"):
        assert read(params) == read(PUBLISHED)
    assert [record.getMessage() for record in caplog.records] == [
        "params: the setting 'hic' of the model section is not known and not used"
    ]


# Files


def test_file_is_named_in_every_error(tmp_path):
    path = tmp_path / "params.json"
    path.write_text(json.dumps(make_params(CONV_DNA, {"name": "conv_block"})))
    with pytest.raises(ConfigError, match=f"^{path}: trunk block 1 is 'conv_block'"):
        read(path)
    path.write_text(json.dumps(make_params(CONV_DNA, {**TRANSFORMER, "heads": 4})))
    with pytest.raises(ConfigError, match=rf"^{path}: transformer_tower\.0: 6 channels cannot be divided"):
        read(str(path))


BAD_FILES = {
    "HTML": (b"\n <!DOCTYPE html><html><body>404</body></html>", r"not JSON \(it looks like an HTML page\)"),
    "empty": (b"", "not JSON"),
    "cut off": (json.dumps(PUBLISHED).encode()[:-30], "not JSON"),
    "list": (b"[1, 2]", "expected a JSON object, got list"),
    "NaN": (b'{"model": {"seq_length": NaN}}', "holds NaN, which is not a JSON number"),
    "infinite": (b'{"model": {"seq_length": -Infinity}}', "holds -Infinity, which is not a JSON number"),
    "key twice": (
        b'{"model": {"seq_length": 64, "seq_length": 128}}',
        "the key 'seq_length' appears twice in one object",
    ),
    "binary": (b"\x89HDF\r\n\x1a\n\xff\xfe", "not a text file"),
    "too deep": (b"[" * 100_000, "not JSON"),
    "too long a number": (b'{"model": ' + b"9" * 10_000 + b"}", "not JSON"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(tmp_path, name):
    content, message = BAD_FILES[name]
    path = tmp_path / "params.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        read(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read \(No such file or directory\)"):
        read(tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_params(tmp_path)


def test_layout_alone_can_be_worked_out():
    config = read(CASES["as published"])
    assert Layout.of(config) == config.layout
