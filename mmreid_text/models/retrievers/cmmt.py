"""CMMT: two encoders trained without identities, by pairs, by clusters and by what captions share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreid_text.engine.distributed import all_gather
from mmreid_text.models.retrievers.dual_encoder import DualEncoder, Losses
from mmreid_text.registry import MODELS
from mmreid_text.text_iou.iou import batch_iou


@MODELS.register_module()
class CMMT(DualEncoder):
    """Cross-modal mutual training (Zhao et al., ICCV 2021): images and captions come in pairs, identities are unknown.

    Identities reach no loss: ``pid`` of a batch is not read, pair losses get the image's row in its place. Three kinds
    of losses, each optional:

    - ``losses`` over pairs, whose positives are an image and its own captions;
    - ``iou_losses``, which tell positives from negatives by the Text-IoU of captions. ``TextIoUHook`` brings the
      captions' phrases. Captions of one image have an IoU of 1;
    - ``cluster_memory``, which classifies each modality's features among its own clusters, and ``cmpc``, which
      classifies pairs among the image's clusters. ``PseudoLabelHook`` brings labels and centroids; until it has, and
      for what it left without a cluster, these losses are 0.

    Args:
        iou_losses: Configs of losses ``(image_feats (B, D), text_feats (B, D), affinity (W * B, W * B)) -> scalar``
            with the Text-IoU of the captions of all W ranks, NaN where a caption names nothing and so nothing is known;
            of different types, which name them in the log. A config's ``loss_weight`` (1) multiplies its loss; before
            its epoch ``start`` (0) it is not computed.
        cluster_memory: Config of one modality's memory, built once for each; logged as ``loss_image_cluster`` and
            ``loss_text_cluster``. Takes a ``loss_weight`` as well.
        cmpc: Config of a loss ``(image_feats, text_feats, weight (C, D), label (B,))`` with the image clusters'
            centroids as weights. Takes a ``loss_weight`` as well. The published code has it behind a flag.
        kwargs: As :class:`~mmreid_text.models.retrievers.dual_encoder.DualEncoder` takes them.

    Raises:
        ValueError: ``cmpc`` stands without ``cluster_memory``, ``micro_batch`` beside encoders with BatchNorm, two
            losses share a type, or as ``DualEncoder``.

    Config::

        model = dict(
            type='CMMT',
            image_encoder=dict(type='ResNetEncoder', num_layers=50, embed_dim=512, pretrained='torchvision://resnet50'),
            text_encoder=dict(type='BiLSTMTextEncoder', vocab_size=4096, embed_dim=512),
            iou_losses=[dict(type='TextIoUCMPMLoss'), dict(type='HardMiningLoss', start=5)],
            cluster_memory=dict(type='ClusterMemory', tau=0.05, momentum=0.2))
        custom_hooks = [dict(type='TextIoUHook'), dict(type='PseudoLabelHook', start=5)]
    """

    def __init__(
        self,
        image_encoder: dict[str, Any],
        text_encoder: dict[str, Any],
        iou_losses: Sequence[dict[str, Any]] = (),
        cluster_memory: dict[str, Any] | None = None,
        cmpc: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_encoder, text_encoder, **kwargs)
        self.iou_losses = nn.ModuleDict()
        self.starts: dict[str, int] = {}
        for cfg in map(dict, iou_losses):
            weight, start = cfg.pop("loss_weight", 1.0), cfg.pop("start", 0)
            loss = MODELS.build(cfg)
            name = type(loss).__name__.removesuffix("Loss").lower()
            if name in self.losses or name in self.iou_losses:
                raise ValueError(f"iou_losses name {type(loss).__name__} twice: each type of loss can stand once.")
            self.iou_losses[name] = loss
            self.loss_weights[name], self.starts[name] = weight, start
        self.memories = nn.ModuleDict()
        if cluster_memory is not None:
            cfg = dict(cluster_memory)
            self.loss_weights["cluster"] = cfg.pop("loss_weight", 1.0)
            self.memories.update({side: MODELS.build(dict(cfg)) for side in ("image", "text")})
        elif cmpc is not None:
            raise ValueError("CMMT: cmpc classifies among the image clusters: give a cluster_memory as well.")
        cfg = dict(cmpc or {})
        self.loss_weights["cmpc"] = cfg.pop("loss_weight", 1.0)
        self.cmpc = MODELS.build(cfg) if cfg else None
        if self.micro_batch is not None and any(isinstance(module, _BatchNorm) for module in self.modules()):
            raise ValueError(
                "CMMT: BatchNorm reads the whole batch, so micro_batch must stay None with these encoders."
            )
        self.epoch = 0
        # Plain tensors, not in checkpoints: hooks bring them anew.
        self.labels: dict[str, torch.Tensor] = {}
        self.phrases: tuple[torch.Tensor, torch.Tensor, int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, counted from 0: what ``start`` of ``iou_losses`` is compared with."""
        self.epoch = epoch

    def set_phrases(self, indptr: torch.Tensor, indices: torch.Tensor) -> None:
        """Give the phrases of all training captions.

        Args:
            indptr: int64 (C + 1,), by ``caption_id``; see :class:`~mmreid_text.text_iou.phrases.PhraseTable`.
            indices: int64 (nnz,), numbers of phrases, distinct within a caption.
        """
        widest = int(indptr.diff().max()) if len(indptr) > 1 else 0
        vocabulary = int(indices.max()) + 1 if len(indices) else 0
        device = self._device()
        self.phrases = (indptr.to(device), indices.to(device), widest, vocabulary)

    def set_pseudo_labels(
        self,
        image_labels: torch.Tensor,
        text_labels: torch.Tensor,
        image_centroids: torch.Tensor,
        text_centroids: torch.Tensor,
    ) -> None:
        """Give the clusters of the epoch that begins, the same on every rank; starts the memories anew.

        Args:
            image_labels: int64 (I,), by ``image_id``: 0..Ci-1, or -1 for images of no cluster.
            text_labels: int64 (T,), by ``caption_id``: 0..Ct-1, or -1.
            image_centroids: float32 (Ci, D), normalised means of the clusters' members.
            text_centroids: float32 (Ct, D).

        Raises:
            ValueError: The model has no ``cluster_memory``, or a label has no centroid.
        """
        if not self.memories:
            raise ValueError(
                "CMMT has no use for pseudo labels: set model.cluster_memory, or take PseudoLabelHook out."
            )
        device = self._device()
        for side, labels, centroids in (
            ("image", image_labels, image_centroids),
            ("text", text_labels, text_centroids),
        ):
            if len(labels) and int(labels.max()) >= len(centroids):
                raise ValueError(f"CMMT: {side} label {int(labels.max())} has no centroid, there are {len(centroids)}.")
            self.labels[side] = labels.to(device)
            self.memories[side].centroids = centroids.to(device, torch.float32, copy=True)

    def cluster_centroids(self) -> list[torch.Tensor]:
        """Of images and of captions, float32 (Ci, D) and (Ct, D), as training has moved them since they were given."""
        memories: Any = self.memories
        return [memories[side].centroids for side in ("image", "text")]

    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def loss(  # type: ignore[override]
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        image_id: torch.Tensor,
        caption_id: torch.Tensor,
        masked_text: torch.Tensor | None = None,
        lengths: Sequence[int] | None = None,
        **_: Any,
    ) -> Losses:
        """Losses of a batch of pairs; identities are not among its arguments.

        Args:
            image: float32 (B, 3, H, W), normalised pixels.
            text: int64 (B, N), the captions as written.
            image_id: int64 (B,), rows of images.
            caption_id: int64 (B,), rows of captions.
            masked_text: int64 (B, N), what the losses read in place of ``text``.
            lengths: Tokens of each caption, on the host.

        Raises:
            ValueError: There are ``iou_losses`` but no phrases; names the hook that brings them.
        """
        read = text if masked_text is None else masked_text
        pairs = self._encode_batch(image, read, text, lengths)
        losses = self._pair_losses(pairs, image_id, read)
        feats = {"image": pairs["image_feats"], "text": pairs["text_feats"]}
        active = [name for name in self.iou_losses if self.epoch >= self.starts[name]]
        affinity = self._affinity(image_id, caption_id) if active else None
        for name in active:
            loss = self.iou_losses[name](feats["image"], feats["text"], affinity)
            losses[f"loss_{name}"] = self.loss_weights[name] * loss
        if self.memories:
            losses |= self._cluster_losses(feats, {"image": image_id, "text": caption_id})
        return losses

    def _affinity(self, image_id: torch.Tensor, caption_id: torch.Tensor) -> torch.Tensor:
        """Text-IoU of the captions of all ranks, float32 (W * B, W * B), 1 between captions of one image; NaN, which is
        not known, where a caption names nothing."""
        if self.phrases is None:
            raise ValueError(
                "CMMT's iou_losses need the captions' phrases: add dict(type='TextIoUHook') to custom_hooks."
            )
        image_id, caption_id = all_gather(image_id), all_gather(caption_id)
        indptr, indices, widest, vocabulary = self.phrases
        iou = batch_iou(indptr, indices, caption_id, widest, vocabulary)
        silent = indptr[caption_id] == indptr[caption_id + 1]
        iou = iou.masked_fill(silent[:, None] | silent[None, :], torch.nan)
        return torch.where(image_id[:, None] == image_id[None, :], 1.0, iou)

    def _cluster_losses(self, feats: dict[str, torch.Tensor], rows: dict[str, torch.Tensor]) -> Losses:
        losses = {}
        labels = {
            side: self.labels[side][rows[side]] if side in self.labels else torch.full_like(rows[side], -1)
            for side in feats
        }
        if self.cmpc is not None:  # first: memories move as they are read
            centroids: Any = self.memories["image"].centroids
            if centroids is not None and len(centroids):
                loss = self.cmpc(feats["image"], feats["text"], centroids, labels["image"])
            else:
                loss = (feats["image"].sum() + feats["text"].sum()).float() * 0.0
            losses["loss_cmpc"] = self.loss_weights["cmpc"] * loss
        for side, memory in self.memories.items():
            losses[f"loss_{side}_cluster"] = self.loss_weights["cluster"] * memory(feats[side], labels[side])
        return losses
