"""A second implementation of the network, in NumPy alone, to compare the real one with.

Written from the description of Calico's networks for legibility: whole windows only, one sum per
convolution tap, relative logits for all 2L - 1 distances and the TransformerXL shift. It reads the
params as they stand and takes the weights in the order in which Calico's code creates them, so it
shares neither parsing, nor layout, nor weight names with the package.
"""

import math
import re

import numpy as np

GLOBALS = ("activation", "norm_type", "bn_momentum", "l2_scale", "kernel_initializer")


class InOrder:
    """Hands out weights one after another, each only as the shape that is asked for."""

    def __init__(self, weights):
        self.left = [np.asarray(weight, dtype=np.float64) for weight in weights]

    def next(self, *shape):
        weight = self.left.pop(0)
        if weight.shape != shape:
            raise ValueError(f"the next weight has shape {weight.shape}, not {shape}")
        return weight


class PlainNetwork:
    """Runs the network of ``params`` on ``weights``, a list of arrays in Calico's order of creation.

    ``run`` returns each head's output by its key in the params; ``after`` then holds the output of
    every block by its index in the trunk, and ``representations`` what U-net steps may add, in order.
    """

    def __init__(self, params, weights):
        self.model = params["model"]
        self.weights = list(weights)

    def run(self, x):
        self.w = InOrder(self.weights)
        self.representations, self.after = [], []
        x = np.asarray(x, dtype=np.float64)
        for block in self.model["trunk"]:
            x = self.block(x, block)
            self.representations.append(x)
            self.after.append(x)
        self.trunk = x = activate(x, self.model["activation"])
        heads = {}
        for key in sorted((key for key in self.model if key.startswith("head")), key=natural):
            settings = self.options(self.model[key])
            y = self.dense(x, settings["units"])
            heads[key] = activate(y, settings.get("activation", "linear"))
        if self.w.left:
            raise ValueError(f"{len(self.w.left)} weights are left over")
        return heads

    def options(self, block):
        shared = {key: self.model[key] for key in GLOBALS if self.model.get(key)}
        return {**shared, **(block[0] if isinstance(block, list) else block)}

    def block(self, x, block):
        if block["name"] == "Cropping1D":
            crop = block["cropping"]
            return x[:, crop : x.shape[1] - crop]
        return getattr(self, block["name"])(x, self.options(block))

    # Blocks

    def conv_dna(self, x, o):
        bias = o.get("use_bias")
        bias = o.get("norm_type") is None if bias is None else bias
        x = self.conv(x, o["filters"], o.get("kernel_size", 15), bias=bias)
        x = activate(self.norm(x, o.get("norm_type")), o.get("activation", "relu"))
        return max_pool_same(x, o.get("pool_size", 1))

    def conv_nac(self, x, o):
        filters = o.get("filters") or x.shape[-1]
        y = activate(self.norm(x, o.get("norm_type")), o.get("activation", "relu"))
        y = self.conv(y, filters, o.get("kernel_size", 1), o.get("dilation_rate", 1))
        if o.get("residual"):
            y = x + y
        return max_pool_same(y, o.get("pool_size", 1))

    def res_tower(self, x, o):
        filters, repeat = o["filters_init"], o.get("repeat", 1)
        factor = o.get("filters_mult") or math.exp(math.log(o["filters_end"] / o["filters_init"]) / (repeat - 1))
        divisor = o.get("divisible_by", 1)
        shared = {key: o[key] for key in ("activation", "norm_type", "dilation_rate") if key in o}
        for _ in range(repeat):
            shared["filters"] = int(np.round(filters / divisor) * divisor)
            first = x = self.conv_nac(x, {**shared, "kernel_size": o.get("kernel_size", 1)})
            for _ in range(1, o.get("num_convs", 2)):
                x = self.conv_nac(x, shared)
            if o.get("num_convs", 2) > 1:
                x = first + x * self.w.next(shared["filters"])
            self.representations.append(x)
            x = max_pool_same(x, o.get("pool_size", 2))
            filters *= factor
        return x

    def transformer_tower(self, x, o):
        for _ in range(o.get("repeat", 2)):
            x = x + self.attention(self.norm(x, "layer"), o)
            expansion, width = o.get("dense_expansion", 2.0), x.shape[-1]
            if expansion:
                y = self.dense(self.norm(x, "layer"), int(expansion * width))
                x = x + self.dense(np.maximum(y, 0), width)
        return x

    def unet_conv(self, x, o):
        skips = [skip for skip in self.representations[:-1] if skip.shape[1] == 2 * x.shape[1]]
        skip, width = skips[-1], x.shape[-1]
        x, skip = self.norm(x, o.get("norm_type")), self.norm(skip, o.get("norm_type"))
        x, skip = (activate(part, o.get("activation", "relu")) for part in (x, skip))
        if o.get("upsample_conv"):
            x = self.dense(x, width)
        x = np.repeat(x, 2, axis=1) + self.dense(skip, width)
        return self.separable(x, width, o.get("kernel_size", 1)) + self.w.next(width)

    # Layers

    def norm(self, x, kind):
        width = x.shape[-1]
        if kind is None:
            return x
        gamma, beta = self.w.next(width), self.w.next(width)
        if kind == "layer":
            mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        else:
            mean, variance = self.w.next(width), self.w.next(width)
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def dense(self, x, units, bias=True):
        y = x @ self.w.next(x.shape[-1], units)
        return y + self.w.next(units) if bias else y

    def conv(self, x, filters, size, dilation=1, bias=True):
        kernel = self.w.next(size, x.shape[-1], filters)
        taps = [tap @ kernel[index] for index, tap in enumerate(same_taps(x, size, dilation))]
        return sum(taps) + (self.w.next(filters) if bias else 0)

    def separable(self, x, filters, size):
        depthwise = self.w.next(size, x.shape[-1], 1)
        y = sum(tap * depthwise[index, :, 0] for index, tap in enumerate(same_taps(x, size)))
        return y @ self.w.next(1, x.shape[-1], filters)[0]

    def attention(self, x, o):
        heads, size, length, width = o.get("heads", 1), o["key_size"], x.shape[1], x.shape[2]
        features = o.get("num_position_features")
        features = width // heads // 2 * 2 if features is None else features
        r_w, r_r = self.w.next(1, heads, 1, size), self.w.next(1, heads, 1, size)
        q, k, v = (split_heads(self.project(x, o, units), heads) for units in (heads * size, heads * size, width))
        out, bias = self.w.next(width, width), self.w.next(width)
        q = q / np.sqrt(size)
        logits = (q + r_w) @ np.swapaxes(k, 2, 3)
        if features:
            r_k = position_features(length, features, o.get("seqlen_train") or length)
            r_k = split_heads((r_k @ self.w.next(features, heads * size))[None], heads)
            queries = q + r_r if o.get("content_position_bias", True) else np.broadcast_to(r_r, q.shape)
            logits = logits + relative_shift(queries @ np.swapaxes(r_k, 2, 3))
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True)
        y = np.swapaxes(weights @ v, 1, 2).reshape(x.shape)
        return y @ out + bias

    def project(self, x, o, units):
        width = o.get("qkv_width", 1)
        return self.dense(x, units, bias=False) if width == 1 else self.separable(x, units, width)


def activate(x, name):
    """Activations by name; gelu is the tanh approximation."""
    if name in (None, "linear"):
        return x
    if name == "relu":
        return np.maximum(x, 0)
    if name == "tanh":
        return np.tanh(x)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if name == "softplus":
        return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)
    if name == "gelu":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    raise ValueError(f"no activation {name!r}")


def same_taps(x, size, dilation=1):
    """What each tap of a "same" convolution sees: ``size`` arrays of the shape of ``x``."""
    reach = (size - 1) * dilation
    padded = np.pad(x, [(0, 0), (reach // 2, reach - reach // 2), (0, 0)])
    return [padded[:, tap * dilation : tap * dilation + x.shape[1]] for tap in range(size)]


def max_pool_same(x, size):
    """Max pooling; what is missing at the ends is left out of the maximum, the smaller half on the left."""
    missing = -x.shape[1] % size
    padded = np.pad(x, [(0, 0), (missing // 2, missing - missing // 2), (0, 0)], constant_values=-np.inf)
    return padded.reshape(x.shape[0], -1, size, x.shape[2]).max(axis=2)


def split_heads(x, heads):
    """(batch, length, heads * size) to (batch, heads, length, size)."""
    return np.swapaxes(x.reshape(x.shape[0], x.shape[1], heads, -1), 1, 2)


def position_features(length, features, length_train):
    """Features of the distances -(length-1)..length-1: (2 * length - 1, features)."""
    distances = np.arange(-(length - 1), length)
    masks = features // 2
    columns = []
    for mask in range(1, masks + 1):
        width = (length_train + 1) ** (mask / masks) - 1
        reached = abs(width - np.round(width)) < 1e-5 * width and np.round(width) < length
        if reached:  # rounding decides; not a case to compare with
            raise ValueError(f"the width {width} of mask {mask} is too close to a whole number")
        columns.append((np.abs(distances) < width).astype(float))
    columns += [np.sign(distances) * column for column in columns]
    return np.stack(columns, axis=1)


def relative_shift(x):
    """Logits by distance (batch, heads, length, 2 * length - 1) to logits by key (batch, heads, length, length)."""
    batch, heads, length, distances = x.shape
    x = np.concatenate([np.zeros((batch, heads, length, 1)), x], axis=-1)
    x = x.reshape(batch, heads, distances + 1, length)[:, :, 1:]
    return x.reshape(batch, heads, length, distances)[..., :length]


def natural(text):
    """Sort key: digits by value."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", text))]
