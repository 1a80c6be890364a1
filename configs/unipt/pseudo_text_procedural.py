# Pseudo texts of 2,000 procedural people as picture files, below $PEOPLE_ROOT or data/people, scored by the small CLIP in
# the package, in words for what is drawn: no download, no GPU. configs/unipt/README.md says how the pictures get there.
name = "procedural_pseudo_texts"
images = dict(type="ImageFolder", root="{{$PEOPLE_ROOT:data/people}}/LUPerson-MLLM/images")
scorer = dict()
vocabulary = "{{fileDirname}}/vocabulary_drawn.yaml"
seed = 0
