"""CUHK-PEDES (Li et al., Person Search with Natural Language Description, CVPR 2017)."""

from typing import ClassVar

from mmreid_text.datasets.published import BenchmarkDataset
from mmreid_text.registry import DATASETS


@DATASETS.register_module()
class CUHKPEDES(BenchmarkDataset):
    """CUHK-PEDES: 13,003 identities of five surveillance datasets, mostly two captions per image.

    Reads ``reid_raw.json``, a list of ``{split, captions, file_path, processed_tokens, id}``, and images under
    ``imgs/{cam_a,cam_b,CUHK01,CUHK03,Market,test_query,train_query}/``. Arguments and errors are those of
    :class:`~mmreid_text.datasets.published.PublishedDataset`.

    Config::

        dict(type='CUHKPEDES', data_root='data/CUHK-PEDES', split='test', pipeline=test_pipeline)
    """

    name = "cuhk_pedes"
    TITLE = "CUHK-PEDES"
    ANNOTATION = "reid_raw.json"
    # The file has 68,126 training captions; the paper of MLLM4Text-ReID prints 68,108.
    PUBLISHED: ClassVar = {
        "train": (11_003, 34_054, 68_126),
        "val": (1_000, 3_078, 6_158),
        "test": (1_000, 3_074, 6_156),
    }
