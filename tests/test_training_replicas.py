"""Two devices give the gradient of one, and keep the same weights."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="training needs TensorFlow")

PROGRAM = """
import json, os, sys
sys.path.insert(0, {tests!r})
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from adapter_cases import METHOD_CASES, random_tensors
from training_cases import MemoryStore, small_config, small_network, training_step
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.training.replicas import Replicas, pick_devices
config = small_config(dropout=0)
store = MemoryStore(config)
x = np.stack([store.sequence(i) for i in range(4)])
y = np.stack([store.targets(i) for i in range(4)]).astype(np.float32)
make = lambda: training_step(small_network(config), METHOD_CASES["locon"], random_tensors)
one, two = make(), Replicas(make, ["CPU:0", "CPU:1"])
found = [step(x, y, (0, 0), range(4)) for step in (one, two)]
difference = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(found[0][1], found[1][1]))
places = sorted({{value.value.device[-5:] for step in two.steps for value in step.variables.values()}})
for value in two.variables.values():
    value.assign(value.value + 1)
two.synchronize()
same = all(np.array_equal(two.steps[0].variables[n].numpy(), two.steps[1].variables[n].numpy()) for n in two.variables)
try:
    pick_devices(64)
except InputError as error:
    message = str(error)
print(json.dumps([float(found[0][0]), float(found[1][0]), difference, places, same, message]))
"""


def test_two_devices_give_the_gradient_of_one():
    program = PROGRAM.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two, difference, places, same, message = json.loads(done.stdout.splitlines()[-1])
    assert one == pytest.approx(two, rel=1e-5) and difference < 1e-3 and same
    assert places == ["CPU:0", "CPU:1"] and "devices is 64" in message
