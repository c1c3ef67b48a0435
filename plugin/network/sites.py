"""Where the network lets others in: every leaf layer is run through a `Sites` object, by its dotted name.

The network itself holds only the base weights. An adapter derives from `Sites` and changes what
happens at the sites it names, so that any number of adapters share one base.
"""

from __future__ import annotations

from kipoi_borzoi.errors import ConfigError

GELUS = ("tanh", "erf")


class Sites:
    """Runs each leaf layer as it is.

    Parameters
    ----------
    gelu : {'tanh', 'erf'}
        Which GELU the network computes: the tanh approximation, as Calico's networks do, or the exact
        one by the error function.

    Attributes
    ----------
    head : kipoi_borzoi.network.units.Head or None
        The head to use instead of the base's.
    whole_units : frozenset of str
        Names of the units whose every output depends on every position of theirs, because of what
        happens at one of their sites: they are computed over the whole level.
    crop : int or None
        The only crop (bins at each end) that the sites are meant for, where an average over the bins
        that remain is part of what they compute; the network refuses another. None for any.
    """

    head = None
    whole_units: frozenset[str] = frozenset()
    crop: int | None = None

    def __init__(self, gelu: str = "tanh"):
        if gelu not in GELUS:
            raise ConfigError(f"gelu is {gelu!r}; known: {', '.join(GELUS)}")
        self.gelu = gelu

    def layer(self, site: str, layer):
        """Return the layer to use at ``site`` instead of the base's ``layer`` (by default, that one)."""
        return layer

    def trains(self, site: str) -> bool:
        """Whether batch norm at ``site`` takes and updates the statistics of the batch in training."""
        return True

    def activation(self, name: str | None) -> str | None:
        """The activation to use for the one that the config calls ``name``."""
        return "gelu_erf" if name == "gelu" and self.gelu == "erf" else name

    def __call__(self, site: str, layer, x):
        """Run ``layer`` at ``site`` on ``x``. A site without a layer (``None``) passes ``x`` through."""
        return x if layer is None else layer(x)


PLAIN = Sites()
