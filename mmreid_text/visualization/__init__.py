"""Pictures: rank strips, pair sheets and training curves."""

from mmreid_text.visualization.curves import plot_curves, read_scalars
from mmreid_text.visualization.pair_sheet import ImagePair, draw_pair_sheet, save_pair_sheet
from mmreid_text.visualization.rank_strips import RankStrip, draw_rank_strips, save_rank_strips

__all__ = [
    "ImagePair",
    "RankStrip",
    "draw_pair_sheet",
    "draw_rank_strips",
    "plot_curves",
    "read_scalars",
    "save_pair_sheet",
    "save_rank_strips",
]
