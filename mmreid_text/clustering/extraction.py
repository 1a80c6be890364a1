"""Features of a whole data set by a model that is in training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size, is_main_process
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mmreid_text.datasets.samplers import ArraySampler


@dataclass(frozen=True)
class PairFeatures:
    """Features of all images and captions, before L2 normalisation, on the model's device."""

    image: torch.Tensor  # float32 (I, D), by image_id
    text: torch.Tensor  # float32 (T, D), by caption_id
    image_of_text: torch.Tensor  # int64 (T,), on the host


def rows_config(dataset: Mapping[str, Any], pipeline: Sequence[Any]) -> dict[str, Any]:
    """Config of the same data set with a row per image and another pipeline, joins and wrappers included."""
    cfg = dict(dataset)
    if "datasets" in cfg:
        return cfg | {"datasets": [rows_config(member, pipeline) for member in cfg["datasets"]]}
    if "dataset" in cfg:
        return cfg | {"dataset": rows_config(cfg["dataset"], pipeline)}
    return cfg | {"test_mode": True, "pipeline": list(pipeline)}


def rows_loader(dataset: Any, batch_size: int, num_workers: int) -> DataLoader:
    """Batches of a data set in test mode, lists by key; every row once over all ranks."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=ArraySampler(dataset, shuffle=False, seed=0, round_up=False),
        num_workers=num_workers,
        collate_fn=_lists,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # one of its own: the global one serves training
    )


def _lists(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


@torch.no_grad()
def extract_features(
    model: BaseModel, loader: DataLoader, num_images: int, num_captions: int, label: str
) -> PairFeatures:
    """Encode all images and captions, each once, the ranks sharing the work; all ranks return the same.

    The model is in evaluation mode meanwhile, so BatchNorm reads its running statistics and leaves them alone; every
    module's mode is put back.

    Args:
        model: Has ``encode_image(image) -> (B, D)`` and ``encode_text(text, lengths) -> (n, D)``, as
            :class:`~mmreid_text.models.retrievers.dual_encoder.DualEncoder` does. Not wrapped.
        loader: As :func:`rows_loader` makes it.
        num_images: Images I of the data set on all ranks.
        num_captions: Captions T.
        label: Of the progress bar.

    Raises:
        ValueError: An image or a caption was not among the rows.
    """
    with evaluating(model):
        rows = _encoded(model, loader, num_images, label)
    device = next(model.parameters()).device
    width = torch.tensor([0 if rows is None else rows[0].shape[1]], device=device)
    all_reduce(width, "max")
    image = torch.zeros(num_images, int(width), device=device)
    text = torch.zeros(num_captions, int(width), device=device)
    owner = torch.zeros(num_captions, dtype=torch.int64, device=device)  # the image's row + 1
    seen = torch.zeros(num_images, dtype=torch.int64, device=device)
    if rows is not None:
        image_feats, text_feats, image_id, caption_id, image_of_text = rows
        image[image_id], text[caption_id] = image_feats, text_feats
        owner[caption_id], seen[image_id] = image_of_text + 1, 1
    for tensor in (image, text, owner, seen):  # a sum with zeros is exact
        all_reduce(tensor)
    for kind, times in (("images", seen), ("captions", owner)):
        missing = int((times == 0).sum())
        if missing:
            raise ValueError(f"{missing} of {len(times)} {kind} of the training set were not among the extracted rows.")
    return PairFeatures(image, text, (owner - 1).cpu())


def _encoded(model: BaseModel, loader: DataLoader, num_images: int, label: str) -> list[torch.Tensor] | None:
    """Of this rank's rows: image and text features, image and caption ids, and each caption's image id; None without
    rows."""
    found: list[tuple[torch.Tensor, ...]] = []
    share = len(range(get_rank(), num_images, get_world_size()))
    with tqdm(total=share, desc=label, unit="image", delay=2, mininterval=1, disable=not is_main_process()) as bar:
        for data in loader:
            batch = model.data_preprocessor(data, False)
            image_feats = model.encode_image(batch["image"]).float()
            text_feats = model.encode_text(batch["text"], batch["lengths"]).float()
            counts = torch.tensor(batch["num_captions"], device=image_feats.device)
            first = torch.repeat_interleave(batch["caption_id"], counts)
            within = torch.arange(len(first), device=first.device) - torch.repeat_interleave(
                counts.cumsum(0) - counts, counts
            )
            image_of_text = torch.repeat_interleave(batch["image_id"], counts)
            found.append((image_feats, text_feats, batch["image_id"], first + within, image_of_text))
            bar.update(len(image_feats))
    return [torch.cat(parts) for parts in zip(*found)] or None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode within, and as it was after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
