"""Weights of one modality each, or of a run of ours, for the encoders of any model.

Image encoders take ImageNet's vision transformers as mmpretrain and timm publish them, text encoders take BERT as
Hugging Face does, and both take checkpoints of this project. Nothing in a file is executed.
"""

import json
import re
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from mmengine.logging import print_log
from torch import nn

from mmreid_text.models.backbones.patch_encoder import resize_positions
from mmreid_text.models.checkpoints import locate_weights, read_tensors

State = dict[str, torch.Tensor]
# Ends of names in timm's layout, which is DeiT's own, and in mmpretrain's.
_TIMM = (
    ("patch_embed.proj.", "patch_embed.projection."),
    ("blocks.", "layers."),
    (".norm1.", ".ln1."),
    (".norm2.", ".ln2."),
    (".mlp.fc1.", ".ffn.layers.0.0."),
    (".mlp.fc2.", ".ffn.layers.1."),
)
_MAY_DIFFER = "projection."
"""What a file need not have in the model's size: the way to the joint space, which single modalities lack."""


@dataclass
class _Part:
    """An encoder's tensors by its own names, how their file names them, and what is left over of it."""

    layout: str
    state: State
    dropped: list[str] = field(default_factory=list)
    resized: str = ""


def load_encoders(
    model: nn.Module, checkpoint: str | None = None, image: str | None = None, text: str | None = None
) -> None:
    """Load weights into a model's encoders and log what matched, what was resized and what was left out.

    Of a checkpoint of ours the encoders alone are taken, not its heads. The projection to the joint space stays as
    initialised where the file has none, or one of another size; anything else must fit. Image positions are resized
    bilinearly to the encoder's grid.

    Args:
        model: A model with ``image_encoder`` and ``text_encoder``.
        checkpoint: File of a run of ours, for the encoders that have no file of their own.
        image: File or URL of a vision transformer as mmpretrain or timm publishes it, or file of a run of ours.
        text: File, folder or Hugging Face name of a BERT, or file of a run of ours.

    Raises:
        FileNotFoundError: There is no such file, or it cannot be downloaded.
        ValueError: The file cannot be read, or does not fit the encoder. One error names all tensors that do not.
    """
    for name, source in (("image_encoder", image or checkpoint), ("text_encoder", text or checkpoint)):
        if source:
            encoder: nn.Module = getattr(model, name)
            part = _read(name, str(source), encoder)
            _load(encoder, name, part, str(source))


def _read(name: str, source: str, encoder: nn.Module) -> _Part:
    path = _download(source) if "://" in source else locate_weights(source)
    raw = read_tensors(path)
    own = {key.removeprefix(f"{name}."): value for key, value in raw.items() if key.startswith(f"{name}.")}
    if own:
        part = _Part("mmreid_text", own)
    elif name == "image_encoder":
        part = _read_vit(raw, source)
    else:
        part = _read_bert(raw, path)
    _check_layout(part, encoder, name, source)
    return part


def _download(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            raise FileNotFoundError(
                f"{url} cannot be downloaded ({error}). Download it elsewhere and put it to {path}, or name the file."
            ) from error
    return path


def _read_vit(raw: State, source: str) -> _Part:
    """A vision transformer of mmpretrain's or timm's, its classifier left out."""
    state = {key.removeprefix("backbone."): value for key, value in raw.items()}
    layout = "mmpretrain"
    if any(key.startswith("blocks.") for key in state):
        layout = "timm"
        for theirs, ours in _TIMM:
            state = {key.replace(theirs, ours): value for key, value in state.items()}
        state = {re.sub(r"^(fc_)?norm\.", "ln1.", key): value for key, value in state.items()}
    if not {"pos_embed", "cls_token", "patch_embed.projection.weight"} <= set(state):
        raise ValueError(
            f"{source} holds no vision transformer: neither mmpretrain's nor timm's names are in it (its first tensor "
            f"is {next(iter(raw))!r})."
        )
    if state.pop("dist_token", None) is not None:  # DeiT's distilled form has a second extra token
        state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], state["pos_embed"][:, 2:]], dim=1)
    known = ("cls_token", "pos_embed", "patch_embed.", "layers.", "ln1.")
    kept = {key: value for key, value in state.items() if key.startswith(known)}
    return _Part(layout, kept, sorted(set(state) - set(kept)))


def _read_bert(raw: State, path: Path) -> _Part:
    """A BERT of Hugging Face's, its pooler and its heads left out."""
    state = {re.sub(r"^bert\.", "", key): value for key, value in raw.items()}
    state = {re.sub(r"^encoder\.layer\.", "layers.", key): value for key, value in state.items()}
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):  # names of TensorFlow's, in the oldest files
        state = {key.removesuffix(old) + new if key.endswith(old) else key: value for key, value in state.items()}
    if "embeddings.word_embeddings.weight" not in state:
        raise ValueError(f"{path} holds no BERT: it has no word embeddings (its first tensor is {next(iter(raw))!r}).")
    buffers = {"embeddings.position_ids", "embeddings.token_type_ids"}
    kept = {k: v for k, v in state.items() if k.startswith(("embeddings.", "layers.")) and k not in buffers}
    config = path.parent / "config.json"
    if config.is_file():
        stated: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
        if "num_attention_heads" in stated:
            kept["layout"] = torch.tensor([stated["num_attention_heads"]])
        if stated.get("hidden_act", "gelu") != "gelu":
            raise ValueError(f"{config}: hidden_act is {stated['hidden_act']!r}; BertTextEncoder has 'gelu' only.")
    return _Part("Hugging Face", kept, sorted(set(state) - set(kept) - buffers))


def _check_layout(part: _Part, encoder: nn.Module, name: str, source: str) -> None:
    """Compare heads, which shapes do not tell, and bring image positions to the encoder's grid."""
    own: Any = encoder.layout
    stated = part.state.get("layout")
    if stated is not None and int(stated[-1]) != int(own[-1]):
        raise ValueError(
            f"{source} does not fit the model: {name}.heads: the file states {int(stated[-1])}, the model has "
            f"{int(own[-1])}."
        )
    positions = part.state.get("pos_embed")
    if name == "image_encoder" and positions is not None:
        side = isqrt(positions.shape[1] - 1)
        grid = (int(stated[0]), int(stated[1])) if stated is not None else (side, side)
        target: tuple[int, int] = encoder.grid  # type: ignore[assignment]
        if grid[0] * grid[1] != positions.shape[1] - 1:
            raise ValueError(f"{source}: {positions.shape[1] - 1} patch positions are no square grid.")
        if grid != target:
            part.state["pos_embed"] = resize_positions(positions, grid, target)
            part.resized = f"positions from {grid[0]}x{grid[1]} to {target[0]}x{target[1]}, bilinear"
    part.state["layout"] = own


def _load(encoder: nn.Module, name: str, part: _Part, source: str) -> None:
    own = encoder.state_dict()
    state = {key: value.float() if value.is_floating_point() else value for key, value in part.state.items()}
    shapes = {
        key: f"{tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    }
    left = [key for key in shapes if key.startswith(_MAY_DIFFER)]
    state = {key: value for key, value in state.items() if key not in left}
    fresh = sorted(set(own) - set(state))
    problems = [f"{name}.{key}: missing in the file" for key in fresh if not key.startswith(_MAY_DIFFER)]
    problems += [f"{name}.{key}: in the file, not in the model" for key in state if key not in own]
    problems += [f"{name}.{key}: {reason}" for key, reason in shapes.items() if key not in left]
    if problems:
        shown = "\n  ".join(problems[:20] + [f"... and {len(problems) - 20} more"] * (len(problems) > 20))
        raise ValueError(
            f"{source} does not fit the model:\n  {shown}\nGive the encoder of the config these sizes, or name another "
            "file."
        )
    encoder.load_state_dict(state, strict=False)
    lines = [f"Loaded {name} ({part.layout} layout) from {source}", f"matched: {len(state) - 1} tensors"]
    lines += [f"resized: {part.resized}"] if part.resized else []
    dropped = part.dropped + [f"{key} ({shapes[key]})" for key in left]
    shown = ", ".join(dropped[:6] + [f"and {len(dropped) - 6} more"] * (len(dropped) > 6))
    lines += [f"left out: {shown}"] if dropped else []
    lines += [f"as initialised: {', '.join(fresh)}"] if fresh else []
    print_log("\n  ".join(lines), "current")
