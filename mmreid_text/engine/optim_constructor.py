"""Optimisers whose parameters stand in as few groups as their settings differ."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmreid_text.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with one parameter group per distinct setting instead of one per tensor.

    With any ``paramwise_cfg`` mmengine gives every tensor a group of its own. The update is the same, but fused and
    foreach optimisers then run tensor by tensor. A checkpoint of the same ``paramwise_cfg`` that was written with
    mmengine's constructor does not resume with this one, as their groups differ; without ``paramwise_cfg`` both make
    one group.

    Use in configs::

        optim_wrapper = dict(
            type='OptimWrapper',
            constructor='GroupedOptimWrapperConstructor',
            optimizer=dict(type='Adam', lr=1e-5, weight_decay=4e-5, fused=True),
            paramwise_cfg=dict(bias_lr_mult=2, bias_decay_mult=0))
    """

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the parameters of ``module`` to ``params``; of the whole model, merged by their settings."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:  # a part of the model; the base class calls this for each
            return
        merged: list[dict[str, Any]] = []
        for group in params:
            settings = {key: value for key, value in group.items() if key != "params"}
            for other in merged:
                if {key: value for key, value in other.items() if key != "params"} == settings:
                    other["params"] += group["params"]
                    break
            else:
                merged.append({**settings, "params": list(group["params"])})
        params[:] = merged
