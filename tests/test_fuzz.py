"""Readers of files from elsewhere meet damage with an error of this package, or read on; a longer run is benchmarks/fuzz.py."""

import keras
import pytest
from fuzz_targets import TARGETS, fuzz

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the readers need no backend; once is enough")


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_are_read(name, tmp_path):
    TARGETS[name].make(tmp_path)
    TARGETS[name].read(tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_raise_nothing_else(name):
    cases, failures = fuzz(name, TARGETS[name], seed=1, seconds=5, cases=60)
    assert cases > 0 and failures == []
