"""Weights files in, networks out: safetensors is our own format, Calico's ``.h5`` is read through `calico_h5`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kipoi_borzoi.errors import WeightsError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.network.calico_h5 import read_calico_h5
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.network.schema import weight_shapes


def save_safetensors(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write float32 tensors, atomically.

    Parameters
    ----------
    path : path
    tensors : mapping of dotted weight name to array
    metadata : dict of str to str, optional
        Stored in the file's header.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    tensors = {name: np.asarray(value, dtype=np.float32, order="C") for name, value in tensors.items()}
    with atomic_write(path, apart=True) as temporary:
        mode = temporary.stat().st_mode
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # which tells the system's number of a full disk in its text, in words by its version
            number = re.search(r"(?:os error |Os { code: )(\d+)", str(error))
            if not number:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        temporary.chmod(mode)  # safetensors makes its files private to the user


def load_safetensors(path: str | Path, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, np.ndarray]]:
    """Read a safetensors file one tensor at a time.

    Parameters
    ----------
    path : path
    shapes : mapping
        The tensors the file must hold, no more and no fewer, by name.

    Yields
    ------
    name, float32 array

    Raises
    ------
    WeightsError
        Not a safetensors file, or a tensor that is missing, too many, of another shape or type, or not finite.
    """
    try:
        file = safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from error
    with file:
        stored = set(file.keys())
        missing, extra = [name for name in shapes if name not in stored], sorted(stored - set(shapes))
        if missing:
            raise WeightsError(f"{path}: {_listed(missing)} missing")
        if extra:
            raise WeightsError(f"{path}: {_listed(extra)} not part of the network")
        for name, shape in shapes.items():
            header = file.get_slice(name)
            if header.get_dtype() != "F32":
                raise WeightsError(f"{path}: {name} is of type {header.get_dtype()}, expected F32")
            if tuple(header.get_shape()) != tuple(shape):
                raise WeightsError(f"{path}: {name} has shape {tuple(header.get_shape())}, expected {tuple(shape)}")
            value = file.get_tensor(name)
            if not np.isfinite(value).all():
                raise WeightsError(f"{path}: {name} has values that are not finite")
            yield name, value


def read_weights(path: str | Path, config: NetworkConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Read the weights of ``config``'s network from ``.safetensors`` or Calico's ``.h5``, told apart by content.

    Yields
    ------
    name, float32 array

    Raises
    ------
    WeightsError
        See `load_safetensors` and `kipoi_borzoi.network.calico_h5.read_calico_h5`.
    """
    if is_hdf5(path) or not str(path).endswith(".safetensors"):
        yield from read_calico_h5(path, config)
    else:
        yield from load_safetensors(path, weight_shapes(config))


def content_hash(tensors: Mapping[str, np.ndarray], names: Iterable[str] | None = None) -> str:
    """SHA-256 of the contents of ``tensors``, whatever file they came from.

    Each tensor counts with its name, its shape and its values as little-endian float32, in the order
    of the names.

    Parameters
    ----------
    tensors : mapping of name to array
    names : iterable of str, optional
        Which of them; all by default.

    Returns
    -------
    str
        64 lower-case hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors if names is None else names):
        value = np.ascontiguousarray(tensors[name], dtype="<f4")
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.data)
    return digest.hexdigest()


def is_hdf5(path: str | Path) -> bool:
    """Whether a file begins like an HDF5 file; False when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


def load_weights(network, tensors: Mapping[str, np.ndarray] | Iterator[tuple[str, np.ndarray]]) -> None:
    """Assign ``tensors`` to the weights of ``network``, all of them.

    Raises
    ------
    WeightsError
        A weight that is missing, unknown or of another shape.
    """
    from kipoi_borzoi.network.network import named_weights

    variables = named_weights(network)
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    for name, value in pairs:
        variable = variables.pop(name, None)
        if variable is None:
            raise WeightsError(f"the network has no weight {name}")
        if tuple(variable.shape) != value.shape:
            raise WeightsError(f"{name} has shape {value.shape}, the network's is {tuple(variable.shape)}")
        variable.assign(value)
    if variables:
        raise WeightsError(f"{_listed(list(variables))} missing")


def _listed(names: list[str]) -> str:
    """Name the first few of many."""
    shown = ", ".join(names[:3])
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{shown}{rest} {'is' if len(names) == 1 else 'are'}"
