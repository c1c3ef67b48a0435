"""Our own weights files: what is written comes back, and anything that is not exactly right is named."""

import json
import os
import pickle
import struct
import tracemalloc

import keras
import numpy as np
import pytest
from network_cases import borzoi_like, largest_difference, make_network, random_dna, weights_of

from kipoi_borzoi.errors import WeightsError
from kipoi_borzoi.network.calico_h5 import write_calico_h5
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network
from kipoi_borzoi.network.schema import weight_shapes
from kipoi_borzoi.network.weights import load_safetensors, load_weights, read_weights, save_safetensors

SHAPES = {"a.kernel": (2, 3), "a.bias": (3,), "b.scale": ()}


def tensors():
    random = np.random.default_rng(0)
    return {name: np.asarray(random.normal(size=shape), dtype="float32") for name, shape in SHAPES.items()}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_safetensors(path, tensors())
    return path


def refused(path, message, shapes=SHAPES):
    """Assert that reading is refused with this message, the file named first."""
    with pytest.raises(WeightsError, match=message) as info:
        dict(load_safetensors(path, shapes))
    assert str(info.value).startswith(f"{path}: ")


def write_raw(path, header, data=b"", size=None):
    """Write a safetensors file from its parts: size of the header, header, data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + data)


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_round_trip(file):
    again = dict(load_safetensors(file, SHAPES))
    assert list(again) == list(SHAPES)
    for name, value in tensors().items():
        assert again[name].dtype == np.float32
        np.testing.assert_array_equal(again[name], value)


def test_writing_casts_to_float32_and_keeps_metadata(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "w.safetensors"
    save_safetensors(path, {"a": np.arange(6).reshape(2, 3).T}, metadata={"format": "kipoi-borzoi"})
    assert dict(load_safetensors(path, {"a": (3, 2)}))["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    with safe_open(path, framework="numpy") as stored:
        assert stored.metadata() == {"format": "kipoi-borzoi"}
    assert os.listdir(tmp_path) == ["w.safetensors"]  # and no temporary is left


def test_failed_writing_leaves_the_old_file(file):
    before = file.read_bytes()
    with pytest.raises(ValueError):
        save_safetensors(file, {"a": np.array(["text"])})
    assert file.read_bytes() == before and os.listdir(file.parent) == [file.name]


def test_tensor_missing(file):
    refused(file, "c.bias is missing", {**SHAPES, "c.bias": (1,)})
    wanted = {**SHAPES, **{f"c{index}": (1,) for index in range(5)}}
    refused(file, "c0, c1, c2 and 2 more are missing", wanted)


def test_tensor_too_many(file):
    refused(file, "a.bias is not part of the network", {name: SHAPES[name] for name in ("a.kernel", "b.scale")})
    refused(file, "a.bias, a.kernel, b.scale are not part of the network", {})


def test_tensor_of_another_shape(file):
    refused(file, r"a.kernel has shape \(2, 3\), expected \(3, 2\)", {**SHAPES, "a.kernel": (3, 2)})
    refused(file, r"b.scale has shape \(\), expected \(1,\)", {**SHAPES, "b.scale": (1,)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path, value):
    bad = tensors()
    bad["a.kernel"][1, 1] = value
    save_safetensors(tmp_path / "w.safetensors", bad)
    refused(tmp_path / "w.safetensors", "a.kernel has values that are not finite")


@pytest.mark.parametrize(("dtype", "size"), [("F16", 2), ("BF16", 2), ("F64", 8), ("I32", 4), ("U8", 1), ("BOOL", 1)])
def test_other_types(tmp_path, dtype, size):
    path = tmp_path / "w.safetensors"
    write_raw(path, {"a": entry(dtype, [3], 0, 3 * size)}, bytes(3 * size))
    refused(path, f"a is of type {dtype}, expected F32", {"a": (3,)})


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path / "none.safetensors", "no such file")
    refused(tmp_path, r"cannot be read|not a whole safetensors file")


class Bomb:
    """Unpickling it would create a file."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


BAD_FILES = {
    "empty": b"",
    "three bytes": b"abc",
    "pickle": pickle.dumps({"a": Bomb()}),
    "HTML": b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>",
    "zip": b"PK\x03\x04" + bytes(100),
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_file_of_another_kind(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.safetensors"
    path.write_bytes(BAD_FILES[name])
    refused(path, "not a whole safetensors file")
    assert os.listdir(tmp_path) == [path.name]


BAD_HEADERS = {
    "too large": ({"a": entry("F32", [1], 0, 4)}, bytes(4), 2**40),
    "largest number": ({"a": entry("F32", [1], 0, 4)}, bytes(4), 2**64 - 1),
    "longer than the file": ({"a": entry("F32", [1], 0, 4)}, bytes(4), 5000),
    "no JSON": (b"{'a': 1}", b"", None),
    "no UTF-8": (b'{"\xff\xfe": 1}', b"", None),
    "a list": (b"[]", b"", None),
    "too deep": (b'{"a":' * 50_000, b"", None),
    "entry without a type": ({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4), None),
    "unknown type": ({"a": entry("F33", [1], 0, 4)}, bytes(4), None),
    "negative shape": ({"a": entry("F32", [-1], 0, 4)}, bytes(4), None),
    "shape beyond numbers": ({"a": entry("F32", [2**62, 2**62], 0, 4)}, bytes(4), None),
    "shape and size disagree": ({"a": entry("F32", [3], 0, 4)}, bytes(4), None),
    "reversed": ({"a": entry("F32", [1], 4, 0)}, bytes(4), None),
    "overlapping": ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12), None),
    "with a hole": ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12), None),
    "beyond the end": ({"a": entry("F32", [4], 0, 16)}, bytes(8), None),
    "data left over": ({"a": entry("F32", [1], 0, 4)}, bytes(400), None),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_bad_header(tmp_path, name):
    path = tmp_path / "w.safetensors"
    write_raw(path, *BAD_HEADERS[name])
    refused(path, "not a whole safetensors file", {"a": (1,)})


def test_truncated_file(file):
    good = file.read_bytes()
    for kept in range(0, len(good), 7):
        file.write_bytes(good[:kept])
        refused(file, "not a whole safetensors file")


def test_damaged_files_never_raise_anything_else(file):
    good, random = file.read_bytes(), np.random.default_rng(5)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        bad = bytearray(good)
        bad[random.integers(0, len(bad))] = random.integers(0, 256)
        file.write_bytes(bad)
        try:
            again = dict(load_safetensors(file, SHAPES))
        except WeightsError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert {name: value.shape for name, value in again.items()} == SHAPES
    assert min(outcomes.values()) > 5  # both happen: the file has no checksum of its own


def test_one_tensor_is_held_at_a_time(tmp_path):
    shapes = {f"t{index}": (512, 512) for index in range(10)}
    save_safetensors(tmp_path / "w.safetensors", {name: np.ones(shape, "float32") for name, shape in shapes.items()})
    tracemalloc.start()
    count = sum(int(value.size) for _, value in load_safetensors(tmp_path / "w.safetensors", shapes))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 10 * 2**18 and peak < 3 * 2**20  # of 10 MiB


# Networks


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("suffix", ["safetensors", "h5"])
def test_network_computes_the_same_after_saving_and_loading(tmp_path, suffix):
    network, x = make_network(borzoi_like(), dtype="float32"), random_dna(256).astype("float32")
    path = tmp_path / f"w.{suffix}"
    if suffix == "h5":
        write_calico_h5(path, weights_of(network), network.config)
    else:
        save_safetensors(path, weights_of(network))
    other = Network(network.config, initialize=False)
    load_weights(other, read_weights(path, network.config))
    assert largest_difference(other(x), keras.ops.convert_to_numpy(network(x))) == 0


def test_kind_of_file_is_told_by_content(tmp_path):
    config = NetworkConfig.from_params(borzoi_like())
    values = {name: np.ones(shape, "float32") for name, shape in weight_shapes(config).items()}
    write_calico_h5(tmp_path / "named_wrongly.safetensors", values, config)
    assert dict(read_weights(tmp_path / "named_wrongly.safetensors", config)).keys() == values.keys()
    save_safetensors(tmp_path / "w.h5", values)
    with pytest.raises(WeightsError, match="w.h5: expected Calico's weights .*, but it is not an HDF5 file"):
        dict(read_weights(tmp_path / "w.h5", config))
    with pytest.raises(WeightsError, match="none.safetensors: no such file"):
        dict(read_weights(tmp_path / "none.safetensors", config))


def test_loading_needs_exactly_the_weights_of_the_network():
    network = make_network(borzoi_like(), dtype="float32")
    good = weights_of(network)
    cases = [
        ({name: value for name, value in good.items() if name != "head.dense.bias"}, "head.dense.bias is missing"),
        ({**good, "lora.a": np.zeros(1)}, "the network has no weight lora.a"),
        ({**good, "head.dense.bias": np.zeros(4)}, r"head.dense.bias has shape \(4,\), the network's is \(3,\)"),
    ]
    for bad, message in cases:
        with pytest.raises(WeightsError, match=message):
            load_weights(network, bad)
        with pytest.raises(WeightsError, match=message):
            load_weights(network, iter(bad.items()))
    with pytest.raises(WeightsError, match="the network has no weight head.dense.bias"):
        load_weights(network, iter([*good.items(), ("head.dense.bias", np.zeros(3))]))  # twice


def test_weights_of_another_network_are_refused(tmp_path):
    network = make_network(borzoi_like(), dtype="float32")
    save_safetensors(tmp_path / "w.safetensors", weights_of(network))
    wider = NetworkConfig.from_params(borzoi_like({"key_size": 5}))
    with pytest.raises(WeightsError, match=r"attention.r_w_bias has shape \(1, 2, 1, 4\), expected \(1, 2, 1, 5\)"):
        load_weights(Network(wider, initialize=False), read_weights(tmp_path / "w.safetensors", wider))
