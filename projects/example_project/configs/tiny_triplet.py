# The demo's data and model with a loss of one's own beside SDM.
_base_ = ['../../../configs/nam/tiny_procedural.py']
custom_imports = dict(imports=['triplet_loss'])
model = dict(losses=[dict(type='SDMLoss'), dict(type='HardestTripletLoss', margin=0.2)])
