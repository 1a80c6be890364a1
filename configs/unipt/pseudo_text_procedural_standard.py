# As pseudo_text_procedural.py in the package's vocabulary, most of whose words the small CLIP never saw.
_base_ = ["pseudo_text_procedural.py"]
vocabulary = None
