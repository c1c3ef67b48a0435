"""The class that Kipoi loads: `BorzoiModel` is what every zoo entry is ``defined_as``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from kipoi.model import BaseModel, GradientMixin, LayerActivationMixin

from kipoi_borzoi import kipoi_compat
from kipoi_borzoi.adapters.directory import FILES, StoredAdapter, check_base, load_adapter
from kipoi_borzoi.errors import InputError, ZooError
from kipoi_borzoi.inference.gradients import input_gradient
from kipoi_borzoi.inference.recent import recent_stems
from kipoi_borzoi.inference.shared import shared_adapter, shared_predictor, trunk_hash_of
from kipoi_borzoi.inference.views import check_view, view_gradient, view_of
from kipoi_borzoi.kipoi_compat.veff import VariantEffects
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.tracks import check_transform, read_tracks
from kipoi_borzoi.zoo.sources import Source, locate

kipoi_compat.apply()


class BorzoiModel(BaseModel, GradientMixin, LayerActivationMixin):
    """Borzoi, or a network of the same kind, with one head and one view of its output, fine-tuned or not.

    Models on one base (equal content, wherever the file lies) share its weights in memory.

    Parameters
    ----------
    params : str
        Calico's ``params.json``: a path (relative to the working directory, which Kipoi sets to the
        entry's folder) or an https URL, fetched through the cache.
    weights : str or list of str
        ``.h5`` or ``.safetensors``, likewise; several are replicates, whose coverage is averaged.
    targets : str, optional
        Table of the head's tracks, likewise. An adapter brings its own.
    head : str, optional
        Which head the weights hold, such as ``human``; None for the only one.
    view : {'coverage', 'sum', 'logsum'}
        What `predict_on_batch` returns; see `kipoi_borzoi.inference.views`.
    transform : {'new', 'old'}, optional
        How the network's training coverage was squashed, and so how it is unsquashed for ``sum`` and
        ``logsum``. An adapter knows its own; without one, None means ``new``.
    crop : int, optional
        Bins removed at each end; None for that of ``params``, or of the adapter's training.
    checksums : dict, optional
        sha256 by path or URL as given in the other arguments; of an adapter by ``ADAPTER/FILE``.
    adapter : str, optional
        Adapter directory: a path. The other arguments then describe its base.
    merge : bool
        Fold the adapter into copies of the kernels it changes: a little faster, and more memory.

    Attributes
    ----------
    tracks : kipoi_borzoi.tracks.Tracks
    config : kipoi_borzoi.network.config.NetworkConfig
        With the one head that predicts.
    transform : {'new', 'old'}
    predictors : list of kipoi_borzoi.inference.predictor.Predictor
        One per replicate.
    adapter : kipoi_borzoi.adapters.directory.StoredAdapter or None

    Raises
    ------
    KipoiBorzoiError
        A file that is missing, damaged or not what it should be; a head that does not exist; a table of
        another number of tracks; an adapter of another base.
    """

    MODEL_PACKAGE = None

    def __init__(
        self,
        params: str,
        weights: str | Sequence[str],
        targets: str | None = None,
        head: str | None = None,
        view: str = "coverage",
        transform: str | None = None,
        crop: int | None = None,
        checksums: dict[str, str] | None = None,
        adapter: str | None = None,
        merge: bool = False,
    ):
        check_view(view)
        if transform is not None:
            check_transform(transform)
        self.view = view
        checksums = checksums or {}
        base = NetworkConfig.from_params(locate(params, checksums).path)
        base = base.with_heads(base.head(head).name)
        sources: list[Source] = [locate(one, checksums) for one in _listed(weights)]
        self.adapter = None if adapter is None else _read_adapter(adapter, checksums, targets, transform, len(sources))
        if self.adapter is None:
            if targets is None:
                raise InputError("the table of tracks is missing: give targets, or an adapter")
            if merge:
                raise InputError("merge folds an adapter into its base, but there is no adapter")
            self.config, self.transform = base, transform or "new"
            self.tracks = read_tracks(locate(targets, checksums).path, units=base.heads[0].units)
        else:
            self.config, self.transform, self.tracks = (
                self.adapter.adapter.config, self.adapter.transform, self.adapter.tracks
            )  # fmt: skip
        if crop is not None:
            self.config = self.config.with_crop(crop)
        self.head = self.config.heads[0]
        self.predictors = [shared_predictor(base, source.path, source.sha256) for source in sources]
        if self.adapter is not None:
            predictor = self.predictors[0]
            check_base(adapter, self.adapter, trunk_hash_of(predictor.network), str(_listed(weights)[0]))
            self.predictors = [shared_adapter(predictor, self.adapter.adapter, merge)]
        self._schema = None
        self._postprocessing = {"variant_effects": VariantEffects(view)}
        kipoi_compat.mend_loaded_tools()

    @property
    def postprocessing(self):
        """What kipoi_veff asks for before anything else: the input it may mutate, and how."""
        kipoi_compat.mend_loaded_tools()
        return self._postprocessing

    @property
    def schema(self):
        """Kipoi's description of inputs and targets; Kipoi sets it, and missing labels are filled in."""
        return self._schema

    @schema.setter
    def schema(self, schema):
        targets = getattr(schema, "targets", None)
        if targets is not None and hasattr(targets, "column_labels") and not targets.column_labels:
            targets.column_labels = list(self.tracks.identifiers)
        self._schema = schema

    def predict_on_batch(
        self,
        x: np.ndarray,
        tracks: Sequence[int | str] | None = None,
        crop: int | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        precision: str = "float32",
        reuse: bool = True,
    ) -> np.ndarray:
        """Predict windows of DNA.

        Parameters
        ----------
        x : (windows, seq_length, 4) float or bool
            One-hot, columns A C G T; any number of windows, handled a few at a time.
        tracks : sequence of int or str, optional
            Indices or identifiers; only these are computed, in this order.
        crop : int, optional
            Bins removed at each end, instead of the entry's own.
        rc : bool
            Average with the prediction for the reverse complement.
        shifts : sequence of int
            bp by which the sequence is moved (right when positive); predictions are averaged.
        precision : {'float32', 'mixed_bfloat16'}
        reuse : bool
            Whether a window that differs in a short stretch from one predicted lately takes the rest of
            the stem from it; see `kipoi_borzoi.inference.recent`.

        Returns
        -------
        array
            View ``coverage``: (windows, bins, tracks) float32, the network's output. Views ``sum`` and
            ``logsum``: (windows, tracks) float64.

        Raises
        ------
        InputError
            A wrong shape or option.
        """
        chosen = self.tracks if tracks is None else self.tracks.select(tracks)
        options = {
            "tracks": None if tracks is None else chosen.index,
            "crop": self.config.crop if crop is None else crop,
            "strand_pair": self.tracks.strand_pair,
            "rc": rc,
            "shifts": shifts,
            "precision": precision,
            "stems": recent_stems(reuse),
        }
        x = self.predictors[0].checked(single_input(x))
        result = None
        for members in zip(*(predictor.batches(x, self.head.name, **options) for predictor in self.predictors), strict=True):
            start, coverage = members[0]
            for _, other in members[1:]:
                coverage = coverage + other
            if len(members) > 1:
                coverage /= np.float32(len(members))
            part = view_of(coverage, self.view, chosen, self.transform)
            if result is None:
                result = np.empty((len(x), *part.shape[1:]), dtype=part.dtype)
            result[start : start + len(part)] = part
        if result is None:
            raise InputError("there is no window to predict: the batch is empty")
        return result

    def predict_activation_on_batch(self, x: np.ndarray, layer: str | int, pre_nonlinearity: bool = False) -> np.ndarray:
        """Output of one unit of the network (``kipoi predict --layer``).

        Parameters
        ----------
        x : (windows, seq_length, 4) float or bool
        layer : str or int
            Name such as ``res_tower.3`` or ``transformer_tower.0``, or its position; ``trunk`` is what
            the head reads. An unknown name is answered with the list of all.
        pre_nonlinearity : bool
            Only False: the units' outputs are already those before their followers' activations.

        Returns
        -------
        (windows, positions, channels) float32; the mean over replicates
        """
        if pre_nonlinearity:
            raise InputError("pre_nonlinearity is not available for this network")
        names = self.predictors[0].network.activation_names
        if isinstance(layer, int) or (isinstance(layer, str) and layer.lstrip("-").isdigit()):
            index = int(layer)
            if not -len(names) <= index < len(names):
                raise InputError(f"layer {index} does not exist: there are {len(names)}: {', '.join(names)}")
            layer = names[index]
        x = single_input(x)
        # The crop is this entry's own: the network may have been loaded for one with another.
        outputs = (predictor.activation(x, layer, self.config.crop) for predictor in self.predictors)
        return sum(outputs) / np.float32(len(self.predictors))

    def input_grad(
        self,
        x: np.ndarray,
        filter_idx=None,
        avg_func: str | None = None,
        layer=None,
        final_layer: bool = True,
        selected_fwd_node=None,
        pre_nonlinearity: bool = False,
    ) -> np.ndarray:
        """Gradient of this entry's output with respect to the sequence, by Kipoi's signature.

        Parameters
        ----------
        x : (windows, seq_length, 4) float or bool
        filter_idx : int, slice, list of int or tuple of these, optional
            Tracks (a tuple indexes the output's axes after the first); None for all.
        avg_func : {'sum', 'max', 'min', 'absmax'}, optional
            How the selected outputs become one number per window; None sums.
        layer, selected_fwd_node, pre_nonlinearity
            Not available; only the entry's output is differentiated.
        final_layer : bool

        Returns
        -------
        (windows, seq_length, 4) float32
        """
        kipoi_compat.mend_loaded_tools()
        if layer is not None or selected_fwd_node is not None or pre_nonlinearity or not final_layer:
            raise InputError(
                "input_grad differentiates the entry's own output only:"
                " leave layer, selected_fwd_node, pre_nonlinearity and final_layer at their defaults"
            )
        x = self.predictors[0].checked(single_input(x))
        gradient = np.zeros(x.shape, dtype=np.float32)

        def coverage_gradient(coverage):
            return view_gradient(coverage, self.view, self.tracks, self.transform, filter_idx, avg_func)

        for index in range(len(x)):
            for predictor in self.predictors:
                gradient[index] += input_gradient(
                    predictor, x[index : index + 1], coverage_gradient, self.head.name, self.config.crop
                )[0]
        return gradient / np.float32(len(self.predictors))


def _read_adapter(
    directory: str, checksums: dict[str, str], targets: str | None, transform: str | None, replicates: int
) -> StoredAdapter:
    """Read an adapter directory and see that the other arguments do not contradict it."""
    if targets is not None:
        raise InputError(f"{directory}: an adapter brings its own table of tracks; leave targets out")
    if replicates != 1:
        raise InputError(f"{directory}: an adapter has one base, but {replicates} files of weights are given")
    if not Path(directory).is_dir():
        raise InputError(f"{Path(directory).absolute()}: no such adapter directory")
    for file in FILES:
        locate(f"{directory}/{file}", checksums)
    stored = load_adapter(directory)
    if transform not in (None, stored.transform):
        raise InputError(
            f"{directory}: the adapter was trained on coverage squashed by the {stored.transform!r} transform,"
            f" not by the {transform!r} one"
        )
    return stored


def _listed(weights: str | Sequence[str]) -> list[str]:
    names = [weights] if isinstance(weights, str) else list(weights)
    if not names:
        raise ZooError("the entry names no weights")
    return names


def single_input(x) -> np.ndarray:
    """The array of sequences, also where a tool wraps it in a list or dict of one."""
    if isinstance(x, dict) and len(x) == 1:
        x = next(iter(x.values()))
    elif isinstance(x, (list, tuple)) and len(x) == 1 and np.ndim(x[0]) == 3:
        x = x[0]
    return np.asarray(x)


