"""The model card of an adapter, written from its config and tracks."""

from __future__ import annotations

from typing import Any

from kipoi_borzoi.tracks import Tracks

_SHOWN = 20  # tracks listed in the card

_METHODS = {
    "full": "full fine-tuning (every weight)",
    "linear": "linear probing (the head only)",
    "lora": "LoRA on the query and value projections of attention",
    "lora_full": "LoRA on the query, key, value and output projections of attention",
    "lora_conv": "LoRA on the query and value projections of attention, and the last convolutions trained",
    "ia3": "IA3: factors on keys, values and the hidden units of the transformer",
    "locon": "Locon: LoRA on the last convolutions and in attention",
    "houlsby": "Houlsby bottlenecks in the transformer",
    "houlsby_se": "Houlsby bottlenecks in the transformer, squeeze-excite after the last convolutions",
}


def model_card(config: dict[str, Any], tracks: Tracks) -> str:
    """Write the text of ``README.md``.

    Parameters
    ----------
    config : dict
        The content of ``adapter_config.json``.
    tracks : Tracks
    """
    ours = config["kipoi_borzoi"]
    counts = ours["counts"]
    gelu = "tanh approximation" if ours["gelu"] == "tanh" else "exact (error function), as Calico's code trained it"
    lines = [
        "---",
        "library_name: kipoi-borzoi",
        "tags: [DNA, RNA-seq, Borzoi, adapter]",
        "---",
        "",
        f"# {len(tracks)} tracks on {_inline(config['base_model_name_or_path'])}",
        "",
        f"An adapter for a Borzoi network, made by {_METHODS[ours['method']['name']]}.",
        "It holds only what differs from the base, and its own head.",
        "",
        "| | |",
        "|---|---|",
        f"| base | {_inline(config['base_model_name_or_path'])} |",
        f"| base, sha256 of its trunk's tensors | `{ours['base_sha256']}` |",
        f"| method | {', '.join(f'{key} {value}' for key, value in ours['method'].items())} |",
        f"| trained weights | {counts['trainable']:,} of {counts['total']:,} (head {counts['head']:,}) |",
        f"| size of the tensors | {counts['adapter_bytes'] / 1e6:.1f} MB |",
        f"| window | {ours['seq_length']:,} bp, {ours['crop']} bins cropped at each end in training |",
        f"| squashing of coverage | {ours['transform']} transform |",
        f"| GELU | {gelu} |",
        "",
        "## Tracks",
        "",
        *(f"- {_inline(identifier)}: {_inline(text) or 'no description'}"
          for identifier, text in list(zip(tracks.identifiers, tracks.descriptions, strict=True))[:_SHOWN]),
    ]  # fmt: skip
    if len(tracks) > _SHOWN:
        lines.append(f"- and {len(tracks) - _SHOWN} more: see `targets.txt`")
    if ours["training"]:
        lines += ["", "## Training", "", "| | |", "|---|---|"]
        lines += [f"| {_inline(str(key))} | {_inline(str(value))} |" for key, value in ours["training"].items()]
    return "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    """Text on one line that cannot end a table's cell or start other markup."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<").replace("`", "\\`")
