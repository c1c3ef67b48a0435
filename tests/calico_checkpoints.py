"""Writes what Calico's fine-tuning code saves, names and orders as in its files, for tests of the reader."""

import h5py
import numpy as np

from kipoi_borzoi.network.calico_h5 import write_calico_h5


def write_unmerged(path, network_tensors, adapter):
    """Write ``model_best.h5``: the network with its new head, and the adapter's weights in or beside its layers."""
    config = adapter.config
    plain = {name: adapter.tensors.get(name, value) for name, value in network_tensors.items()}
    plain |= {name: adapter.tensors[name] for name in adapter.scheme.head_shapes()}
    write_calico_h5(path, plain, config)
    with h5py.File(path, "r+") as file:
        root = file["model_weights"]
        layers = _listed(root, "layer_names")
        places = {kind: [name for name in layers if name.rsplit("_", 1)[0].rstrip("_") == kind or name == kind]
                  for kind in ("multihead_attention", "conv1d", "dense")}  # fmt: skip
        names = list(dict.fromkeys(name.rpartition(".")[0] for name in plain))
        ours = {
            "multihead_attention": [n.removesuffix(".attention") for n in names if n.endswith(".attention")],
            "conv1d": [n for n in names if plain.get(f"{n}.kernel", np.zeros(0)).ndim == 3],
            "dense": [n for n in names if plain.get(f"{n}.kernel", np.zeros(0)).ndim == 2 and ".attention." not in n],
        }
        layer_of = {site: layer for kind in places for site, layer in zip(ours[kind], places[kind], strict=True)}
        for block in ours["multihead_attention"]:
            _attention(root[layer_of[block]], layer_of[block], block, adapter)
        _within(root, layer_of, adapter)
        layers = _beside(root, layers, ours, layer_of, adapter)
        root.attrs["layer_names"] = [name.encode() for name in layers]


def _attention(group, layer, block, adapter):
    """LoRA comes first, named after a model of its own; the biases change places; the adapted kernels come last."""
    added, adapted = [], []
    for part, calico in (("q", "q_layer"), ("v", "v_layer"), ("k", "k_layer"), ("out", "embedding_layer")):
        site = f"{block}.attention.{part}"
        for ours, theirs in (("lora_a.kernel", "lora_a"), ("lora_b.kernel", "lora_b"), ("ia3.scale", "ia3")):
            if f"{site}.{ours}" in adapter.tensors:
                prefix = "" if theirs == "ia3" else "model_1/"
                value = adapter.tensors[f"{site}.{ours}"]
                added.append((f"{prefix}{layer}/{calico}/{theirs}/kernel:0", value[None] if theirs == "ia3" else value))
                adapted.append(f"{layer}/{calico}/")
    if not added:
        return
    listed = _listed(group, "weight_names")
    biases = [f"{layer}/r_r_bias:0", f"{layer}/r_w_bias:0"]
    for name in biases:
        group.move(name, f"{name}:0")
    last = [name for name in listed if name.startswith(tuple(adapted))]
    between = [name for name in listed if name not in biases and name not in last]
    for name, value in added:
        group[name] = value
    names = [*(name for name, _ in added), *(f"{name}:0" for name in biases), *between, *last]
    group.attrs["weight_names"] = [name.encode() for name in names]


def _within(root, layer_of, adapter):
    """Locon and the factors of ia3 are held by the layers they adapt."""
    for site, layer in layer_of.items():
        for ours, theirs in (
            ("locon_down.kernel", "locon_down"),
            ("locon_up.kernel", "locon_up"),
            ("ia3.scale", "ia3_ff"),
        ):
            value = adapter.tensors.get(f"{site}.{ours}")
            if value is None:
                continue
            name = f"{layer}/{theirs}/kernel:0"
            root[layer][name] = value if theirs != "ia3_ff" else value[None]
            names = _listed(root[layer], "weight_names")
            before = [old for old in names if "locon" in old]
            names = [*before, name, *(old for old in names if old not in before)]
            root[layer].attrs["weight_names"] = [name.encode() for name in names]


def _beside(root, layers, ours, layer_of, adapter):
    """Bottlenecks and squeeze-excites are layers of their own, after the one they follow."""
    layers = list(layers)
    places = [(f"{block}.{place}", layer_of[block]) for block in ours["multihead_attention"]
              for place in ("attention_output", "mlp_output")]  # fmt: skip
    count = 0
    for site, after in places:
        if f"{site}.down.kernel" not in adapter.tensors:
            continue
        layer = "adapter_houlsby" + (f"_{count}" if count else "")
        weights = [(f"{layer}/adapter_{side}/{part}:0", adapter.tensors[f"{site}.{side}.{part}"])
                   for side in ("down", "up") for part in ("kernel", "bias")]  # fmt: skip
        _add(root, layers, layer, after, weights)
        count += 1
    count = 0
    for site in ours["conv1d"]:
        if f"{site}.squeeze.kernel" in adapter.tensors:
            layer = "squeeze_excite" + (f"_{count}" if count else "")
            counters = {"squeeze": 9 + 2 * count, "excite": 10 + 2 * count}
            weights = [
                (f"{layer}/dense_{number}/kernel:0", adapter.tensors[f"{site}.{part}.kernel"])
                for part, number in counters.items()
            ]
            _add(root, layers, layer, layer_of[site], weights)
            count += 1
    return layers


def _add(root, layers, layer, after, weights):
    group = root.create_group(layer)
    for name, value in weights:
        group[name] = value
    group.attrs["weight_names"] = [name.encode() for name, _ in weights]
    where = layers.index(after) + 1
    while layers[where].startswith(("adapter_houlsby", "squeeze_excite")):
        where += 1
    layers.insert(where, layer)


def _listed(group, attribute):
    return [name.decode() if isinstance(name, bytes) else name for name in group.attrs[attribute]]
