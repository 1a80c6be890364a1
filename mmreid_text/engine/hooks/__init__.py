"""Hooks of training and testing."""

from mmreid_text.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from mmreid_text.engine.hooks.dataset_epoch_hook import DatasetEpochHook
from mmreid_text.engine.hooks.deferred_log_hook import DeferredLogHook
from mmreid_text.engine.hooks.feature_dump_hook import FeatureDumpHook
from mmreid_text.engine.hooks.identity_label_hook import IdentityLabelHook
from mmreid_text.engine.hooks.masking_hook import UniformMaskingHook, WholeWordMaskingHook
from mmreid_text.engine.hooks.noise_aware_masking_hook import NoiseAwareMaskingHook
from mmreid_text.engine.hooks.plain_checkpoint_hook import PlainCheckpointHook
from mmreid_text.engine.hooks.pretrained_weights_hook import PretrainedWeightsHook
from mmreid_text.engine.hooks.protocol_hook import ProtocolHook
from mmreid_text.engine.hooks.pseudo_label_hook import PseudoLabelHook
from mmreid_text.engine.hooks.rank_strip_hook import RankStripHook
from mmreid_text.engine.hooks.resume_hook import ResumeHook
from mmreid_text.engine.hooks.text_iou_hook import TextIoUHook

__all__ = [
    "AtomicCheckpointHook",
    "DatasetEpochHook",
    "DeferredLogHook",
    "FeatureDumpHook",
    "IdentityLabelHook",
    "NoiseAwareMaskingHook",
    "PlainCheckpointHook",
    "PretrainedWeightsHook",
    "ProtocolHook",
    "PseudoLabelHook",
    "RankStripHook",
    "ResumeHook",
    "TextIoUHook",
    "UniformMaskingHook",
    "WholeWordMaskingHook",
]
