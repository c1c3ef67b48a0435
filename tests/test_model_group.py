"""Models of one base predicted in one call give what each gives by itself, and share what they share in memory."""

from dataclasses import replace

import numpy as np
import pytest
from adapter_cases import METHOD_CASES
from tuned_models import make_base, parts_of, write_adapter

from kipoi_borzoi import load_model
from kipoi_borzoi.adapters.adapter import Adapter
from kipoi_borzoi.adapters.directory import load_adapter, save_adapter
from kipoi_borzoi.adapters.sites import AdapterSites
from kipoi_borzoi.errors import InputError, ZooError
from kipoi_borzoi.model import BorzoiModel
from kipoi_borzoi.network.network import named_weights
from kipoi_borzoi.provenance import describe_model
from kipoi_borzoi.zoo import zoo_import, zoo_publish

TOLERANCE = 1e-5  # of the largest output: float32 rounding over a dozen layers
PUBLISHED = ["linear", "lora", "locon", "ia3", "houlsby", "full"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A zoo with a base, published adapters and a second base; an adapter directory that is not published."""
    folder = tmp_path_factory.mktemp("group")
    network = make_base(folder / "parts", seed=1)
    (folder / "zoo").mkdir()
    zoo_import("lab/base", **parts_of(folder / "parts"), head="human", zoo=folder / "zoo")
    make_base(folder / "other", seed=2)
    zoo_import("lab/other", **parts_of(folder / "other"), head="human", zoo=folder / "zoo")
    for name in [*PUBLISHED, "lora_full"]:
        write_adapter(folder / "adapters" / name, network, METHOD_CASES[name])
    for name in PUBLISHED:
        zoo_publish(folder / "adapters" / name, f"lab/{name}", zoo=folder / "zoo")
    return folder


@pytest.fixture(scope="module")
def zoo(bench):
    return bench / "zoo"


@pytest.fixture(scope="module")
def x():
    return np.eye(4, dtype=np.float32)[np.random.default_rng(6).integers(0, 4, (2, 256))]


def close(got, expected):
    return got.shape == expected.shape and np.abs(got - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("view", ["coverage", "logsum"])
def test_a_group_equals_separate_calls(view, bench, zoo, x, uncompiled):
    directory = str(bench / "adapters" / "lora_full")
    names = [*(f"lab/{name}" for name in PUBLISHED), directory, "lab/base"]
    group = load_model("lab/base", adapters=names, view=view, zoo=zoo)
    options = {"rc": True, "shifts": [0, 1]}
    got = group.predict_on_batch(x, tracks={"lab/lora": ["track2", "track0"]}, **options)
    assert list(got) == names
    for name in names:
        model = group.models[name]
        chosen = ["track2", "track0"] if name == "lab/lora" else None
        assert close(got[name], model.predict_on_batch(x, tracks=chosen, **options)), name
    assert len({id(model.predictors[0].network) for model in group.models.values()}) == 1


def test_the_base_below_the_first_adapted_layer_runs_once(zoo, x, monkeypatch, uncompiled):
    group = load_model("lab/base", adapters=["lab/lora", "lab/ia3", "lab/houlsby"], zoo=zoo)
    from kipoi_borzoi.inference import predictor

    calls = []
    through_tiles = predictor.Predictor._through_tiles
    monkeypatch.setattr(
        predictor.Predictor, "_through_tiles", lambda self, *args: calls.append(1) or through_tiles(self, *args)
    )
    group.predict_on_batch(x)
    together = len(calls)
    calls.clear()
    for model in group.models.values():
        model.predict_on_batch(x)
    assert 0 < 3 * together == len(calls)


def test_ten_adapters_cost_their_own_weights_only(bench, zoo):
    adapters = [str(bench / "adapters" / "locon"), *(f"lab/{name}" for name in PUBLISHED if name != "full")]
    group = load_model("lab/base", adapters=adapters, zoo=zoo)
    network = group.models["lab/lora"].predictors[0].network
    frozen = {id(variable) for variable in named_weights(network).values()}
    for name, model in group.models.items():
        sites = model.predictors[0].sites
        assert isinstance(sites, AdapterSites)
        assert set(sites.variables) == set(model.adapter.adapter.scheme.shapes()), name
        assert not frozen & {id(variable) for variable in sites.variables.values()}


def test_provenance_tells_apart_adapters_that_differ_in_a_setting_alone(bench, zoo, tmp_path):
    directories = [str(bench / "adapters" / "lora"), str(tmp_path / "stronger")]
    stored = load_adapter(directories[0])
    scheme = replace(stored.adapter.scheme, method=replace(stored.adapter.method, alpha=50))
    stronger = Adapter(scheme, stored.adapter.tensors)
    save_adapter(directories[1], stronger, bench / "adapters/lora/targets.txt", "lab/base", stored.base_sha256, "old")
    group = load_model("lab/base", adapters=directories, zoo=zoo)
    one, other = (describe_model("m", group.models[name]) for name in directories)
    assert one != other and {**one, "adapter_method": None} == {**other, "adapter_method": None}


def test_a_model_alone(zoo):
    assert isinstance(load_model("lab/lora", zoo=zoo), BorzoiModel)
    assert load_model("lab/lora/sum", zoo=zoo).view == "coverage"  # the argument decides


@pytest.mark.parametrize(
    ("name", "adapters", "error", "message"),
    [
        ("lab/base", [], InputError, "expected a list of one name or more"),
        ("lab/base", "lab/lora", InputError, "expected a list of one name or more"),
        ("lab/base", ["lab/lora", "lab/lora"], InputError, "lab/lora is given twice"),
        ("lab/lora", ["lab/ia3"], InputError, "lab/lora is itself an adapter; name its base"),
        ("lab/other", ["lab/other", "lab/lora"], InputError, "lab/lora stands on another base than lab/other"),
        ("lab/base", ["lab/nothing"], ZooError, "no entry 'lab/nothing'"),
        ("lab", None, ZooError, "'lab' is a folder of 8 models; name one"),
    ],
)
def test_what_cannot_be_loaded(name, adapters, error, message, zoo):
    with pytest.raises(error, match=message):
        load_model(name, adapters=adapters, zoo=zoo)


def test_options_of_a_group(zoo, x):
    group = load_model("lab/base", adapters=["lab/lora"], zoo=zoo)
    with pytest.raises(InputError, match="tracks are given for 'lab/ia3'; the models are: lab/lora"):
        group.predict_on_batch(x, tracks={"lab/ia3": [0]})
    with pytest.raises(InputError, match="the batch is empty"):
        group.predict_on_batch(x[:0])
    with pytest.raises(InputError, match="sequences have shape"):
        group.predict_on_batch(x[:, :100])
