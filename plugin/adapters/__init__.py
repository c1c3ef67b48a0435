"""Parameter-efficient fine-tuning: an adapter is a method, the few weights it trains, and a head of its own.

One module per method; `method` says what a method is. Everything here works on weights by name and
shape, without Keras, except `sites`, which runs an adapter on a network, and the inserts' ``forward``.
"""

from kipoi_borzoi.adapters.registry import METHODS

__all__ = ["METHODS"]
