"""What all methods have in common: a frozen config that says which sites get an insert and which layers train.

Nothing here needs Keras: what a method adds is stated as names, shapes and initializers, so that it can be
counted, checked, merged and converted as plain arrays. Only ``Insert.forward`` computes with tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from kipoi_borzoi.errors import ConfigError
from kipoi_borzoi.network.config import NetworkConfig


@dataclass(frozen=True)
class Weight:
    """A weight that an adapter adds: its shape and how it starts.

    ``initializer`` is ``he_uniform``, ``zeros``, ``ones`` or ``near_zero`` (truncated normal of standard
    deviation 1e-3).
    """

    shape: tuple[int, ...]
    initializer: str


class Insert:
    """Something small that changes what one site computes. Subclasses are frozen dataclasses of its sizes.

    Attributes
    ----------
    whole : bool
        Whether it reads every position of its level, so that the level cannot be computed piecewise.
    """

    whole: ClassVar[bool] = False

    def weights(self) -> dict[str, Weight]:
        """Its weights by the name they get behind the site's: ``lora_a.kernel``."""
        raise TypeError(f"{type(self).__name__} does not name its weights")

    def forward(self, layer, x, weights: Mapping[str, Any]):
        """Compute the site.

        Parameters
        ----------
        layer : callable or None
            The base's layer; None at sites that have none.
        x : (batch, length, channels) tensor
            Its input; for convolutions already padded.
        weights : mapping of name to tensor
            As `weights` names them.
        """
        raise TypeError(f"{type(self).__name__} does not say what it computes")

    def merged(self, base: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weights of the layer that computes the same without the insert.

        Parameters
        ----------
        base : mapping
            Weight name within the layer (``kernel``) to the base's value.
        weights : mapping
            The insert's own.

        Returns
        -------
        dict
            The weights of the layer that differ, as float32.
        """
        raise TypeError(f"{type(self).__name__} cannot be merged")


@dataclass(frozen=True)
class Method:
    """Base of all methods; the fields of a subclass are its settings.

    Attributes
    ----------
    name : str
        ``lora``, ``locon``, ...
    peft_type : str
        What Hugging Face's PEFT calls it, or would.
    peft_fields : (str or None, str or None)
        Which settings PEFT's ``r`` and ``lora_alpha`` stand for.
    not_mergeable : str or None
        Why its adapters cannot be folded into plain weights.
    """

    name: ClassVar[str]
    peft_type: ClassVar[str]
    peft_fields: ClassVar[tuple[str | None, str | None]] = (None, None)
    not_mergeable: ClassVar[str | None] = None

    def __post_init__(self):
        for field in fields(self):
            _CHECKS[str(field.type)](f"{self.name}: {field.name}", getattr(self, field.name))

    def inserts(self, config: NetworkConfig) -> dict[str, Insert]:
        """What is put at which site of ``config``'s network."""
        return {}

    def trained(self, config: NetworkConfig) -> list[str]:
        """Sites of the trunk whose own layers train (the head always does)."""
        return []

    def settings(self) -> dict[str, Any]:
        """The fields as a dict for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _check_count(where: str, value) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where} is {value!r}, expected a whole number of 1 or more")


def _check_positive(where: str, value) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{where} is {value!r}, expected a number greater than 0")


def _check_select(where: str, value) -> None:
    if value != "all":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{where} is {value!r}, expected a whole number of 1 or more, or 'all'")


def _check_optional_count(where: str, value) -> None:
    if value is not None:
        _check_count(where, value)


# By the annotation of the field.
_CHECKS = {
    "int": _check_count,
    "float": _check_positive,
    "int | str": _check_select,
    "int | None": _check_optional_count,
}
