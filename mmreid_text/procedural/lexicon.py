"""Words of procedural captions: how each attribute value can be said.

A phrase that ends in ``+`` is plural. The first phrases of a value are the usual ones. Every phrase belongs to one
value of its attribute alone, so a caption never leaves open what it states.
"""

_COLOR_WORDS = {
    "black": "black, jet black",
    "white": "white, off-white",
    "gray": "gray, grey",
    "red": "red, scarlet, crimson",
    "orange": "orange, tangerine",
    "yellow": "yellow, lemon yellow, mustard",
    "green": "green, emerald, grass green",
    "blue": "blue, navy, navy blue",
    "purple": "purple, violet",
    "pink": "pink, rose, magenta",
    "brown": "brown, chocolate, coffee brown",
    "beige": "beige, khaki, tan, cream",
}

_WORDS: dict[str, dict[str, str]] = {
    "sex": {"man": "man, male, guy, gentleman", "woman": "woman, female, lady, girl"},
    "hair_style": {
        "short": "short, cropped",
        "long": "long, flowing, shoulder-length",
        "ponytail": "ponytail, pony tail",
        "bun": "bun, top knot",
        "curly": "curly, frizzy, bushy",
        "bald": "bald, shaved",
    },
    "hair_color": {
        "black": "black, jet black",
        "brown": "brown, chestnut",
        "blond": "blond, blonde, golden",
        "gray": "gray, grey, silver",
        "red": "red, ginger, auburn",
    },
    "hat": {
        "none": "no hat, nothing on the head",
        "cap": "cap, baseball cap, peaked cap",
        "beanie": "beanie, knit hat, woolen hat",
        "brimmed hat": "brimmed hat, sun hat, wide hat",
        "helmet": "helmet, bike helmet, safety helmet",
    },
    "upper": {
        "t-shirt": "t-shirt, tee, tee shirt",
        "shirt": "shirt, dress shirt, button-up shirt",
        "sweater": "sweater, pullover, jumper",
        "hoodie": "hoodie, hooded top, hooded sweatshirt",
        "jacket": "jacket, zip-up jacket, short jacket",
        "coat": "coat, long coat, overcoat",
        "tank top": "tank top, vest, sleeveless top",
        "dress": "dress, one-piece dress, frock",
    },
    "upper_pattern": {
        "plain": "plain, solid",
        "striped": "striped, stripy",
        "checked": "checked, plaid, checkered",
        "dotted": "dotted, polka dot, spotted",
        "printed": "printed, graphic, logo",
    },
    "lower": {
        "trousers": "trousers+, pants+, slacks+",
        "jeans": "jeans+, denim pants+, denims+",
        "shorts": "shorts+, short pants+",
        "skirt": "skirt, short skirt, knee-length skirt",
        "long skirt": "long skirt, maxi skirt, ankle-length skirt",
    },
    "shoes": {
        "sneakers": "sneakers+, trainers+, running shoes+",
        "boots": "boots+, tall boots+, ankle boots+",
        "leather shoes": "leather shoes+, dress shoes+, loafers+",
        "sandals": "sandals+, open shoes+, slippers+",
    },
    "bag": {
        "none": "no bag, nothing in the hands",
        "backpack": "backpack, rucksack, knapsack",
        "handbag": "handbag, purse, hand bag",
        "shoulder bag": "shoulder bag, crossbody bag, messenger bag",
        "suitcase": "suitcase, trolley case, rolling suitcase",
    },
}
for _name in ("hat_color", "upper_color", "lower_color", "shoes_color", "bag_color"):
    _WORDS[_name] = _COLOR_WORDS
_WORDS["inner"] = {"none": "nothing", **_COLOR_WORDS}

#: Words that one annotator community alone uses (the web knows them all).
_OWN: dict[str, dict[tuple[str, str], str]] = {
    "street": {
        ("shoes", "sneakers"): "gym shoes+",
        ("upper_pattern", "checked"): "tartan",
        ("bag", "backpack"): "school bag",
    },
    "mall": {("bag", "handbag"): "tote", ("upper", "tank top"): "camisole", ("hair_style", "curly"): "wavy"},
    "station": {("bag", "suitcase"): "luggage case", ("upper", "coat"): "trench coat", ("hat", "cap"): "ball cap"},
}

Phrases = tuple[tuple[str, bool], ...]


def _split(text: str) -> Phrases:
    return tuple((part.rstrip("+"), part.endswith("+")) for part in text.split(", "))


#: (attribute, value) -> ((phrase, plural), ...)
LEXICON: dict[tuple[str, str], Phrases] = {
    (name, value): _split(text) for name, values in _WORDS.items() for value, text in values.items()
}
#: style -> (attribute, value) -> the phrases of that community alone.
OWN_WORDS: dict[str, dict[tuple[str, str], Phrases]] = {
    style: {key: _split(text) for key, text in words.items()} for style, words in _OWN.items()
}

#: Where a stated bag is and what is done with it: (place after "on" or the like, verb, verb with -ing).
BAG_PLACE = {
    "backpack": "on {his} back",
    "handbag": "in {his} hand",
    "shoulder bag": "at {his} hip",
    "suitcase": "by {his} side",
}
BAG_VERB = {
    "backpack": ("carries", "carrying"),
    "handbag": ("holds", "holding"),
    "shoulder bag": ("carries", "carrying"),
    "suitcase": ("pulls", "pulling"),
}
