"""Captions without a language model (UniPT): attributes, their scoring by a dual encoder, sentences, the job."""
