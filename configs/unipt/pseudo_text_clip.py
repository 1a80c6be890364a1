# Pseudo texts of a folder of crops, CAPTION_IMAGES, by CLIP ViT-B/16, as UniPT made LUPerson-T: 456 templates, optional
# attributes above a probability of 0.9 at CLIP's scale 100. Crops are resized to the square that CLIP was trained on.
name = "luperson_t"
images = dict(type="ImageFolder", root="{{$CAPTION_IMAGES:data/LUPerson-T/images}}")
scorer = dict(clip="openai/clip-vit-base-patch16", img_size=(224, 224))
templates = 456
scale = 100.0
threshold = 0.9
captions_per_image = 1
seed = 0
