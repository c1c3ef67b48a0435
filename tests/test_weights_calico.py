"""Calico's weights files are read by order and shape, and anything that is not exactly right is named."""

import json

import h5py
import keras
import numpy as np
import pytest
from network_cases import CASES, HEAD, borzoi_like, make_network, make_params, random_dna, weights_of

from kipoi_borzoi.errors import WeightsError
from kipoi_borzoi.network.calico_h5 import read_calico_h5, write_calico_h5
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.schema import weight_shapes
from kipoi_borzoi.network.weights import load_weights, read_weights

PARAMS = borzoi_like()
CONFIG = NetworkConfig.from_params(PARAMS)
LAYERS = [
    "conv1d", "batch_normalization", "conv1d_1", "batch_normalization_1", "conv1d_2", "layer_normalization",
    "multihead_attention", "layer_normalization_1", "dense", "dense_1", "batch_normalization_2",
    "batch_normalization_3", "dense_2", "dense_3", "separable_conv1d", "batch_normalization_4",
    "batch_normalization_5", "dense_4", "dense_5", "separable_conv1d_1", "batch_normalization_6", "conv1d_3", "dense_6",
]  # fmt: skip


def random_tensors(config, seed=0):
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape, dtype="float32") for name, shape in weight_shapes(config).items()}


@pytest.fixture
def file(tmp_path):
    """A good weights file of ``PARAMS``, to be spoilt."""
    path = tmp_path / "model0_best.h5"
    write_calico_h5(path, random_tensors(CONFIG), CONFIG)
    return path


def read(path, config=CONFIG):
    return dict(read_calico_h5(path, config))


def refused(path, message, config=CONFIG):
    """Assert that reading is refused with this message, the file named first."""
    with pytest.raises(WeightsError, match=message) as info:
        read(path, config)
    assert str(info.value).startswith(f"{path}: ")


def replace(layer, name, value):
    """Put another dataset in the place of one."""
    del layer[name]
    return layer.create_dataset(name, data=value)


def relist(group, attribute, names):
    """Replace the list of names in an attribute."""
    group.attrs[attribute] = [name.encode() for name in names]


def listed(group, attribute):
    """The names in an attribute."""
    return [name.decode() if isinstance(name, bytes) else name for name in group.attrs[attribute]]


# What is read


@pytest.mark.parametrize("name", CASES)
def test_round_trip(tmp_path, name):
    config = NetworkConfig.from_params(CASES[name])
    tensors = random_tensors(config)
    write_calico_h5(tmp_path / "w.h5", tensors, config)
    again = read(tmp_path / "w.h5", config)
    assert list(again) == list(tensors)
    for weight, value in tensors.items():
        assert again[weight].dtype == np.float32
        np.testing.assert_array_equal(again[weight], value)


def test_written_layers_stand_in_the_order_in_which_calicos_code_creates_them(file):
    with h5py.File(file) as h5:
        root = h5["model_weights"]
        assert listed(root, "layer_names") == LAYERS
        assert listed(root["separable_conv1d"], "weight_names") == [
            f"separable_conv1d/{weight}:0" for weight in ("depthwise_kernel", "pointwise_kernel", "bias")
        ]
        weights = listed(root["multihead_attention"], "weight_names")
        assert weights[1:3] == ["multihead_attention/r_r_bias:0", "multihead_attention/q_layer/kernel:0"]
        assert h5["model_weights/conv1d/conv1d/kernel:0"].shape == (5, 4, 6)


def test_written_file_has_the_structure_of_calicos(shared_data, tmp_path):
    folder = shared_data / "reference" / "network"
    config = NetworkConfig.from_params(folder / "params.json").with_heads("human")
    tensors = read(folder / "model0.h5", config)
    write_calico_h5(tmp_path / "w.h5", tensors, config)
    ours, theirs = (structure(path) for path in (tmp_path / "w.h5", folder / "model0.h5"))
    assert ours == theirs
    for name, value in read(tmp_path / "w.h5", config).items():
        np.testing.assert_array_equal(value, tensors[name])


def structure(path):
    """Layers with weights: name, and name and shape of each weight."""
    with h5py.File(path) as h5:
        root = h5["model_weights"]
        layers = {name: listed(root[name], "weight_names") for name in listed(root, "layer_names")}
        return [(name, [(w, root[name][w].shape) for w in weights]) for name, weights in layers.items() if weights]


@pytest.mark.parametrize(
    "rename", [lambda kind, number: f"{kind}_{number + 7}", lambda kind, number: f"{kind}_{3 * number}x"]
)
def test_counters_in_layer_names_mean_nothing(file, rename):
    expected = read(file)
    with h5py.File(file, "r+") as h5:
        root = h5["model_weights"]
        names, counts = [], {}
        for old in LAYERS:
            kind = old.rstrip("0123456789").rstrip("_") if old[-1] != "d" else old
            counts[kind] = counts.get(kind, -1) + 1
            new = rename(kind, counts[kind])
            root.move(old, f"moved/{new}")
            inner = root[f"moved/{new}"]
            inner.move(old, new)
            weights = [name.replace(f"{old}/", f"{new}/") for name in listed(inner, "weight_names")]
            relist(inner, "weight_names", weights)
            names.append(f"moved/{new}")
        relist(root, "layer_names", names)
    again = read(file)
    assert list(again) == list(expected)
    assert all((again[name] == expected[name]).all() for name in expected)


def test_layers_without_weights_and_other_groups_are_passed_over(file):
    expected = read(file)
    with h5py.File(file, "r+") as h5:
        root = h5["model_weights"]
        for name in ("sequence", "stochastic_shift", "dropout", "tf.nn.gelu", "top_level_model_weights"):
            relist(root.create_group(name), "weight_names", [])
        relist(root, "layer_names", ["sequence", "stochastic_shift", *LAYERS[:3], "tf.nn.gelu", *LAYERS[3:], "dropout"])
        h5.create_group("optimizer_weights").create_dataset("iteration", data=5)
    assert {name: value.tobytes() for name, value in read(file).items()} == {
        name: value.tobytes() for name, value in expected.items()
    }


def test_synchronised_batch_norm_by_its_name_and_merged_suffixes(file):
    expected = read(file)
    with h5py.File(file, "r+") as h5:
        root = h5["model_weights"]
        root.move("batch_normalization_2", "sync_batch_normalization_9")
        kernel = root["conv1d_1/conv1d_1"]
        kernel.move("kernel:0", "kernel:0:0")
        relist(root["conv1d_1"], "weight_names", ["conv1d_1/kernel:0:0", "conv1d_1/bias:0"])
        relist(root, "layer_names", [{"batch_normalization_2": "sync_batch_normalization_9"}.get(n, n) for n in LAYERS])
    assert all((value == expected[name]).all() for name, value in read(file).items())


def test_order_of_weights_within_a_layer_means_nothing(file):
    expected = read(file)
    with h5py.File(file, "r+") as h5:
        for name in ("multihead_attention", "batch_normalization", "dense"):
            layer = h5["model_weights"][name]
            relist(layer, "weight_names", listed(layer, "weight_names")[::-1])
    assert all((value == expected[name]).all() for name, value in read(file).items())


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_become_float32(file, dtype):
    with h5py.File(file, "r+") as h5:
        replace(h5["model_weights/conv1d/conv1d"], "bias:0", np.arange(6, dtype=dtype) / 4)
    bias = read(file)["conv_dna.conv.bias"]
    assert bias.dtype == np.float32 and bias.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]


def test_compressed_datasets_are_read(file):
    expected = read(file)["conv_dna.conv.kernel"]
    with h5py.File(file, "r+") as h5:
        owner = h5["model_weights/conv1d/conv1d"]
        del owner["kernel:0"]
        owner.create_dataset("kernel:0", data=expected, compression="gzip", chunks=(5, 2, 3))
    np.testing.assert_array_equal(read(file)["conv_dna.conv.kernel"], expected)


def test_weights_at_the_root_of_the_file_as_save_weights_writes_them(file, tmp_path):
    with h5py.File(file) as old, h5py.File(tmp_path / "weights.h5", "w") as new:
        for name in LAYERS:
            old.copy(f"model_weights/{name}", new)
        relist(new, "layer_names", LAYERS)
    assert list(read(tmp_path / "weights.h5")) == list(weight_shapes(CONFIG))


@pytest.mark.usefixtures("uncompiled")
def test_trunk_only_file_and_one_head_of_two(tmp_path):
    params = borzoi_like(head_human=HEAD, head_mouse={**HEAD, "units": 2})
    network = make_network(params, dtype="float32")
    tensors, x = weights_of(network), random_dna(256).astype("float32")
    for heads in ([], ["human"], ["mouse"]):
        config = network.config.with_heads(*heads)
        write_calico_h5(tmp_path / "w.h5", {name: tensors[name] for name in weight_shapes(config)}, config)
        part = Network(config, initialize=False)
        load_weights(part, read_weights(tmp_path / "w.h5", config))
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(part.trunk(x)), keras.ops.convert_to_numpy(network.trunk(x))
        )
        for head in heads:
            np.testing.assert_array_equal(
                keras.ops.convert_to_numpy(part(x)), keras.ops.convert_to_numpy(network(x, head=head))
            )


def test_description_of_the_model_is_never_touched(file, monkeypatch):
    bomb = {
        "class_name": "Functional",
        "config": {"layers": [{"class_name": "Lambda", "config": {"function": ["gASV"]}}]},
    }
    with h5py.File(file, "r+") as h5:
        h5.attrs["model_config"] = json.dumps(bomb)
        h5.attrs["training_config"] = b"\x80\x04not json"
    seen = []
    getitem = h5py.AttributeManager.__getitem__
    monkeypatch.setattr(
        h5py.AttributeManager, "__getitem__", lambda self, key: (seen.append(key), getitem(self, key))[1]
    )
    assert list(read(file)) == list(weight_shapes(CONFIG))
    assert set(seen) == {"layer_names", "weight_names"}


# What is refused


def test_missing_layer(file):
    with h5py.File(file, "r+") as h5:
        relist(h5["model_weights"], "layer_names", [name for name in LAYERS if name != "batch_normalization_6"])
    refused(
        file,
        "no layer left for conv_nac.norm: the network needs more layers of kind 'batch_norm' than the 6 in the file",
    )


def test_extra_layer(file):
    with h5py.File(file, "r+") as h5:
        root = h5["model_weights"]
        extra = root.create_group("dense_9")
        extra["dense_9/kernel:0"], extra["dense_9/bias:0"] = np.zeros((3, 3)), np.zeros(3)
        relist(extra, "weight_names", ["dense_9/kernel:0", "dense_9/bias:0"])
        relist(root, "layer_names", [*LAYERS, "dense_9"])
    refused(file, r"layer 'dense_9' is not part of the network: the file has 8 layers of kind 'dense', .* ask for 7")


@pytest.mark.parametrize(
    ("layer", "weight", "ours"),
    [("dense_1", "bias", "transformer_tower.0.down.bias"), ("conv1d", "bias", "conv_dna.conv.bias"),
     ("multihead_attention", "q_layer/kernel", "transformer_tower.0.attention.q.kernel"),
     ("multihead_attention", "r_k_layer/kernel", "transformer_tower.0.attention.positions.kernel")],
)  # fmt: skip
def test_missing_weight(file, layer, weight, ours):
    with h5py.File(file, "r+") as h5:
        group = h5["model_weights"][layer]
        names = listed(group, "weight_names")
        relist(group, "weight_names", [name for name in names if not name.endswith(f"{weight}:0")])
    refused(file, rf"{layer} has no {ours.rsplit('.', 1)[-1]}|{layer} has no .* \(for {ours}\)")


def test_missing_dataset(file):
    with h5py.File(file, "r+") as h5:
        del h5["model_weights/dense_2/dense_2/kernel:0"]
    refused(file, "dense_2/kernel:0 is listed but not in the file")
    with h5py.File(file, "r+") as h5:
        del h5["model_weights/conv1d_2"]
    refused(file, "/model_weights/conv1d_2 is listed but not in the file")


def test_extra_weight(file):
    with h5py.File(file, "r+") as h5:
        layer = h5["model_weights/multihead_attention"]
        layer["multihead_attention/gate/kernel:0"] = np.zeros((2, 2))
        names = listed(layer, "weight_names")
        relist(layer, "weight_names", [*names, "multihead_attention/gate/kernel:0"])
    refused(file, "multihead_attention/kernel has no place in transformer_tower.0.attention")


def test_two_weights_of_one_name(file):
    with h5py.File(file, "r+") as h5:
        layer = h5["model_weights/multihead_attention"]
        layer["other/q_layer/kernel:0"] = np.zeros((8, 8))
        names = listed(layer, "weight_names")
        relist(layer, "weight_names", [*names, "other/q_layer/kernel:0"])
    refused(file, "layer 'multihead_attention' holds .*, which no layer of a Borzoi network has")


def test_layer_of_an_unknown_kind(file):
    with h5py.File(file, "r+") as h5:
        layer = h5["model_weights/dense"]
        layer["dense/lora_a:0"] = np.zeros((2, 2))
        relist(layer, "weight_names", ["dense/kernel:0", "dense/lora_a:0"])
    refused(file, r"layer 'dense' holds dense/kernel:0, dense/lora_a:0, which no layer .* \(an adapter's unmerged")


@pytest.mark.parametrize("attribute", ["layer_names", "weight_names"])
def test_name_listed_twice(file, attribute):
    with h5py.File(file, "r+") as h5:
        group = h5["model_weights"] if attribute == "layer_names" else h5["model_weights/dense"]
        names = listed(group, attribute)
        relist(group, attribute, [*names, first := names[0]])
    refused(file, f"{first} is listed 2 times in {attribute} of /model_weights")


@pytest.mark.parametrize(
    ("layer", "weight", "shape", "message"),
    [
        (
            "conv1d",
            "kernel",
            (4, 4, 6),
            r"conv1d/kernel has shape \(4, 4, 6\), but conv_dna.conv.kernel needs \(5, 4, 6\)",
        ),
        ("dense_6", "kernel", (10, 4), r"dense_6/kernel has shape \(10, 4\), but head.dense.kernel needs \(10, 3\)"),
        ("batch_normalization", "gamma", (5,), r"has shape \(5,\), but res_tower.0.norm.gamma needs \(6,\)"),
        ("dense_2", "bias", (8, 1), r"dense_2/bias has shape \(8, 1\), but unet_conv_0.dense.bias needs \(8,\)"),
    ],
)
def test_weight_of_another_shape(file, layer, weight, shape, message):
    with h5py.File(file, "r+") as h5:
        replace(h5[f"model_weights/{layer}/{layer}"], f"{weight}:0", np.zeros(shape, dtype="float32"))
    refused(file, message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(file, value):
    with h5py.File(file, "r+") as h5:
        h5["model_weights/dense_4/dense_4/kernel:0"][3, 2] = value
    refused(file, r"dense_4/kernel \(for unet_conv_1.dense.kernel\) has values that are not finite")


def test_value_beyond_float32(file):
    with h5py.File(file, "r+") as h5:
        replace(h5["model_weights/conv1d/conv1d"], "bias:0", np.full(6, 1e300))
    with np.errstate(over="ignore"):
        refused(file, "conv_dna.conv.bias. has values that are not finite")


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64", "S4"])
def test_values_that_are_no_floats(file, dtype):
    with h5py.File(file, "r+") as h5:
        replace(h5["model_weights/conv1d/conv1d"], "bias:0", np.zeros(6, dtype=dtype))
    refused(file, "conv1d/bias is of type .*, expected floats")


def test_wrong_head(tmp_path):
    config = NetworkConfig.from_params(borzoi_like(head_human=HEAD, head_mouse={**HEAD, "units": 2}))
    mouse = config.with_heads("mouse")
    write_calico_h5(tmp_path / "w.h5", random_tensors(mouse), mouse)
    refused(
        tmp_path / "w.h5",
        r"dense_6/kernel has shape \(10, 2\), but head_human.dense.kernel needs \(10, 3\)",
        config.with_heads("human"),
    )
    refused(tmp_path / "w.h5", "layer 'dense_6' is not part of the network", config.with_heads())
    trunk = config.with_heads()
    write_calico_h5(tmp_path / "w.h5", random_tensors(trunk), trunk)
    refused(
        tmp_path / "w.h5", "no layer left for head_mouse.dense: the network needs more layers of kind 'dense'", mouse
    )


def test_soft_link(file):
    with h5py.File(file, "r+") as h5:
        layer = h5["model_weights/conv1d/conv1d"]
        del layer["bias:0"]
        layer["bias:0"] = h5py.SoftLink("/model_weights/conv1d_1/conv1d_1/bias:0")
    refused(file, "conv1d/bias:0 is a link, not data stored in the file itself")


@pytest.mark.parametrize("place", ["model_weights/conv1d/conv1d/bias:0", "model_weights/conv1d", "model_weights"])
def test_external_link(file, tmp_path, place):
    other = tmp_path / "other.h5"
    write_calico_h5(other, random_tensors(CONFIG, 1), CONFIG)
    with h5py.File(file, "r+") as h5:
        attributes = dict(h5["model_weights"].attrs)
        del h5[place]
        h5[place] = h5py.ExternalLink(str(other), place)
        assert attributes
    refused(file, "is a link, not data stored in the file itself")


def test_external_storage(file, tmp_path):
    (tmp_path / "secret").write_bytes(np.arange(6, dtype="float32").tobytes())
    with h5py.File(file, "r+") as h5:
        layer = h5["model_weights/conv1d/conv1d"]
        del layer["bias:0"]
        layer.create_dataset("bias:0", shape=(6,), dtype="float32", external=[(str(tmp_path / "secret"), 0, 24)])
    refused(file, "conv1d/bias:0 is not a dataset stored in the file itself")


def test_virtual_dataset(file, tmp_path):
    other = tmp_path / "other.h5"
    write_calico_h5(other, random_tensors(CONFIG, 1), CONFIG)
    layout = h5py.VirtualLayout(shape=(6,), dtype="float32")
    layout[:] = h5py.VirtualSource(str(other), "model_weights/conv1d/conv1d/bias:0", shape=(6,))
    with h5py.File(file, "r+") as h5:
        layer = h5["model_weights/conv1d/conv1d"]
        del layer["bias:0"]
        layer.create_virtual_dataset("bias:0", layout)
    refused(file, "conv1d/bias:0 is not a dataset stored in the file itself")


@pytest.mark.parametrize("name", ["conv1d/../conv1d/bias:0", ".", "/model_weights/dense/dense/bias:0", "conv1d"])
def test_odd_paths_in_the_list_of_weights(file, name):
    with h5py.File(file, "r+") as h5:
        relist(h5["model_weights/conv1d"], "weight_names", ["conv1d/kernel:0", name])
    refused(file, "is listed but not in the file|is not a dataset stored in the file itself")


def test_lists_of_names_that_are_none(file):
    with h5py.File(file, "r+") as h5:
        h5["model_weights"].attrs["layer_names"] = 5
    refused(file, "the file is truncated or damaged")
    with h5py.File(file, "r+") as h5:
        h5["model_weights"].attrs["layer_names"] = [1.5, 2.5]
    refused(file, "/model_weights/1.5 is listed but not in the file")
    with h5py.File(file, "r+") as h5:
        h5["model_weights"].attrs["layer_names"] = np.array([b"\xff\xfe"])
    refused(file, "the file is truncated or damaged")
    with h5py.File(file, "r+") as h5:
        del h5["model_weights"].attrs["layer_names"]
    refused(file, r"no list of layers; expected a file saved by Keras 2 \(Calico's SeqNN.save\)")


def test_group_of_attention_without_folders(file):
    with h5py.File(file, "r+") as h5:
        layer = h5["model_weights/multihead_attention"]
        layer["r_w_bias:0"], layer["kernel:0"] = np.zeros((1, 2, 1, 4)), np.zeros((8, 8))
        relist(layer, "weight_names", ["r_w_bias:0", "kernel:0"])
    refused(file, "multihead_attention/kernel has no place in transformer_tower.0.attention")


BAD_FILES = {
    "empty": (b"", "but the file is empty"),
    "HTML": (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "looks like an HTML page, so the download went wrong"),
    "XML": (b"  <?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "looks like an HTML page"),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin.", "it is not an HDF5 file"),
    "text": (b"weights", "it is not an HDF5 file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_file_of_another_kind(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / "w.h5").write_bytes(content)
    refused(tmp_path / "w.h5", rf"expected Calico's weights \(\.h5\), but {message}|{message}")


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path / "none.h5", "no such file")
    refused(tmp_path, r"cannot be read \(Is a directory\)")


def test_truncated_file(file):
    good = file.read_bytes()
    for kept in [9, 600, *np.linspace(1000, len(good) - 1, 30).astype(int)]:
        file.write_bytes(good[:kept])
        refused(file, "the file is truncated or damaged")


# What is written


def test_incomplete_tensors_write_nothing(tmp_path):
    tensors = random_tensors(CONFIG)
    cases = [
        (
            {name: value for name, value in tensors.items() if name != "conv_nac.conv.bias"},
            "conv_nac.conv.bias is missing",
        ),
        ({**tensors, "adapter.a": np.zeros(2)}, "adapter.a is not a weight of the network"),
        ({**tensors, "conv_nac.conv.bias": np.zeros(3)}, r"conv_nac.conv.bias has shape \(3,\), expected \(10,\)"),
    ]
    for bad, message in cases:
        with pytest.raises(WeightsError, match=message):
            write_calico_h5(tmp_path / "w.h5", bad, CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_one_tensor_is_held_at_a_time(tmp_path):
    import tracemalloc

    block = {"name": "conv_nac", "filters": 256, "kernel_size": 8}
    config = NetworkConfig.from_params(make_params(*[block] * 9, norm_type=None, seq_length=8))
    tensors = random_tensors(config)
    write_calico_h5(tmp_path / "w.h5", tensors, config)
    largest, everything = 256 * 256 * 8 * 4, sum(value.nbytes for value in tensors.values())
    del tensors
    tracemalloc.start()
    for _, value in read_calico_h5(tmp_path / "w.h5", config):
        assert value.nbytes <= largest
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert everything > 8 * largest and peak < 3 * largest
