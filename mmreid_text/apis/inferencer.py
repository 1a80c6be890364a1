"""A trained model without a runner: images and sentences in, features out."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from mmreid_text.apis.checkpoint_config import stated_config
from mmreid_text.datasets.transforms.image import Resize
from mmreid_text.engine.config import dataset_configs, load_config
from mmreid_text.engine.config_options import nearest
from mmreid_text.engine.hooks.feature_dump_hook import weights_fingerprint
from mmreid_text.engine.hooks.plain_checkpoint_hook import load_from_plain_file
from mmreid_text.gallery.images import ImageLike, read_picture
from mmreid_text.models.checkpoints import load_into
from mmreid_text.registry import MODELS, TRANSFORMS

if TYPE_CHECKING:
    from mmreid_text.apis.gallery import Gallery, Hit

MAX_CHARACTERS = 2000
"""Of a sentence; models read the first 77 tokens, some 60 words."""
_PROBES = ["a man and a woman, walking", "a red coat with 2 black-and-white backpacks; blue jeans, T-shirt"]
_STEPS = [dict(type="LoadImage"), dict(type="Tokenize"), dict(type="PackSample")]
_SMALL_CLIP = dict(
    type="DualEncoder",
    data_preprocessor=dict(type="ReIDDataPreprocessor"),
    image_encoder=dict(
        type="CLIPVisionEncoder", width=64, depth=4, heads=4, patch_size=8, img_size=(64, 32), embed_dim=64
    ),
    text_encoder=dict(type="CLIPTextEncoder", width=64, depth=4, heads=4, embed_dim=64),
    init_cfg=dict(type="CLIPPretrained", checkpoint=str(files("mmreid_text") / "weights" / "tiny_web.pt")),
)


class TextReIDInferencer:
    """Encodes images and sentences as an evaluation of the same config does: the same pixels, ids and model.

    Transforms and their order are those of the config's test data. Images that these leave at another size than the
    model reads are resized to it at the end, so that a folder of crops of any size can be searched.

    Args:
        config: A config file or :class:`~mmengine.config.Config`. None takes the one that the checkpoint carries, and
            without a checkpoint the small CLIP that ships in the package and the demo starts from.
        checkpoint: A checkpoint of this project, or weights of CLIP or IRRA as
            :func:`~mmreid_text.models.checkpoints.load_clip` reads them. None takes the weights that the config's
            ``model.init_cfg`` names.
        device: Such as 'cpu' or 'cuda:0'; None takes the GPU if there is one.

    Attributes:
        model: The model, in evaluation mode, without gradients.
        source: Absolute ``config`` and ``checkpoint`` as given, None where they were not, or were no files.

    Raises:
        FileNotFoundError: There is no such file.
        KeyError: The config names something that is not registered, as parts of a project that was not imported.
        ValueError: The checkpoint carries no config, does not fit the model, or neither names weights; or this machine
            has no such device.

    >>> inferencer = TextReIDInferencer(checkpoint='work_dirs/demo/nam/epoch_4.pth')  # doctest: +SKIP
    >>> images = inferencer.encode_image(['a.jpg', 'b.jpg'])  # doctest: +SKIP
    >>> scores = inferencer.encode_text(['a woman in a red coat']) @ images.T  # cosines (1, 2)  # doctest: +SKIP
    """

    def __init__(
        self,
        config: str | Path | Config | None = None,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        init_default_scope("mmreid_text")
        self.device = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.source = {
            "config": _absolute(config if isinstance(config, (str, Path)) else None),
            "checkpoint": _absolute(checkpoint),
        }
        if config is None and checkpoint is not None and not Path(checkpoint).exists():
            raise FileNotFoundError(f"checkpoint {checkpoint} does not exist")
        content = None if checkpoint is None else _content(str(checkpoint))
        if config is None and checkpoint is None:
            model, steps = dict(_SMALL_CLIP), _STEPS
        else:
            cfg = stated_config(content or {}, str(checkpoint)) if config is None else _config(config)
            model, steps = dict(cfg.model), _test_steps(cfg)
        self.model = self._build(model, checkpoint, content)
        self.pipeline = [TRANSFORMS.build(step) for step in steps]
        size = getattr(self.model.image_encoder, "img_size", None)
        self.img_size: tuple[int, int] | None = None if size is None else (int(size[0]), int(size[1]))
        if self.img_size is not None:
            self.pipeline.insert(len(self.pipeline) - 1, Resize(self.img_size))
        self._gallery: Gallery | None = None

    def _build(self, cfg: dict[str, Any], checkpoint: str | Path | None, content: Mapping[str, Any] | None) -> Any:
        init_cfg = cfg.pop("init_cfg", None) or {}
        model: Any = MODELS.build(cfg)
        if checkpoint is not None:
            _load(model, str(checkpoint), content)
        elif init_cfg.get("type") == "CLIPPretrained":
            load_into(model, init_cfg["checkpoint"])
        else:
            raise ValueError("the config's model.init_cfg names no CLIP weights: give a checkpoint as well.")
        model.is_init = True  # a runner that trains it keeps these weights
        return model.to(self.device).eval().requires_grad_(False)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the weights and over what is done to images and sentences before they reach the model.

        Features of equal fingerprints can be compared, those of others cannot.
        """
        preprocessor = self.model.data_preprocessor
        settings = {
            "weights": weights_fingerprint(self.model),
            "model": type(self.model).__name__,
            "pipeline": [_settings(step) for step in self.pipeline],
            "words": self.tokenize(_PROBES).tolist(),
            "pixels": {name: tensor.tolist() for name, tensor in sorted(preprocessor.named_buffers())},
        }
        return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def preprocess(self, images: Sequence[ImageLike]) -> torch.Tensor:
        """Images as the model reads them, float32 (n, 3, H, W), normalised, on the model's device.

        Args:
            images: Paths, files' contents as bytes, Pillow images, or uint8 (H, W, 3) RGB arrays.

        Raises:
            FileNotFoundError, OSError, ValueError: As :func:`~mmreid_text.gallery.images.read_picture` states.
        """
        return self._batch([self.prepare(image) for image in images])["image"]

    def prepare(self, image: ImageLike) -> dict[str, Any]:
        """An image after the evaluation's transforms, for :meth:`encode_prepared`; threads may call this.

        Raises:
            FileNotFoundError, OSError, ValueError: As :func:`~mmreid_text.gallery.images.read_picture` states.
        """
        return self._sample(read_picture(image), ["person"])

    def encode_prepared(self, samples: Sequence[dict[str, Any]]) -> np.ndarray:
        """Features float32 (n, D), L2-normalised, of what :meth:`prepare` gave, as one batch."""
        return self.encode_pixels(self._batch(samples)["image"])

    def tokenize(self, sentences: Sequence[str]) -> torch.Tensor:
        """Ids int64 (n, N) on the model's device, cut to the longest sentence where the model's evaluation does so.

        Raises:
            ValueError: A sentence is empty or longer than :data:`MAX_CHARACTERS`.
        """
        return self._texts(sentences)["text"]

    def encode_image(self, images: Sequence[ImageLike], batch_size: int = 64) -> np.ndarray:
        """Features of images, float32 (n, D), L2-normalised.

        Args:
            images: As for :meth:`preprocess`.
            batch_size: Images that are decoded and encoded at a time.
        """
        chunks = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        return self._joined([self.encode_pixels(self.preprocess(chunk)) for chunk in chunks])

    @torch.no_grad()
    def encode_pixels(self, pixels: torch.Tensor) -> np.ndarray:
        """Features float32 (n, D), L2-normalised, of what :meth:`preprocess` gave."""
        return F.normalize(self.model.encode_image(pixels).float()).cpu().numpy()

    @torch.no_grad()
    def encode_text(self, sentences: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Features of sentences, float32 (n, D), L2-normalised.

        Args:
            sentences: In natural language; what goes beyond the model's longest text is cut off.
            batch_size: Sentences that are encoded at a time.

        Raises:
            ValueError: As :meth:`tokenize` states.
        """
        chunks = (sentences[start : start + batch_size] for start in range(0, len(sentences), batch_size))
        batches = map(self._texts, chunks)
        feats = [self.model.encode_text(batch["text"], batch["lengths"]).float() for batch in batches]
        return self._joined([F.normalize(part).cpu().numpy() for part in feats])

    def open_gallery(self, path: str | Path) -> "Gallery":
        """Open the index that :meth:`search` looks into; see :meth:`mmreid_text.apis.gallery.Gallery.open`."""
        from mmreid_text.apis.gallery import Gallery

        self._gallery = Gallery.open(path, self)
        return self._gallery

    def search(self, sentence: str, topk: int = 10, where: str | None = None) -> list["Hit"]:
        """Images of the open gallery that fit a sentence best; see :meth:`mmreid_text.apis.gallery.Gallery.search`.

        Raises:
            RuntimeError: No gallery is open.
        """
        if self._gallery is None:
            raise RuntimeError("No gallery is open: call open_gallery(path) first.")
        return self._gallery.search(sentence, topk, where)

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts) if parts else np.empty((0, self.embed_dim), np.float32)

    @cached_property
    def embed_dim(self) -> int:
        """D, the dimensions of features."""
        return self.encode_text(["a person"]).shape[1]

    def _texts(self, sentences: Sequence[str]) -> dict[str, Any]:
        if isinstance(sentences, str):
            raise ValueError("Give sentences as a list, as in encode_text(['a woman in a red coat']).")
        for sentence in sentences:
            if not sentence.strip():
                raise ValueError("A sentence is empty: say whom to look for, as in 'a woman in a red coat'.")
            if len(sentence) > MAX_CHARACTERS:
                raise ValueError(
                    f"A sentence has {len(sentence):,} characters, more than {MAX_CHARACTERS:,} (it begins "
                    f"{sentence[:40]!r}): shorten it."
                )
        blank = np.zeros((*(self.img_size or (8, 8)), 3), np.uint8)
        return self._batch([self._sample(blank, list(sentences))])

    def _sample(self, image: np.ndarray, captions: list[str]) -> dict[str, Any]:
        """An image with captions after the evaluation's transforms."""
        sample: dict[str, Any] = dict(
            img=image, captions=captions, pid=0, image_id=0, caption_id=0, dataset="search", img_path=""
        )
        for step in self.pipeline:
            sample = step(sample)
        return sample

    def _batch(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the evaluation's collate function and data preprocessor make of samples."""
        return self.model.data_preprocessor(pseudo_collate(list(samples)), False)


def _device(stated: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=stated).device
    except (RuntimeError, AssertionError) as error:  # the latter without CUDA in torch
        raise ValueError(f"device={str(stated)!r} cannot be used here: {str(error).splitlines()[0]}") from error


def _config(config: str | Path | Config) -> Config:
    return config if isinstance(config, Config) else load_config(str(config))


def _test_steps(cfg: Config) -> list[Any]:
    """Transforms of the first test set; those of a joined test agree, or its batches would not collate."""
    for dataset in dataset_configs(cfg.get("test_dataloader")):
        if "pipeline" in dataset:
            return list(dataset["pipeline"])
    raise ValueError("the config has no test_dataloader with a pipeline, which says how images are prepared.")


def _content(path: str) -> dict[str, Any] | None:
    """Content of a file of ours or of a state dict; None for what only the readers of CLIP's layouts know."""
    if Path(path).suffix in (".pth", ".pt") and Path(path).is_file():
        try:
            return load_from_plain_file(path)
        except ValueError:  # a TorchScript archive
            return None
    return None


def _load(model: torch.nn.Module, path: str, content: Mapping[str, Any] | None) -> None:
    """Load all of the model's tensors from a checkpoint of ours, or those of CLIP's encoders from others' weights."""
    state = (content or {}).get("state_dict", content or {})
    state = {key.removeprefix("module."): value for key, value in state.items() if isinstance(key, str)}
    own = model.state_dict()
    if own.keys().isdisjoint(state):
        load_into(model, path)
        return
    missing = [key for key in own if key not in state]
    unfit = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or unfit:
        what = f"lacks {missing[0]!r}" if missing else f"has {unfit[0]!r} as {tuple(state[unfit[0]].shape)}"
        more = f" and {len(missing) + len(unfit) - 1} more do not fit" if len(missing) + len(unfit) > 1 else ""
        hint = nearest(missing[0], set(state)) if missing and len(missing) < len(own) // 2 else ""
        raise ValueError(
            f"checkpoint {path} does not fit the config's model: it {what}{more}.{hint} Give the config that it was "
            "trained with, or none: checkpoints of runs carry their own."
        )
    model.load_state_dict({key: state[key] for key in own})


def _settings(step: Any) -> str:
    """A transform and its arguments, as far as it tells them; of files the names, which may be moved."""
    text = re.sub(r"'[^']*/([^'/]*)'", r"'\1'", repr(step))
    return type(step).__name__ if " object at 0x" in text else text


def _absolute(path: str | Path | None) -> str | None:
    if path is None:
        return None
    return str(Path(path).expanduser().absolute()) if Path(path).expanduser().exists() else str(path)
