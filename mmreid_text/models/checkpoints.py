"""CLIP weights of every published layout, and IRRA's heads, brought into ours.

Nothing in a file is executed: PyTorch files load with ``weights_only=True``, safetensors hold tensors only, and the
tensors of TorchScript archives are read past their code (:mod:`mmreid_text.models.torchscript`).
"""

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import get_torch_safe_globals
from torch import nn

from mmreid_text.models.backbones.patch_encoder import resize_positions
from mmreid_text.models.hub import download_clip
from mmreid_text.models.layouts import ENCODERS, HEADS, Layout, layout_of
from mmreid_text.models.peers import heads_of_width, irra_grid
from mmreid_text.models.torchscript import is_torchscript, read_torchscript

State = dict[str, torch.Tensor]
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_PARTS = dict(zip((*ENCODERS, *HEADS), ("image encoder", "text encoder", "identity head", "relation head")))


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
        heads = self.heads or heads_of_width(self.width)
        return {
            "width": self.width,
            "depth": self.depth,
            "heads": heads,
            "patch_size": self.patch_size,
            "embed_dim": self.embed_dim,
        }

    def text_encoder(self) -> dict[str, Any]:
        """Arguments of ``CLIPTextEncoder``."""
        heads = self.text_heads or heads_of_width(self.text_width)
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
    """A loaded checkpoint: float32 ``state`` of both encoders in ``DualEncoder``'s keys at the file's own grid, what
    the file states of them as ``arch``, the names of tensors left out as ``dropped``, where it came from, and, of a
    file that has them, ``heads``: float32 ``classifier.*`` and ``relation.*`` in ``IRRA``'s keys. ``relation_heads``
    are the attention heads of the relation head, None where the file does not state them."""

    source: str
    layout: str
    state: State
    arch: CLIPArch
    dropped: tuple[str, ...]
    heads: State = field(default_factory=dict)
    relation_heads: int | None = None


def load_clip(checkpoint: str, img_size: tuple[int, int] | None = None) -> CLIPWeights:
    """Read a CLIP vision transformer of any width, depth, patch size and grid, and IRRA's heads where they are.

    Args:
        checkpoint: One of

            * OpenAI's ``.pt``: TorchScript archive or state dict, in float16 or float32;
            * a Hugging Face folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``, or such a
              weight file alone (OpenAI's rule then gives the heads: one per 64 channels);
            * the ``.pth`` of IRRA, or of code that builds on it, such as MLLM4Text-ReID;
            * a checkpoint of this project (``.pth``), or the state dict in it;
            * a Hugging Face name such as ``openai/clip-vit-base-patch16``, from the local cache or the hub.
        img_size: (height, width) in pixels, read for IRRA's layout alone: the size that such a file was trained at,
            unless the ``configs.yaml`` beside it states one; see :func:`mmreid_text.models.peers.irra_grid`.

    Raises:
        FileNotFoundError: There is no such file or folder, or the hub cannot be reached and the cache lacks the model.
        ValueError: The file cannot be read, or holds no CLIP vision transformer.
    """
    path = locate_weights(str(checkpoint))
    config: dict[str, Any] = {}
    if (path.parent / "config.json").is_file() and path.name in WEIGHT_FILES:
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        _check_config(config, path.parent / "config.json")
    raw = read_tensors(path)
    layout = layout_of(raw, path)
    state, dropped = layout.convert(raw)
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    heads = {key: state.pop(key) for key in list(state) if key.startswith(HEADS)}
    arch = _arch(state, config, path, layout, img_size)
    stated = heads.pop("relation.layout", None)
    relation_heads = int(stated[-1]) if stated is not None else None
    if layout.name == "IRRA":
        relation_heads = heads_of_width(arch.embed_dim)
    return CLIPWeights(str(checkpoint), layout.name, state, arch, tuple(dropped), heads, relation_heads)


def load_into(model: nn.Module, checkpoint: str | CLIPWeights, all_heads: bool = False) -> None:
    """Load weights into a model's encoders, resizing the position grid bilinearly, and into what it has of heads.

    The log reports what matched, what was resized and what was left out. A head that the model lacks, or has in another
    size, such as the classifier of another data set, is left out; one that the file lacks stays as initialised.

    Args:
        model: A ``DualEncoder``, an ``IRRA``, or another model with ``image_encoder`` and ``text_encoder``.
        checkpoint: As :func:`load_clip` takes it, or its result.
        all_heads: Whether a head of the file that does not fit is an error.

    Raises:
        ValueError: A tensor is missing, left over or of another shape, or the numbers of heads differ. One error names
            them all.
    """
    image_encoder: Any = model.image_encoder
    weights = (
        checkpoint if isinstance(checkpoint, CLIPWeights) else load_clip(checkpoint, tuple(image_encoder.img_size))
    )
    state, arch = dict(weights.state), weights.arch
    grid: tuple[int, int] = image_encoder.grid
    state["image_encoder.pos_embed"] = resize_positions(state["image_encoder.pos_embed"], arch.grid, grid)
    own: State = {key: value for key, value in model.state_dict().items() if key.startswith(ENCODERS)}
    problems = _heads_problems(own, arch)
    for key in ("image_encoder.layout", "text_encoder.layout"):
        state[key] = own[key]
    problems += _shape_problems(own, state)
    misfits = _misfits(model, weights)
    if all_heads:
        problems += [problem for reasons in misfits.values() for problem in reasons]
    if problems:
        shown = "\n  ".join(problems[:20] + [f"... and {len(problems) - 20} more"] * (len(problems) > 20))
        raise ValueError(
            f"{weights.source} does not fit the model:\n  {shown}\nThe file holds {arch}. Give the encoders of the "
            "config these sizes, or name another checkpoint."
        )
    heads = {key: value for key, value in weights.heads.items() if not key.startswith(tuple(misfits))}
    model.load_state_dict(state | heads, strict=False)
    print_log(_report(model, weights, grid, heads, misfits), "current")


def _misfits(model: nn.Module, weights: CLIPWeights) -> dict[str, list[str]]:
    """For each head of the file that the model cannot take, by its prefix, the reasons."""
    misfits = {}
    for prefix in HEADS:
        theirs = {key: value for key, value in weights.heads.items() if key.startswith(prefix)}
        own = {key: value for key, value in model.state_dict().items() if key.startswith(prefix)}
        own.pop("relation.layout", None)
        if theirs and not own:
            misfits[prefix] = [f"{prefix}*: in the file, not in the model"]
        elif theirs:
            reasons = _shape_problems(own, theirs)
            if prefix == "relation.":
                relation: Any = model.relation
                stated = weights.relation_heads
                if stated is not None and stated != relation.heads:
                    reasons.append(f"relation.heads: the file states {stated}, the model has {relation.heads}")
            if reasons:
                misfits[prefix] = reasons
    return misfits


def _report(
    model: nn.Module, weights: CLIPWeights, grid: tuple[int, int], heads: State, misfits: Mapping[str, list[str]]
) -> str:
    loaded = [*(key for key in weights.state if not key.endswith(".layout")), *heads]
    counts = {name: sum(key.startswith(prefix) for key in loaded) for prefix, name in _PARTS.items()}
    lines = [
        f"Loaded CLIP weights ({weights.layout} layout) from {weights.source}: {weights.arch}",
        "matched: " + ", ".join(f"{name} {count} tensors" for name, count in counts.items() if count),
    ]
    if weights.arch.grid != grid:
        source, target = (f"{rows}x{columns}" for rows, columns in (weights.arch.grid, grid))
        lines.append(f"resized: image positions from {source} to {target}, bilinear")
    if weights.dropped:
        lines.append(f"left out: {', '.join(weights.dropped)}")
    for prefix, reasons in misfits.items():
        shown = "; ".join(reasons[:3] + [f"and {len(reasons) - 3} more"] * (len(reasons) > 3))
        lines.append(f"left out: {_PARTS[prefix]} ({shown})")
    lacking = [p for p in HEADS if not counts[_PARTS[p]] and any(key.startswith(p) for key in model.state_dict())]
    if lacking:
        lines.append(f"as initialised: {', '.join(_PARTS[prefix] for prefix in lacking)}")
    return "\n  ".join(lines)


def locate_weights(checkpoint: str) -> Path:
    """The weight file that a file, a folder or a Hugging Face name stands for."""
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


def read_tensors(path: Path) -> State:
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
    for key in ("state_dict", "model"):  # a runner's checkpoint, and IRRA's
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
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


def _arch(
    state: State, config: Mapping[str, Any], path: Path, layout: Layout, img_size: tuple[int, int] | None
) -> CLIPArch:
    def heads(part: str, encoder: str, width: int) -> int | None:
        if layout.name == "IRRA":
            return heads_of_width(width)
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
    elif layout.name == "IRRA":
        rows, columns = irra_grid(path, patches, patch_size, img_size)
    else:
        rows = columns = isqrt(patches)
    if rows * columns != patches:
        raise ValueError(f"{path}: {patches} patch positions are no square grid, and the file does not state theirs.")
    return CLIPArch(
        embed_dim=embed_dim,
        width=width,
        depth=depth("image_encoder"),
        heads=heads("vision_config", "image_encoder", width),
        patch_size=patch_size,
        grid=(rows, columns),
        text_width=text_width,
        text_depth=depth("text_encoder"),
        text_heads=heads("text_config", "text_encoder", text_width),
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
