"""How right a scorer is where the truth is known: accuracy, calibration, and what the threshold keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mmreid_text.pseudo_text.procedural_truth import UNKNOWN, part_classes
from mmreid_text.pseudo_text.scoring import best_classes
from mmreid_text.pseudo_text.vocabulary import Attribute, Vocabulary

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SCALES = (2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 70.0, 100.0, 150.0, 200.0)
"""Candidates of :func:`calibrated_scale`."""
_BINS = 10


@dataclass(frozen=True)
class PartAccuracy:
    """An attribute, or a part of a product such as the colour of upper clothes.

    Attributes:
        slot: The attribute.
        part: The part.
        judged: Images whose truth is known.
        accuracy: Share of them whose likeliest class is right.
        majority: Share of the most frequent true class: what always saying that one would reach.
    """

    slot: str
    part: str
    judged: int
    accuracy: float
    majority: float


@dataclass(frozen=True)
class Kept:
    """What of an optional attribute is told above a threshold.

    Attributes:
        slot: The attribute.
        threshold: The probability.
        judged: Images whose truth is known.
        present: Those of them that show something.
        kept: Those of them of which something is told.
        right: Those of the kept of which the right thing is told.
    """

    slot: str
    threshold: float
    judged: int
    present: int
    kept: int
    right: int

    @property
    def precision(self) -> float:
        return self.right / self.kept if self.kept else float("nan")

    @property
    def recall(self) -> float:
        return self.right / self.present if self.present else float("nan")


def part_accuracies(best: np.ndarray, truth: Mapping[str, np.ndarray], vocabulary: Vocabulary) -> list[PartAccuracy]:
    """Accuracy of every part that can be judged at all.

    Args:
        best: int64 (n, A), likeliest classes.
        truth: By attribute int64 (n, parts), as :func:`~mmreid_text.pseudo_text.procedural_truth.truth_of` gives it.
        vocabulary: The A attributes.
    """
    found = []
    for column, attribute in enumerate(vocabulary.attributes):
        told = _parts_of(attribute)[best[:, column]]  # (n, parts)
        for i, part in enumerate(attribute.part_names):
            true = truth[attribute.slot][:, i]
            known = true != UNKNOWN
            if known.any():
                judged = int(known.sum())
                accuracy = float((told[known, i] == true[known]).mean())
                majority = float(np.bincount(true[known]).max() / judged)
                found.append(PartAccuracy(attribute.slot, part, judged, accuracy, majority))
    return found


def kept_above(
    best: np.ndarray,
    probability: np.ndarray,
    truth: Mapping[str, np.ndarray],
    vocabulary: Vocabulary,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Kept]:
    """What each optional attribute would tell above each threshold; arguments as for :func:`part_accuracies`."""
    found = []
    for column, attribute in enumerate(vocabulary.attributes):
        if attribute.required:
            continue
        classes = _classes_of(attribute, truth[attribute.slot])
        known = classes != UNKNOWN
        absence = len(attribute.classes) - 1
        told, true, sure = best[known, column], classes[known], probability[known, column]
        for threshold in thresholds:
            kept = (told != absence) & (sure > threshold)
            found.append(
                Kept(
                    attribute.slot,
                    threshold,
                    judged=len(true),
                    present=int((true != absence).sum()),
                    kept=int(kept.sum()),
                    right=int((kept & (told == true)).sum()),
                )
            )
    return found


def calibrated_scale(
    cosines: torch.Tensor, truth: Mapping[str, np.ndarray], vocabulary: Vocabulary, scales: Sequence[float] = SCALES
) -> float:
    """The scale under which the true classes are likeliest, the attributes weighing the same.

    Args:
        cosines: float32 (n, P), of people that nothing else is measured on.
        truth: As for :func:`part_accuracies`.
        vocabulary: The attributes.
        scales: To choose from.
    """
    return min(scales, key=lambda scale: negative_log_likelihood(cosines, truth, vocabulary, scale))


def negative_log_likelihood(
    cosines: torch.Tensor, truth: Mapping[str, np.ndarray], vocabulary: Vocabulary, scale: float
) -> float:
    """Mean over attributes of the mean of -log p(true class), in nats."""
    losses = []
    for attribute, span in zip(vocabulary.attributes, vocabulary.spans()):
        classes = torch.from_numpy(_classes_of(attribute, truth[attribute.slot]))
        known = classes != UNKNOWN
        if known.any():
            logits = scale * cosines[known][:, span].cpu()
            losses.append(torch.nn.functional.cross_entropy(logits, classes[known]).item())
    return float(np.mean(losses))


def reliability(
    best: np.ndarray, probability: np.ndarray, truth: Mapping[str, np.ndarray], vocabulary: Vocabulary
) -> list[dict[str, float]]:
    """Of all likeliest classes that can be judged, by tenths of their probability: how many, how sure, how right."""
    sure, right = [], []
    for column, attribute in enumerate(vocabulary.attributes):
        classes = _classes_of(attribute, truth[attribute.slot])
        known = classes != UNKNOWN
        sure.append(probability[known, column])
        right.append(best[known, column] == classes[known])
    p, hits = np.concatenate(sure), np.concatenate(right)
    places = np.minimum((p * _BINS).astype(int), _BINS - 1)
    return [
        {
            "from": place / _BINS,
            "to": (place + 1) / _BINS,
            "count": int((places == place).sum()),
            "probability": float(p[places == place].mean()),
            "accuracy": float(hits[places == place].mean()),
        }
        for place in range(_BINS)
        if (places == place).any()
    ]


def measure(
    cosines: torch.Tensor, truth: Mapping[str, np.ndarray], vocabulary: Vocabulary, scales: Sequence[float]
) -> dict[str, Any]:
    """All of the above, in JSON types; what depends on the scale for each of ``scales``."""
    spans = list(vocabulary.spans())
    best = best_classes(cosines, spans, 1.0)[0].cpu().numpy()
    facts: dict[str, Any] = {"parts": [asdict(part) for part in part_accuracies(best, truth, vocabulary)], "scales": {}}
    for scale in scales:
        probability = best_classes(cosines, spans, scale)[1].cpu().numpy()
        facts["scales"][f"{scale:g}"] = {
            "negative_log_likelihood": negative_log_likelihood(cosines, truth, vocabulary, scale),
            "reliability": reliability(best, probability, truth, vocabulary),
            "kept": [
                asdict(kept) | {"precision": kept.precision, "recall": kept.recall}
                for kept in kept_above(best, probability, truth, vocabulary)
            ],
        }
    return facts


def as_markdown(facts: Mapping[str, Any], threshold: float) -> str:
    """Tables of :func:`measure`."""
    lines = ["| attribute | images | accuracy | always the commonest |", "| --- | ---: | ---: | ---: |"]
    for part in facts["parts"]:
        name = part["slot"] if part["slot"] == part["part"] else f"{part['slot']}: {part['part']}"
        lines.append(f"| {name} | {part['judged']:,} | {_percent(part['accuracy'])} | {_percent(part['majority'])} |")
    for scale, found in facts["scales"].items():
        lines += ["", f"Scale {scale}, mean -log p(true class) {found['negative_log_likelihood']:.2f}:", ""]
        lines += ["| probability | classes | mean probability | accuracy |", "| --- | ---: | ---: | ---: |"]
        for row in found["reliability"]:
            told = f"{_percent(row['probability'])} | {_percent(row['accuracy'])}"
            lines.append(f"| {row['from']:.1f} to {row['to']:.1f} | {row['count']:,} | {told} |")
        lines += ["", "| optional | threshold | images | present | told | precision | recall |"]
        lines.append("| --- |" + " ---: |" * 6)
        for kept in found["kept"]:
            if kept["threshold"] == threshold or kept["present"]:
                told = f"{kept['judged']:,} | {kept['present']:,} | {kept['kept']:,}"
                rates = f"{_percent(kept['precision'])} | {_percent(kept['recall'])}"
                lines.append(f"| {kept['slot']} | {kept['threshold']:g} | {told} | {rates} |")
    return "\n".join(lines) + "\n"


def _parts_of(attribute: Attribute) -> np.ndarray:
    """int64 (C, parts): each class's parts as positions among their names."""
    names = part_classes(attribute)
    return np.array([[part.index(each) for part, each in zip(names, c.parts)] for c in attribute.classes])


def _classes_of(attribute: Attribute, truth: np.ndarray) -> np.ndarray:
    """int64 (n,): true classes of parts (n, parts); unknown where a part is."""
    classes = {tuple(parts): i for i, parts in enumerate(_parts_of(attribute).tolist())}
    return np.array([classes.get(tuple(parts), UNKNOWN) for parts in truth.tolist()], dtype=np.int64)


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"
