"""A sentence generator whose fillings the lists of attribute words were not made for.

The fillings read as multi-modal LLMs put them; whoever fills a template knows which pattern a caption has.
"""

from collections.abc import Sequence

import numpy as np

FILLINGS = {
    "person": (
        "a young man", "an adult woman", "a man of average height", "a girl who looks about ten", "a middle-aged man",
        "the lady", "a slender young woman", "an elderly woman",
    ),
    "clothing": (
        "a navy blue blazer and light trousers", "a white shirt with thin vertical stripes and black pants",
        "a pink tank top and denim shorts", "a long dark overcoat", "a sweater with a cartoon print and blue jeans",
        "a red and white jersey with matching shorts", "a beige trench coat that reaches the knees",
        "a short-sleeved blouse tucked into a green skirt",
    ),
    "footwear": (
        "white sneakers with blue laces", "black formal shoes", "sandals", "a pair of tan boots", "low heels",
        "grey sports shoes", "what appear to be black sneakers", "red and black basketball shoes",
    ),
    "hair": (
        "short black hair", "hair pulled back into a low ponytail", "long brown hair that is let down",
        "closely cropped grey hair", "shoulder-length hair with highlights", "dark hair in a bun", "a bald spot",
        "wavy blonde hair",
    ),
    "accessory": (
        "a black cap", "rimless glasses", "a grey scarf around the neck", "a wristwatch on the left wrist", "a red tie",
        "white earphones", "a pair of sunglasses on the head", "a silver necklace",
    ),
    "belongings": (
        "a dark backpack", "a handbag in the right hand", "a phone", "a white shopping bag", "a small shoulder bag",
        "a suitcase with wheels", "a cup of coffee in one hand", "a stack of papers",
    ),
}  # fmt: skip


def fill(template: str, rng: np.random.Generator) -> str:
    """One caption of a template."""
    for slot, phrases in FILLINGS.items():
        template = template.replace(f"[{slot}]", phrases[rng.integers(len(phrases))])
    return template[0].upper() + template[1:]


def held_out(templates: Sequence[str], number: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Captions whose templates are drawn uniformly, and the template of each, int64 (number,)."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(templates), size=number)
    return [fill(templates[i], rng) for i in chosen], chosen
