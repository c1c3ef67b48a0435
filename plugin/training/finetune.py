"""A run from its inputs to its outputs: a base, a store and a config in; an adapter directory, or a new base, out."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, MutableMapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kipoi_borzoi.adapters.adapter import with_head
from kipoi_borzoi.adapters.base import read_trunk, trunk_hash
from kipoi_borzoi.adapters.counts import count
from kipoi_borzoi.adapters.directory import save_adapter
from kipoi_borzoi.adapters.sites import AdapterSites, make_adapter
from kipoi_borzoi.errors import ConfigError, InputError, TrainingError
from kipoi_borzoi.files import LOCK, atomic_write, only_process, sha256_of_file, sweep_temporaries
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.network import Network, named_weights
from kipoi_borzoi.network.weights import save_safetensors
from kipoi_borzoi.tracks import check_transform
from kipoi_borzoi.training.checkpoint import Checkpoints
from kipoi_borzoi.training.config import RunConfig, choose_folds, write_config
from kipoi_borzoi.training.examples import Augmentation, Batches, SomeTracks
from kipoi_borzoi.training.fit import Outcome, Trainer, steps_per_epoch, validation
from kipoi_borzoi.training.losses import poisson_multinomial
from kipoi_borzoi.training.optimizer import make_optimizer
from kipoi_borzoi.training.replicas import Replicas, pick_devices
from kipoi_borzoi.training.step import TrainingStep
from kipoi_borzoi.training.table import write_table

logger = logging.getLogger("kipoi_borzoi")

# Settings that may change when a run is continued: they decide how long and how, not what is computed.
_FREE = ("epochs_max", "epochs_min", "patience", "save_minutes", "recompute")


@dataclass(frozen=True)
class Base:
    """A network to start from.

    Attributes
    ----------
    name : str
        What the adapter calls it: a zoo entry's name, or a file's.
    config : NetworkConfig
    weights : path or None
        None draws new ones, to train a base from scratch.
    transform : {'new', 'old'} or None
        How its training data were squashed; None where it is not known.
    """

    name: str
    config: NetworkConfig
    weights: Path | None
    transform: str | None = None


def finetune(base: Base, store, out: str | os.PathLike, config: RunConfig) -> dict[str, Any]:
    """Fine-tune a base on a store, and write ``OUT/adapter``.

    Parameters
    ----------
    base : Base
    store : kipoi_borzoi.training.store.Store
    out : path
        Folder of the run, made when absent. Where it holds the same run, unfinished, that is continued.
    config : RunConfig

    Returns
    -------
    dict
        Summary of the training, as it stands in the adapter's config.

    Raises
    ------
    KipoiBorzoiError
        A base and a store that do not fit, settings that are impossible, another run in ``out``, a loss that is
        not finite.
    """
    if base.weights is None:
        raise InputError("fine-tuning needs a base with weights")
    return _run(base, store, Path(out), config)


def train_base(network: NetworkConfig, store, out: str | os.PathLike, config: RunConfig, start: Base | None = None) -> dict[str, Any]:
    """Train a whole network, and write ``OUT/base``: ``weights.safetensors``, ``params.json`` and ``targets.txt``.

    Parameters
    ----------
    network : NetworkConfig
    store : kipoi_borzoi.training.store.Store
    out, config
        See `finetune`; the method has to be ``full``.
    start : Base, optional
        Weights to start from, its head excepted; drawn from the seed by default.

    Returns
    -------
    dict
        Summary of the training.

    Raises
    ------
    KipoiBorzoiError
        See `finetune`.
    """
    if config.method != "full":
        raise ConfigError(f"training a whole network is the method 'full', not {config.method!r}")
    return _run(start or Base("from scratch", network, None), store, Path(out), config, whole=True)


def _run(base: Base, store, out: Path, config: RunConfig, whole: bool = False) -> dict[str, Any]:
    if config.tracks is not None:
        store = SomeTracks(store, config.tracks)
    network_config = fitted(base, store, config.head)
    folds = choose_folds(config, tuple(store.folds))
    indices = {name: _indices(store, chosen) for name, chosen in folds.items()}
    augmentation = Augmentation(config.augment_rc, config.augment_shift)
    devices = pick_devices(config.devices) if config.devices > 1 else []
    share = config.batch_size * max(1, len(devices))
    batches = Batches(store, indices["train"], share, config.seed, augmentation)
    config = replace(config, **{name: chosen or None for name, chosen in folds.items()})
    config = config.resolved(steps_per_epoch(batches, config))
    network, sha256 = _network(base, network_config, config.seed)  # before anything is written: it checks the base
    _open_run(out, config)
    with _alone_in(out):
        identity = {
            "store": store.key, "base": sha256, "model": network_config.to_params()["model"],
            **{key: value for key, value in config.as_dict().items() if key not in _FREE},
        }  # fmt: skip
        checkpoints = Checkpoints(out / "checkpoints", identity)

        def loss(y_true, y_pred):
            return poisson_multinomial(y_true, y_pred, config.total_weight, config.weight_range, config.weight_exp)

        def make_step(network: Network, cache=None) -> TrainingStep:
            sites = make_adapter(network, config.make_method(), len(store.tracks), config.head, config.seed, config.gelu)
            return TrainingStep(network, sites, loss, config.precision, config.recompute, config.dropout, cache=cache)

        with _trunk_cache(out, network, store, config, sum(map(len, indices.values()))) as cache:
            if devices:
                step = Replicas(lambda: make_step(_network(base, network_config, config.seed)[0], cache), devices)
            else:
                step = make_step(network, cache)
            sites = step.sites
            optimizer = make_optimizer(
                list(step.variables.values()), config.learning_rate, config.warmup_steps, config.global_clipnorm,
                config.beta_1, config.beta_2,
            )  # fmt: skip
            validate = validation(step, store, indices["valid"], config.precision)
            trainer = Trainer(step, optimizer, batches, validate, config, checkpoints, out)
            trainer.restore()  # refuses another run's state, before that run's config is replaced
            _write_config(out, config)
            outcome = trainer.run()
        if outcome.wait_fraction > 0.05:
            logger.warning("reading the store took %.0f %% of the time: is it on a slow disk?", 100 * outcome.wait_fraction)
        summary = _summary(store, config, sites, outcome)
        table = out / "targets.txt"
        write_table(table, store.tracks)
        if whole:
            _save_base(out / "base", network, sites, table, store.transform)
        else:
            save_adapter(
                out / "adapter", sites.current(), table, base.name, sha256, store.transform, summary,
                replace=(out / "adapter").exists(),
            )  # fmt: skip
        with atomic_write(out / "summary.json") as temporary:
            temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        return summary


def fitted(base: Base, store, head: str | None = None) -> NetworkConfig:
    """The base's network with the store's crop and number of tracks.

    Raises
    ------
    InputError
        The base reads windows of another length, has other bins, cannot be cropped so, or was trained on
        coverage that was squashed in another way.
    """
    config, layout = base.config, base.config.layout
    check_transform(store.transform)
    if base.transform is not None and base.transform != store.transform:
        raise InputError(
            f"{base.name} was trained with the {base.transform} transform, the store has the {store.transform} one;"
            f" build the store with --transform {base.transform}"
        )
    if config.seq_length != store.seq_length:
        raise InputError(
            f"the store has sequences of {store.seq_length:,} bp, {base.name} reads {config.seq_length:,} bp;"
            " build the store with windows of that length"
        )
    if layout.bin_size != store.bin_size:
        raise InputError(
            f"the store has bins of {store.bin_size} bp, {base.name} predicts bins of {layout.bin_size} bp; build it with these"
        )
    if store.crop_bp % store.bin_size:
        raise InputError(f"the store is cropped by {store.crop_bp} bp, which is not a whole number of {store.bin_size}-bp bins")
    crop = store.crop_bp // store.bin_size
    if layout.crop != crop:
        logger.info("%s is cropped by %d bins, the store by %d: training with the store's", base.name, layout.crop, crop)
    config = with_head(config.with_crop(crop), len(store.tracks), head)
    if config.layout.bins != store.bins:
        raise InputError(f"the store has {store.bins} bins, {base.name} predicts {config.layout.bins}")
    return config


def _indices(store, folds: tuple[str, ...]) -> np.ndarray:
    found = [store.indices(fold) for fold in folds]
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _network(base: Base, config: NetworkConfig, seed: int) -> tuple[Network, str]:
    """The network with its weights, and the hash of its trunk."""
    if base.weights is None:
        keras.utils.set_random_seed(seed)
        network = Network(config)
        trunk = {name: np.array(keras.ops.convert_to_numpy(v.value)) for name, v in named_weights(network).items()}
        return network, trunk_hash(trunk, config)
    trunk = read_trunk(base.weights, base.config)
    network = Network(config, initialize=False)
    variables = named_weights(network)
    for name, value in trunk.items():
        variables[name].assign(value)
    return network, trunk_hash(trunk, config)


def _open_run(out: Path, config: RunConfig) -> None:
    """Make the run's folder, with its config when it is new."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / "run.yaml").exists():
            return
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith(".tmp~") and path.name != LOCK)
        if others:
            raise InputError(f"{out}: holds other files ({', '.join(others[:3])}); choose a new folder with --out")
        _write_config(out, config)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Keep other processes out of the run's folder; turn what the operating system says of it into an error that names it."""
    try:
        with only_process(out, "another process is training there; wait for it, or choose another --out"):
            sweep_temporaries(out)
            yield
    except OSError as error:
        raise TrainingError(
            f"{error.filename or out}: cannot be written or read ({error.strerror or error}); is the disk full or read-only?"
            " Mend that and give the same command again: it goes on from the last checkpoint"
        ) from error


def _write_config(out: Path, config: RunConfig) -> None:
    with atomic_write(out / "run.yaml") as temporary:
        write_config(temporary, config)


class _TrunkCache(MutableMapping):
    """Outputs of the trunk by number of the example, in a file that is gone when the run ends."""

    def __init__(self, path: Path, examples: int, shape: tuple[int, int]):
        self._values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(examples, 1, *shape))
        self._rows: dict[int, int] = {}

    def __getitem__(self, index):
        return self._values[self._rows[index]]

    def __setitem__(self, index, value):
        self._values[self._rows.setdefault(index, len(self._rows))] = value

    def __delitem__(self, index):
        raise TypeError("what is cached stays")

    def __iter__(self):
        return iter(self._rows)

    def __len__(self):
        return len(self._rows)


@contextlib.contextmanager
def _trunk_cache(out: Path, network: Network, store, config: RunConfig, examples: int) -> Iterator[_TrunkCache | None]:
    if not config.cache_trunk:
        yield None
        return
    shape = (network.layout.bins, network.layout.width)
    needed, free = 4 * examples * shape[0] * shape[1], shutil.disk_usage(out).free
    if needed > free:
        raise InputError(f"cache_trunk needs {needed / 1e9:.1f} GB in {out}, which has {free / 1e9:.1f} GB free")
    path = out / "trunk_cache.npy"
    try:
        yield _TrunkCache(path, examples, shape)
    finally:
        path.unlink(missing_ok=True)


def _summary(store, config: RunConfig, sites: AdapterSites, outcome: Outcome) -> dict[str, Any]:
    counts = count(sites.adapter.scheme)
    return {
        "store": store.key, "tracks": len(store.tracks), "trainable": counts["trainable"], "total": counts["total"],
        "train_folds": ",".join(config.train or ()), "valid_folds": ",".join(config.valid or ()),
        "test_folds": ",".join(config.test or ()),
        **asdict(outcome),
        "loss": f"poisson_multinomial, total_weight {config.total_weight:g}, weight_range {config.weight_range:g}",
        "learning_rate": config.learning_rate, "warmup_steps": config.warmup_steps, "batch_size": config.batch_size,
        "accumulate": config.accumulate, "augment_rc": config.augment_rc, "augment_shift": config.augment_shift,
        "precision": config.precision, "seed": config.seed,
    }  # fmt: skip


def _save_base(folder: Path, network: Network, sites: AdapterSites, table: Path, transform: str) -> None:
    """Write a whole network, with the adapter's weights in the place of the old ones."""
    folder.mkdir(exist_ok=True)
    adapter = sites.current()
    trained = adapter.tensors
    tensors = {
        name: trained[name] if name in trained else np.array(keras.ops.convert_to_numpy(variable.value))
        for name, variable in named_weights(network).items()
        if name in trained or not name.startswith("head")
    }
    params = adapter.config.to_params()
    shutil.copyfile(table, folder / "targets.txt")
    with atomic_write(folder / "params.json") as temporary:
        temporary.write_text(json.dumps(params, indent=1) + "\n", encoding="utf-8")
    meta = {"format": "kipoi-borzoi", "params": json.dumps(params), "transform": transform}
    save_safetensors(folder / "weights.safetensors", {name: tensors[name] for name in tensors}, meta)
    logger.info("%s: sha256 %s", folder / "weights.safetensors", sha256_of_file(folder / "weights.safetensors"))
