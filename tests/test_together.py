"""Adapters predicted together give what each gives by itself."""

import numpy as np
import pytest
from network_cases import borzoi_like

from kipoi_borzoi.adapters.registry import make_method
from kipoi_borzoi.adapters.sites import make_adapter
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.predictor import Predictor
from kipoi_borzoi.inference.together import Member, Together
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, random_weights

METHODS = [
    ("linear", {}, "tanh"),
    ("lora", {}, "tanh"),
    ("ia3", {}, "tanh"),
    ("locon", {"conv_select": 2}, "tanh"),
    ("locon", {"conv_select": 3}, "erf"),
    ("houlsby", {}, "tanh"),
    ("houlsby_se", {"conv_select": 2}, "tanh"),
    ("full", {}, "tanh"),
]


@pytest.fixture(scope="module")
def base():
    config = NetworkConfig.from_params(borzoi_like(seq_length=512, head={"name": "final", "units": 4, "activation": "softplus"}))
    network = Network(config)
    random_weights(network, seed=11)
    return network


@pytest.fixture(scope="module")
def members(base):
    """The base and an adapter of every kind, each away from the identity and with its own number of tracks."""
    members = [Member(Predictor(base, tile_bp=128), strand_pair=[1, 0, 2, 3])]
    random = np.random.default_rng(12)
    for number, (name, settings, gelu) in enumerate(METHODS):
        sites = make_adapter(base, make_method(name, settings), tracks=2 + number % 3, seed=number, gelu=gelu)
        for variable in sites.trainable_variables:
            variable.assign(np.asarray(variable) + 0.1 * random.standard_normal(variable.shape).astype(np.float32))
        members.append(Member(Predictor(base, sites, tile_bp=128), strand_pair=list(range(2 + number % 3))))
    return members


def test_together_equals_one_by_one(members):
    x = np.eye(4, dtype=np.float32)[np.random.default_rng(13).integers(0, 4, (2, 512))]
    options = {"rc": True, "shifts": [0, 1]}
    results = Together(members).predict(x, **options)
    for member, result in zip(members, results, strict=True):
        alone = member.predictor.predict(x, strand_pair=member.strand_pair, **options)
        assert result.shape == alone.shape
        assert np.abs(result - alone).max() <= 1e-5 * np.abs(alone).max()
    assert np.abs(results[1][..., :2] - results[2][..., :2]).max() > 1e-3


def test_the_shared_part_is_run_once(members, monkeypatch):
    calls = []
    advance = Predictor.advance

    def counted(self, state, unit, layout, precision):
        if state.unit < unit:
            calls.append((self, state.unit, unit))
        return advance(self, state, unit, layout, precision)

    monkeypatch.setattr(Predictor, "advance", counted)
    x = np.eye(4, dtype=np.float32)[np.random.default_rng(14).integers(0, 4, (1, 512))]
    chosen = [members[i] for i in (1, 2, 3, 6)]  # linear, lora, ia3, houlsby: all leave the base after the stem
    together = Together(chosen)
    together.predict(x)
    base = together._bases["tanh"]
    stem = base.layout().stem
    assert [call[1:] for call in calls if call[0] is base][0] == (0, stem)
    assert all(first >= stem for predictor, first, _ in calls if predictor is not base)


def test_compiled_programs_outlive_the_call(members):
    x = np.eye(4, dtype=np.float32)[np.random.default_rng(16).integers(0, 4, (1, 512))]
    chosen = [members[1], members[2]]  # linear, lora
    bases = [Together(chosen)._bases["tanh"] for _ in range(2)]
    assert bases[0] is bases[1] and Together(members)._bases["tanh"] is members[0].predictor
    Together(chosen).predict(x)
    programs = {id(one): set(one._compiled) for one in (bases[0], *(member.predictor for member in chosen))}
    Together(chosen).predict(x)
    assert all(set(one._compiled) == programs[id(one)] for one in (bases[0], *(member.predictor for member in chosen)))


def test_tracks_of_each_member_are_its_own(members):
    x = np.eye(4, dtype=np.float32)[np.random.default_rng(15).integers(0, 4, (1, 512))]
    chosen = [Member(members[0].predictor, tracks=[3, 0]), Member(members[2].predictor, tracks=[1])]
    both = Together(chosen).predict(x)
    assert [part.shape[-1] for part in both] == [2, 1]
    np.testing.assert_allclose(both[0], members[0].predictor.predict(x)[..., [3, 0]], rtol=1e-4, atol=1e-6)


def test_bad_members_are_refused(members, base):
    other = Network(base.config)
    with pytest.raises(InputError, match="give one adapter or more"):
        Together([])
    with pytest.raises(InputError, match="2 different bases"):
        Together([members[0], Member(Predictor(other))])
