"""What an evaluation compares: the features of one dataset's images and captions."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DatasetFeatures:
    """Features of one evaluated dataset: G images and their Q captions, image by image."""

    image: np.ndarray  # float32 (G, D)
    text: np.ndarray  # float32 (Q, D)
    image_pid: np.ndarray  # int64 (G,)
    text_pid: np.ndarray  # int64 (Q,)
    text_image: np.ndarray  # int64 (Q,), the gallery row whose caption this is
    row: np.ndarray  # int64 (G,), the image's row in the test dataset (in the join, where there are several)
    image_id: np.ndarray  # int64 (G,), as the dataset gave it
