"""Pictures: rank strips and training curves."""

from mmreid_text.visualization.curves import plot_curves, read_scalars
from mmreid_text.visualization.rank_strips import RankStrip, draw_rank_strips, save_rank_strips

__all__ = ["RankStrip", "draw_rank_strips", "plot_curves", "read_scalars", "save_rank_strips"]
