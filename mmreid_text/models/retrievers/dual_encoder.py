"""Two encoders, one joint space."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmreid_text.models.checkpoints import load_into
from mmreid_text.models.encoder_weights import load_encoders
from mmreid_text.registry import MODELS

Losses = dict[str, torch.Tensor]
WEIGHT_LOADERS: dict[str, Callable[..., None]] = {"CLIPPretrained": load_into, "EncoderWeights": load_encoders}
"""By the type of ``init_cfg``: what loads a model's weights; other keys of ``init_cfg`` are its arguments."""


@MODELS.register_module()
class DualEncoder(BaseModel):
    """Image encoder and text encoder, trained by losses over pairs of their features.

    With ``token_noise`` every training step also measures how badly each token of the *unmasked* captions fits its
    image (Tan et al., CVPR 2024, section 3.2): without gradient, no deeper than the layer it needs, and with the image
    tokens of the same forward pass. Hooks find it as ``last_noise``, float32 (B, N), detached.

    Args:
        image_encoder: Config of the image encoder, such as ``CLIPVisionEncoder``: a module that maps pixels
            (B, 3, H, W) to features (B, embed_dim), with numbers ``embed_dim`` and ``depth``, its blocks, and with
            ``encode(image, layers)``, the features and a list with the hidden states (B, 1 + M, width) after each of
            these blocks, in the order of ``layers``; ``hidden_states(image, layers)``, that list alone; and
            ``project(hidden)``, all its tokens (B, 1 + M, embed_dim) in the joint space. Token 0 stands for the whole
            image, M for patches.
        text_encoder: Config of the text encoder, such as ``CLIPTextEncoder``: the same for ids int64 (B, N), with
            hidden states (B, N, width); both methods take ``lengths``, the tokens of each caption or None, as well.
        losses: Configs of losses ``(image_feats (B, D), text_feats (B, D), pid (B,)) -> scalar``, of different types.
            ``SDMLoss`` is logged as ``loss_sdm``. A config's ``loss_weight`` (1) multiplies its loss.
        token_noise: Config of an estimator with ``layer`` that maps (text tokens, image tokens) to (B, N).
        token_loss: Config of a loss with ``layer`` over (image tokens, text tokens, text), of the text that the other
            losses read; logged as ``loss_tokens``.
        micro_batch: Pairs that are encoded at a time in training, for batches larger than the memory: gradient caching
            (Gao et al., RepL4NLP 2021). Features are computed chunk by chunk and nothing else of them kept, the losses
            see the whole batch, and the backward pass encodes each chunk again. Losses and gradients are those of the
            ordinary step, for a third more time; the memory is that of one chunk. With a ``token_loss`` its tokens
            are kept for the whole batch.
        data_preprocessor: Config. Default: ``ReIDDataPreprocessor`` with CLIP's mean and deviation.
        init_cfg: ``dict(type='CLIPPretrained', checkpoint=<file, folder or Hugging Face name>)`` loads CLIP weights,
            see :func:`mmreid_text.models.checkpoints.load_clip`; ``dict(type='EncoderWeights', ...)`` loads the
            encoders' own, each from its file or both from a run of ours, see
            :func:`mmreid_text.models.encoder_weights.load_encoders`; other configs go to mmengine.

    Raises:
        ValueError: The encoders' joint spaces differ in size, ``token_noise.layer`` is deeper than an encoder, the
            preprocessor trims padding that the text encoder pools, or two losses share a name.

    Config::

        model = dict(
            type='DualEncoder',
            image_encoder=dict(
                type='CLIPVisionEncoder', width=768, depth=12, heads=12, patch_size=16, embed_dim=512,
                img_size=(384, 128)),
            text_encoder=dict(type='CLIPTextEncoder', width=512, depth=12, heads=8, embed_dim=512),
            losses=[dict(type='SDMLoss', tau=0.02)],
            token_noise=dict(type='PatchSimilarityNoise', layer=10),
            init_cfg=dict(type='CLIPPretrained', checkpoint='openai/clip-vit-base-patch16'))
    """

    def __init__(
        self,
        image_encoder: dict[str, Any],
        text_encoder: dict[str, Any],
        losses: Sequence[dict[str, Any]] = (),
        token_noise: dict[str, Any] | None = None,
        token_loss: dict[str, Any] | None = None,
        micro_batch: int | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        weights: dict[str, Any] = {}
        load: Callable[..., None] | None = None
        if init_cfg is not None and init_cfg.get("type") in WEIGHT_LOADERS:
            weights = {key: value for key, value in init_cfg.items() if key != "type"}
            if not any(weights.values()):
                raise ValueError(f"init_cfg={dict(init_cfg)} names no checkpoint: give a file, a folder or a hub name.")
            load = partial(WEIGHT_LOADERS[init_cfg["type"]], **weights)
            init_cfg = None  # mmengine would apply it before the children's own initialisation
        super().__init__(
            data_preprocessor=MODELS.build(data_preprocessor or {"type": "mmreid_text.ReIDDataPreprocessor"}),
            init_cfg=init_cfg,
        )
        self.pretrained: str | None = weights.get("checkpoint")
        self._load_weights = load
        self.image_encoder = MODELS.build(image_encoder)
        self.text_encoder = MODELS.build(text_encoder)
        self.losses = nn.ModuleDict()
        self.loss_weights: dict[str, float] = {}
        for cfg in map(dict, losses):
            weight = cfg.pop("loss_weight", 1.0)
            loss = MODELS.build(cfg)
            name = type(loss).__name__.removesuffix("Loss").lower()
            if name in self.losses:
                raise ValueError(f"losses name {type(loss).__name__} twice: each type of loss can stand once.")
            self.losses[name] = loss
            self.loss_weights[name] = weight
        self.token_noise = MODELS.build(token_noise) if token_noise else None
        self.token_loss = MODELS.build(token_loss) if token_loss else None
        self.micro_batch = micro_batch
        self.last_noise: torch.Tensor | None = None
        self._check()

    def _check(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, or None for none, got {self.micro_batch}.")
        image, text = self.image_encoder, self.text_encoder
        if image.embed_dim != text.embed_dim:
            raise ValueError(
                f"image_encoder.embed_dim={image.embed_dim} and text_encoder.embed_dim={text.embed_dim} differ: "
                "images and captions meet in one joint space."
            )
        if getattr(text, "max_over_padding", False) and getattr(self.data_preprocessor, "trim_text", False):
            raise ValueError(
                "text_encoder.max_over_padding pools over padding, so a cut to the batch's longest caption would "
                "change features: set model.data_preprocessor.trim_text=False."
            )
        depth = min(image.depth, text.depth)
        for name in ("token_noise", "token_loss"):
            reader = getattr(self, name)
            if reader is not None and reader.layer > depth:
                raise ValueError(f"{name}.layer={reader.layer} is deeper than an encoder of {depth} blocks.")

    def init_weights(self) -> None:
        """Initialise once, then load the weights that ``init_cfg`` names; later calls change nothing.

        mmengine calls this when training starts, and its initialisation of children overwrites what was loaded before.
        """
        if self.is_init:
            return
        super().init_weights()
        if self._load_weights is not None:
            self._load_weights(self)

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), before L2 normalisation, of normalised float pixels (B, 3, H, W)."""
        return self.image_encoder(image)

    def encode_text(self, text: torch.Tensor, lengths: Sequence[int] | None = None) -> torch.Tensor:
        """Text features (B, D), before L2 normalisation, of int64 ids (B, N) with so many tokens, if that is known."""
        return self.text_encoder.encode(text, lengths=lengths)[0]

    def token_features(
        self, image: torch.Tensor, text: torch.Tensor, layer: int = 10
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image tokens (B, 1 + M, D) and text tokens (B, N, D) after ``layer`` blocks, in the joint space.

        Both go through the encoder's final norm and projection; deeper blocks are not computed. Text tokens beyond EOT
        mean nothing.
        """
        (image_hidden,) = self.image_encoder.hidden_states(image, [layer])
        (text_hidden,) = self.text_encoder.hidden_states(text, [layer])
        return self.image_encoder.project(image_hidden), self.text_encoder.project(text_hidden)

    def forward(self, image: torch.Tensor, text: torch.Tensor, mode: str = "tensor", **ids: Any) -> Any:
        """Run on a batch of the data preprocessor.

        Args:
            image: float32 (B, 3, H, W), normalised pixels.
            text: int64 (B, N); in mode ``predict`` (sum of captions, N).
            mode: ``tensor`` returns image and text features, ``loss`` the dict of losses, ``predict`` the list of
                results.
            ids: What :meth:`loss` and :meth:`predict` need; the rest of the batch is ignored.
        """
        if mode == "tensor":
            return self.encode_image(image), self.encode_text(text)
        if mode == "loss":
            return self.loss(image, text, **ids)
        if mode == "predict":
            return self.predict(image, text, **ids)
        raise ValueError(f"mode={mode!r} is none of 'tensor', 'loss', 'predict'.")

    def loss(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        pid: torch.Tensor,
        masked_text: torch.Tensor | None = None,
        lengths: Sequence[int] | None = None,
        **_: Any,
    ) -> Losses:
        """Losses of a batch of pairs, ``{'loss_<name>': scalar}``; renews ``last_noise`` when there is token_noise.

        Args:
            image: float32 (B, 3, H, W), normalised pixels.
            text: int64 (B, N), the captions as written.
            pid: int64 (B,), identities.
            masked_text: int64 (B, N), what the losses read in place of ``text``.
            lengths: Tokens of each caption, EOT included, of ``text`` and ``masked_text`` alike. Where they are not
                given, the host waits for a GPU to say.
        """
        read = text if masked_text is None else masked_text
        return self._pair_losses(self._encode_batch(image, read, text, lengths), pid, read)

    def _encode_batch(
        self, image: torch.Tensor, read: torch.Tensor, text: torch.Tensor, lengths: Sequence[int] | None
    ) -> dict[str, torch.Tensor]:
        """What :meth:`_encode_pairs` gives of the whole batch, encoded ``micro_batch`` pairs at a time."""
        parts = [
            self._encode_pairs(image[rows], read[rows], text[rows], None if lengths is None else lengths[rows])
            for rows in self._chunks(len(image))
        ]
        return join_chunks(parts)

    def _chunks(self, count: int) -> list[slice]:
        size = self.micro_batch or count
        return [slice(start, start + size) for start in range(0, count, size)]

    def _pair_losses(self, pairs: dict[str, torch.Tensor], pid: torch.Tensor, read: torch.Tensor) -> Losses:
        """Losses over what :meth:`_encode_pairs` gave of the whole batch; keeps its noise as ``last_noise``."""
        self.last_noise = pairs.get("noise")
        losses = {
            f"loss_{name}": self.loss_weights.get(name, 1.0) * loss(pairs["image_feats"], pairs["text_feats"], pid)
            for name, loss in self.losses.items()
        }
        if self.token_loss is not None:
            losses["loss_tokens"] = self.token_loss(pairs["image_tokens"], pairs["text_tokens"], read)
        return losses

    def _encode_pairs(
        self, image: torch.Tensor, read: torch.Tensor, text: torch.Tensor, lengths: Sequence[int] | None
    ) -> dict[str, torch.Tensor]:
        """Features of ``image`` and ``read``; if asked for, their tokens for ``token_loss`` and noise of ``text``."""
        noise_layer, loss_layer = self._layers()
        image_feats, image_states = self._cached(self.image_encoder.encode, image, noise_layer + loss_layer)
        text_feats, text_states = self._cached(self.text_encoder.encode, read, loss_layer, lengths)
        pairs = {"image_feats": image_feats, "text_feats": text_feats}
        return pairs | self._tokens_and_noise(image_states, text_states, text, lengths)

    def _layers(self) -> tuple[list[int], list[int]]:
        """Layers that ``token_noise`` and ``token_loss`` read, none or one each."""
        readers = (self.token_noise, self.token_loss)
        noise_layer, loss_layer = ([] if reader is None else [reader.layer] for reader in readers)
        return noise_layer, loss_layer

    def _tokens_and_noise(
        self,
        image_states: list[torch.Tensor],
        text_states: list[torch.Tensor],
        text: torch.Tensor,
        lengths: Sequence[int] | None,
    ) -> dict[str, torch.Tensor]:
        """What ``token_loss`` and ``token_noise`` read and make of hidden states: of the image after both their layers,
        of the read text after the loss's."""
        found = {}
        if self.token_loss is not None:
            found["image_tokens"] = self.image_encoder.project(image_states[-1])
            found["text_tokens"] = self.text_encoder.project(text_states[-1])
        if self.token_noise is not None:
            # After the passes with gradient: autocast reuses its casts of weights, and would reuse gradientless ones.
            with torch.no_grad():
                (words,) = self.text_encoder.hidden_states(text, [self.token_noise.layer], lengths)
                patches = self.image_encoder.project(image_states[0])
                found["noise"] = self.token_noise(self.text_encoder.project(words), patches).float()
        return found

    def _cached(self, encode: Callable[..., Any], *args: Any) -> Any:
        """``encode(*args)``; with ``micro_batch`` nothing but its result is kept for the backward pass."""
        if self.micro_batch is None or not torch.is_grad_enabled():
            return encode(*args)
        # What caching gradients by hand would do, left to autograd: with all chunks in one graph, clipping,
        # accumulation and DistributedDataParallel see one ordinary backward pass.
        return checkpoint(encode, *args, use_reentrant=False)

    @torch.no_grad()
    def predict(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        num_captions: Sequence[int],
        pid: torch.Tensor,
        image_id: torch.Tensor,
        dataset: Sequence[str],
        lengths: Sequence[int] | None = None,
        **_: Any,
    ) -> list[dict[str, Any]]:
        """Features of images and of all their captions, one dict per image.

        Args:
            image: float32 (B, 3, H, W), normalised pixels.
            text: int64 (sum of num_captions, N), the captions of image 0 first.
            num_captions: B numbers of captions.
            pid: int64 (B,).
            image_id: int64 (B,).
            dataset: B names.
            lengths: Tokens of each caption, EOT included.

        Returns:
            B dicts: ``dataset`` str, ``pid`` and ``image_id`` int, ``image_feat`` float32 (D,) and ``text_feats``
            float32 (n, D), before L2 normalisation, on the CPU in memory of their own.
        """
        image_feats = self.encode_image(image).float().cpu()
        text_feats = self.encode_text(text, lengths).float().cpu().split(list(num_captions))
        rows = zip(dataset, image_feats, text_feats, pid.tolist(), image_id.tolist(), strict=True)
        return [
            {
                "dataset": name,
                "image_feat": image.clone(),
                "text_feats": texts.clone(),
                "pid": person,
                "image_id": number,
            }
            for name, image, texts, person, number in rows
        ]


def join_chunks(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What was found of chunks, for the whole batch."""
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
