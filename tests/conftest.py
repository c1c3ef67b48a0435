"""Fixtures that many test files share."""

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

# Importing Kipoi writes ~/.kipoi/config.yaml: no test may touch the user's own.
_HOME = tempfile.TemporaryDirectory(prefix="kipoi_borzoi_tests_")
os.environ["HOME"] = _HOME.name

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and recorded reference values, or a skip where there is none."""
    folder = Path(os.environ.get("KIPOI_BORZOI_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data not found: no folder {folder} (set KIPOI_BORZOI_TEST_DATA to its place)")
    return folder


@pytest.fixture
def uncompiled():
    """Run TensorFlow's compiled functions op by op: for tests of many shapes, each of which would be compiled."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def small_params() -> dict:
    """Calico params of a narrow network with every kind of block of the published Borzoi, 512 bp, 28 bins of 16 bp."""
    return {
        "model": {
            "seq_length": 512,
            "activation": "gelu",
            "norm_type": "batch-sync",
            "bn_momentum": 0.9,
            "kernel_initializer": "lecun_normal",
            "l2_scale": 2e-8,
            "trunk": [
                {"name": "conv_dna", "filters": 8, "kernel_size": 15, "norm_type": None, "activation": "linear",
                 "pool_size": 2},
                {"name": "res_tower", "filters_init": 8, "filters_end": 16, "divisible_by": 4, "kernel_size": 5,
                 "num_convs": 1, "pool_size": 2, "repeat": 4},
                {"name": "transformer_tower", "key_size": 4, "heads": 2, "num_position_features": 8,
                 "dropout": 0.2, "mha_l2_scale": 1e-8, "l2_scale": 1e-8, "kernel_initializer": "he_normal",
                 "repeat": 2},
                {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
                {"name": "Cropping1D", "cropping": 2},
                {"name": "conv_nac", "filters": 24, "dropout": 0.1},
            ],
            "head_human": {"name": "final", "units": 6, "activation": "softplus"},
            "head_mouse": {"name": "final", "units": 4, "activation": "softplus"},
        }
    }  # fmt: skip
