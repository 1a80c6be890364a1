"""Names of CLIP's tensors, and of IRRA's heads, in each published layout and in ours; renaming both ways."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

State = dict[str, torch.Tensor]
# Pairs (theirs, ours). One that ends in a dot stands for all names that start with it, others for one name.
Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Scheme:
    """A layout's names outside the transformers' blocks, and the parts of names inside them."""

    names: Names
    image_block: Names
    text_block: Names

    def to_ours(self, key: str) -> str:
        for theirs, ours in self.names:
            if key == theirs or (theirs.endswith(".") and key.startswith(theirs)):
                key = ours + key[len(theirs) :]
                break
        for theirs, ours in self._block(key):
            key = key.replace(theirs, ours)
        return key

    def to_theirs(self, key: str) -> str:
        for theirs, ours in self._block(key):
            key = key.replace(ours, theirs)
        for theirs, ours in self.names:
            if key == ours or (ours.endswith(".") and key.startswith(ours)):
                return theirs + key[len(ours) :]
        return key

    def _block(self, ours: str) -> Names:
        if ours.startswith("image_encoder.layers."):
            return self.image_block
        return self.text_block if ours.startswith("text_encoder.layers.") else ()


_OPENAI = _Scheme(
    names=(
        ("visual.class_embedding", "image_encoder.cls_token"),
        ("visual.positional_embedding", "image_encoder.pos_embed"),
        ("visual.conv1.", "image_encoder.patch_embed.projection."),
        ("visual.ln_pre.", "image_encoder.pre_norm."),
        ("visual.ln_post.", "image_encoder.ln1."),
        ("visual.proj", "image_encoder.projection.weight"),
        ("visual.transformer.resblocks.", "image_encoder.layers."),
        ("positional_embedding", "text_encoder.embeddings.position_embedding.weight"),
        ("token_embedding.", "text_encoder.embeddings.token_embedding."),
        ("ln_final.", "text_encoder.final_norm."),
        ("text_projection", "text_encoder.projection.weight"),
        ("transformer.resblocks.", "text_encoder.layers."),
    ),
    image_block=(
        (".ln_1.", ".ln1."),
        (".ln_2.", ".ln2."),
        (".attn.in_proj_", ".attn.qkv."),
        (".attn.out_proj.", ".attn.proj."),
        (".mlp.c_fc.", ".ffn.layers.0.0."),
        (".mlp.c_proj.", ".ffn.layers.1."),
    ),
    text_block=(
        (".ln_1.", ".layer_norm1."),
        (".ln_2.", ".layer_norm2."),
        (".attn.in_proj_", ".self_attn.qkv."),
        (".attn.out_proj.", ".self_attn.out_proj."),
        (".mlp.c_fc.", ".mlp.fc1."),
        (".mlp.c_proj.", ".mlp.fc2."),
    ),
)
_HF = _Scheme(
    names=(
        ("vision_model.embeddings.class_embedding", "image_encoder.cls_token"),
        ("vision_model.embeddings.position_embedding.weight", "image_encoder.pos_embed"),
        ("vision_model.embeddings.patch_embedding.", "image_encoder.patch_embed.projection."),
        ("vision_model.pre_layrnorm.", "image_encoder.pre_norm."),
        ("vision_model.post_layernorm.", "image_encoder.ln1."),
        ("visual_projection.", "image_encoder.projection."),
        ("vision_model.encoder.layers.", "image_encoder.layers."),
        ("text_model.embeddings.", "text_encoder.embeddings."),
        ("text_model.final_layer_norm.", "text_encoder.final_norm."),
        ("text_projection.", "text_encoder.projection."),
        ("text_model.encoder.layers.", "text_encoder.layers."),
    ),
    image_block=(
        (".layer_norm1.", ".ln1."),
        (".layer_norm2.", ".ln2."),
        (".self_attn.out_proj.", ".attn.proj."),
        (".self_attn.q_proj.", ".attn.q."),
        (".self_attn.k_proj.", ".attn.k."),
        (".self_attn.v_proj.", ".attn.v."),
        (".mlp.fc1.", ".ffn.layers.0.0."),
        (".mlp.fc2.", ".ffn.layers.1."),
    ),
    text_block=(),
)
# IRRA keeps CLIP in OpenAI's names under this prefix and its heads beside it; ours are below ``relation``, but for the
# identity head.
_IRRA_CLIP = "base_model."
_IRRA_RELATION = ("cross_attn.", "cross_modal_transformer.", "ln_pre_t.", "ln_pre_i.", "ln_post.", "mlm_head.")
ENCODERS = ("image_encoder.", "text_encoder.")
HEADS = ("classifier.", "relation.")
# No weights of an encoder: the temperature, and numbers that the shapes state too.
_DROPPED = re.compile(
    r"(^|\.)(logit_scale|logit_bias|input_resolution|context_length|vocab_size|position_ids|attn_mask)$"
)


@dataclass(frozen=True)
class Layout:
    """A layout of a state dict: its name and ``convert``, which returns (state in our keys, dropped names)."""

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
    if f"{_IRRA_CLIP}visual.class_embedding" in state:
        return Layout("IRRA", _from_irra)
    if any(key.removeprefix(_IRRA_CLIP).startswith(("visual.layer1.", "visual.attnpool.")) for key in state):
        raise ValueError(
            f"{path} holds a CLIP with a ResNet image encoder: only vision transformers (ViT-B/32, ViT-B/16, ViT-L/14, "
            "...) are supported."
        )
    raise ValueError(
        f"{path} holds no CLIP in OpenAI's, Hugging Face's, IRRA's or this project's layout; its tensors start with "
        f"{sorted(state)[:5]}."
    )


def to_irra(state: State) -> State:
    """IRRA's names, and shapes, for a state in ours: two encoders and what there is of the heads."""
    encoders = {key: value for key, value in state.items() if key.startswith(ENCODERS)}
    theirs = {_IRRA_CLIP + key: value for key, value in _to_openai(encoders).items()}
    return theirs | {key.removeprefix("relation."): value for key, value in state.items() if key.startswith(HEADS)}


def to_hugging_face(state: State) -> State:
    """The names, and shapes, of transformers' ``CLIPModel`` for two encoders in ours; without its ``logit_scale``."""
    parted: State = {}
    for key, value in _flat_embeddings(state).items():
        if ".attn.qkv." in key:
            for letter, part in zip("qkv", value.chunk(3)):
                parted[key.replace(".qkv.", f".{letter}.")] = part
        else:
            parted[key] = value
    return {_HF.to_theirs(key): value.contiguous() for key, value in parted.items()}


def _rename(state: State, scheme: _Scheme) -> tuple[State, list[str]]:
    dropped = [key for key in state if _DROPPED.search(key)]
    return {scheme.to_ours(key): value for key, value in state.items() if key not in dropped}, dropped


def _shape_embeddings(state: State) -> State:
    # Ours carry the batch axis that mmpretrain gives them.
    width = state["image_encoder.cls_token"].shape[-1]
    state["image_encoder.cls_token"] = state["image_encoder.cls_token"].reshape(1, 1, width)
    if "image_encoder.pos_embed" in state:
        state["image_encoder.pos_embed"] = state["image_encoder.pos_embed"].reshape(1, -1, width)
    return state


def _flat_embeddings(state: State) -> State:
    """A state less what is ours alone: the batch axis of two embeddings, and the buffers that state the layout."""
    flat = {key: value for key, value in state.items() if not key.endswith("_encoder.layout")}
    flat["image_encoder.cls_token"] = flat["image_encoder.cls_token"].flatten()
    flat["image_encoder.pos_embed"] = flat["image_encoder.pos_embed"].flatten(0, 1)
    return flat


def _from_openai(state: State) -> tuple[State, list[str]]:
    renamed, dropped = _rename(state, _OPENAI)
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


def _to_openai(state: State) -> State:
    joined: State = {}
    for key, value in _flat_embeddings(state).items():
        if key.endswith("_encoder.projection.weight"):
            value = value.t()
        if ".self_attn.q_proj." in key:
            value = torch.cat([state[key.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"])
            key = key.replace(".q_proj.", ".qkv.")
        elif ".self_attn.k_proj." in key or ".self_attn.v_proj." in key:
            continue
        joined[_OPENAI.to_theirs(key)] = value.contiguous()
    return joined


def _from_hugging_face(state: State) -> tuple[State, list[str]]:
    renamed, dropped = _rename(state, _HF)
    for key in [key for key in renamed if ".attn.q." in key]:
        keys = [key.replace(".attn.q.", f".attn.{letter}.") for letter in "qkv"]
        if all(k in renamed for k in keys):
            renamed[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat([renamed.pop(k) for k in keys])
    return _shape_embeddings(renamed), dropped


def _from_irra(state: State) -> tuple[State, list[str]]:
    clip = {key.removeprefix(_IRRA_CLIP): value for key, value in state.items() if key.startswith(_IRRA_CLIP)}
    converted, dropped = _from_openai(clip)
    dropped = [_IRRA_CLIP + key for key in dropped]
    for key, value in state.items():
        if key.startswith("classifier."):
            converted[key] = value
        elif key.startswith(_IRRA_RELATION):
            converted[f"relation.{key}"] = value
        elif not key.startswith(_IRRA_CLIP):
            dropped.append(key)
    return converted, dropped


def _from_ours(state: State) -> tuple[State, list[str]]:
    kept = {key: value for key, value in state.items() if key.startswith((*ENCODERS, *HEADS))}
    return kept, [key for key in state if key not in kept]
