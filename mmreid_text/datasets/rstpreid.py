"""RSTPReid (Zhu et al., DSSL: Deep Surroundings-person Separation Learning, ACM MM 2021)."""

from typing import ClassVar

from mmreid_text.datasets.published import BenchmarkDataset
from mmreid_text.registry import DATASETS


@DATASETS.register_module()
class RSTPReid(BenchmarkDataset):
    """RSTPReid: 4,101 identities of MSMT17, five images each, two captions per image.

    Reads ``data_captions.json``, a list of ``{split, captions, img_path, id}``, and the images in ``imgs/``. Arguments
    and errors are those of :class:`~mmreid_text.datasets.published.PublishedDataset`.

    Config::

        dict(type='RSTPReid', data_root='data/RSTPReid', split='test', pipeline=test_pipeline)
    """

    name = "rstpreid"
    TITLE = "RSTPReid"
    ANNOTATION = "data_captions.json"
    IMAGE_KEY = "img_path"
    PUBLISHED: ClassVar = {"train": (3_701, 18_505, 37_010), "val": (200, 1_000, 2_000), "test": (200, 1_000, 2_000)}
