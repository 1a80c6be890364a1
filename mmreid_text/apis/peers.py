"""Models of other people's checkpoints."""

from mmreid_text.models.checkpoints import load_clip, load_into
from mmreid_text.models.peers import head_sizes
from mmreid_text.models.retrievers.irra import IRRA


def load_peer(path: str, img_size: tuple[int, int] = (384, 128)) -> IRRA:
    """Build the model that a published checkpoint states, with its weights and its heads, in evaluation mode.

    Takes IRRA's ``best.pth`` and those of code that builds on it (``best0.pth`` to ``best2.pth`` of MLLM4Text-ReID),
    of any width, depth, number of identities and of relation blocks; and whatever else
    :func:`mmreid_text.models.checkpoints.load_clip` reads, which has no heads then. Everything is float32 on the CPU,
    where IRRA computes in half precision. The log reports what matched, what was resized and what was left out.

    Args:
        path: The checkpoint. IRRA's ``configs.yaml`` is read where it lies beside it.
        img_size: (height, width) in pixels, multiples of the patch size; the position grid is resized to it.

    Returns:
        A model with ``encode_image(image (B, 3, H, W))`` and ``encode_text(text (B, N)) -> (B, D)``, before L2
        normalisation, of normalised float pixels and int64 ids, and with ``identity_logits(feats (B, D)) -> (B, C)``
        and ``masked_language_logits(text (B, N), image (B, 3, H, W)) -> (B, N, 49408)``. A head that the file lacks
        raises ValueError when it is asked.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A tensor is missing or of another shape than the others make it; the patches overlap; or the grid
            of positions, or the attention heads of our own relation head, cannot be told.

    >>> model = load_peer('logs/CUHK-PEDES/irra/best.pth')  # doctest: +SKIP
    >>> feats = model.encode_text(tokenize(['A woman in a red coat.']))  # doctest: +SKIP
    >>> model.identity_logits(feats).shape  # doctest: +SKIP
    torch.Size([1, 11003])
    """
    weights = load_clip(path, img_size)
    num_ids, relation = head_sizes(weights.heads, weights.relation_heads)
    if relation is not None and weights.relation_heads is None:
        raise ValueError(
            f"{path} does not state the attention heads of its relation head: build the model from the config of the "
            "run, MODELS.build(cfg.model), and load the checkpoint into it."
        )
    model = IRRA(
        image_encoder=dict(type="mmreid_text.CLIPVisionEncoder", img_size=img_size, **weights.arch.image_encoder()),
        text_encoder=dict(type="mmreid_text.CLIPTextEncoder", **weights.arch.text_encoder()),
        num_ids=num_ids,
        relation=relation,
    )
    load_into(model, weights, all_heads=True)
    model.is_init = True  # a runner that trains it keeps these weights
    model.eval()
    return model
