"""Counts of what is trained: by hand for a small network, and those that Calico's code prints for its own params."""

import copy
import json
import logging

import pytest
from network_cases import CONV_DNA, TOWER, borzoi_like, make_params

from kipoi_borzoi.adapters.houlsby_se import HoulsbySE
from kipoi_borzoi.adapters.locon import Locon
from kipoi_borzoi.adapters.lora_conv import LoraConv
from kipoi_borzoi.adapters.params import plan, read_transfer
from kipoi_borzoi.errors import ConfigError

PARAMS = borzoi_like()
# The trunk: convolutions 5x4x6+6, 3x6x6+6, 3x6x8+8, 1x8x10+10; one transformer block 8 wide, 2 heads of 4,
# 6 position features: layer norms 16 + 16, biases 8 + 8, q k v 64 each, out 72, positions 48, up 8x16+16, down 16x8+8;
# U-net steps (one adds 8 channels, one 6): dense 72, skip dense 72 and 56, convolution 3x8 + 64 + 8; batch norms
# 6 (two), 8 (five), 6 of four weights each.
CONVS = 126 + 114 + 152 + 90
TRANSFORMER = 32 + 16 + 3 * 64 + 72 + 48 + 144 + 136
UNETS = 72 + 72 + 96 + 72 + 56 + 96
NORMS = 4 * (6 + 6 + 8 + 8 + 8 + 6 + 8)
TRUNK = CONVS + TRANSFORMER + UNETS + NORMS
HEAD = 10 * 3 + 3


def with_transfer(**transfer):
    return {**PARAMS, "transfer": {"mode": "adapter", **transfer}}


HAND_COUNTED = {
    "full": ({"mode": "full"}, TRUNK - NORMS // 2, 0),
    "linear": ({"mode": "linear"}, 0, 0),
    "lora": ({"adapter": "lora", "adapter_latent": 2}, 2 * 2 * (8 + 8), 64),
    "lora_full": ({"adapter": "lora_full", "adapter_latent": 2}, 4 * 2 * (8 + 8), 128),
    "lora_conv": ({"adapter": "lora_conv", "conv_select": 2}, 2 * 8 * (8 + 8) + 152 + 90, 256),
    "ia3": ({"adapter": "ia3"}, 8 + 8 + 16, 32),
    "locon": (
        {"adapter": "locon", "conv_select": 2, "conv_latent": 3},
        256 + 3 * (3 * 6 + 8) + 3 * (8 + 10), 256 + 78 + 54,
    ),
    "locon, all by number": (
        {"adapter": "locon", "conv_select": 4, "conv_latent": 1},
        256 + 126 + (18 + 6) + (18 + 8) + (8 + 10), 256 + 24 + 26 + 18,
    ),
    "locon, all by name": (
        {"adapter": "locon", "conv_select": "all", "conv_latent": 1},
        256 + 126 + (18 + 6) + (18 + 8) + (8 + 10), 256 + 24 + 26 + 18,
    ),
    "houlsby": ({"adapter": "houlsby", "adapter_latent": 3}, 2 * (24 + 3 + 24 + 8) + 32, 2 * 59),
    "houlsby_se": (
        {"adapter": "houlsby_se", "conv_select": 1, "conv_latent": 5},
        2 * (64 + 8 + 64 + 8) + 32 + 2 * 5 * 10, 2 * 144 + 100,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HAND_COUNTED)
def test_counts_by_hand(name):
    transfer, trained, added = HAND_COUNTED[name]
    counts = plan(with_transfer(**transfer))
    assert counts == {
        "method": name.split(",")[0],
        "trainable": trained + HEAD,
        "frozen": TRUNK + added - trained,
        "head": HEAD,
        "total": TRUNK + added + HEAD,
        "adapter_bytes": 4 * (trained + HEAD + (NORMS // 2 if name == "full" else 0)),
    }


def test_tracks_and_heads_can_be_chosen():
    assert plan(with_transfer(adapter="lora"), tracks=7)["head"] == 77
    params = with_transfer(adapter="lora")
    params["model"] = {**params["model"], "activation": "relu"}
    params["model"] |= {"head_b": {"name": "final", "units": 5}, "head_a": {"name": "final", "units": 2}}
    del params["model"]["head"]
    assert plan(params)["head"] == 22  # the first by name, as in Calico's code
    assert plan(params, head="b")["head"] == 55
    with pytest.raises(ConfigError, match="no head 'c'; it has: a, b"):
        plan(params, head="c")
    with pytest.raises(ConfigError, match="a head of 0 tracks is not possible"):
        plan(params, tracks=0)


# What Calico's own test script (tests/integration/test_transfer.sh in github.com/calico/baskerville) says that its
# code prints for these params, and what it prints for the same methods on the full-size network.
CALICO = {
    "borzoilite_full": 43_744_164, "borzoilite_linear": 52_292, "borzoilite_houlsby": 285_892,
    "borzoilite_lora": 216_132, "borzoilite_ia3": 72_772, "borzoilite_locon4": 270_404, "borzoilite_se4": 366_788,
    "borzoi_full": 171_279_652, "borzoi_linear": 7_684, "borzoi_houlsby": 474_756, "borzoi_lora": 335_364,
    "borzoi_locon4": 429_316, "borzoi_se4": 660_100,
}  # fmt: skip


def published(width, first, kernel, levels, divisor, crop, final, units):
    """Calico's params for fine-tuning, as dict: its small network or Borzoi."""
    trunk = [
        {"name": "conv_dna", "filters": first, "kernel_size": kernel, "norm_type": None, "activation": "linear",
         "pool_size": 2},
        {"name": "res_tower", "filters_init": levels, "filters_end": width, "divisible_by": divisor, "kernel_size": 5,
         "num_convs": 1, "pool_size": 2, "repeat": 6},
        {"name": "transformer_tower", "key_size": 64, "heads": 8 if final else 4, "num_position_features": 32,
         "dropout": 0.2, "repeat": 8},
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "Cropping1D", "cropping": crop},
    ]  # fmt: skip
    trunk += [{"name": "conv_nac", "filters": final, "dropout": 0.1}] if final else []
    return {
        "seq_length": 524288 if final else 393216, "activation": "gelu", "norm_type": "batch", "bn_momentum": 0.9,
        "trunk": trunk, "head_human": {"name": "final", "units": units, "activation": "softplus"},
    }  # fmt: skip


SIZES = {
    "borzoilite": published(768, 320, 11, 384, 16, 3072, None, 68),
    "borzoi": published(1536, 512, 15, 608, 32, 5120, 1920, 4),
}
TRANSFERS = {
    "full": {"mode": "full"},
    "linear": {"mode": "linear"},
    "houlsby": {"mode": "adapter", "adapter": "houlsby", "adapter_latent": 8},
    "lora": {"mode": "adapter", "adapter": "lora", "adapter_latent": 8},
    "ia3": {"mode": "adapter", "adapter": "ia3"},
    "locon4": {"mode": "adapter", "adapter": "locon", "conv_select": 4},
    "se4": {"mode": "adapter", "adapter": "houlsby_se", "adapter_latent": 8, "conv_select": 4, "conv_latent": 16},
}


@pytest.mark.parametrize("name", CALICO)
def test_counts_are_those_of_calicos_code(name):
    size, method = name.split("_")
    assert plan({"model": SIZES[size], "transfer": TRANSFERS[method]})["trainable"] == CALICO[name]


def test_ia3_in_full_borzoi_by_structure_or_as_calicos_code_does(caplog):
    params = {"model": SIZES["borzoi"], "transfer": TRANSFERS["ia3"]}
    with caplog.at_level(logging.WARNING, "kipoi_borzoi"):
        assert plan(params)["trainable"] == 7684 + 8 * (512 + 1536 + 3072)
    assert "1536 wide, and train 40964 weights" in caplog.text
    # k and v; up-projections, two dense layers and the first skip of the U-net, all with 1,536 inputs
    assert plan(params, ia3_rule="calico")["trainable"] == 7684 + 8 * (512 + 1536) + 11 * 1536 == 40_964
    caplog.clear()
    lite = {"model": SIZES["borzoilite"], "transfer": TRANSFERS["ia3"]}
    assert plan(lite) == plan(lite, ia3_rule="calico") and not caplog.text


def test_counts_of_calicos_own_params(shared_data):
    for path in sorted((shared_data / "transfer_params").glob("*.json")):
        if path.stem in CALICO:
            assert plan(path)["trainable"] == CALICO[path.stem]


def test_counts_and_names_of_the_reference_adapters(shared_data):
    folder = shared_data / "reference" / "adapters"
    params, report = (json.loads((folder / file).read_text()) for file in ("params.json", "report.json"))
    transfers = {"lora": {"adapter": "lora"}, "locon4": {"adapter": "locon"}, "houlsby": {"adapter": "houlsby"}}
    for name, transfer in transfers.items():
        counts = plan({**params, "transfer": {"mode": "adapter", **transfer}})
        assert (counts["trainable"], counts["frozen"]) == (report[name]["trainable"], report[name]["non_trainable"])
    # Calico moves the settings of houlsby into the model section once it is trained.
    assert plan(folder / "houlsby.params.json")["trainable"] == report["houlsby"]["trainable"]


# Reading the transfer section


def test_defaults_are_calicos():
    assert read_transfer({**PARAMS, "transfer": {}})[1].name == "full"
    for name, settings in {
        "lora": {"rank": 8, "alpha": 16},
        "lora_full": {"rank": 8, "alpha": 16},
        "lora_conv": {"rank": 8, "alpha": 16, "conv_select": 4},
        "ia3": {"input_width": None},
        "locon": {"conv_select": 4, "rank": 4, "alpha": 1, "lora_rank": 8, "lora_alpha": 16},
        "houlsby": {"latent": 8},
        "houlsby_se": {"latent": 8, "conv_select": 4, "bottleneck": 4},
    }.items():
        config, method = read_transfer(with_transfer(adapter=name))
        assert (method.name, method.settings()) == (name, settings)
        assert config.seq_length == 256


def test_what_calicos_code_does_not_use_is_said(caplog):
    with caplog.at_level(logging.WARNING, "kipoi_borzoi"):
        assert read_transfer(with_transfer(adapter="locon", adapter_latent=16))[1] == Locon()
        assert read_transfer(with_transfer(adapter="lora_conv", lora_alpha=2))[1] == LoraConv()
        assert read_transfer(with_transfer(adapter="houlsby_se", adapter_latent=16))[1] == HoulsbySE(bottleneck=4)
        assert read_transfer(with_transfer(mode="linear", adapter="lora"))[1].name == "linear"
    assert [record.getMessage() for record in caplog.records] == [
        "transfer: adapter_latent = 16 is not used with locon, as in Calico's code",
        "transfer: lora_alpha = 2 is not used with lora_conv, as in Calico's code",
        "transfer: adapter_latent = 16 is not used with houlsby_se, as in Calico's code",
        "transfer: adapter = 'lora' is not used with mode 'linear'",
    ]


def test_settings_in_the_model_section():
    params = copy.deepcopy(PARAMS)
    params["model"] |= {"adapter": "houlsby_se", "adapter_latent": 8, "se_rank": 6, "conv_select": 2}
    assert read_transfer(params)[1] == HoulsbySE(8, 2, 6)
    params["transfer"] = {"mode": "adapter", "adapter": "houlsby_se", "conv_latent": 6, "conv_select": 2}
    assert read_transfer(params)[1] == HoulsbySE(8, 2, 6)
    params["transfer"]["conv_latent"] = 5
    with pytest.raises(ConfigError, match="conv_latent is 5 in the transfer section, but 6 in the model section"):
        read_transfer(params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (PARAMS, "no transfer section"),
        ({"transfer": {}}, "no model section"),
        ({**PARAMS, "transfer": []}, "the transfer section is a list"),
        (with_transfer(adapter="lora", rank=8), "transfer: unknown setting 'rank'; known: mode, adapter"),
        (with_transfer(mode="partial"), "transfer: mode is 'partial'; known: full, linear, adapter"),
        (with_transfer(), "transfer: adapter is None; known: lora, lora_full"),
        (with_transfer(adapter="full"), "transfer: adapter is 'full'"),
        (with_transfer(adapter="lora", adapter_latent="8"), "transfer: lora: rank is '8'"),
        (with_transfer(adapter="locon", conv_select=9), "conv_select is 9, but the network has 4 Conv1D layers"),
        (with_transfer(adapter="houlsby", adapter_latent=2.5), "transfer: houlsby: latent is 2.5"),
        ({**make_params(CONV_DNA, TOWER), "transfer": {"mode": "adapter", "adapter": "ia3"}}, "ia3 matches no layer"),
    ],
)  # fmt: skip
def test_bad_sections(params, message):
    with pytest.raises(ConfigError, match=message):
        plan(params)


def test_unknown_rule_for_ia3():
    with pytest.raises(ConfigError, match="ia3 rule 'width' is not known; known: structure, calico"):
        plan(with_transfer(adapter="ia3"), ia3_rule="width")


def test_file_is_named(tmp_path):
    path = tmp_path / "params.json"
    path.write_text(json.dumps(with_transfer(adapter="lora")))
    assert plan(path)["method"] == "lora"
    path.write_text('{"model": {}, "transfer": {"mode": "full", "mode": "linear"}}')
    with pytest.raises(ConfigError, match=r"params.json: the key 'mode' appears twice"):
        plan(path)
    path.write_text(json.dumps({**PARAMS, "transfer": {"mode": "half"}}))
    with pytest.raises(ConfigError, match=r"params.json: transfer: mode is 'half'"):
        plan(path)
