"""ICFG-PEDES (Ding et al., Semantically Self-Aligned Network for Text-to-Image Part-aware Person ReID, 2021)."""

from typing import ClassVar

from mmreid_text.datasets.published import BenchmarkDataset
from mmreid_text.registry import DATASETS


@DATASETS.register_module()
class ICFGPEDES(BenchmarkDataset):
    """ICFG-PEDES: 4,102 identities of MSMT17, one long caption per image, no validation split.

    Reads ``ICFG-PEDES.json``, a list of ``{split, captions, file_path, id}``, and images under ``imgs/{train,test}/``,
    which are MSMT17's folders: the division is in the file. Protocol 'val' holds 10% of the training identities out.
    Arguments and errors are those of :class:`~mmreid_text.datasets.published.PublishedDataset`.

    Config::

        dict(type='ICFGPEDES', data_root='data/ICFG-PEDES', split='test', pipeline=test_pipeline)
    """

    name = "icfg_pedes"
    TITLE = "ICFG-PEDES"
    ANNOTATION = "ICFG-PEDES.json"
    PUBLISHED: ClassVar = {"train": (3_102, 34_674, 34_674), "test": (1_000, 19_848, 19_848)}
    OWN_VAL = False
