"""Turns a checkpoint of Calico's fine-tuning code, merged or not, into an adapter directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kipoi_borzoi.adapters.adapter import Adapter, Scheme, with_head
from kipoi_borzoi.adapters.base import read_trunk, trunk_hash
from kipoi_borzoi.adapters.calico import Checkpoint, read_checkpoint
from kipoi_borzoi.adapters.directory import save_adapter
from kipoi_borzoi.adapters.leaves import trunk_leaves
from kipoi_borzoi.adapters.params import read_transfer
from kipoi_borzoi.adapters.recover import Recovered, recover
from kipoi_borzoi.errors import InputError, WeightsError
from kipoi_borzoi.network.schema import weight_shapes
from kipoi_borzoi.network.sites import GELUS
from kipoi_borzoi.tracks import check_transform, read_tracks

# Inserting these, Calico's code rebuilds the network, and its GELUs become exact.
_EXACT_GELU = ("locon", "ia3", "houlsby", "houlsby_se")


@dataclass(frozen=True)
class Conversion:
    """What came of a conversion.

    Attributes
    ----------
    adapter : Adapter
    merged : bool
        Whether the checkpoint was a merged one.
    recovered : dict
        For a merged checkpoint, what was found at each adapted site.
    """

    adapter: Adapter
    merged: bool
    recovered: dict[str, Recovered] = field(default_factory=dict)

    def report(self) -> dict:
        """As a dict for JSON."""
        return {
            "method": self.adapter.method.name,
            "merged": self.merged,
            "gelu": self.adapter.gelu,
            "recovered": {
                site: {
                    "stored": "layer" if found.weights is None else "adapter",
                    "rank": found.rank,
                    "residual": found.residual,
                }
                for site, found in self.recovered.items()
            },
        }


def convert(
    params: str | Path | dict,
    checkpoint: str | Path,
    base: str | Path,
    targets: str | Path,
    out: str | Path,
    base_name: str | None = None,
    gelu: str = "auto",
    ia3_rule: str = "structure",
    transform: str = "new",
    head: str | None = None,
    replace_existing: bool = False,
) -> Conversion:
    """Convert a file of Calico's fine-tuning code into an adapter directory.

    Parameters
    ----------
    params : path, or the parsed dict
        Calico's params with ``model`` and ``transfer`` sections.
    checkpoint : path
        ``model_best.h5`` or ``model_best.mergeW.h5``, told apart by content.
    base : path
        Weights of the network that was fine-tuned, with any head or none.
    targets : path
        The table of the new head's tracks.
    out : path
        The directory to write.
    base_name : str, optional
        How the adapter names its base; the file's name by default.
    gelu : {'auto', 'tanh', 'erf'}
        Which GELU the adapter is to be used with. By default the one that Calico's code uses with the
        file: exact for unmerged locon, ia3, houlsby and houlsby_se, else the tanh approximation.
    ia3_rule : {'structure', 'calico'}
        See `kipoi_borzoi.adapters.params.read_transfer`.
    transform : {'new', 'old'}
        How the training data were squashed; Calico's fine-tuning code uses the new transform.
    head : str, optional
        Which head of the params was trained, when there are several.
    replace_existing : bool
        Whether ``out`` may be an adapter directory already.

    Returns
    -------
    Conversion

    Raises
    ------
    KipoiBorzoiError
        A file that is malformed, or that does not fit the others.
    """
    check_transform(transform)
    if gelu not in ("auto", *GELUS):
        raise InputError(f"gelu is {gelu!r}; known: auto, {', '.join(GELUS)}")
    config, method = read_transfer(params, ia3_rule)
    tracks = read_tracks(targets)
    scheme = Scheme(method, with_head(config, len(tracks), head))
    trunk = read_trunk(base, scheme.config)
    conversion = take_apart(read_checkpoint(checkpoint, scheme), scheme, trunk, gelu, str(checkpoint), str(base))
    name, sha256 = base_name or Path(base).name, trunk_hash(trunk, scheme.config)
    save_adapter(out, conversion.adapter, targets, name, sha256, transform, replace=replace_existing)
    return conversion


def take_apart(
    checkpoint: Checkpoint,
    scheme: Scheme,
    trunk: Mapping[str, np.ndarray],
    gelu: str = "auto",
    checkpoint_name: str = "the checkpoint",
    base_name: str = "the base",
) -> Conversion:
    """Separate an adapter from the base it was trained on.

    Parameters
    ----------
    checkpoint : Checkpoint
    scheme : Scheme
        The method and the network with its new head.
    trunk : mapping
        The base's weights.
    gelu : {'auto', 'tanh', 'erf'}
        See `convert`.
    checkpoint_name, base_name : str
        For errors.

    Raises
    ------
    WeightsError
        A frozen weight is not that of the base.
    """
    merged = bool(scheme.inserts) and not checkpoint.inserts
    if merged and scheme.method.not_mergeable:
        raise WeightsError(
            f"{checkpoint_name}: holds no weights of {scheme.method.name}, which cannot be merged into others;"
            " is the transfer section that of this checkpoint?"
        )
    recovered: dict[str, Recovered] = {}
    tensors = dict(checkpoint.inserts)
    if merged:
        recovered = _recover_all(checkpoint.network, scheme, trunk)
        scheme = replace(scheme, replaced=tuple(site for site, found in recovered.items() if found.weights is None))
        for site, found in recovered.items():
            tensors |= {f"{site}.{name}": value for name, value in (found.weights or {}).items()}
    _check_frozen(checkpoint.network, scheme, trunk, set(recovered), checkpoint_name, base_name)
    held = scheme.layer_shapes() | scheme.head_shapes()
    tensors |= {name: checkpoint.network[name] for name in held}
    if gelu == "auto":
        gelu = "erf" if scheme.method.name in _EXACT_GELU and not merged else "tanh"
    return Conversion(Adapter(scheme, tensors, gelu), merged, recovered)


def _recover_all(
    network: Mapping[str, np.ndarray], scheme: Scheme, trunk: Mapping[str, np.ndarray]
) -> dict[str, Recovered]:
    leaves = trunk_leaves(scheme.config)
    recovered = {}
    for site, insert in scheme.inserts.items():
        if site not in leaves:  # the new head under Calico's rule for ia3: no base to compare it with, nor need to
            recovered[site] = Recovered(
                {"ia3.scale": np.ones(insert.weights()["ia3.scale"].shape, np.float32)}, None, 0.0
            )
            continue
        weights = leaves[site].shapes
        base, found = ({weight: source[f"{site}.{weight}"] for weight in weights} for source in (trunk, network))
        recovered[site] = recover(insert, base, found)
    return recovered


def _check_frozen(network, scheme: Scheme, trunk, merged_sites: set[str], checkpoint_name: str, base_name: str) -> None:
    """Check that what the method leaves as it is equals the base, to the bit."""
    leaves = trunk_leaves(scheme.config)
    own = scheme.layer_shapes()
    merged = {f"{site}.{leaves[site].kernel}" for site in merged_sites if site in leaves}
    for name in weight_shapes(scheme.config.with_heads()):
        if name in own or name in merged or np.array_equal(network[name], trunk[name]):
            continue
        off = float(np.abs(network[name] - trunk[name]).max())
        raise WeightsError(
            f"{checkpoint_name}: {name} differs by up to {off:.3g} from that of {base_name}, although"
            f" {scheme.method.name} leaves it as it is: the checkpoint was trained on another base, or otherwise"
        )
