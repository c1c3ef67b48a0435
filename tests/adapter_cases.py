"""One adapter of each method for small networks, and a second implementation of what they compute, in NumPy."""

import keras
import numpy as np
from network_cases import weights_of
from plain_network import PlainNetwork, same_taps

from kipoi_borzoi.adapters.full import Full
from kipoi_borzoi.adapters.houlsby import Houlsby
from kipoi_borzoi.adapters.houlsby_se import HoulsbySE
from kipoi_borzoi.adapters.ia3 import Ia3
from kipoi_borzoi.adapters.linear import Linear
from kipoi_borzoi.adapters.locon import Locon
from kipoi_borzoi.adapters.lora import Lora
from kipoi_borzoi.adapters.lora_conv import LoraConv
from kipoi_borzoi.adapters.lora_full import LoraFull
from kipoi_borzoi.adapters.sites import make_adapter

METHOD_CASES = {
    "full": Full(),
    "linear": Linear(),
    "lora": Lora(rank=3, alpha=5),
    "lora_full": LoraFull(rank=2, alpha=3),
    "lora_conv": LoraConv(rank=2, alpha=2, conv_select=2),
    "lora_conv all": LoraConv(rank=2, alpha=2, conv_select="all"),
    "ia3": Ia3(),
    "ia3 by width": Ia3(input_width=8),
    "locon": Locon(conv_select=2, rank=3, alpha=2, lora_rank=2, lora_alpha=3),
    "locon all": Locon(conv_select="all", rank=2, alpha=3, lora_rank=2, lora_alpha=1),
    "houlsby": Houlsby(latent=3),
    "houlsby_se": HoulsbySE(latent=2, conv_select=2, bottleneck=3),
}
MERGEABLE = [name for name, method in METHOD_CASES.items() if not method.not_mergeable]


def adapt(network, method, seed=3, **options):
    """An adapter of ``method`` on ``network`` with every weight random, statistics of batch norm included."""
    sites = make_adapter(network, method, **options)
    sites.assign(random_tensors(sites.adapter, seed))
    return sites


def random_tensors(adapter, seed=3):
    """Values for the adapter's tensors that change what it computes a good deal, but do not blow it up."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, value in adapter.tensors.items():
        spread = 0.1 + 0.2 * float(np.abs(value).mean())
        value = value + random.normal(0, spread, value.shape)
        if name.endswith("moving_variance"):
            value = np.abs(value) + 0.3
        if name.endswith(("squeeze.kernel", "excite.kernel")):
            value = value * 8
        tensors[name] = value.astype(np.float32)
    return tensors


def plain_adapted(params, network, sites):
    """The second implementation of ``network`` with the adapter of ``sites``."""
    tensors = {name: keras.ops.convert_to_numpy(variable.value) for name, variable in sites.variables.items()}
    tensors = {name: value.astype(np.float64) for name, value in tensors.items()}
    head = sites.adapter.scheme.head
    weights = {name: value for name, value in weights_of(network).items() if not name.startswith("head")}
    weights |= {f"{head.name}.dense.{part}": tensors[f"{head.name}.dense.{part}"] for part in ("kernel", "bias")}
    weights |= {name: tensors[name] for name in weights if name in tensors}
    model = {key: value for key, value in params["model"].items() if not key.startswith("head")}
    model[head.name] = {"name": "final", "units": head.units, "activation": head.activation}
    return PlainAdapted({"model": model}, weights, tensors, sites.adapter.method)


class PlainAdapted(PlainNetwork):
    """`PlainNetwork` with an adapter; sites are told by counting convolutions, dense layers and blocks."""

    def __init__(self, params, weights, tensors, method):
        weights = dict(weights)
        rank = {"lora": ("rank", "alpha"), "locon": ("lora_rank", "lora_alpha")}.get(method.name.split("_")[0])
        self.lora = getattr(method, rank[1]) / getattr(method, rank[0]) if rank else None
        self.locon = method.alpha / method.rank if method.name == "locon" else None
        self.tensors = tensors
        names = list(dict.fromkeys(name.rpartition(".")[0] for name in weights))
        kernels = {name: value.ndim for name, value in weights.items() if name.endswith(".kernel")}
        self.conv_sites = [name for name in names if kernels.get(f"{name}.kernel") == 3]
        self.dense_sites = [name for name in names if kernels.get(f"{name}.kernel") == 2 and ".attention." not in name]
        self.block_sites = [name.removesuffix(".attention") for name in names if name.endswith(".attention")]
        for block in self.block_sites:  # the output projection, where both ways to compute it are the same
            if f"{block}.attention.out.lora_a.kernel" in tensors:
                a, b = (tensors[f"{block}.attention.out.lora_{part}.kernel"] for part in "ab")
                name = f"{block}.attention.out.kernel"
                weights[name] = weights[name] + self.lora * (a @ b)
        super().__init__(params, weights.values())

    def run(self, x):
        self.left = {"conv": list(self.conv_sites), "dense": list(self.dense_sites), "block": list(self.block_sites)}
        return super().run(x)

    def of(self, site, *names):
        """The adapter's tensors at a site, or None."""
        return [self.tensors[f"{site}.{name}"] for name in names] if f"{site}.{names[0]}" in self.tensors else None

    def conv(self, x, filters, size, dilation=1, bias=True):
        y = super().conv(x, filters, size, dilation, bias)
        site = self.left["conv"].pop(0)
        if found := self.of(site, "locon_down.kernel", "locon_up.kernel"):
            narrow = sum(tap @ found[0][index] for index, tap in enumerate(same_taps(x, size, dilation)))
            y = y + self.locon * narrow @ found[1][0]
        if found := self.of(site, "squeeze.kernel", "excite.kernel"):
            squeezed = np.maximum(y.mean(axis=1) @ found[0], 0)
            y = y + y * np.tanh(squeezed @ found[1])[:, None]
        return y

    def dense(self, x, units, bias=True):
        if bias and (found := self.of(self.left["dense"].pop(0), "ia3.scale")):
            x = x * found[0]
        return super().dense(x, units, bias)

    def attention(self, x, o):
        self.unit = self.left["block"].pop(0)
        self.projections = ["q", "k", "v"]
        return self.bottleneck(super().attention(x, o), "attention_output")

    def project(self, x, o, units):
        site = f"{self.unit}.attention.{self.projections.pop(0)}"
        width, seen = o.get("qkv_width", 1), x
        if width > 1:
            seen = sum(tap * self.w.left[0][index, :, 0] for index, tap in enumerate(same_taps(x, width)))
        y = super().project(x, o, units)
        if found := self.of(site, "lora_a.kernel", "lora_b.kernel"):
            y = y + self.lora * seen @ found[0] @ found[1]
        if found := self.of(site, "ia3.scale"):
            y = y * found[0]
        return y

    def transformer_tower(self, x, o):
        for _ in range(o.get("repeat", 2)):
            x = x + self.attention(self.norm(x, "layer"), o)
            expansion, width = o.get("dense_expansion", 2.0), x.shape[-1]
            if expansion:
                y = np.maximum(self.dense(self.norm(x, "layer"), int(expansion * width)), 0)
                x = x + self.bottleneck(self.dense(y, width), "mlp_output")
        return x

    def bottleneck(self, x, place):
        found = self.of(f"{self.unit}.{place}", "down.kernel", "down.bias", "up.kernel", "up.bias")
        return x + np.maximum(x @ found[0] + found[1], 0) @ found[2] + found[3] if found else x


def targets_file(path, tracks):
    """Write a table of ``tracks`` unstranded tracks."""
    lines = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    lines += [f"{i}\ttrack{i}\tt{i}.bw\t384\t320\t1\tsum_sqrt\t{i}\tRNA: tissue {i}" for i in range(tracks)]
    path.write_text("\n".join(lines) + "\n")
    return path
