"""Pseudo labels: clusters of features that nobody labelled."""

from mmreid_text.clustering.clusters import OUTLIER, Clustering, centroids, cluster, count_clusters, dbscan
from mmreid_text.clustering.diagnostics import Agreement, agreement, label_counts
from mmreid_text.clustering.extraction import PairFeatures, extract_features, rows_config, rows_loader
from mmreid_text.clustering.jaccard import jaccard_graph
from mmreid_text.clustering.neighbours import nearest
from mmreid_text.clustering.refinement import refine

__all__ = [
    "OUTLIER",
    "Agreement",
    "Clustering",
    "PairFeatures",
    "agreement",
    "centroids",
    "cluster",
    "count_clusters",
    "dbscan",
    "extract_features",
    "jaccard_graph",
    "label_counts",
    "nearest",
    "refine",
    "rows_config",
    "rows_loader",
]
