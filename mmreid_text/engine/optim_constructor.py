"""Optimisers whose parameters stand in as few groups as their settings differ."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmreid_text.registry import OPTIM_WRAPPER_CONSTRUCTORS

FACTORS = {"lr_mult": "lr", "decay_mult": "weight_decay"}
"""What a rule may multiply, and the optimiser's setting that it multiplies."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with one parameter group per distinct setting instead of one per tensor.

    With any ``paramwise_cfg`` mmengine gives every tensor a group of its own. The update is the same, but fused and
    foreach optimisers then run tensor by tensor. A checkpoint of the same ``paramwise_cfg`` that was written with
    mmengine's constructor does not resume with this one, as their groups differ; without ``paramwise_cfg`` both make
    one group.

    ``paramwise_cfg`` is mmengine's, or ``dict(rules=[...])``: rules in order, each with a ``key`` that stands in the
    names of the tensors it is for, and with ``lr_mult``, ``decay_mult`` or both. Every rule that matches a tensor
    counts; where two state the same factor, the later one holds. (Of mmengine's ``custom_keys`` the longest match alone
    counts, and no other option then.)

    Raises:
        ValueError: ``rules`` stand beside other options, a rule lacks its key or factors or has others, matches no
            tensor that learns, or multiplies a setting that the optimiser does not state.

    Use in configs::

        optim_wrapper = dict(
            type='OptimWrapper',
            constructor='GroupedOptimWrapperConstructor',
            optimizer=dict(type='Adam', lr=1e-5, weight_decay=4e-5, fused=True),
            paramwise_cfg=dict(rules=[dict(key='bias', lr_mult=2, decay_mult=0), dict(key='classifier', lr_mult=5)]))
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        if "rules" not in self.paramwise_cfg:
            return
        others = sorted(set(self.paramwise_cfg) - {"rules"})
        if others:
            raise ValueError(f"paramwise_cfg has rules beside {', '.join(others)}: say those as rules, too.")
        for rule in self.paramwise_cfg["rules"]:
            if not rule.get("key") or not set(rule) - {"key"} or set(rule) - {"key", *FACTORS}:
                raise ValueError(
                    f"paramwise_cfg.rules: {dict(rule)} is no rule. One has a key, part of tensors' names, and "
                    f"{' or '.join(FACTORS)}, or both; nothing else."
                )
            for factor, setting in FACTORS.items():
                if factor in rule and self.optimizer_cfg.get(setting) is None:
                    raise ValueError(f"paramwise_cfg.rules: {dict(rule)} needs optimizer.{setting}, which is not set.")

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the parameters of ``module`` to ``params``; of the whole model, merged by their settings."""
        if "rules" in self.paramwise_cfg:
            params += self._ruled(module)
        else:
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

    def _ruled(self, model: nn.Module) -> list[dict[str, Any]]:
        """A group per tensor that learns, with the settings that the rules give it."""
        learning = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        rules = self.paramwise_cfg["rules"]
        for rule in rules:
            if not any(rule["key"] in name for name, _ in learning):
                raise ValueError(
                    f"paramwise_cfg.rules: no tensor that learns has {rule['key']!r} in its name, among them "
                    f"{', '.join(name for name, _ in learning[:3])}: take the rule out, or correct its key."
                )
        groups = []
        for name, parameter in learning:
            factors: dict[str, float] = {}
            for rule in rules:
                if rule["key"] in name:
                    factors.update((factor, value) for factor, value in rule.items() if factor != "key")
            settings = {FACTORS[k]: self.optimizer_cfg[FACTORS[k]] * v for k, v in factors.items()}
            groups.append({"params": [parameter], **settings})
        return groups
