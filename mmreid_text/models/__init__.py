"""Models: encoders, heads, retrievers, losses, token-noise estimators and the batch preprocessor."""

from mmreid_text.models import backbones, data_preprocessor, heads, losses, retrievers, token_noise

__all__ = ["backbones", "data_preprocessor", "heads", "losses", "retrievers", "token_noise"]
