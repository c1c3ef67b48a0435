"""The shape of a network as frozen dataclasses, read from and written to Calico's ``params.json``.

Reading is strict: a block, option or value that this package does not compute exactly as Calico's
code does is an error that names it, because a silently ignored option gives plausible wrong numbers.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from kipoi_borzoi.errors import ConfigError

logger = logging.getLogger("kipoi_borzoi")

ACTIVATIONS = ("linear", "relu", "gelu", "sigmoid", "tanh", "softplus")
HEAD_ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh", "softplus")
NORM_TYPES = ("batch", "batch-sync", "layer", None)
INITIALIZERS = (
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform",
    "ones", "orthogonal", "random_normal", "random_uniform", "truncated_normal", "zeros",
)  # fmt: skip

# Settings of the model section that reach every lower-case block which does not override them.
_GLOBALS = ("activation", "norm_type", "bn_momentum", "l2_scale", "kernel_initializer")
# Settings of the model section that concern training or printing, not the forward pass.
_OTHER_MODEL_KEYS = ("seq_length", "trunk", "augment_rc", "augment_shift", "verbose", "strand_pair")
# Further shared settings of Calico's code, and the only values (beside none) with which it computes what we do.
_FIXED_GLOBALS = {"padding": ("same",), "batch_norm": (), "l1_scale": ()}

# The range of every numeric setting: lowest and highest value, and how an error puts it.
_COUNT = (1, math.inf, "1 or more")
_NOT_NEGATIVE = (0, math.inf, "0 or more")
_FRACTION = (0, 1, "0 to 1")
_RANGES = {
    **dict.fromkeys(
        ["seq_length", "filters", "filters_init", "filters_end", "kernel_size", "dilation_rate", "divisible_by",
         "pool_size", "repeat", "num_convs", "heads", "key_size", "qkv_width", "seqlen_train", "units"], _COUNT),
    **dict.fromkeys(
        ["num_position_features", "dense_expansion", "filters_mult", "l1_scale", "l2_scale", "mha_l2_scale",
         "cropping"], _NOT_NEGATIVE),
    **dict.fromkeys(["dropout", "attention_dropout", "position_dropout", "bn_momentum"], _FRACTION),
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """What the blocks of a trunk have in common.

    ``fixed`` lists options that Calico's code knows and this package computes for one value only.
    """

    name: ClassVar[str]
    fixed: ClassVar[dict[str, Any]] = {}
    ignored: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class ConvDNA(Block):
    """Convolution on the sequence, then norm, activation, dropout and max pooling."""

    name: ClassVar[str] = "conv_dna"
    fixed: ClassVar[dict[str, Any]] = {
        "stride": 1, "se": False, "conv_type": "standard", "pool_type": "max", "padding": "same",
        "norm_gamma": None, "residual": False, "dropout_residual": 0,
    }  # fmt: skip
    filters: int
    kernel_size: int = 15
    activation: str = "relu"
    norm_type: str | None = None
    bn_momentum: float = 0.99
    dropout: float = 0.0
    pool_size: int = 1
    use_bias: bool | None = None
    l2_scale: float = 0.0
    kernel_initializer: str = "he_normal"

    @property
    def has_bias(self) -> bool:
        """Whether the convolution has a bias: unless stated, when no norm follows it."""
        return self.norm_type is None if self.use_bias is None else self.use_bias


@dataclass(frozen=True)
class ConvNAC(Block):
    """Norm, activation, convolution (with bias), dropout, optional residual, max pooling."""

    name: ClassVar[str] = "conv_nac"
    fixed: ClassVar[dict[str, Any]] = {
        "stride": 1, "se": False, "conv_type": "standard", "pool_type": "max", "padding": "same",
        "norm_gamma": None,
    }  # fmt: skip
    filters: int | None = None
    kernel_size: int = 1
    dilation_rate: int = 1
    activation: str = "relu"
    norm_type: str | None = None
    bn_momentum: float = 0.99
    dropout: float = 0.0
    residual: bool = False
    pool_size: int = 1
    l2_scale: float = 0.0
    kernel_initializer: str = "he_normal"


@dataclass(frozen=True)
class ResTower(Block):
    """Levels of conv_nac with geometrically growing filters, each kept before it is pooled."""

    name: ClassVar[str] = "res_tower"
    fixed: ClassVar[dict[str, Any]] = {
        "stride": 1, "se": False, "conv_type": "standard", "pool_type": "max", "padding": "same",
        "norm_gamma": None, "residual": False,
    }  # fmt: skip
    filters_init: int
    filters_end: int | None = None
    filters_mult: float | None = None
    divisible_by: int = 1
    repeat: int = 1
    kernel_size: int = 1
    num_convs: int = 2
    dilation_rate: int = 1
    activation: str = "relu"
    norm_type: str | None = None
    bn_momentum: float = 0.99
    dropout: float = 0.0
    pool_size: int = 2
    l2_scale: float = 0.0
    kernel_initializer: str = "he_normal"

    def __post_init__(self):
        if self.filters_mult is None and self.filters_end is None:
            raise ConfigError("res_tower: one of filters_end and filters_mult must be given")
        if self.filters_mult is None and self.repeat < 2:
            raise ConfigError("res_tower: filters_end needs repeat of 2 or more; give filters_mult instead")
        try:
            levels = self.level_filters()
        except OverflowError:
            levels = [math.inf]
        if not all(1 <= filters < 2**31 for filters in levels):
            raise ConfigError(f"res_tower: the levels would have {levels} filters, expected 1 or more at each")

    def level_filters(self) -> list[int]:
        """Filters of each level: ``filters_init`` grown by a constant factor, rounded to ``divisible_by``."""
        factor = self.filters_mult
        if factor is None:
            factor = math.exp(math.log(self.filters_end / self.filters_init) / (self.repeat - 1))
        filters, levels = float(self.filters_init), []
        for _ in range(self.repeat):
            levels.append(int(round(filters / self.divisible_by) * self.divisible_by))
            filters *= factor
        return levels


@dataclass(frozen=True)
class TransformerTower(Block):
    """Transformer blocks with relative position features."""

    name: ClassVar[str] = "transformer_tower"
    fixed: ClassVar[dict[str, Any]] = {"block_type": "transformer", "out_size": None}
    # The shared settings that Calico's transformer block takes but does not use: its activation is
    # always ReLU and its norm always a layer norm. `adapter` and `latent` are left-overs of early
    # adapter experiments, which the block does not read either.
    ignored: ClassVar[tuple[str, ...]] = ("activation", "norm_type", "bn_momentum", "adapter", "latent")
    key_size: int
    heads: int = 1
    repeat: int = 2
    num_position_features: int | None = None
    seqlen_train: int | None = None
    content_position_bias: bool = True
    qkv_width: int = 1
    dense_expansion: float = 2.0
    dropout: float = 0.25
    attention_dropout: float = 0.05
    position_dropout: float = 0.01
    l2_scale: float = 0.0
    mha_l2_scale: float = 0.0
    kernel_initializer: str = "he_normal"
    mha_initializer: str = "he_normal"

    def __post_init__(self):
        if (self.num_position_features or 0) % 2:
            raise ConfigError(
                f"transformer_tower: num_position_features is {self.num_position_features}, expected an even number"
                " (masks and as many signed masks)"
            )


@dataclass(frozen=True)
class UnetConv(Block):
    """Doubles the length and adds the latest representation of that length."""

    name: ClassVar[str] = "unet_conv"
    fixed: ClassVar[dict[str, Any]] = {"stride": 2}
    kernel_size: int = 1
    upsample_conv: bool = False
    activation: str = "relu"
    norm_type: str | None = None
    bn_momentum: float = 0.99
    dropout: float = 0.0
    l2_scale: float = 0.0
    kernel_initializer: str = "he_normal"


@dataclass(frozen=True)
class Cropping(Block):
    """Removes bins at each end."""

    name: ClassVar[str] = "Cropping1D"
    cropping: int

    def __post_init__(self):
        _checked("cropping", int, self.cropping, self.name)


@dataclass(frozen=True)
class Head:
    """The output layer of one species: a dense layer with one unit per track.

    Attributes
    ----------
    name : str
        The key in ``params.json``: ``head_human``, or just ``head``.
    """

    name: str
    units: int
    activation: str = "linear"
    l2_scale: float = 0.0
    l1_scale: float = 0.0
    kernel_initializer: str = "he_normal"

    @property
    def key(self) -> str:
        """The name without ``head_``, such as ``human``; empty when it is only ``head``."""
        return re.sub(r"^head_?", "", self.name)


BLOCKS: dict[str, type[Block]] = {
    cls.name: cls for cls in (ConvDNA, ConvNAC, ResTower, TransformerTower, UnetConv, Cropping)
}


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that fixes the forward pass of a network.

    Attributes
    ----------
    seq_length : int
        Input window in bp.
    trunk : tuple of Block
    heads : tuple of Head
        In natural order of their keys, as Calico numbers them.
    activation : str
        Applied once more between the trunk and the heads.
    globals_ : dict
        The shared settings as they stood in the file, to write it back.
    """

    seq_length: int
    trunk: tuple[Block, ...]
    heads: tuple[Head, ...]
    activation: str
    globals_: dict = field(default_factory=dict, compare=False, hash=False)

    def __post_init__(self):
        _checked("seq_length", int, self.seq_length, "model")
        names = [head.name for head in self.heads]
        if len(set(names)) < len(names):
            raise ConfigError(f"a head appears twice among {', '.join(names)}")
        # The layout follows every length and width through the trunk and raises on what cannot be built.
        from kipoi_borzoi.network.layout import Layout

        object.__setattr__(self, "_layout", Layout.of(self))

    @classmethod
    def from_params(cls, params: str | Path | dict) -> NetworkConfig:
        """Read Calico's ``params.json``.

        Parameters
        ----------
        params : path, or the parsed dict
            With a ``model`` section, or that section itself.

        Raises
        ------
        ConfigError
            Malformed JSON, an unknown block or option, a missing or impossible value.
        """
        source = "params"
        if not isinstance(params, dict):
            source = str(params)
            params = read_params(params)
        try:
            return _parse_model(params.get("model", params))
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error

    def to_params(self) -> dict:
        """Return a ``{"model": ...}`` dict from which `from_params` rebuilds this config."""
        model: dict[str, Any] = {**self.globals_, "seq_length": self.seq_length, "activation": self.activation}
        model["trunk"] = [{"name": block.name, **_stated(block)} for block in self.trunk]
        for head in self.heads:
            model[head.name] = {**_stated(head), "name": "final"}
        return {"model": model}

    def head(self, key: str | None = None) -> Head:
        """Return the head called ``key`` (``"human"`` or ``"head_human"``); None for the only one.

        Raises
        ------
        ConfigError
            No such head, or several and none chosen.
        """
        names = ", ".join(head.key or "head" for head in self.heads)
        if key is None:
            if len(self.heads) != 1:
                raise ConfigError(f"the network has {len(self.heads)} heads ({names}): say which one")
            return self.heads[0]
        for head in self.heads:
            if key in (head.key, head.name):
                return head
        raise ConfigError(f"the network has no head {key!r}; it has: {names}")

    def with_heads(self, *keys: str) -> NetworkConfig:
        """Return the config with only the heads called ``keys``."""
        return replace(self, heads=tuple(self.head(key) for key in keys))

    def with_crop(self, bins: int) -> NetworkConfig:
        """Return the config with ``bins`` removed at each end of the output instead of its own crop."""
        at = [index for index, block in enumerate(self.trunk) if isinstance(block, Cropping)]
        if len(at) > 1:
            raise ConfigError(f"the trunk has {len(at)} Cropping1D blocks: which one to change is not defined")
        trunk = list(self.trunk)
        if at:
            trunk[at[0]] = Cropping(cropping=bins)
        else:
            trunk.append(Cropping(cropping=bins))
        return replace(self, trunk=tuple(trunk))

    def with_seq_length(self, length: int) -> NetworkConfig:
        """Return the config for windows of ``length`` bp."""
        return replace(self, seq_length=length)

    @property
    def layout(self):
        """The `Layout`: every unit with its lengths and widths."""
        return self._layout

    @property
    def crop(self) -> int:
        """Bins removed at each end of the output."""
        return sum(block.cropping for block in self.trunk if isinstance(block, Cropping))

    @property
    def bins(self) -> int:
        """Output length in bins."""
        return self.layout.bins

    @property
    def bin_size(self) -> int:
        """Width of an output bin in bp."""
        return self.layout.bin_size


def read_params(path: str | Path, expected: str = "Calico's params.json") -> dict:
    """Read a ``params.json`` file, or another that holds one JSON object (``expected`` names it in errors).

    Raises
    ------
    ConfigError
        Not a file, not JSON, a key twice in one object, or not an object.
    """

    def no_duplicates(pairs):
        result = {}
        for key, value in pairs:
            if key in result:
                raise ConfigError(f"{path}: the key {key!r} appears twice in one object")
            result[key] = value
        return result

    def no_constant(name):
        raise ConfigError(f"{path}: holds {name}, which is not a JSON number")

    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file; expected {expected}") from error
    try:
        params = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        hint = " (it looks like an HTML page)" if text.lstrip()[:1] == "<" else ""
        raise ConfigError(f"{path}: not JSON{hint}: {error}") from error
    if not isinstance(params, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(params).__name__}")
    return params


def _parse_model(model: dict) -> NetworkConfig:
    """Turn the model section into a config."""
    if not isinstance(model, dict):
        raise ConfigError(f"the model section is a {type(model).__name__}, expected an object")
    for key in ("seq_length", "trunk", "activation"):
        if key not in model:
            raise ConfigError(f"the model section has no {key!r}")
    if not isinstance(model["trunk"], list) or not model["trunk"]:
        raise ConfigError("the model section's 'trunk' must be a list of one block or more")
    known = {*_GLOBALS, *_OTHER_MODEL_KEYS}
    for key in model:
        if key in _FIXED_GLOBALS:
            if model[key] and model[key] not in _FIXED_GLOBALS[key]:
                raise ConfigError(f"model: {key} = {model[key]!r} is not supported")
        elif key not in known and not key.startswith("head"):
            logger.warning("params: the setting %r of the model section is not known and not used", key)
    # As in Calico's code, a global that is absent, 0 or null leaves a block's own default.
    shared = {key: model[key] for key in _GLOBALS if model.get(key)}
    seq_length = _checked("seq_length", int, model["seq_length"], "model")
    trunk = tuple(_parse_block(block, index, shared) for index, block in enumerate(model["trunk"]))
    keys = sorted((key for key in model if key.startswith("head")), key=_natural)
    heads = tuple(_parse_head(key, model[key], shared) for key in keys)
    activation = "linear" if model["activation"] is None else model["activation"]
    _check_choice(activation, ACTIVATIONS, "model: activation")
    globals_ = {key: model[key] for key in _GLOBALS if key in model}
    return NetworkConfig(seq_length, trunk, heads, activation, globals_)


def _parse_block(settings: Any, index: int, shared: dict) -> Block:
    if not isinstance(settings, dict) or "name" not in settings:
        raise ConfigError(f"trunk block {index} is not an object with a 'name'")
    name = settings["name"]
    if not isinstance(name, str) or name not in BLOCKS:
        raise ConfigError(f"trunk block {index} is {name!r}, which is not supported; known: {', '.join(BLOCKS)}")
    cls = BLOCKS[name]
    settings = {key: value for key, value in settings.items() if key != "name"}
    if name == "Cropping1D" and isinstance(settings.get("cropping"), list):
        both = settings["cropping"]
        if len(both) != 2 or both[0] != both[1]:
            raise ConfigError(
                f"trunk block {index} (Cropping1D): cropping is {both}, expected one number for both ends"
            )
        settings["cropping"] = both[0]
    if name[0].islower():  # Keras layers (upper case) take no shared settings
        settings = {**shared, **settings}
    return _build(cls, settings, f"trunk block {index} ({name})")


def _parse_head(name: str, settings: Any, shared: dict) -> Head:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ConfigError(f"{name!r}: the name of a head may hold only letters, digits and _ . -")
    if isinstance(settings, list):
        if len(settings) != 1:
            raise ConfigError(f"{name}: a head of {len(settings)} blocks is not supported, only a single 'final'")
        settings = settings[0]
    if not isinstance(settings, dict) or settings.get("name") != "final":
        raise ConfigError(f"{name}: only a head that is one 'final' block is supported")
    if settings.get("flatten"):
        raise ConfigError(f"{name}: flatten is not supported")
    dropped = ("name", "flatten", "norm_type", "bn_momentum")  # taken and unused by Calico's block too
    settings = {key: value for key, value in {**shared, **settings}.items() if key not in dropped}
    return _build(Head, {**settings, "name": name}, name)


def _build(cls, settings: dict, where: str):
    """Make the dataclass ``cls`` from JSON settings, refusing what it does not know."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for key, value in settings.items():
        if key in fields:
            values[key] = _checked(key, _type_of(fields[key]), value, where)
        elif key in getattr(cls, "fixed", {}):
            if value != cls.fixed[key]:
                raise ConfigError(f"{where}: {key} = {value!r} is not supported, only {cls.fixed[key]!r}")
        elif key not in getattr(cls, "ignored", ()):
            raise ConfigError(f"{where}: unknown option {key!r}; known: {', '.join(fields)}")
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} must be given")
    if "activation" in values:
        allowed = HEAD_ACTIVATIONS if cls is Head else ACTIVATIONS
        values["activation"] = "linear" if values["activation"] is None else values["activation"]
        _check_choice(values["activation"], allowed, f"{where}: activation")
    if "norm_type" in values:
        _check_choice(values["norm_type"], NORM_TYPES, f"{where}: norm_type")
    for key in ("kernel_initializer", "mha_initializer"):
        if key in values:
            _check_choice(values[key], INITIALIZERS, f"{where}: {key}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _type_of(f: dataclasses.Field) -> tuple:
    """The JSON types that a field accepts, from its annotation."""
    types = {"int": int, "float": (int, float), "str": str, "bool": bool, "None": type(None)}
    accepted: list = []
    for part in str(f.type).split(" | "):
        kind = types[part]
        accepted.extend(kind if isinstance(kind, tuple) else (kind,))
    if f.name == "activation":
        accepted.append(type(None))
    return tuple(accepted)


def _checked(key: str, kinds, value: Any, where: str):
    """Check the type and range of one setting."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        value = int(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"{where}: {key} is {value!r}, expected {names}")
    if key in _RANGES and value is not None:
        low, high, expected = _RANGES[key]
        if not low <= value <= high:
            raise ConfigError(f"{where}: {key} is {value}, expected {expected}")
    return value


def _check_choice(value, allowed, where: str) -> None:
    if value not in allowed:
        names = ", ".join("null" if choice is None else choice for choice in allowed)
        raise ConfigError(f"{where} is {value!r}; supported: {names}")


def _stated(part) -> dict:
    """All settings of a block or head, so that reading them back does not depend on any default."""
    return {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}


def _natural(text: str) -> list:
    """Sort key that orders numbers inside names by value (``head2`` before ``head10``)."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", text))]
