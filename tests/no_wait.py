"""A training step that must not wait for its device, without a GPU at hand."""

import contextlib

import torch

WAITS = ("item", "__bool__", "cpu", "nonzero", "tolist", "__int__", "__float__", "__index__", "numpy")


@contextlib.contextmanager
def no_wait(monkeypatch):
    """What makes the host wait for a GPU raises: a stand-in for torch.cuda.set_sync_debug_mode('error')."""

    def refuse(name):
        def method(*_, **__):
            raise AssertionError(f"Tensor.{name} within the step")

        return method

    def index(self, key, inner=torch.Tensor.__getitem__):
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, torch.Tensor) and k.dtype == torch.bool for k in keys):
            raise AssertionError("a boolean mask as an index within the step")
        return inner(self, key)

    with monkeypatch.context() as patch:
        for name in WAITS:
            patch.setattr(torch.Tensor, name, refuse(name))
        patch.setattr(torch.Tensor, "__getitem__", index)
        patch.setattr(torch, "nonzero", refuse("nonzero"))
        yield
