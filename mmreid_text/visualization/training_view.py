"""Training data as the model sees them: augmented, masked and normalised, at any epoch of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch.utils.data import default_collate

from mmreid_text.datasets import ProceduralPedestrians
from mmreid_text.datasets.transforms.text import Tokenize
from mmreid_text.datasets.transforms.tokenizer import EOT, SOT, get_tokenizer
from mmreid_text.engine.config import dataset_configs
from mmreid_text.engine.hooks.masking_hook import MaskingHook
from mmreid_text.engine.hooks.noise_aware_masking_hook import NoiseAwareMaskingHook
from mmreid_text.engine.noise_table import NoiseTable
from mmreid_text.registry import DATASETS, HOOKS, MODELS, TRANSFORMS

MAX_ROWS = 500
_WORD_END = "</w>"
_CONTINUES = "##"
_FRAMES = ("<|startoftext|>", "<|endoftext|>", "[CLS]", "[SEP]", "[end]")  # of CLIP's, BERT's and plain words


@dataclass(frozen=True)
class Token:
    """A token of a caption: its position among the ids, its text, whether the next one continues its word, and what
    stands in its place: an id's text, '' where it is not drawn for masking."""

    position: int
    text: str
    joined: bool
    instead: str = ""


@dataclass(frozen=True)
class Sample:
    """What the model sees of one row of the training set.

    Attributes:
        row: ``caption_id``.
        image: uint8 (H, W, 3) RGB, augmented and erased.
        caption: As written.
        tokens: Those between the caption's first and last, as long as the pipeline keeps them; drawn ones say by what
            they are replaced.
        text: int64 (N,), their ids before masking.
    """

    row: int
    image: np.ndarray
    caption: str
    tokens: list[Token]
    text: np.ndarray


class TrainingView:
    """Looks at the training set of a config through the eyes of a run.

    Images pass the config's pipeline and its data preprocessor, and words are drawn by its masking hook, with the
    run's own random numbers: what stands here at an epoch is what was, or will be, trained on.

    Args:
        cfg: Config of the run.
        work_dir: Where its noise tables lie, if it masks by them.
        seed: Of the run; None takes the config's.

    Raises:
        FileNotFoundError: The data are not there.
        ValueError: The config states no seed, or has several masking hooks.
    """

    def __init__(self, cfg: Config, work_dir: Path, seed: int | None = None) -> None:
        seed = (cfg.get("randomness") or {}).get("seed") if seed is None else seed
        if seed is None:
            raise ValueError(
                "randomness.seed is None, so every run draws otherwise: name the run's seed, from its log."
            )
        self.seed = int(seed)
        self.work_dir = work_dir
        self.dataset: Any = DATASETS.build(cfg.train_dataloader.dataset)
        self.dataset.set_seed(self.seed)
        self.preprocessor: Any = MODELS.build(cfg.model.get("data_preprocessor") or {"type": "ReIDDataPreprocessor"})
        self.tokenizer = _tokenizer(cfg)
        hooks = [hook for hook in map(_masking_hook, cfg.get("custom_hooks") or []) if hook is not None]
        if len(hooks) > 1:
            raise ValueError(f"the config has {len(hooks)} masking hooks: each would overwrite what the other drew.")
        self.hook: MaskingHook | None = hooks[0] if hooks else None

    def epochs(self) -> list[int]:
        """Epochs, from 1, whose masking a saved noise table decides: n + 1 for ``noise_epoch_<n>.npz``."""
        stems = (path.stem.removeprefix("noise_epoch_") for path in self.work_dir.glob("noise_epoch_*.npz"))
        return sorted(int(stem) + 1 for stem in stems if stem.isdecimal())

    def samples(self, rows: Sequence[int], epoch: int) -> list[Sample]:
        """What the model sees of these rows (``caption_id``) in an epoch, from 1 as in the log.

        Raises:
            FileNotFoundError: Words are masked by the noise of the epoch before, and its table is not there.
            ValueError: There is no such row or epoch, or the table belongs to other data.
        """
        self._check(rows, epoch)
        self.dataset.set_epoch(epoch - 1)
        batch = default_collate([self.dataset[row] for row in rows])
        if self.hook is not None:
            self._load_table(epoch)
            drawn = self.hook.draw(batch["text"], batch["caption_id"].numpy(), self.seed, epoch - 1)
            batch["masked_text"], batch["mlm_labels"] = map(torch.from_numpy, drawn)
        seen = self.preprocessor(batch, training=True)
        pixels = (seen["image"] - self.preprocessor.shift) / self.preprocessor.scale
        images = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        samples = []
        for i, (row, length) in enumerate(zip(rows, seen["lengths"])):
            text = batch["text"][i, :length].numpy()
            masked, labels = (
                None if batch.get(key) is None else batch[key][i, :length].numpy()
                for key in ("masked_text", "mlm_labels")
            )
            tokens = self._tokens(text, masked, labels)
            samples.append(Sample(int(row), images[i], self.dataset.caption(int(row)), tokens, text))
        return samples

    def probability(self, samples: Sequence[Sample], epoch: int) -> list[np.ndarray]:
        """How probable noise-aware masking draws each of a sample's ``tokens`` in an epoch, from 1 (Eq. 4).

        Returns:
            For every sample float64 (len(tokens),) in [0, 1].

        Raises:
            FileNotFoundError, ValueError: As :meth:`samples`; or the config does not mask by noise.
        """
        self._check([sample.row for sample in samples], epoch)
        if not isinstance(self.hook, NoiseAwareMaskingHook):
            raise ValueError("the config has no NoiseAwareMaskingHook, so all words are masked alike in all epochs.")
        self._load_table(epoch)
        width = max(len(sample.text) for sample in samples)
        text = np.stack([np.pad(sample.text, (0, width - len(sample.text))) for sample in samples])
        rows = np.array([sample.row for sample in samples], dtype=np.int64)
        found = self.hook.probability(torch.from_numpy(text), rows).double().numpy()  # (B, N)
        return [values[[token.position for token in sample.tokens]] for values, sample in zip(found, samples)]

    def wrong_tokens(self, samples: Sequence[Sample]) -> list[np.ndarray] | None:
        """For every sample bool (len(tokens),), the tokens of words that are known to be wrong; None if nothing is.

        Only :class:`~mmreid_text.datasets.ProceduralPedestrians` knows.
        """
        if not isinstance(self.dataset, ProceduralPedestrians):
            return None
        wrong, _, _ = self.dataset.token_truth()  # positions from 1
        return [wrong[sample.row][[token.position - 1 for token in sample.tokens]] for sample in samples]

    def _check(self, rows: Sequence[int], epoch: int) -> None:
        if epoch < 1:
            raise ValueError(f"epoch {epoch} does not exist: epochs count from 1, as in the log.")
        wrong = [row for row in rows if not 0 <= row < len(self.dataset)]
        if wrong or not len(rows):
            raise ValueError(f"rows {wrong or '(none)'} asked of {len(self.dataset):,} captions, which count from 0.")

    def _load_table(self, epoch: int) -> None:
        if not isinstance(self.hook, NoiseAwareMaskingHook):
            return
        self.hook.table = NoiseTable(len(self.dataset), self.dataset.fingerprint)
        if epoch == 1:
            return
        path = self.work_dir / f"noise_epoch_{epoch - 1}.npz"
        if not path.is_file():
            known = f"epochs {self.epochs()}" if self.epochs() else "none"
            raise FileNotFoundError(
                f"epoch {epoch} masks by the noise of epoch {epoch - 1}, and there is no {path}. There are tables for "
                f"{known} (epoch 1 needs none); default_hooks.checkpoint.max_keep_ckpts=-1 keeps those of all epochs."
            )
        self.hook.table.load(path, epoch - 1)

    def _tokens(self, text: np.ndarray, masked: np.ndarray | None, labels: np.ndarray | None) -> list[Token]:
        pieces = self._pieces(text)
        drawn = np.zeros(len(text), dtype=bool) if masked is None else masked != text
        if labels is not None:
            drawn |= labels != 0  # drawn ones that stay have a label
        instead = self._pieces(text if masked is None else masked)
        return [
            Token(i, piece, joined, instead[i][0] if drawn[i] else "")
            for i, (piece, joined) in enumerate(pieces)
            if piece not in _FRAMES
        ]

    def _pieces(self, ids: np.ndarray) -> list[tuple[str, bool]]:
        """Text of each id, and whether the next continues its word."""
        texts = self.tokenizer.decode(ids)
        if self.tokenizer is get_tokenizer():
            ends = [self.tokenizer.vocabulary[i].endswith(_WORD_END) or i in (SOT, EOT) for i in ids]
            return [(text, not end) for text, end in zip(texts, ends)]
        continues = [text.startswith(_CONTINUES) for text in [*texts[1:], ""]]
        return [(text.removeprefix(_CONTINUES), follows) for text, follows in zip(texts, continues)]


def read_rows(text: str) -> list[int]:
    """Rows that a command line names, as '0-11,40'.

    Raises:
        ValueError: It is not numbers and ranges, or names more than :data:`MAX_ROWS`.

    >>> read_rows('3,8-10')
    [3, 8, 9, 10]
    """
    ranges: list[range] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.strip().isdecimal() or not (last.strip().isdecimal() or "-" not in part):
            raise ValueError(f"rows {text!r} must be numbers and ranges that count from 0, as in '0-11,40'.")
        ranges.append(range(int(first), int(last or first) + 1))
    count = sum(max(part.stop - part.start, 0) for part in ranges)  # which may be more than len() can say
    if not 0 < count <= MAX_ROWS:
        raise ValueError(f"rows {text!r} name {count:,} captions; a picture holds 1 to {MAX_ROWS}.")
    return [row for part in ranges for row in part]


def _masking_hook(cfg: dict[str, Any]) -> MaskingHook | None:
    cls = HOOKS.get(cfg["type"])
    return HOOKS.build(cfg) if isinstance(cls, type) and issubclass(cls, MaskingHook) else None


def _tokenizer(cfg: Config) -> Any:
    """That of the training pipeline's ``Tokenize``; CLIP's where it names none."""
    for dataset in dataset_configs(cfg.train_dataloader):
        for step in dataset.get("pipeline") or []:
            if step.get("type") == Tokenize.__name__ and step.get("tokenizer"):
                return TRANSFORMS.build(step["tokenizer"])
    return get_tokenizer()
