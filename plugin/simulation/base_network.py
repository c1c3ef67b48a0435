"""The small base network that learns a simulated genome in minutes: Borzoi's own blocks, narrow and for short windows."""

from __future__ import annotations

from kipoi_borzoi.simulation.genome import MARGIN, WINDOW

BIN = 32


def base_params(tracks: int) -> dict:
    """Calico's ``params.json`` for a network of ``tracks`` outputs.

    Windows of `WINDOW` bp, bins of 32 bp, `MARGIN` bp cropped at each end; every kind of block of the
    published Borzoi, so that every adapter method has its places.
    """
    return {
        "train": {
            "batch_size": 16,
            "optimizer": "adam",
            "learning_rate": 0.006,
            "loss": "poisson_mn",
            "total_weight": 0.2,
            "warmup_steps": 300,
            "global_clipnorm": 0.5,
            "adam_beta1": 0.9,
            "adam_beta2": 0.999,
            "patience": 20,
            "train_epochs_min": 60,
            "train_epochs_max": 110,
        },
        "model": {
            "seq_length": WINDOW,
            "augment_rc": True,
            "augment_shift": 3,
            "activation": "gelu",
            "norm_type": "batch",
            "bn_momentum": 0.9,
            "kernel_initializer": "lecun_normal",
            "l2_scale": 2e-8,
            "trunk": [
                {"name": "conv_dna", "filters": 96, "kernel_size": 15, "norm_type": None, "activation": "linear",
                 "pool_size": 8},
                {"name": "res_tower", "filters_init": 64, "filters_end": 96, "divisible_by": 8, "kernel_size": 5,
                 "num_convs": 1, "pool_size": 2, "repeat": 4},
                {"name": "transformer_tower", "key_size": 16, "heads": 4, "num_position_features": 16,
                 "dropout": 0.1, "mha_l2_scale": 1e-8, "l2_scale": 1e-8, "kernel_initializer": "he_normal",
                 "repeat": 2},
                {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
                {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
                {"name": "Cropping1D", "cropping": MARGIN // BIN},
                {"name": "conv_nac", "filters": 96, "dropout": 0.05},
            ],
            "head_simulated": {"name": "final", "units": tracks, "activation": "softplus"},
        },
    }  # fmt: skip
