"""Small models in Calico's format, and a Kipoi home of its own, for tests of the zoo."""

import json
from pathlib import Path

import numpy as np
from network_cases import make_network

from kipoi_borzoi.network import NetworkConfig
from kipoi_borzoi.network.calico_h5 import write_calico_h5
from kipoi_borzoi.network.network import named_weights
from kipoi_borzoi.network.schema import weight_shapes


def make_parts(folder: Path, params: dict, head: str = "human", seed: int = 0) -> dict[str, Path]:
    """Write params, weights (h5, trunk and one head) and a target table that fit together."""
    folder.mkdir(exist_ok=True)
    config = NetworkConfig.from_params(params).with_heads(head)
    rng = np.random.default_rng(seed)
    tensors = {name: rng.uniform(0.1, 0.3, shape).astype(np.float32) for name, shape in weight_shapes(config).items()}
    (folder / "params.json").write_text(json.dumps(params))
    write_calico_h5(folder / "model.h5", tensors, config)
    write_targets(folder / "targets.txt", [f"{head}{index}" for index in range(config.heads[0].units)])
    return {"params": folder / "params.json", "weights": folder / "model.h5", "targets": folder / "targets.txt"}


def make_lively_parts(folder: Path, params: dict, head: str = "human", seed: int = 1) -> dict[str, Path]:
    """`make_parts` with weights whose outputs are of the size of coverage and depend on every base in reach."""
    parts = make_parts(folder, params, head)
    network = make_network(params, seed=seed, dtype="float32")
    write_calico_h5(parts["weights"], dict(named_weights(network)), network.config)
    return parts


def write_targets(path: Path, identifiers: list[str]) -> None:
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    lines += [f"{i}\t{name}\tnone\t384\t64\t1.0\tsum_sqrt\t{i}\tRNA:{name}" for i, name in enumerate(identifiers)]
    path.write_text("\n".join(lines) + "\n")


def use_kipoi_home(home: Path, monkeypatch) -> Path:
    """Make ``home`` the user's home, for Kipoi too, which reads it when it is imported; returns the config's path."""
    from kipoi import config

    (home / ".kipoi").mkdir(parents=True, exist_ok=True)
    path = home / ".kipoi" / "config.yaml"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(config, "_kipoi_dir", str(home / ".kipoi"))
    monkeypatch.setattr(config, "_config_path", str(path))
    monkeypatch.setattr(config, "_MODEL_SOURCES", {})  # Kipoi falls back to its defaults
    return path
