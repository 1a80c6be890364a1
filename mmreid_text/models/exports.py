"""Weights for other people's code: IRRA's checkpoint, and transformers' ``CLIPModel``."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from math import log
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTokenizer

from mmreid_text.atomic_write import written_beside
from mmreid_text.datasets.transforms.tokenizer import EOT, SOT, VOCAB, get_tokenizer, read_merges
from mmreid_text.file_lock import alone
from mmreid_text.models.checkpoints import CLIPWeights
from mmreid_text.models.data_preprocessor import CLIP_MEAN, CLIP_STD
from mmreid_text.models.layouts import to_hugging_face, to_irra
from mmreid_text.models.peers import heads_of_width
from mmreid_text.models.square_grid import square_positions


def export_irra(weights: CLIPWeights, path: Path, relation_heads: int | None = None) -> None:
    """Write weights as IRRA's code saves them: ``{'model': state}`` in its names, with the heads that there are.

    The position table stays at its grid: IRRA reads it where ``img_size`` gives the same.

    Args:
        weights: As :func:`mmreid_text.models.checkpoints.load_clip` gives them.
        path: File to write, float32.
        relation_heads: Attention heads of the relation head, where the file has one and does not state them.

    Raises:
        ValueError: A transformer has other attention heads than one per 64 channels, which is all that IRRA's code
            knows; those of the relation head are not known; or the vocabulary is not CLIP's.
    """
    _check_vocabulary(weights)
    arch = weights.arch
    relation_heads = weights.relation_heads or relation_heads
    if relation_heads is None and any(key.startswith("relation.") for key in weights.heads):
        raise ValueError(
            f"{weights.source} does not state the attention heads of its relation head: name the config of the run."
        )
    for name, heads, width in (
        ("image_encoder.heads", arch.heads, arch.width),
        ("text_encoder.heads", arch.text_heads, arch.text_width),
        ("relation.heads", relation_heads, arch.embed_dim),
    ):
        if heads is not None and heads != heads_of_width(width):
            raise ValueError(
                f"{weights.source}: {name}={heads} at width {width} cannot be exported to IRRA's layout: it states no "
                f"heads, and IRRA's code takes one per 64 channels, {heads_of_width(width)} here. Export to Hugging "
                "Face, or train with that number."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside:
        torch.save({"model": to_irra(weights.state | weights.heads)}, beside)


def export_hugging_face(weights: CLIPWeights, folder: Path, tau: float = 0.01) -> None:
    """Write a folder for ``CLIPModel.from_pretrained``, with its tokenizer and image processor; heads are left out.

    transformers knows square position grids only. Another grid is stored inside a square one
    (:func:`mmreid_text.models.square_grid.square_positions`) and read back exactly by
    ``model.get_image_features(pixels, interpolate_pos_encoding=True)``. The image processor resizes to the grid's image
    size; the tokenizer gives our ids, and pads with EOT, as OpenAI's on the hub does.

    Args:
        weights: As :func:`mmreid_text.models.checkpoints.load_clip` gives them.
        folder: Folder to make; one that exists must be empty. It is there when all is written.
        tau: Temperature that the features were trained at: ``logit_scale`` is log(1 / tau). 0.01 is CLIP's.

    Raises:
        FileExistsError: The folder holds something.
        ValueError: The vocabulary is not CLIP's, or another process is writing the folder.
    """
    _check_vocabulary(weights)
    arch = weights.arch
    state = dict(weights.state)
    state["image_encoder.pos_embed"] = square_positions(state["image_encoder.pos_embed"], arch.grid)
    side = round((state["image_encoder.pos_embed"].shape[1] - 1) ** 0.5)
    theirs = to_hugging_face(state)
    theirs["logit_scale"] = torch.tensor(log(1 / tau))
    with _folder_beside(folder) as beside:
        # Not by save_file, which makes a file that its owner alone may read.
        (beside / "model.safetensors").write_bytes(safetensors.torch.save(theirs, metadata={"format": "pt"}))
        _config(weights, side * arch.patch_size, log(1 / tau)).save_pretrained(beside)
        _save_tokenizer(beside, arch.context_length)
        _image_processor(weights).save_pretrained(beside)


def _check_vocabulary(weights: CLIPWeights) -> None:
    if weights.arch.vocab != VOCAB:
        raise ValueError(f"{weights.source} has a vocabulary of {weights.arch.vocab} tokens; CLIP's has {VOCAB}.")


def _config(weights: CLIPWeights, image_size: int, logit_scale: float) -> CLIPConfig:
    arch = weights.arch
    image, text = arch.image_encoder(), arch.text_encoder()
    common = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": arch.embed_dim}
    return CLIPConfig(
        architectures=["CLIPModel"],
        projection_dim=arch.embed_dim,
        logit_scale_init_value=logit_scale,
        vision_config={
            "hidden_size": image["width"],
            "intermediate_size": 4 * image["width"],
            "num_hidden_layers": image["depth"],
            "num_attention_heads": image["heads"],
            "patch_size": image["patch_size"],
            "image_size": image_size,
            **common,
        },
        text_config={
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["depth"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "vocab_size": VOCAB,
            "bos_token_id": SOT,
            "eos_token_id": EOT,
            "pad_token_id": EOT,
            **common,
        },
    )


def _save_tokenizer(folder: Path, context_length: int) -> None:
    vocabulary = {token: i for i, token in enumerate(get_tokenizer().vocabulary)}
    merges: Any = read_merges()  # pairs, which its stated types do not know
    CLIPTokenizer(
        vocab=vocabulary, merges=merges, mask_token="<|mask|>", model_max_length=context_length
    ).save_pretrained(folder)
    # Releases of transformers before 5 read these two.
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _image_processor(weights: CLIPWeights) -> CLIPImageProcessor:
    height, width = (n * weights.arch.patch_size for n in weights.arch.grid)
    size = {"height": height, "width": width}
    return CLIPImageProcessor(
        size=size,
        crop_size=size,
        do_center_crop=False,
        resample=Image.Resampling.BILINEAR,
        image_mean=list(CLIP_MEAN),
        image_std=list(CLIP_STD),
    )


@contextmanager
def _folder_beside(folder: Path) -> Iterator[Path]:
    """Give a new folder beside ``folder``, which becomes it when the block has ended without an error.

    What a killed process has left of it goes first.
    """
    folder = folder.absolute()  # "." has no name
    beside = folder.with_name(f".{folder.name}.part")
    with alone(beside.with_suffix(".lock"), f"Another process is writing {folder}: wait for it, or end it"):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} exists and is not an empty folder: give another, or remove it.")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            yield beside
            os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
