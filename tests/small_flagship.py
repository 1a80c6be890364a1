"""Options that make the flagship train and test within seconds on a CPU.

Sizes only: the published layout and the flagship's own pipeline, losses, hooks and schedule stay.
"""

SMALL = [
    "model.init_cfg=None",
    "model.image_encoder.width=32",
    "model.image_encoder.heads=4",
    "model.image_encoder.embed_dim=16",
    "model.text_encoder.width=32",
    "model.text_encoder.heads=4",
    "model.text_encoder.embed_dim=16",
    "train_dataloader.batch_size=32",
    "train_dataloader.num_workers=1",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "train_cfg.max_epochs=1",
    "test_dataloader.num_workers=0",
    "test_dataloader.persistent_workers=False",
]
