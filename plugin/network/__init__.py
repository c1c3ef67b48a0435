"""The Keras 3 network: config, layers, assembly and weights. Importing a module of this folder may import Keras."""

from kipoi_borzoi.network.config import NetworkConfig

__all__ = ["NetworkConfig"]
