"""CLIP weights of every published layout, brought into ours.

Nothing in a file is executed: PyTorch files load with ``weights_only=True``, safetensors hold tensors only, and the
tensors of TorchScript archives are read past their code (:mod:`mmreid_text.models.torchscript`).
"""

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import nn

from mmreid_text.models.backbones.clip_vision_encoder import resize_positions
from mmreid_text.models.hub import download_clip
from mmreid_text.models.layouts import Layout, layout_of
from mmreid_text.models.torchscript import is_torchscript, read_torchscript

State = dict[str, torch.Tensor]
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class CLIPArch:
    """What a checkpoint states about its two encoders. Heads are None where it does not state them."""

    embed_dim: int
    width: int
    depth: int
    heads: int | None
    patch_size: int
    grid: tuple[int, int]
    text_width: int
    text_depth: int
    text_heads: int | None
    context_length: int
    vocab: int

    def image_encoder(self) -> dict[str, Any]:
        """Arguments of ``CLIPVisionEncoder`` but ``img_size``. Unstated heads: one per 64 channels, as OpenAI's."""
        heads = self.heads or max(self.width // 64, 1)
        return {
            "width": self.width,
            "depth": self.depth,
            "heads": heads,
            "patch_size": self.patch_size,
            "embed_dim": self.embed_dim,
        }

    def text_encoder(self) -> dict[str, Any]:
        """Arguments of ``CLIPTextEncoder``."""
        heads = self.text_heads or max(self.text_width // 64, 1)
        return {
            "width": self.text_width,
            "depth": self.text_depth,
            "heads": heads,
            "embed_dim": self.embed_dim,
            "context_length": self.context_length,
        }

    def __str__(self) -> str:
        return (
            f"image width {self.width}, {self.depth} blocks, patch {self.patch_size}, "
            f"grid {self.grid[0]}x{self.grid[1]}; "
            f"text width {self.text_width}, {self.text_depth} blocks, {self.context_length} tokens; "
            f"joint space {self.embed_dim}"
        )


@dataclass(frozen=True)
class CLIPWeights:
    """A loaded checkpoint: float32 ``state`` in ``DualEncoder``'s keys at the file's own grid, what the file states as
    ``arch``, the names of tensors left out as ``dropped``, and where it came from."""

    source: str
    layout: str
    state: State
    arch: CLIPArch
    dropped: tuple[str, ...]


def load_clip(checkpoint: str) -> CLIPWeights:
    """Read a CLIP vision transformer of any width, depth, patch size and grid.

    Args:
        checkpoint: One of

            * OpenAI's ``.pt``: TorchScript archive or state dict, in float16 or float32;
            * a Hugging Face folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``, or such a
              weight file alone (OpenAI's rule then gives the heads: one per 64 channels);
            * a checkpoint of this project (``.pth``), or the state dict in it;
            * a Hugging Face name such as ``openai/clip-vit-base-patch16``, from the local cache or the hub.

    Raises:
        FileNotFoundError: There is no such file or folder, or the hub cannot be reached and the cache lacks the model.
        ValueError: The file cannot be read, or holds no CLIP vision transformer.
    """
    path = _locate(str(checkpoint))
    config: dict[str, Any] = {}
    if (path.parent / "config.json").is_file() and path.name in WEIGHT_FILES:
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        _check_config(config, path.parent / "config.json")
    raw = _read_tensors(path)
    layout = layout_of(raw, path)
    state, dropped = layout.convert(raw)
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    arch = _arch(state, config, path, layout)
    return CLIPWeights(str(checkpoint), layout.name, state, arch, tuple(dropped))


def load_into(model: nn.Module, checkpoint: str | CLIPWeights) -> None:
    """Load CLIP weights into a model's ``image_encoder`` and ``text_encoder``, resizing the position grid bilinearly.

    What the checkpoint holds besides is dropped; a log line names it.

    Args:
        model: A ``DualEncoder`` or another model with these two encoders.
        checkpoint: As :func:`load_clip` takes it, or its result.

    Raises:
        ValueError: A tensor is missing, left over or of another shape, or the numbers of heads differ. One error names
            them all.
    """
    weights = checkpoint if isinstance(checkpoint, CLIPWeights) else load_clip(checkpoint)
    state, arch = dict(weights.state), weights.arch
    image_encoder: Any = model.image_encoder
    grid: tuple[int, int] = image_encoder.grid
    state["image_encoder.pos_embed"] = resize_positions(state["image_encoder.pos_embed"], arch.grid, grid)
    own: State = {
        key: value for key, value in model.state_dict().items() if key.startswith(("image_encoder.", "text_encoder."))
    }
    problems = _heads_problems(own, arch)
    for key in ("image_encoder.layout", "text_encoder.layout"):
        state[key] = own[key]
    problems += _shape_problems(own, state)
    if problems:
        shown = "\n  ".join(problems[:20] + [f"... and {len(problems) - 20} more"] * (len(problems) > 20))
        raise ValueError(
            f"{weights.source} does not fit the model:\n  {shown}\nThe file holds {arch}. Give the encoders of the "
            "config these sizes, or name another checkpoint."
        )
    model.load_state_dict(state, strict=False)
    resized = "" if arch.grid == grid else f", resized to {grid[0]}x{grid[1]}"
    dropped = f"; left out: {', '.join(weights.dropped)}" if weights.dropped else ""
    print_log(
        f"Loaded CLIP weights ({weights.layout} layout) from {weights.source}: {arch}{resized}{dropped}", "current"
    )


def _locate(checkpoint: str) -> Path:
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        for name in WEIGHT_FILES:
            if (path / name).is_file():
                return path / name
        raise FileNotFoundError(f"{path} holds neither {' nor '.join(WEIGHT_FILES)}: download one of them into it.")
    if path.is_file():
        return path
    if (
        checkpoint.count("/") == 1
        and checkpoint[0] not in "./~"
        and path.suffix not in {".pt", ".pth", ".bin", ".safetensors"}
    ):
        return download_clip(checkpoint, WEIGHT_FILES)
    raise FileNotFoundError(
        f"There is no checkpoint {path.absolute()}. Give an existing file or folder, or a Hugging Face name such as "
        "'openai/clip-vit-base-patch16'."
    )


def _read_tensors(path: Path) -> State:
    """All tensors of a file by name, whatever its container."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if is_torchscript(path):
            return read_torchscript(path)
        with torch.serialization.safe_globals(get_torch_safe_globals()):  # a runner's log buffers, beside the weights
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as weights ({reason}). It is cut off, or holds more than tensors: download it "
            "again, or save its state dict alone."
        ) from error
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}): download it again.") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, Mapping) else {}
    )
    if not tensors:
        raise ValueError(f"{path} holds no state dict: CLIP weights are a dict of tensors by name.")
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _check_config(config: Mapping[str, Any], path: Path) -> None:
    for part in ("vision_config", "text_config"):
        for key, value in (("hidden_act", "quick_gelu"), ("layer_norm_eps", 1e-5)):
            stated = config.get(part, {}).get(key, value)
            if stated != value:
                raise ValueError(f"{path}: {part}.{key} is {stated!r}; CLIP's encoders here have {value!r} only.")


def _arch(state: State, config: Mapping[str, Any], path: Path, layout: Layout) -> CLIPArch:
    def heads(part: str, encoder: str) -> int | None:
        if f"{encoder}.layout" in state:
            return int(state[f"{encoder}.layout"][-1])
        # Without the key, transformers' defaults hold, which are ViT-B/32's.
        default = {"vision_config": 12, "text_config": 8}[part]
        return int(config.get(part, {}).get("num_attention_heads", default)) if config else None

    def depth(encoder: str) -> int:
        return 1 + max((int(key.split(".")[2]) for key in state if key.startswith(f"{encoder}.layers.")), default=-1)

    try:
        patches = state["image_encoder.pos_embed"].shape[1] - 1
        embed_dim, width = state["image_encoder.projection.weight"].shape
        vocab, text_width = state["text_encoder.embeddings.token_embedding.weight"].shape
        context_length = len(state["text_encoder.embeddings.position_embedding.weight"])
        patch_size = state["image_encoder.patch_embed.projection.weight"].shape[-1]
    except KeyError as error:
        raise ValueError(f"{path} looks like CLIP in {layout.name} layout but has no tensor for {error}.") from None
    if "image_encoder.layout" in state:
        rows, columns = (int(n) for n in state["image_encoder.layout"][:2])
    else:
        rows = columns = isqrt(patches)
    if rows * columns != patches:
        raise ValueError(f"{path}: {patches} patch positions are no square grid, and the file does not state theirs.")
    return CLIPArch(
        embed_dim=embed_dim,
        width=width,
        depth=depth("image_encoder"),
        heads=heads("vision_config", "image_encoder"),
        patch_size=patch_size,
        grid=(rows, columns),
        text_width=text_width,
        text_depth=depth("text_encoder"),
        text_heads=heads("text_config", "text_encoder"),
        context_length=context_length,
        vocab=vocab,
    )


def _heads_problems(own: State, arch: CLIPArch) -> list[str]:
    # Weights of another number of heads fit in shape and give nonsense.
    pairs = (("image_encoder", arch.heads), ("text_encoder", arch.text_heads))
    return [
        f"{name}.heads: the file states {stated}, the model has {int(own[f'{name}.layout'][-1])}"
        for name, stated in pairs
        if stated is not None and stated != int(own[f"{name}.layout"][-1])
    ]


def _shape_problems(own: State, state: State) -> list[str]:
    problems = [f"{key}: missing in the file, {tuple(own[key].shape)} in the model" for key in own if key not in state]
    problems += [f"{key}: {tuple(state[key].shape)} in the file, not in the model" for key in state if key not in own]
    return problems + [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
