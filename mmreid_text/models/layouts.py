"""Names of CLIP's tensors in each published layout, and in ours."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

State = dict[str, torch.Tensor]
Renames = tuple[tuple[str, str], ...]

_OPENAI_BLOCK: Renames = (
    (r"\.ln_1\.", ".ln1."),
    (r"\.ln_2\.", ".ln2."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".ffn.layers.0.0."),
    (r"\.mlp\.c_proj\.", ".ffn.layers.1."),
)
_OPENAI_TEXT_BLOCK: Renames = (
    (r"\.ln_1\.", ".layer_norm1."),
    (r"\.ln_2\.", ".layer_norm2."),
    (r"\.attn\.in_proj_", ".self_attn.qkv."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
_OPENAI: Renames = (
    (r"^visual\.class_embedding$", "image_encoder.cls_token"),
    (r"^visual\.positional_embedding$", "image_encoder.pos_embed"),
    (r"^visual\.conv1\.", "image_encoder.patch_embed.projection."),
    (r"^visual\.ln_pre\.", "image_encoder.pre_norm."),
    (r"^visual\.ln_post\.", "image_encoder.ln1."),
    (r"^visual\.proj$", "image_encoder.projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "image_encoder.layers."),
    (r"^positional_embedding$", "text_encoder.embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "text_encoder.embeddings.token_embedding."),
    (r"^ln_final\.", "text_encoder.final_norm."),
    (r"^text_projection$", "text_encoder.projection.weight"),
    (r"^transformer\.resblocks\.", "text_encoder.layers."),
)
_HF_BLOCK: Renames = (
    (r"\.layer_norm1\.", ".ln1."),
    (r"\.layer_norm2\.", ".ln2."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
)
_HF: Renames = (
    (r"^vision_model\.embeddings\.class_embedding$", "image_encoder.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "image_encoder.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "image_encoder.patch_embed.projection."),
    (r"^vision_model\.pre_layrnorm\.", "image_encoder.pre_norm."),
    (r"^vision_model\.post_layernorm\.", "image_encoder.ln1."),
    (r"^visual_projection\.", "image_encoder.projection."),
    (r"^vision_model\.encoder\.layers\.", "image_encoder.layers."),
    (r"^text_model\.embeddings\.(token|position)_embedding\.", r"text_encoder.embeddings.\1_embedding."),
    (r"^text_model\.final_layer_norm\.", "text_encoder.final_norm."),
    (r"^text_projection\.", "text_encoder.projection."),
    (r"^text_model\.encoder\.layers\.", "text_encoder.layers."),
)
# No weights of an encoder: the temperature, and numbers that the shapes state too.
_DROPPED = re.compile(
    r"(^|\.)(logit_scale|logit_bias|input_resolution|context_length|vocab_size|position_ids|attn_mask)$"
)


@dataclass(frozen=True)
class Layout:
    """A layout of CLIP's state dict: its name and ``convert``, which returns (state in our keys, dropped names)."""

    name: str
    convert: Callable[[State], tuple[State, list[str]]]


def layout_of(state: State, path: Path) -> Layout:
    """Recognise the layout of a state dict by its keys.

    Raises:
        ValueError: It is none of a CLIP vision transformer.
    """
    if "image_encoder.pos_embed" in state:
        return Layout("mmreid_text", _from_ours)
    if "visual.class_embedding" in state:
        return Layout("OpenAI", _from_openai)
    if "vision_model.embeddings.class_embedding" in state:
        return Layout("Hugging Face", _from_hugging_face)
    if any(key.startswith(("visual.layer1.", "visual.attnpool.")) for key in state):
        raise ValueError(
            f"{path} holds a CLIP with a ResNet image encoder: only vision transformers (ViT-B/32, ViT-B/16, ViT-L/14, "
            "...) are supported."
        )
    raise ValueError(
        f"{path} holds no CLIP in OpenAI's, Hugging Face's or this project's layout; its tensors start with "
        f"{sorted(state)[:5]}."
    )


def _rename(state: State, renames: Renames, image_block: Renames, text_block: Renames) -> tuple[State, list[str]]:
    renamed, dropped = {}, []
    for key, value in state.items():
        if _DROPPED.search(key):
            dropped.append(key)
            continue
        new = key
        for pattern, replacement in renames:
            new = re.sub(pattern, replacement, new)
        if ".layers." in new:
            for pattern, replacement in image_block if new.startswith("image_encoder.") else text_block:
                new = re.sub(pattern, replacement, new)
        renamed[new] = value
    return renamed, dropped


def _shape_embeddings(state: State) -> State:
    # Ours carry the batch axis that mmpretrain gives them.
    width = state["image_encoder.cls_token"].shape[-1]
    state["image_encoder.cls_token"] = state["image_encoder.cls_token"].reshape(1, 1, width)
    if "image_encoder.pos_embed" in state:
        state["image_encoder.pos_embed"] = state["image_encoder.pos_embed"].reshape(1, -1, width)
    return state


def _from_openai(state: State) -> tuple[State, list[str]]:
    renamed, dropped = _rename(state, _OPENAI, _OPENAI_BLOCK, _OPENAI_TEXT_BLOCK)
    converted: State = {}
    for key, value in renamed.items():
        if key.endswith("_encoder.projection.weight"):
            value = value.t().contiguous()  # OpenAI multiplies from the right
        if ".self_attn.qkv." in key:
            for letter, part in zip("qkv", value.chunk(3)):
                converted[key.replace(".qkv.", f".{letter}_proj.")] = part.contiguous()
        else:
            converted[key] = value
    return _shape_embeddings(converted), dropped


def _from_hugging_face(state: State) -> tuple[State, list[str]]:
    renamed, dropped = _rename(state, _HF, _HF_BLOCK, ())
    for key in [key for key in renamed if ".attn.q." in key]:
        keys = [key.replace(".attn.q.", f".attn.{letter}.") for letter in "qkv"]
        if all(k in renamed for k in keys):
            renamed[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat([renamed.pop(k) for k in keys])
    return _shape_embeddings(renamed), dropped


def _from_ours(state: State) -> tuple[State, list[str]]:
    kept = {key: value for key, value in state.items() if key.startswith(("image_encoder.", "text_encoder."))}
    return kept, [key for key in state if key not in kept]
