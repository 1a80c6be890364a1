"""Tensors of a TorchScript archive, read without running or compiling what is in it.

OpenAI published CLIP as TorchScript. ``torch.jit.load`` compiles the archive's code, and ``torch.load`` refuses such
files with ``weights_only=True``. The archive is a zip: ``data.pkl`` pickles the module tree, ``data/<n>`` are the bytes
of the tensors (pytorch/torch/csrc/jit/serialization/pickler.cpp). Unpickling here resolves five names to functions of
ours and every other to an inert stub, so no name in the file can call anything.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Stub:
    """Stands for a module, or for whatever else the archive names; keeps attributes, does nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def _rebuild_tensor(flat: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    return flat.as_strided(size, stride, offset)


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}data.pkl"))
        self._archive = archive
        self._root = root
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return _Stub

    def persistent_load(self, pid: Any) -> torch.Tensor:
        _, dtype, key, *_ = pid
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self._storages[key]


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive: a zip with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a TorchScript archive by their dotted names, on the CPU.

    Raises:
        ValueError: The archive's pickle cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        pickled = next(
            (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")), None
        )
        if pickled is None:
            raise ValueError("the archive has no data.pkl")
        try:
            module = _Unpickler(archive, pickled.removesuffix("data.pkl")).load()
        except (pickle.UnpicklingError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"its data.pkl is damaged: {error}") from error
    tensors: dict[str, torch.Tensor] = {}

    def collect(part: Any, prefix: str) -> None:
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                tensors[prefix + name] = value
            elif isinstance(value, _Stub):
                collect(value, f"{prefix}{name}.")

    if isinstance(module, _Stub):
        collect(module, "")
    return tensors
