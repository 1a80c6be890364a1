"""Arrays that a data set hands to its workers without a copy for each."""

from typing import Any

import numpy as np
import torch


class SharedArray:
    """An array per row of a data set, ``values`` (n,).

    Forked workers see the parent's memory anyway. A spawned worker would unpickle a copy; here the array moves to
    shared memory when it is pickled for the first time, and workers map it.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self._tensor: torch.Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._tensor is None:
            self._keep(torch.from_numpy(np.array(self.values)))
        return _from_tensor, (self._tensor,)

    def __len__(self) -> int:
        return len(self.values)

    def _keep(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor.share_memory_()  # moves it, so a view must be taken afterwards
        self.values = tensor.numpy()


def _from_tensor(tensor: torch.Tensor) -> SharedArray:
    array = SharedArray(np.empty(0))
    array._keep(tensor)
    return array
