"""A training step gives the gradient of the loss, of the stated weights only, and runs nothing else in between."""

import keras
import numpy as np
import pytest
from adapter_cases import METHOD_CASES, random_tensors
from training_cases import MemoryStore, loss, small_config, small_network, training_step

from kipoi_borzoi.adapters.full import Full
from kipoi_borzoi.adapters.houlsby_se import HoulsbySE
from kipoi_borzoi.adapters.linear import Linear
from kipoi_borzoi.adapters.locon import Locon
from kipoi_borzoi.adapters.lora import Lora
from kipoi_borzoi.network.network import named_weights

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="training needs TensorFlow")


def values(variables):
    return {name: np.array(keras.ops.convert_to_numpy(variable.value)) for name, variable in variables.items()}


def a_batch(config, count=2, dtype=np.float32):
    store = MemoryStore(config)
    x = np.stack([store.sequence(i, dtype) for i in range(count)])
    return x, np.stack([store.targets(i) for i in range(count)]).astype(dtype)


@pytest.mark.parametrize("name", [name for name in METHOD_CASES if name != "ia3 by width"])
def test_gradients_equal_finite_differences(name, uncompiled):
    method = METHOD_CASES[name]
    config = small_config(dropout=0)
    network = small_network(config, dtype="float64")
    step = training_step(network, method, random_tensors, tile_bp=64)
    x, y = a_batch(config, dtype=np.float64)
    _, gradients = step(x, y, (0, 0))
    random = np.random.default_rng(5)
    before = values(step.sites.variables)
    direction = {name: random.standard_normal(v.shape) for name, v in values(step.variables).items()}
    slope = sum(float((np.asarray(g) * direction[name]).sum()) for name, g in zip(step.variables, gradients, strict=True))

    def at(size):
        for name, variable in step.sites.variables.items():
            variable.assign(before[name] + (size * direction[name] if name in direction else 0))
        return float(step(x, y, (0, 0))[0])

    # The variables of inserts are float32, so that each misses its step by up to 3e-8 of its value, in either
    # direction; larger steps would cross more kinks of ReLU and pooling.
    size = 2.0**-15
    assert (at(size) - at(-size)) / (2 * size) == pytest.approx(slope, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("name", ["locon", "houlsby_se", "full", "linear", "lora_conv all"])
def test_recomputing_gives_the_same_step_with_dropout(name, uncompiled):
    results = []
    for recompute in (False, True):
        network = small_network(small_config(dropout=0.3))
        step = training_step(network, METHOD_CASES[name], random_tensors, recompute=recompute, tile_bp=64)
        x, y = a_batch(network.config)
        found, gradients = step(x, y, (7, 11))
        results.append((float(found), [np.asarray(g) for g in gradients], values(step.sites.variables)))
    (one, ones, held), (two, twos, held_again) = results
    assert two == pytest.approx(one, rel=1e-6)
    largest = max(np.abs(gradient).max() for gradient in ones)
    for name, a, b in zip(step.variables, ones, twos, strict=True):
        # Of the largest gradient: a bias before batch norm has none but rounding.
        assert np.abs(b - a).max() < 1e-5 * largest, name
    for name, value in held.items():  # moving averages of batch norm take one step, not two
        np.testing.assert_allclose(held_again[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_dropout_follows_from_seed_and_number(uncompiled):
    network = small_network(small_config(dropout=0.3))
    step = training_step(network, Lora(rank=2, alpha=2), random_tensors)
    x, y = a_batch(network.config)
    losses = [float(step(x, y, seed)[0]) for seed in [(1, 1), (1, 2), (2, 1), (1, 1)]]
    assert losses[0] == losses[3] and len(set(losses)) == 3
    off = training_step(network, Lora(rank=2, alpha=2), random_tensors, dropout=False)
    assert float(off(x, y, (1, 1))[0]) == float(off(x, y, (1, 2))[0])
    predicted = step.predictor.predict(x)
    assert float(off(x, y, (1, 1))[0]) == pytest.approx(float(loss(y, predicted)), rel=1e-5)


@pytest.mark.parametrize("name", list(METHOD_CASES))
def test_only_the_stated_weights_change(name, uncompiled):
    network = small_network()
    base = values(named_weights(network))
    step = training_step(network, METHOD_CASES[name], tile_bp=64)
    before, (x, y) = values(step.sites.variables), a_batch(network.config)
    _, gradients = step(x, y, (0, 0))
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.apply(gradients, list(step.variables.values()))
    for weight, value in values(named_weights(network)).items():
        np.testing.assert_array_equal(value, base[weight], err_msg=weight)
    changed = {weight for weight, value in values(step.sites.variables).items() if (value != before[weight]).any()}
    statistics = {weight for weight in before if "moving" in weight}
    assert changed & statistics == (statistics if name == "full" else set())
    stated = step.sites.adapter.scheme
    held = {weight for weight in stated.shapes() if "moving" not in weight}
    assert changed - statistics <= held == set(step.variables)
    # Identity at the start: the ways down have no gradient yet, everything else has.
    still = {weight for weight in held - changed if not weight.endswith((".lora_a.kernel", "_down.kernel"))}
    still = {w for w in still if not w.endswith((".down.kernel", ".down.bias", "squeeze.kernel", "excite.kernel"))}
    if name == "full":  # a bias before batch norm changes nothing
        still = {weight for weight in still if not weight.endswith("bias")}
    assert not still


@pytest.mark.parametrize(
    ("method", "first"), [(Linear(), None), (Lora(rank=2, alpha=2), "transformer_tower"), (Locon(conv_select=2), "res_tower.1")]
)
def test_units_below_the_first_adapted_one_are_not_in_the_differentiated_program(method, first, monkeypatch):
    import tensorflow as tf

    network = small_network()
    step = training_step(network, method, tile_bp=64)
    taped: list[str] = []
    for unit in network.units:
        def forward(*args, unit=unit, original=unit.forward, **options):
            y, kept = original(*args, **options)
            if any(tape.watched_variables() for tape in tapes):
                taped.append(unit.dotted)
            return y, kept

        monkeypatch.setattr(unit, "forward", forward)
    tapes: list = []

    class Tape(tf.GradientTape):
        def __enter__(self):
            tapes.append(self)
            return super().__enter__()

        def __exit__(self, *exception):
            tapes.remove(self)
            return super().__exit__(*exception)

    monkeypatch.setattr(tf, "GradientTape", Tape)
    x, y = a_batch(network.config)
    _, gradients = step(x, y, (0, 0))
    assert len(gradients) == len(step.variables)
    names = [unit.name for unit in network.layout.units]
    start = len(names) if first is None else next(i for i, name in enumerate(names) if name.startswith(first))
    assert step.first_unit == start
    assert list(dict.fromkeys(taped)) == names[start:]


def test_mixed_precision_is_close(uncompiled):
    network = small_network(small_config(dropout=0))
    x, y = a_batch(network.config)
    steps = [training_step(network, Locon(conv_select=2, rank=2), random_tensors, precision=p) for p in ("float32", "mixed_bfloat16")]
    (one, ones), (two, twos) = [step(x, y, (0, 0)) for step in steps]
    assert float(two) == pytest.approx(float(one), rel=0.02) and float(two) != float(one)
    flat = [np.concatenate([np.asarray(g, dtype=np.float32).ravel() for g in gradients]) for gradients in (ones, twos)]
    assert np.corrcoef(*flat)[0, 1] > 0.99  # bfloat16 has 8 bits
    assert {str(np.asarray(g).dtype) for g in twos} == {"float32"}


def test_the_whole_of_full_is_differentiated_and_its_averages_move(uncompiled):
    network = small_network(small_config(dropout=0))
    step = training_step(network, Full())
    assert step.first_unit == 0
    before = values(step.sites.variables)
    x, y = a_batch(network.config)
    step(x, y, (0, 0))
    name = next(name for name in before if name.endswith("moving_mean"))
    assert (values(step.sites.variables)[name] != before[name]).any()


def test_squeeze_excite_sees_whole_levels(uncompiled):
    network = small_network(small_config(dropout=0))
    step = training_step(network, HoulsbySE(latent=2, conv_select=2, bottleneck=2), random_tensors)
    x, y = a_batch(network.config)
    found, _ = step(x, y, (0, 0))
    assert float(found) == pytest.approx(float(loss(y, step.predictor.predict(x))), rel=1e-5)
