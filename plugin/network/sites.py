"""Where the network lets others in: every leaf layer is run through a `Sites` object, by its dotted name.

The network itself holds only the base weights. An adapter derives from `Sites` and changes what
happens at the sites it names, so that any number of adapters share one base.
"""

from __future__ import annotations


class Sites:
    """Runs each leaf layer as it is."""

    def layer(self, site: str, layer):
        """Return the layer to use at ``site`` instead of the base's ``layer`` (by default, that one)."""
        return layer

    def __call__(self, site: str, layer, x):
        """Run ``layer`` at ``site`` on ``x``. A site without a layer (``None``) passes ``x`` through."""
        return x if layer is None else layer(x)


PLAIN = Sites()
