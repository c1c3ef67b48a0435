"""Prediction and gradients in bounded memory, sharing one copy of the weights between all that stand on them."""
