"""Every method starts as the identity, trains what it should, and computes what a second implementation does."""

import math

import keras
import numpy as np
import plain_network
import pytest
from adapter_cases import METHOD_CASES, adapt, plain_adapted
from network_cases import CASES, borzoi_like, largest_difference, make_network, random_dna, weights_of

from kipoi_borzoi.adapters.adapter import Adapter, Scheme, with_head
from kipoi_borzoi.adapters.counts import count
from kipoi_borzoi.adapters.houlsby_se import HoulsbySE
from kipoi_borzoi.adapters.ia3 import Ia3
from kipoi_borzoi.adapters.locon import Locon
from kipoi_borzoi.adapters.lora import Lora
from kipoi_borzoi.adapters.registry import METHODS, make_method
from kipoi_borzoi.adapters.sites import AdapterSites, make_adapter
from kipoi_borzoi.errors import ConfigError, InputError, WeightsError
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.sites import Sites
from kipoi_borzoi.network.span import Span

# With other backends than TensorFlow, Keras does some of the float64 arithmetic in float32.
CLOSE, TINY = (5e-8, 1e-12) if keras.backend.backend() == "tensorflow" else (2e-6, 2e-6)
BORZOI = borzoi_like()
# Networks whose blocks differ from the published ones where these methods come in.
OTHERS = [
    ("separable projections", "lora_full"),
    ("separable projections", "ia3"),
    ("no perceptron", "houlsby_se"),
    ("no perceptron", "ia3"),
    ("two towers", "locon all"),
    ("layer norm", "houlsby_se"),
    ("three convolutions", "locon all"),
    ("three convolutions", "full"),
    ("no position features", "full"),
]


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.fixture(scope="module")
def network():
    return make_network(BORZOI)


@pytest.fixture(scope="module")
def base_trunk(network):
    """The trunk's output without an adapter."""
    return to_numpy(network.trunk(random_dna(256)))


@pytest.mark.parametrize("name", METHOD_CASES)
@pytest.mark.usefixtures("uncompiled")
def test_start_is_the_identity(name, network, base_trunk):
    sites = make_adapter(network, METHOD_CASES[name], tracks=5, seed=7)
    trunk = network.trunk(random_dna(256), run=sites)
    assert largest_difference(trunk, base_trunk) < TINY
    y = to_numpy(sites.head.forward(trunk, sites))
    assert y.shape == (2, network.config.bins, 5) and y.std() > 0.01


@pytest.mark.parametrize("name", METHOD_CASES)
@pytest.mark.usefixtures("uncompiled")
def test_adapted_network_equals_the_plain_one(name, network, base_trunk):
    x, sites = random_dna(256), adapt(network, METHOD_CASES[name], tracks=2)
    plain = plain_adapted(BORZOI, network, sites)
    (expected,) = plain.run(x).values()
    assert largest_difference(network(x, run=sites), expected) < CLOSE
    if name != "linear":  # the adapter changes something worth comparing
        assert largest_difference(plain.trunk, base_trunk) > 1e-2


@pytest.mark.parametrize(("case", "name"), OTHERS)
@pytest.mark.usefixtures("uncompiled")
def test_other_networks_equal_the_plain_ones(case, name):
    params = CASES[case]
    network, x = make_network(params), random_dna(params["model"]["seq_length"], batch=1)
    sites = adapt(network, METHOD_CASES[name])
    (expected,) = plain_adapted(params, network, sites).run(x).values()
    assert largest_difference(network(x, run=sites), expected) < CLOSE


@pytest.mark.usefixtures("uncompiled")
def test_exact_gelu(network, monkeypatch):
    def exact(x, name, other=plain_network.activate):
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) if name == "gelu" else other(x, name)

    x, sites = random_dna(256, batch=1), adapt(network, METHOD_CASES["houlsby"], gelu="erf")
    tanh = to_numpy(network(x, run=adapt(network, METHOD_CASES["houlsby"])))
    monkeypatch.setattr(plain_network, "activate", exact)
    (expected,) = plain_adapted(BORZOI, network, sites).run(x).values()
    assert largest_difference(network(x, run=sites), expected) < CLOSE
    assert largest_difference(tanh, expected) > 1e-5
    with pytest.raises(ConfigError, match="gelu is 'exact'; known: tanh, erf"):
        Sites("exact")


@pytest.mark.parametrize("name", METHOD_CASES)
def test_variables_are_counted_as_planned(name, network):
    sites = make_adapter(network, METHOD_CASES[name], tracks=3)
    counts = count(sites.adapter.scheme)
    trained = sum(math.prod(variable.shape) for variable in sites.trainable_variables)
    stored = sum(math.prod(variable.shape) for variable in sites.variables.values())
    assert (trained, 4 * stored) == (counts["trainable"], counts["adapter_bytes"])
    assert list(sites.variables) == list(sites.adapter.scheme.shapes())
    own = {id(variable) for variable in sites.variables.values()}
    assert not own & {id(variable) for layer in network._flatten_layers() for variable in layer.variables}


@pytest.mark.parametrize("name", METHOD_CASES)
@pytest.mark.usefixtures("uncompiled")
def test_gradients_reach_all_that_trains_and_nothing_else_changes(name, network):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("gradients are taken with TensorFlow's tape")
    import tensorflow as tf

    sites, before = adapt(network, METHOD_CASES[name]), weights_of(network)
    own = {key: np.array(to_numpy(variable.value)) for key, variable in sites.variables.items()}
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network(random_dna(256, batch=1), run=sites, training=True) ** 2)
    for variable, gradient in zip(
        sites.trainable_variables, tape.gradient(loss, [v.value for v in sites.trainable_variables]), strict=True
    ):
        assert gradient is not None and np.abs(to_numpy(gradient)).max() > 0, variable.name
    for key, value in weights_of(network).items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)
    moved = [key for key, variable in sites.variables.items() if not np.array_equal(own[key], to_numpy(variable.value))]
    assert bool(moved) == (name == "full") and all("moving_" in key for key in moved)


@pytest.mark.usefixtures("uncompiled")
def test_batch_norm_of_frozen_layers_stays_in_inference_mode():
    params = borzoi_like({"dropout": 0.0, "attention_dropout": 0.0, "position_dropout": 0.0})
    params["model"]["trunk"][-1]["dropout"] = 0.0
    network, x = make_network(params), random_dna(256)
    for name, same in {"locon": True, "houlsby_se": True, "full": False}.items():
        sites = adapt(network, METHOD_CASES[name])
        y, trained = to_numpy(network(x, run=sites)), to_numpy(network(x, run=sites, training=True))
        assert (np.abs(y - trained).max() < TINY * np.abs(y).max()) == same, name


@pytest.mark.usefixtures("uncompiled")
def test_adapters_on_one_base_do_not_disturb_each_other(network):
    x = random_dna(256, batch=1)
    base = to_numpy(network(x))
    many = [adapt(network, METHOD_CASES[name], seed=seed) for seed, name in enumerate(("full", "locon", "houlsby_se"))]
    first = [to_numpy(network(x, run=sites)) for sites in many]
    again = [to_numpy(network(x, run=sites)) for sites in reversed(many)][::-1]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(to_numpy(network(x)), base)


@pytest.mark.parametrize("name", ["houlsby_se", "locon", "full"])
@pytest.mark.usefixtures("uncompiled")
def test_any_stretch_of_the_output_equals_the_whole(name, network):
    x, sites, bins = random_dna(256, batch=1), adapt(network, METHOD_CASES[name]), network.config.bins
    last = len(network.units) - 1  # before the last, cropped convolution, whose squeeze-excite needs all bins anyway
    length = network.layout.units[last - 1].out_length

    def run(out):
        return to_numpy(network.run_units(x, 0, last, out, {}, sites, given=Span.whole(256)))

    whole = run(Span.whole(length))
    for start, end in ((0, 2), (11, 13), (length - 1, length)):
        assert np.abs(run(Span(start, end, length)) - whole[:, start:end]).max() < TINY
    assert length == bins


def test_units_below_the_first_changed_one_are_those_of_the_base(network):
    names = [unit.name for unit in network.layout.units]
    expected = {
        "full": "conv_dna", "linear": None, "lora": "transformer_tower.0", "lora_full": "transformer_tower.0",
        "lora_conv": "res_tower.1", "lora_conv all": "conv_dna", "ia3": "transformer_tower.0",
        "ia3 by width": "transformer_tower.0", "locon": "res_tower.1", "locon all": "conv_dna",
        "houlsby": "transformer_tower.0", "houlsby_se": "res_tower.1",
    }  # fmt: skip
    for name, method in METHOD_CASES.items():
        first = make_adapter(network, method).first_unit
        assert (names[first] if first < len(names) else None) == expected[name], name
    assert make_adapter(network, METHOD_CASES["houlsby_se"]).whole_units == {"res_tower.1", "conv_nac"}
    layout = network.layout.with_whole(frozenset({"res_tower.1"}))
    assert (layout.stem, network.layout.stem) == (2, 3)
    assert layout.with_whole(frozenset()) == network.layout


@pytest.mark.parametrize("name", ["full", "locon", "houlsby_se"])
@pytest.mark.usefixtures("uncompiled")
def test_lower_precision(name):
    network, x = make_network(BORZOI, dtype="float32"), random_dna(256, batch=1)
    sites = adapt(network, METHOD_CASES[name])
    expected = to_numpy(network(x, run=sites))
    with network.precision("mixed_bfloat16"):
        y = network(x, run=sites)
        assert keras.backend.standardize_dtype(y.dtype) == "float32"
        assert 1e-5 < largest_difference(y, expected) < 0.1
    assert largest_difference(network(x, run=sites), expected) < 1e-6


@pytest.mark.usefixtures("uncompiled")
def test_chosen_tracks_are_columns_of_the_adapters_head(network):
    x = random_dna(256, batch=1)
    for name in ("lora", "ia3 by width"):
        method = Ia3(input_width=10) if name != "lora" else METHOD_CASES[name]  # 10: the head's input
        sites = adapt(network, method, tracks=4)
        whole = to_numpy(network(x, run=sites))
        chosen = network(x, run=sites, tracks=keras.ops.convert_to_tensor([3, 1], dtype="int32"))
        np.testing.assert_allclose(to_numpy(chosen), whole[..., [3, 1]], rtol=TINY)


def test_current_gives_what_was_assigned(network):
    sites = adapt(network, METHOD_CASES["locon all"], seed=5)
    again = AdapterSites(network, sites.current())
    for name, variable in again.variables.items():
        np.testing.assert_array_equal(to_numpy(variable.value), to_numpy(sites.variables[name].value))
    assert (again.adapter.scheme, again.gelu) == (sites.adapter.scheme, "tanh")


def test_seed_fixes_the_start(network):
    first, same, other = (
        make_adapter(network, METHOD_CASES["houlsby_se"], seed=seed).adapter.tensors for seed in (1, 1, 2)
    )
    drawn = [name for name in first if not np.array_equal(first[name], other[name])]
    assert {name.rsplit(".", 2)[-2] for name in drawn} == {"down", "squeeze", "dense"}
    for name in first:
        np.testing.assert_array_equal(first[name], same[name])
    down = np.concatenate([first[name].ravel() for name in drawn if name.endswith("output.down.kernel")])
    assert 0.3e-3 < down.std() < 1.5e-3 and np.abs(down).max() <= 2e-3


def test_low_rank_starts_as_stated(network):
    tensors = make_adapter(network, Locon(conv_select=1, lora_rank=2), seed=1).adapter.tensors
    a, b = (
        tensors["transformer_tower.0.attention.q.lora_a.kernel"],
        tensors["transformer_tower.0.attention.q.lora_b.kernel"],
    )
    limit = math.sqrt(6 / 8)  # He-uniform of 8 inputs
    assert a.shape == (8, 2) and 0.3 * limit < np.abs(a).max() <= limit and not b.any()


# Errors


@pytest.mark.parametrize("name", ["lora", "lora_full", "ia3", "houlsby"])
def test_method_that_matches_nothing(name):
    network = make_network(CASES["no transformer"], dtype="float32")
    with pytest.raises(ConfigError, match=f"{name} matches no layer of this network"):
        make_adapter(network, make_method(name))


def test_convolutions_alone_are_enough_for_locon():
    config = with_head(NetworkConfig.from_params(CASES["no transformer"]), 2)
    assert list(Scheme(Locon(conv_select=2), config).inserts) == ["res_tower.1.conv", "conv_nac.conv"]
    assert list(Scheme(HoulsbySE(conv_select="all"), config).inserts) == [
        "conv_dna.conv", "res_tower.0.conv", "res_tower.1.conv", "conv_nac.conv",
    ]  # fmt: skip


def test_too_much_is_asked_for(network):
    with pytest.raises(ConfigError, match="conv_select is 5, but the network has 4 Conv1D layers"):
        make_adapter(network, Locon(conv_select=5))
    with pytest.raises(
        ConfigError, match="rank 9 is larger than the 8 output channels of transformer_tower.0.attention.q"
    ):
        make_adapter(network, Lora(rank=9))
    with pytest.raises(ConfigError, match="rank 7 is larger than the 6 output channels of res_tower.0.conv"):
        make_adapter(network, Locon(conv_select=3, rank=7))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dora", {}, "unknown method 'dora'; known: full, linear, lora"),
        ("lora", {"r": 8}, "lora: unknown setting 'r'; known: rank, alpha"),
        ("linear", {"rank": 8}, "linear: unknown setting 'rank'; known: none"),
        ("lora", {"rank": 0}, "lora: rank is 0, expected a whole number of 1 or more"),
        ("lora", {"rank": True}, "lora: rank is True"),
        ("lora", {"alpha": 0}, "lora: alpha is 0, expected a number greater than 0"),
        ("lora", {"alpha": float("nan")}, "lora: alpha is nan"),
        (
            "locon",
            {"conv_select": "last"},
            "locon: conv_select is 'last', expected a whole number of 1 or more, or 'all'",
        ),
        ("ia3", {"input_width": 0}, "ia3: input_width is 0"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_method(name, settings)


def test_every_method_is_known():
    names = ["full", "linear", "lora", "lora_full", "lora_conv", "ia3", "locon", "houlsby", "houlsby_se"]
    assert list(METHODS) == names
    for name in names:
        assert make_method(name, make_method(name).settings()) == METHODS[name]()


def test_other_networks_are_refused(network):
    adapter = make_adapter(network, METHOD_CASES["lora"]).adapter

    def attach(params):
        AdapterSites(make_network(params, dtype="float32"), adapter)

    with pytest.raises(WeightsError, match="made for sequences of 256 bp, the network reads 512 bp"):
        attach(borzoi_like(seq_length=512))
    with pytest.raises(
        WeightsError,
        match=r"another network: there transformer_tower.0.attention.positions.kernel is \(6, 8\), here absent",
    ):
        attach(borzoi_like({"num_position_features": 0}))
    AdapterSites(
        make_network(borzoi_like(head_mouse={"name": "final", "units": 9, "activation": "relu"}), dtype="float32"),
        adapter,
    )


@pytest.mark.usefixtures("uncompiled")
def test_squeeze_excite_after_the_crop_belongs_to_that_crop(network):
    x, last = random_dna(256, batch=1), len(network.units)
    for name, crop in {"houlsby_se": 3, "locon": None}.items():
        sites = adapt(network, METHOD_CASES[name])
        assert sites.crop == crop
        for bins in (3, 1):
            layout = network.config.with_crop(bins).layout

            def run(layout=layout, sites=sites):
                out = Span.whole(layout.bins)
                return network.run_units(x, 0, last, out, {}, sites, given=Span.whole(256), layout=layout)

            if crop in (None, bins):
                assert run().shape == (1, layout.bins, 10)
            else:
                with pytest.raises(
                    InputError, match="when 3 are cropped at each end; it cannot be used with a crop of 1"
                ):
                    run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.dense.bias"), "head.dense.bias is missing"),
        (
            lambda t: t.update({"head.dense.scale": np.zeros(3, np.float32)}),
            "head.dense.scale is not part of a lora adapter",
        ),
        (
            lambda t: t.update({"head.dense.bias": np.zeros(4, np.float32)}),
            r"head.dense.bias has shape \(4,\), expected \(3,\)",
        ),
        (lambda t: t.update({"head.dense.bias": np.zeros(3)}), "head.dense.bias is of type float64, expected float32"),
        (
            lambda t: t.update({"head.dense.bias": np.full(3, np.nan, np.float32)}),
            "head.dense.bias has values that are not finite",
        ),
    ],
)
def test_bad_tensors(network, change, message):
    adapter = make_adapter(network, METHOD_CASES["lora"]).adapter
    tensors = dict(adapter.tensors)
    change(tensors)
    with pytest.raises(WeightsError, match=message):
        Adapter(adapter.scheme, tensors)
