"""Checkpoints that hold tensors and plain values only, and that are read as such."""

import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner.checkpoint import get_torch_safe_globals

from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keeps mmengine's own classes out of checkpoints, so that ``torch.load(weights_only=True)`` reads them anywhere.

    What is left out is the history from which the log smooths its running means.

    Use in configs::

        default_hooks = dict(plain_checkpoint=dict(type='PlainCheckpointHook'))
    """

    priority = "VERY_LOW"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Drop log histories and turn numpy scalars into Python's."""
        hub = checkpoint["message_hub"]
        info = {k: v.item() if isinstance(v, np.generic) else v for k, v in hub["runtime_info"].items()}
        resumed = {k: v for k, v in hub["resumed_keys"].items() if k in info}
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": info, "resumed_keys": resumed}


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_plain_file(filename: str, map_location: Any = None) -> dict:
    """Read a local checkpoint with ``weights_only=True``; mmengine would fall back to running what the file says.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds more than tensors and plain values, or is no checkpoint.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        with torch.serialization.safe_globals(get_torch_safe_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except torch.OutOfMemoryError:
        raise  # a RuntimeError that is none of the file's
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"checkpoint {path} cannot be read as tensors and plain values: it is damaged, or holds Python objects, "
            f"which are never loaded. If you trust it, save its state_dict anew. ({reason})"
        ) from error


@CheckpointLoader.register_scheme(prefixes=("http://", "https://"), force=True)
def load_from_plain_url(filename: str, map_location: Any = None) -> dict:
    """:func:`load_from_plain_file` of a checkpoint that is fetched once into PyTorch's hub folder."""
    url = sha256(filename.encode()).hexdigest()  # many are called epoch_30.pth
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{url[:8]}_{Path(urlsplit(filename).path).name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for turn in (is_main_process(), True):  # then other hosts, which do not see the main process's file
        if turn and not path.exists():
            torch.hub.download_url_to_file(filename, str(path))
        barrier()
    return load_from_plain_file(str(path), map_location)
