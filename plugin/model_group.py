"""Several models of one base as one: what they share is computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.inference.together import Member, Together
from kipoi_borzoi.inference.views import view_of
from kipoi_borzoi.model import BorzoiModel, single_input


class ModelGroup:
    """Predicts with several adapters of one base (and the base itself) in one call.

    The part of the network below the first layer that any of them changes is computed once, and so on
    from branch to branch; the results equal those of separate calls, to float rounding.

    Parameters
    ----------
    models : dict of str to BorzoiModel
        By the name that predictions get; all on one base, with one view.

    Attributes
    ----------
    models : dict of str to BorzoiModel

    Raises
    ------
    InputError
        No model, models of several bases or views, or an ensemble of replicates.
    """

    def __init__(self, models: Mapping[str, BorzoiModel]):
        if not models:
            raise InputError("there is nothing to predict with: give one model or more")
        for name, model in models.items():
            if len(model.predictors) != 1:
                raise InputError(f"{name} is an ensemble of {len(model.predictors)} networks; name one of them")
        first, base = next((name, model.predictors[0].network) for name, model in models.items())
        for name, model in models.items():
            if model.predictors[0].network is not base:
                raise InputError(f"{name} stands on another base than {first}; call each by itself")
        if len({model.view for model in models.values()}) > 1:
            raise InputError("the models have different views; load them with one")
        self.models = dict(models)

    def predict_on_batch(
        self,
        x: np.ndarray,
        tracks: Mapping[str, Sequence[int | str]] | None = None,
        crop: int | None = None,
        rc: bool = False,
        shifts: Sequence[int] = (0,),
        precision: str = "float32",
    ) -> dict[str, np.ndarray]:
        """Predict windows of DNA; for the arguments see `BorzoiModel.predict_on_batch`.

        Parameters
        ----------
        x : (windows, seq_length, 4) float or bool
        tracks : dict of model's name to sequence of int or str, optional
            Of a model that is not named, all tracks.
        crop : int, optional
            Needed when the models' own differ.

        Returns
        -------
        dict
            By name, the array that the model gives by itself.

        Raises
        ------
        InputError
            A wrong shape or option.
        """
        tracks = dict(tracks or {})
        unknown = [name for name in tracks if name not in self.models]
        if unknown:
            raise InputError(f"tracks are given for {unknown[0]!r}; the models are: {', '.join(self.models)}")
        crops = {model.config.crop for model in self.models.values()}
        if crop is None and len(crops) > 1:
            raise InputError(f"the models crop {', '.join(map(str, sorted(crops)))} bins at each end; say which crop to use")
        chosen = {
            name: model.tracks.select(tracks[name]) if name in tracks else model.tracks
            for name, model in self.models.items()
        }
        members = [
            Member(
                model.predictors[0],
                model.head.name,
                chosen[name].index if name in tracks else None,
                model.tracks.strand_pair,
            )
            for name, model in self.models.items()
        ]
        x = members[0].predictor.checked(single_input(x))
        results: dict[str, np.ndarray] = {}
        crop = crops.pop() if crop is None else crop
        for start, coverages in Together(members).batches(x, crop, rc, shifts, precision):
            for (name, model), coverage in zip(self.models.items(), coverages, strict=True):
                part = view_of(coverage, model.view, chosen[name], model.transform)
                if name not in results:
                    results[name] = np.empty((len(x), *part.shape[1:]), dtype=part.dtype)
                results[name][start : start + len(part)] = part
        if not results:
            raise InputError("there is no window to predict: the batch is empty")
        return results
