"""Attributes of images by a dual encoder: UniPT's second step, Conquer (Shao et al., ICCV 2023, section 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mmreid_text.apis.clip import build_clip, tokenize
from mmreid_text.apis.inferencer import TextReIDInferencer
from mmreid_text.captioning.sharded_job import check_keys
from mmreid_text.datasets.transforms.image import Resize
from mmreid_text.engine.hooks.feature_dump_hook import weights_fingerprint
from mmreid_text.pseudo_text.vocabulary import Vocabulary

_SCORER_KEYS = ("clip", "img_size", "config", "checkpoint")
_PROMPTS = 128
"""Prompts that are encoded at a time."""


class ImageTextEncoder(NamedTuple):
    """A dual encoder with what it needs to read images and sentences.

    Attributes:
        model: In evaluation mode, without gradients.
        prepare: Makes decoded pixels uint8 (H, W, 3) RGB those that the model reads, uint8 (3, H', W').
        tokenize: Makes sentences ids int64 (B, N).
        fingerprint: sha256 of weights and preparation.
    """

    model: Any
    prepare: Callable[[np.ndarray], torch.Tensor]
    tokenize: Callable[[Sequence[str]], torch.Tensor]
    fingerprint: str


def check_scorer(cfg: Mapping[str, Any]) -> None:
    """Refuse a job's ``scorer`` that :func:`load_encoder` could not read.

    Raises:
        ValueError: Names the key and the rule.
    """
    check_keys("scorer", cfg, _SCORER_KEYS, page="docs/pseudo_text.md")
    if "clip" in cfg and ("config" in cfg or "checkpoint" in cfg):
        raise ValueError("scorer names a CLIP and a config or checkpoint: give `clip`, or the other two.")
    if ("img_size" in cfg) != ("clip" in cfg):
        raise ValueError("scorer needs img_size=(height, width) with `clip`, and only there: a config states its own.")


def load_encoder(cfg: Mapping[str, Any], device: str | torch.device = "cpu") -> ImageTextEncoder:
    """The dual encoder that a job's ``scorer`` names.

    Args:
        cfg: ``dict(clip=<file, folder or Hugging Face name>, img_size=(height, width))`` for CLIP;
            ``dict(config=..., checkpoint=...)``, as :class:`~mmreid_text.apis.inferencer.TextReIDInferencer` takes
            them, for any model; ``dict()`` for the small CLIP in the package.
        device: Where the model goes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The weights cannot be read or do not fit.
    """
    check_scorer(cfg)
    return _load_clip(cfg, device) if "clip" in cfg else _load_configured(cfg, device)


def _load_clip(cfg: Mapping[str, Any], device: str | torch.device) -> ImageTextEncoder:
    height, width = cfg["img_size"]
    model = build_clip(cfg["clip"], (height, width)).to(device).requires_grad_(False)
    resize = Resize((height, width))
    facts = f"{weights_fingerprint(model)} {height}x{width}"
    return ImageTextEncoder(model, _Preparation([resize]), tokenize, sha256(facts.encode()).hexdigest())


def _load_configured(cfg: Mapping[str, Any], device: str | torch.device) -> ImageTextEncoder:
    inferencer = TextReIDInferencer(cfg.get("config"), cfg.get("checkpoint"), device)
    steps = [step for step in inferencer.pipeline if type(step).__name__ not in ("LoadImage", "Tokenize", "PackSample")]
    return ImageTextEncoder(inferencer.model, _Preparation(steps), inferencer.tokenize, inferencer.fingerprint)


@dataclass(frozen=True)
class _Preparation:
    """Transforms of an image alone."""

    steps: Sequence[Callable[[dict[str, Any]], Any]]

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        sample: dict[str, Any] = {"img": image}
        for step in self.steps:
            sample = step(sample)
        return torch.from_numpy(np.ascontiguousarray(sample["img"].transpose(2, 0, 1)))


class PromptScorer:
    """Scores images against a vocabulary's prompts, which are encoded once.

    Args:
        encoder: The dual encoder.
        vocabulary: Attributes with their prompts.
        scale: What cosines are multiplied by before the soft-max, CLIP's 100 by default.
    """

    def __init__(self, encoder: ImageTextEncoder, vocabulary: Vocabulary, scale: float = 100.0) -> None:
        self.model, self.scale = encoder.model, scale
        self.device = next(self.model.parameters()).device
        self.spans = list(vocabulary.spans())
        prompts = vocabulary.prompts
        self._some_text = encoder.tokenize(prompts[:1])  # a data preprocessor reads pairs
        parts = [prompts[start : start + _PROMPTS] for start in range(0, len(prompts), _PROMPTS)]
        with torch.inference_mode():
            feats = [self.model.encode_text(encoder.tokenize(part).to(self.device)).float() for part in parts]
            self.prompts = F.normalize(torch.cat(feats))  # (P, D)

    @torch.inference_mode()
    def cosines(self, images: torch.Tensor) -> torch.Tensor:
        """Cosines float32 (B, P) of images, uint8 (B, 3, H, W), with the prompts, on the model's device.

        On a GPU the images are encoded in half precision, as CLIP was trained.
        """
        batch = self.model.data_preprocessor({"image": images, "text": self._some_text}, False)
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            feats = self.model.encode_image(batch["image"])
        return F.normalize(feats.float()) @ self.prompts.T

    def best(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The likeliest class of each attribute, int64 (B, A), and its probability, float32 (B, A)."""
        return best_classes(self.cosines(images), self.spans, self.scale)


def best_classes(cosines: torch.Tensor, spans: Sequence[slice], scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft-max within each attribute and its maximum.

    Args:
        cosines: float32 (B, P).
        spans: Where the classes of each of A attributes lie among the P prompts.
        scale: Factor on cosines.

    Returns:
        int64 (B, A), positions in the attribute's span, and float32 (B, A), their probabilities.
    """
    found = []
    for span in spans:
        logits = scale * cosines[:, span]
        highest, best = logits.max(dim=1)
        found.append((best, (highest - logits.logsumexp(dim=1)).exp()))
    classes, probabilities = zip(*found)
    return torch.stack(classes, dim=1), torch.stack(probabilities, dim=1)


def keep(best: np.ndarray, probability: np.ndarray, vocabulary: Vocabulary, threshold: float = 0.9) -> np.ndarray:
    """What is told of each image: required attributes, and optional ones that are present and likely enough.

    What a class that is told silences is not told: see :attr:`~mmreid_text.pseudo_text.vocabulary.Vocabulary.silenced`.

    Args:
        best: int64 (B, A), likeliest classes.
        probability: float32 (B, A), theirs.
        vocabulary: The attributes.
        threshold: Above which an optional attribute is told; the paper's is 0.9.

    Returns:
        int64 (B, A), -1 for what is not told.
    """
    required = np.array([attribute.required for attribute in vocabulary.attributes])
    absence = np.array([len(attribute.classes) - 1 for attribute in vocabulary.attributes])
    told = required | ((best != absence) & (probability > threshold))
    silent = np.zeros_like(told)
    for column, silenced in enumerate(vocabulary.silenced):
        silent |= silenced[best[:, column]] & told[:, [column]]
    return np.where(told & ~silent, best, -1)
