"""Pictures: rank strips, pair sheets, cluster sheets, training curves, and heat over crops."""

from mmreid_text.visualization.attention_map import attention_maps
from mmreid_text.visualization.cluster_sheet import ClusterMember, ClusterRow, draw_cluster_sheet, save_cluster_sheet
from mmreid_text.visualization.curves import plot_curves, read_scalars
from mmreid_text.visualization.pair_sheet import ImagePair, draw_pair_sheet, save_pair_sheet
from mmreid_text.visualization.rank_strips import RankStrip, draw_rank_strips, save_rank_strips
from mmreid_text.visualization.similarity_map import overlay, similarity_maps

__all__ = [
    "ClusterMember",
    "ClusterRow",
    "ImagePair",
    "RankStrip",
    "attention_maps",
    "draw_cluster_sheet",
    "draw_pair_sheet",
    "draw_rank_strips",
    "overlay",
    "plot_curves",
    "read_scalars",
    "save_cluster_sheet",
    "save_pair_sheet",
    "save_rank_strips",
    "similarity_maps",
]
