"""Registries of mmreid_text: children of mmengine's under the scope ``mmreid_text``.

Our parts register in the first eight; configs name them by ``type``. The next hold nothing of ours: they stand here
because mmengine warns about every root registry that the default scope lacks, then falls back to its own. The last two
are for captioning jobs, which no runner of mmengine's knows.
"""

from mmengine import registry as root
from mmengine.registry import Registry


def _child(parent: Registry, *locations: str) -> Registry:
    # mmengine imports a registry's locations on first use; with none it would warn, so the others name this module.
    places = [f"mmreid_text.{place}" for place in locations] or [__name__]
    return Registry(parent.name, parent=parent, scope="mmreid_text", locations=places)


DATASETS = _child(root.DATASETS, "datasets")
TRANSFORMS = _child(root.TRANSFORMS, "datasets.transforms")
MODELS = _child(root.MODELS, "models")
METRICS = _child(root.METRICS, "evaluation")
HOOKS = _child(root.HOOKS, "engine.hooks")
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, "engine.optim_wrapper")
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, "engine.optim_constructor")
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, "datasets.samplers")

EVALUATOR = _child(root.EVALUATOR)
FUNCTIONS = _child(root.FUNCTIONS)
LOG_PROCESSORS = _child(root.LOG_PROCESSORS)
LOOPS = _child(root.LOOPS)
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS)
OPTIMIZERS = _child(root.OPTIMIZERS)
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS)
RUNNERS = _child(root.RUNNERS)
VISBACKENDS = _child(root.VISBACKENDS)
VISUALIZERS = _child(root.VISUALIZERS)
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS)

IMAGE_SOURCES = Registry("image source", scope="mmreid_text", locations=["mmreid_text.captioning.image_sources"])
CAPTION_BACKENDS = Registry("caption backend", scope="mmreid_text", locations=["mmreid_text.captioning.backends"])
