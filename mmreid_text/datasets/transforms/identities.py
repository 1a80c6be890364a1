"""Training without knowing who is who."""

from typing import Any

from mmcv.transforms import BaseTransform

from mmreid_text.registry import TRANSFORMS


@TRANSFORMS.register_module()
class HideIdentity(BaseTransform):
    """Put the image's row in the place of its identity, so that no identity leaves the data set.

    Losses over ``pid`` then know that captions of one image belong together, and nothing else. For training on
    benchmarks as if they were without labels; a test pipeline needs the identities.

    **Required keys:** ``image_id``. **Modified keys:** ``pid``.

    Config::

        train_pipeline = [dict(type='LoadImage'), dict(type='HideIdentity'), dict(type='Tokenize'), ...]
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        results["pid"] = results["image_id"]
        return results
