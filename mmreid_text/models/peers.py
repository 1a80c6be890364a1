"""What IRRA's checkpoints hold beside CLIP: a position grid of any shape, and heads."""

from pathlib import Path
from typing import Any

import yaml

from mmreid_text.models.layouts import State

RUN_CONFIG = "configs.yaml"


def heads_of_width(width: int) -> int:
    """Attention heads of OpenAI's and IRRA's transformers, which state none: one per 64 channels, at least one."""
    return max(width // 64, 1)


def irra_grid(path: Path, patches: int, patch_size: int, img_size: tuple[int, int] | None) -> tuple[int, int]:
    """(rows, columns) of the patches that a checkpoint in IRRA's layout was trained at; the file states their number.

    The ``configs.yaml`` that IRRA writes beside its checkpoints counts first, then ``img_size`` where it gives that
    number, then a square.

    Args:
        path: The checkpoint.
        patches: M, the length of its position table less one.
        patch_size: Side of a patch in pixels.
        img_size: (height, width) in pixels at which the reader wants the model, or None.

    Raises:
        ValueError: The config states overlapping patches or another number of patches, or nothing tells the grid.
    """
    config = path.parent / RUN_CONFIG
    if config.is_file():
        stated = _read_run_config(config)
        stride = stated.get("stride_size", patch_size)
        if stride != patch_size:
            raise ValueError(
                f"{config}: stride_size is {stride!r}, so patches of {patch_size} pixels overlap; only checkpoints "
                f"trained with stride_size={patch_size} can be loaded."
            )
        if "img_size" in stated:
            height, width = _check_size(stated["img_size"], config)
            if _patches(height, width, patch_size) != patches:
                raise ValueError(
                    f"{config}: img_size ({height}, {width}) makes {_patches(height, width, patch_size)} patches of "
                    f"{patch_size} pixels, but {path} has {patches} patch positions: it is the config of another run. "
                    "Move the checkpoint to a folder of its own."
                )
            return height // patch_size, width // patch_size
    if img_size is not None and _patches(*img_size, patch_size) == patches:
        return img_size[0] // patch_size, img_size[1] // patch_size
    side = round(patches**0.5)
    if side * side == patches:
        return side, side
    asked = "" if img_size is None else f" nor the grid of img_size={tuple(img_size)}"
    raise ValueError(
        f"{path}: {patches} patch positions are no square grid{asked}, and there is no {RUN_CONFIG} beside it that "
        "states img_size. Give the img_size that it was trained at, or put its config there. Patches of another stride "
        "than their size are not supported."
    )


def head_sizes(heads: State, relation_heads: int | None) -> tuple[int | None, dict[str, Any] | None]:
    """Arguments ``num_ids`` and ``relation`` of ``IRRA`` for the heads of a file; None for each that it lacks.

    Args:
        heads: Tensors named ``classifier.*`` and ``relation.*``.
        relation_heads: Attention heads of the relation head.
    """
    classes = next((len(value) for key, value in heads.items() if key.startswith("classifier.")), None)
    if not any(key.startswith("relation.") for key in heads):
        return classes, None
    blocks = [int(key.split(".")[3]) for key in heads if key.startswith("relation.cross_modal_transformer.resblocks.")]
    depth = max(blocks, default=0) + 1
    return classes, {"type": "mmreid_text.CrossModalRelation", "depth": depth, "heads": relation_heads}


def _patches(height: int, width: int, patch_size: int) -> int | None:
    if height % patch_size or width % patch_size:
        return None
    return (height // patch_size) * (width // patch_size)


class _RunConfigLoader(yaml.SafeLoader):
    """YAML as IRRA dumps its options: tuples are tagged as Python's. No other tag builds anything."""


_RunConfigLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node))
)
_RunConfigLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def _read_run_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_RunConfigLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read as YAML ({str(error).splitlines()[0]}): mend it or move it."
        ) from error
    return content if isinstance(content, dict) else {}


def _check_size(size: Any, config: Path) -> tuple[int, int]:
    if (
        not isinstance(size, (tuple, list))
        or len(size) != 2
        or not all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise ValueError(f"{config}: img_size is {size!r}; write (height, width) in pixels, as [384, 128].")
    return size[0], size[1]
