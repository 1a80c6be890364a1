"""Evaluation: ranking metrics, re-rankers, the runner's metric and result files."""

from mmreid_text.evaluation.metrics import ReIDMetric
from mmreid_text.evaluation.ranking import rank, rank_queries, rank_scores, top_k
from mmreid_text.evaluation.rerank import KReciprocalReranker, Reranker, TopKReranker
from mmreid_text.evaluation.results import format_table, write_results

__all__ = [
    "KReciprocalReranker",
    "ReIDMetric",
    "Reranker",
    "TopKReranker",
    "format_table",
    "rank",
    "rank_queries",
    "rank_scores",
    "top_k",
    "write_results",
]
