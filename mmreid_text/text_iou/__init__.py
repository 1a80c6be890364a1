"""Text-IoU: how much two captions share, by the things they name and how these look."""

from mmreid_text.text_iou.iou import batch_iou
from mmreid_text.text_iou.lexicon import Lexicon
from mmreid_text.text_iou.phrases import LexiconPhrases, PhraseTable, SpacyPhrases

__all__ = ["Lexicon", "LexiconPhrases", "PhraseTable", "SpacyPhrases", "batch_iou"]
