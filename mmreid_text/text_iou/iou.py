"""Text-IoU of a batch of captions, on any device."""

import torch


@torch.no_grad()
def batch_iou(
    indptr: torch.Tensor, indices: torch.Tensor, rows: torch.Tensor, widest: int, vocabulary: int
) -> torch.Tensor:
    r"""Share of phrases that two captions have in common: Text-IoU of CMMT (Zhao et al., ICCV 2021).

    :math:`\mathrm{IoU}_{ij} = |N_i \cap N_j| / |N_i \cup N_j|` with the sets of phrases *N*. Two captions without any
    share nothing: 0. A caption has 1 with itself, even then.

    The batch's own phrases are renumbered by a sort, so the common counts are one small matrix product, and the host
    never waits for the device.

    Args:
        indptr: int64 (C + 1,), see :class:`~mmreid_text.text_iou.phrases.PhraseTable`.
        indices: int64 (nnz,), distinct within a caption.
        rows: int64 (B,), captions of the batch, in 0..C-1.
        widest: The most phrases that a caption has.
        vocabulary: How many different phrases there are.

    Returns:
        float32 (B, B) in [0, 1], symmetric.
    """
    count, device = len(rows), rows.device
    if not widest:
        return (rows[:, None] == rows[None, :]).float()
    start, sizes = indptr[rows], indptr[rows + 1] - indptr[rows]  # (B,)
    place = torch.arange(widest, device=device)
    real = place < sizes[:, None]  # (B, L)
    ids = torch.where(real, indices[torch.where(real, start[:, None] + place, 0)], -1)
    values, order = ids.flatten().sort()
    # Number 0 is for padding; a batch has no more different phrases than places, and than there are.
    rank = (values.diff(prepend=values.new_full((1,), -1)) != 0).cumsum(0)
    columns = min(vocabulary, count * widest) + 1
    number = torch.empty_like(rank).scatter_(0, order, rank).view(count, widest)
    with torch.autocast(device.type, enabled=False):
        has = torch.zeros(count, columns, device=device).scatter_(1, number, 1.0)
        has[:, 0] = 0
        common = has @ has.t()  # exact: counts in float32
    union = sizes[:, None] + sizes[None, :] - common
    iou = common / union.clamp(min=1)
    return torch.where(rows[:, None] == rows[None, :], 1.0, iou)
