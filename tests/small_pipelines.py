"""The transforms of training and testing at a small size."""

TRAIN = [
    {"type": "LoadImage"},
    {"type": "Resize", "size": (48, 16)},
    {"type": "RandomFlip"},
    {"type": "PadCrop", "padding": 4},
    {"type": "RandomErasing"},
    {"type": "Tokenize"},
    {"type": "PackSample"},
]
TEST = [TRAIN[0], TRAIN[1], *TRAIN[5:]]
