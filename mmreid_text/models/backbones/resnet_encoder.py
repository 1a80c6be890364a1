"""The image encoder of CMMT on mmpretrain's ResNet."""

from collections.abc import Iterable

import mmpretrain.utils.dependency as mmpretrain_dependency
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from mmreid_text.registry import MODELS

# With transformers 5 and pycocotools installed, mmpretrain's multimodal models fail at import; none is used here.
mmpretrain_dependency.WITH_MULTIMODAL = False
from mmpretrain.models import ResNet  # noqa: E402


@MODELS.register_module()
class ResNetEncoder(BaseModule):
    """ResNet (He et al., CVPR 2016), mean over places, linear layer, BatchNorm: as CMMT (ICCV 2021) encodes images.

    It counts as one block: ``depth`` is 1, its hidden states are the last map's places behind their mean.

    BatchNorm takes its statistics over one process's images, unless the config says ``sync_bn='torch'``: then several
    GPUs train as one with the batch of all. torch has no such layer on CPUs.

    Args:
        num_layers: 18, 34, 50, 101 or 152.
        embed_dim: Channels D of the joint space.
        pretrained: Weights of the ResNet: a file, a URL or ``torchvision://resnet50``. None: random.

    Config::

        image_encoder=dict(type='ResNetEncoder', num_layers=50, embed_dim=512, pretrained='torchvision://resnet50')
    """

    depth = 1

    def __init__(self, num_layers: int = 50, embed_dim: int = 512, pretrained: str | None = None) -> None:
        super().__init__()
        init_cfg = {"init_cfg": {"type": "Pretrained", "checkpoint": pretrained}} if pretrained else {}
        self.trunk = ResNet(depth=num_layers, out_indices=(3,), style="pytorch", **init_cfg)
        width = self.trunk.feat_dim
        self.projection = nn.Linear(width, embed_dim)
        self.norm = nn.BatchNorm1d(embed_dim)
        self.embed_dim = embed_dim

    def hidden_states(self, image: torch.Tensor, layers: Iterable[int]) -> list[torch.Tensor]:
        """The mean of the last map's places, then its places row by row: (B, 1 + M, W) for each of ``layers``.

        Args:
            image: float (B, 3, H, W), normalised pixels; M is the number of squares of 32 pixels.
            layers: Each must be 1.

        Raises:
            ValueError: Another layer is asked for.
        """
        layers = list(layers)
        if any(layer != self.depth for layer in layers):
            raise ValueError(f"Layers {layers} asked of a ResNetEncoder, which is one block: give 1.")
        (last,) = self.trunk(image)
        places = last.flatten(2).transpose(1, 2)  # (B, M, W)
        states = torch.cat((places.mean(dim=1, keepdim=True), places), dim=1)
        return [states for _ in layers]

    def encode(self, image: torch.Tensor, layers: Iterable[int] = ()) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features (B, D), before L2 normalisation, and the hidden states of the same pass for each of ``layers``."""
        states, *asked = self.hidden_states(image, [self.depth, *layers])
        return self.norm(self.projection(states[:, 0])), asked

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Bring hidden states (..., W) to the joint space (..., D), by BatchNorm's running statistics."""
        return running_norm(self.norm, self.projection(hidden))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), before L2 normalisation, of normalised float pixels (B, 3, H, W)."""
        return self.encode(image)[0]


def running_norm(norm: nn.BatchNorm1d, x: torch.Tensor) -> torch.Tensor:
    """Normalise channels of (..., D) by running statistics, in training as in testing: tokens must not move them."""
    flat = F.batch_norm(
        x.flatten(0, -2), norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
    )
    return flat.view_as(x)
