"""A run in one YAML file: every setting of a fine-tuning, checked when it is read and written back in full."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from kipoi_borzoi.adapters.method import Method
from kipoi_borzoi.adapters.params import read_transfer
from kipoi_borzoi.adapters.registry import make_method
from kipoi_borzoi.errors import ConfigError
from kipoi_borzoi.network.config import NetworkConfig, read_params
from kipoi_borzoi.network.sites import GELUS
from kipoi_borzoi.training.losses import check_weights

logger = logging.getLogger("kipoi_borzoi")

PRECISIONS = ("float32", "mixed_bfloat16")
LEARNING_RATE, LEARNING_RATE_FULL = 6e-5, 1e-5
WARMUP_STEPS = 20_000


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run; the defaults are Calico's of fine-tuning Borzoi.

    Attributes
    ----------
    method : str
        One of `kipoi_borzoi.adapters.METHODS`.
    settings : dict
        Of the method: ``{rank: 8}``.
    head : str or None
        Which of the base's heads the new one takes its name and activation from.
    tracks : list of str or None
        Identifiers of the store's tracks to train on; None for all.
    train, valid : list of str or None
        Folds to train on and to watch. None: those called ``train`` and ``valid``; where no folds are called so,
        the last is for testing, the last but one for validation, the others for training.
    test : list of str or None
        Folds that are kept away from training; recorded only.
    seed : int
        Of everything random.
    batch_size : int
        Sequences that go through the network together (on each device).
    accumulate : int
        Batches whose gradients are averaged in one optimizer step.
    learning_rate : float or None
        None: 6e-5, for ``full`` 1e-5.
    warmup_steps : int or None
        None: 20,000, but at most a tenth of the steps of ``epochs_max`` epochs.
    global_clipnorm : float or None
    beta_1, beta_2 : float
        Of Adam.
    total_weight, weight_range, weight_exp : float
        Of the loss, see `kipoi_borzoi.training.losses.poisson_multinomial`.
    augment_rc, augment_shift : bool, int
        See `kipoi_borzoi.training.examples.Augmentation`.
    dropout : bool
        Whether the network's dropout is on in training, the frozen part included.
    epochs_min, epochs_max, patience : int
        Training ends when validation has not improved for more than ``patience`` epochs, not before ``epochs_min``
        epochs and after ``epochs_max`` at the latest.
    precision : {'float32', 'mixed_bfloat16'}
    recompute : bool
        Gradient checkpointing: less memory, about a third more time.
    cache_trunk : bool
        For ``linear``: run the trunk once per sequence and keep what it gives. Needs augmentation and dropout off.
    devices : int
        GPUs to share a batch between.
    save_minutes : float
        How often the state is saved within an epoch.
    gelu : {'tanh', 'erf'}
        ``erf`` only to repeat what Calico's code did.
    """

    method: str = "locon"
    settings: dict[str, Any] = field(default_factory=dict)
    head: str | None = None
    tracks: tuple[str, ...] | None = None
    train: tuple[str, ...] | None = None
    valid: tuple[str, ...] | None = None
    test: tuple[str, ...] | None = None
    seed: int = 0
    batch_size: int = 1
    accumulate: int = 1
    learning_rate: float | None = None
    warmup_steps: int | None = None
    global_clipnorm: float | None = 0.15
    beta_1: float = 0.9
    beta_2: float = 0.999
    total_weight: float = 0.2
    weight_range: float = 1.0
    weight_exp: float = 4.0
    augment_rc: bool = True
    augment_shift: int = 3
    dropout: bool = True
    epochs_min: int = 10
    epochs_max: int = 50
    patience: int = 5
    precision: str = "float32"
    recompute: bool = False
    cache_trunk: bool = False
    devices: int = 1
    save_minutes: float = 15.0
    gelu: str = "tanh"

    def __post_init__(self):
        for name in ("train", "valid", "test", "tracks"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        for f in fields(self):
            if f.name in _NUMBERS:
                object.__setattr__(self, f.name, _number(f.name, getattr(self, f.name), "None" in str(f.type)))
            elif str(f.type) == "bool" and not isinstance(getattr(self, f.name), bool):
                raise ConfigError(f"{f.name} is {getattr(self, f.name)!r}, expected true or false")
        if not isinstance(self.settings, dict):
            raise ConfigError(f"settings is {self.settings!r}, expected settings of the method, such as {{rank: 8}}")
        for name, known in (("precision", PRECISIONS), ("gelu", GELUS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        if not (self.head is None or isinstance(self.head, str)):
            raise ConfigError(f"head is {self.head!r}, expected a head's name")
        check_weights(self.weight_range, self.weight_exp)
        made = self.make_method()
        if self.epochs_min > self.epochs_max:
            raise ConfigError(f"epochs_min is {self.epochs_min}, more than epochs_max {self.epochs_max}")
        if self.cache_trunk:
            self._check_cache(made)

    def _check_cache(self, made: Method) -> None:
        if made.name != "linear":
            raise ConfigError(f"cache_trunk is for the method linear, in which the trunk does not change, not {made.name}")
        if self.devices > 1:
            raise ConfigError("cache_trunk is for one device")
        on = [name for name in ("augment_rc", "augment_shift", "dropout") if getattr(self, name)]
        if on:
            raise ConfigError(f"cache_trunk needs {', '.join(on)} off: with it, each pass gives other values")

    def make_method(self) -> Method:
        """The method with its settings."""
        return make_method(self.method, self.settings)

    def as_dict(self) -> dict[str, Any]:
        """All settings, for YAML and JSON."""
        values = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def resolved(self, steps_per_epoch: int) -> RunConfig:
        """The config with the settings filled in that depend on the method and the data."""
        rate = self.learning_rate or (LEARNING_RATE_FULL if self.method == "full" else LEARNING_RATE)
        warmup = self.warmup_steps
        if warmup is None:
            warmup = min(WARMUP_STEPS, self.epochs_max * steps_per_epoch // 10)
        elif warmup > self.epochs_max * steps_per_epoch:
            logger.warning(
                "the warm-up of %d steps is longer than the whole training (%d epochs of %d steps): the learning rate"
                " never reaches %g", warmup, self.epochs_max, steps_per_epoch, rate
            )  # fmt: skip
        return replace(self, learning_rate=rate, warmup_steps=warmup, settings=self.make_method().settings())


_COUNT, _FROM_0, _FRACTION = (1, math.inf), (0, math.inf), (0, 1)
# Lowest and highest value, and whether it must be whole.
_NUMBERS = {
    "seed": (*_FROM_0, True), "batch_size": (*_COUNT, True), "accumulate": (*_COUNT, True),
    "learning_rate": (*_FROM_0, False), "warmup_steps": (*_FROM_0, True), "global_clipnorm": (*_FROM_0, False),
    "beta_1": (*_FRACTION, False), "beta_2": (*_FRACTION, False), "total_weight": (*_FROM_0, False),
    "weight_range": (*_COUNT, False), "weight_exp": (*_FROM_0, False), "augment_shift": (*_FROM_0, True),
    "epochs_min": (*_FROM_0, True), "epochs_max": (*_COUNT, True), "patience": (*_FROM_0, True),
    "devices": (*_COUNT, True), "save_minutes": (*_FROM_0, False),
}  # fmt: skip


def _number(name: str, value, optional: bool):
    lowest, highest, whole = _NUMBERS[name]
    if value is None and optional:
        return None
    if isinstance(value, str):  # YAML 1.1 reads 6e-5 as text, for want of a point
        try:
            value = float(value)
        except ValueError:
            pass
    fits = isinstance(value, int | float) and not isinstance(value, bool) and lowest <= value <= highest and value < math.inf
    if not fits or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{name} is {value!r}, expected {kind} of {lowest} or more" + ("" if highest > 1 else " up to 1"))
    return int(value) if whole else float(value)


def _names(name: str, value) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(one, str) and one for one in names):
        raise ConfigError(f"{name} is {value!r}, expected a list of names")
    if len(set(names)) < len(names):
        raise ConfigError(f"{name} has a name twice: {', '.join(names)}")
    return tuple(names)


def read_config(path: str | Path | None = None, given: dict[str, Any] | None = None, params: str | Path | None = None) -> RunConfig:
    """Put a run's settings together: defaults, then Calico's params, then the YAML file, then ``given``.

    Parameters
    ----------
    path : path, optional
        A YAML file with any of the attributes of `RunConfig`.
    given : dict, optional
        Settings that go before those of the files; None values are left out.
    params : path, optional
        Calico's ``params.json``, of which the sections ``train`` and ``transfer`` are read, and the augmentation of ``model``.

    Raises
    ------
    ConfigError
        A file that cannot be read, an unknown key, or an impossible value.
    """
    values: dict[str, Any] = {}
    if params is not None:
        values |= _from_calico(params)
    if path is not None:
        values |= _checked_keys(str(path), read_yaml(path))
    given = {key: value for key, value in (given or {}).items() if value is not None}
    if given.get("method", values.get("method")) != values.get("method"):
        values.pop("settings", None)  # those of another method
    values |= _checked_keys("options", given)
    try:
        return RunConfig(**values)
    except ConfigError as error:
        where = path or params
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error


def write_config(path: str | Path, config: RunConfig) -> None:
    """Write all settings as YAML."""
    Path(path).write_text(yaml.safe_dump(config.as_dict(), sort_keys=False), encoding="utf-8")


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would keep the last."""


def _unique(loader, node):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique)


def read_yaml(path: str | Path) -> dict:
    """Read a YAML file of keys and values; an empty one gives none.

    Raises
    ------
    ConfigError
        It cannot be read, or is something else.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}: not valid YAML: {problem}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, such as 'method: locon', got {type(values).__name__}")
    return values


def _checked_keys(where: str, values: dict) -> dict:
    known = [f.name for f in fields(RunConfig)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown setting {key!r}; known: {', '.join(known)}")
    return values


# Calico's names of ours. Theirs of what we do in one way only stand below.
_CALICO = {
    "batch_size": "batch_size", "learning_rate": "learning_rate", "total_weight": "total_weight",
    "weight_range": "weight_range", "weight_exp": "weight_exp", "warmup_steps": "warmup_steps",
    "global_clipnorm": "global_clipnorm", "adam_beta1": "beta_1", "adam_beta2": "beta_2", "patience": "patience",
    "train_epochs_min": "epochs_min", "train_epochs_max": "epochs_max", "num_gpu": "devices",
}  # fmt: skip
_CALICO_ONLY = {"optimizer": ("adam",), "loss": ("poisson_mn",), "clip_norm": (None,), "clipnorm": (None,),
                "agc_clip": (None,), "decay_steps": (None, 0)}  # fmt: skip
_CALICO_UNUSED = ("shuffle_buffer",)  # an epoch is shuffled as a whole
# What Calico's code takes where its file says nothing, where that differs from ours.
_CALICO_DEFAULTS = {"total_weight": 1.0, "weight_exp": 1.0, "warmup_steps": 0, "global_clipnorm": None, "patience": 20,
                    "train_epochs_min": 1, "train_epochs_max": 10_000, "learning_rate": 0.01}  # fmt: skip


def _from_calico(path: str | Path) -> dict[str, Any]:
    params = read_params(path)
    train = params.get("train")
    if not isinstance(train, dict):
        raise ConfigError(f"{path}: no train section; expected Calico's params.json with train, transfer and model")
    for key, value in train.items():
        if key in _CALICO_ONLY and (value.lower() if isinstance(value, str) else value) not in _CALICO_ONLY[key]:
            raise ConfigError(f"{path}: train: {key} {value!r} is not supported; supported: {_CALICO_ONLY[key][0]}")
        if key not in (*_CALICO, *_CALICO_ONLY, *_CALICO_UNUSED):
            raise ConfigError(f"{path}: train: unknown setting {key!r}; known: {', '.join([*_CALICO, *_CALICO_ONLY])}")
    for key in ("optimizer", "loss"):
        if key not in train:
            raise ConfigError(f"{path}: train: {key} is not given, and Calico's default is not supported; say {_CALICO_ONLY[key][0]!r}")
    values = {_CALICO[key]: value for key, value in (_CALICO_DEFAULTS | train).items() if key in _CALICO}
    model = params.get("model") or {}
    values["augment_rc"] = bool(model.get("augment_rc", False))
    values["augment_shift"] = model.get("augment_shift", 0)
    if "transfer" in params:
        _, method = read_transfer(params)
        values |= {"method": method.name, "settings": method.settings()}
    return values


def read_model(params: str | Path) -> NetworkConfig:
    """The network of a Calico params file, whatever other sections it has."""
    return read_transfer(params)[0] if "transfer" in read_params(params) else NetworkConfig.from_params(params)


def choose_folds(config: RunConfig, folds: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Which of a store's folds are for what.

    Returns
    -------
    dict
        ``train``, ``valid`` and ``test`` to names; ``test`` may be empty.

    Raises
    ------
    ConfigError
        A fold that does not exist or is used twice, or too few to choose from.
    """
    names = ("train", "valid", "test")
    chosen: dict[str, tuple[str, ...] | None] = {name: getattr(config, name) for name in names}
    taken = {fold for some in chosen.values() for fold in some or ()}
    for fold in taken:
        if fold not in folds:
            raise ConfigError(f"the store has no fold {fold!r}; its folds: {', '.join(folds)}")
    free = [fold for fold in folds if fold not in taken]
    if "train" in folds or "valid" in folds:
        for name in names:
            if chosen[name] is None:
                chosen[name] = (name,) if name in free else ()
    else:
        # Validation is needed, a test fold is not: with one left for the two of them, it is for validation.
        needed = sum(chosen[name] is None for name in ("train", "valid"))
        if chosen["test"] is None:
            chosen["test"] = (free.pop(),) if len(free) > needed else ()
        if chosen["valid"] is None:
            chosen["valid"] = (free.pop(),) if len(free) > (chosen["train"] is None) else ()
        if chosen["train"] is None:
            chosen["train"] = tuple(free)
    for name in ("train", "valid"):
        if not chosen[name]:
            raise ConfigError(
                f"no fold is left to {'train' if name == 'train' else 'validate'} on; the store's folds are"
                f" {', '.join(folds)}: name the training and validation folds"
            )
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        if both := set(chosen[one]) & set(chosen[other]):
            raise ConfigError(f"fold {sorted(both)[0]!r} is named for {one} and for {other}")
    return {name: chosen[name] for name in names}

