"""Datasets: one file per published format, thin over the caption table."""

import multiprocessing

from mmreid_text.datasets import transforms
from mmreid_text.datasets.caption_table import CaptionTable, write_caption_table
from mmreid_text.datasets.concat_dataset import ConcatDataset
from mmreid_text.datasets.cuhk_pedes import CUHKPEDES
from mmreid_text.datasets.icfg_pedes import ICFGPEDES
from mmreid_text.datasets.luperson_mllm import LUPersonMLLM
from mmreid_text.datasets.luperson_t import LUPersonT
from mmreid_text.datasets.mals import MALS
from mmreid_text.datasets.procedural_pedestrians import ProceduralPedestrians
from mmreid_text.datasets.rstpreid import RSTPReid
from mmreid_text.datasets.samplers import ArraySampler, IdentitySampler
from mmreid_text.datasets.text_reid_dataset import TextReIDDataset

# Workers of the start method 'forkserver' share the memory of a process that has imported these.
multiprocessing.set_forkserver_preload(["torch", "mmreid_text.datasets"])

__all__ = [
    "CUHKPEDES",
    "ICFGPEDES",
    "MALS",
    "ArraySampler",
    "CaptionTable",
    "ConcatDataset",
    "IdentitySampler",
    "LUPersonMLLM",
    "LUPersonT",
    "ProceduralPedestrians",
    "RSTPReid",
    "TextReIDDataset",
    "transforms",
    "write_caption_table",
]
