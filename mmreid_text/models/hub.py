"""Weights and vocabularies from the Hugging Face hub or its local cache."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, HTTPError, LocalEntryNotFoundError

_CONNECT_SECONDS = 5.0


def download_clip(name: str, weight_files: Sequence[str]) -> Path:
    """Path of a hub model's weight file, its ``config.json`` beside it; the local cache comes first.

    Args:
        name: ``owner/model``.
        weight_files: File names to take, the best first.

    Raises:
        FileNotFoundError: The cache has no such model and the hub does not give it. The error says which file to put
            where.
    """
    try:
        return _fetch(name, weight_files, local_only=True)
    except (EntryNotFoundError, HFValidationError):
        pass
    try:
        _knock()
        return _fetch(name, weight_files, local_only=False)
    except (EntryNotFoundError, HFValidationError, HTTPError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    folder = Path(name).absolute()
    raise FileNotFoundError(
        f"The weights {name!r} are not in the local cache {constants.HF_HUB_CACHE} and cannot be had from "
        f"{constants.ENDPOINT} ({reason}). On a machine with access, download config.json and {weight_files[0]} (or "
        f"{weight_files[1]}) of {name} and put them into {folder}{os.sep}, or into any folder that you name as the "
        "checkpoint; or set HF_HOME to a cache that holds the model; or name OpenAI's .pt file as the checkpoint."
    )


def download_file(name: str, file: str) -> Path:
    """Path of one file of a hub model; the local cache comes first.

    Raises:
        FileNotFoundError: The cache lacks it and the hub does not give it. The error says where to put it.
    """
    try:
        return Path(hf_hub_download(name, file, local_files_only=True))
    except (EntryNotFoundError, HFValidationError):
        pass
    try:
        _knock()
        return Path(hf_hub_download(name, file, etag_timeout=_CONNECT_SECONDS))
    except (EntryNotFoundError, HFValidationError, HTTPError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise FileNotFoundError(
        f"{file} of {name!r} is not in the local cache {constants.HF_HUB_CACHE} and cannot be had from "
        f"{constants.ENDPOINT} ({reason}). On a machine with access, download it and name the file or its folder in "
        "the config; or set HF_HOME to a cache that holds the model."
    )


def _knock() -> None:
    """Raise OSError within seconds where the hub cannot be reached; its client would retry for half a minute."""
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    url = urlsplit(constants.ENDPOINT)
    if url.scheme not in getproxies():
        address = (url.hostname, url.port or (443 if url.scheme == "https" else 80))
        socket.create_connection(address, timeout=_CONNECT_SECONDS).close()


def _fetch(name: str, weight_files: Sequence[str], local_only: bool) -> Path:
    def get(file: str) -> Path:
        return Path(hf_hub_download(name, file, local_files_only=local_only, etag_timeout=_CONNECT_SECONDS))

    get("config.json")
    for file in weight_files[:-1]:
        try:
            return get(file)
        except LocalEntryNotFoundError:
            if not local_only:
                raise  # no connection, rather than no such file
        except EntryNotFoundError:
            continue
    return get(weight_files[-1])
