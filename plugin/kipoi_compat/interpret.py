"""Mends kipoi_interpret 0.1.2; each fix returns whether the fault was there."""

import collections
import collections.abc
import sys

from kipoi_borzoi.kipoi_compat.patching import is_wrapped, wrap


def is_complete(tool) -> bool:
    """Whether the package is imported to its end."""
    return hasattr(sys.modules.get("kipoi_interpret.importance_scores"), "feature_importance")


def name_abstract_collections(tool) -> bool:
    """Let ``kipoi_interpret.utils`` find ``collections.Mapping``, which Python 3.10 moved: else grad*input fails."""
    utils = sys.modules["kipoi_interpret.utils"]
    if utils.collections is not collections or hasattr(collections, "Mapping"):
        return False
    utils.collections = collections.abc
    return True


def call_gradient_of_saliency(tool) -> bool:
    """Compute the saliency: its ``score`` passes ``self`` twice to the gradient and fails in every version."""
    wrap(sys.modules["kipoi_interpret.importance_scores.gradient"].Saliency, "score", _absolute_gradient)
    return True


def _absolute_gradient(score, self, input_batch):
    return abs(sys.modules["kipoi_interpret.importance_scores.gradient"].Gradient.score(self, input_batch))


def read_dataloader_args_as_kipoi_does(tool) -> bool:
    """Take ``--dataloader_args`` as the list that Kipoi 0.8's parser gives: else every command stops while parsing."""
    changed = False
    for name in ("cli", "importance_scores.cli"):
        module = sys.modules.get(f"kipoi_interpret.{name}")
        if module is not None and not is_wrapped(module.parse_json_file_str):
            wrap(module, "parse_json_file_str", _parse_list_or_text)
            changed = True
    return changed


def _parse_list_or_text(parse, extractor_args):
    from kipoi_utils.utils import parse_json_file_str_or_arglist

    if isinstance(extractor_args, list) or extractor_args is None:
        return parse_json_file_str_or_arglist(extractor_args)
    return parse(extractor_args)


FIXES = (name_abstract_collections, call_gradient_of_saliency, read_dataloader_args_as_kipoi_does)
