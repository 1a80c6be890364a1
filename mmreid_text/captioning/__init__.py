"""Captions by multi-modal LLMs: templates, instructions, back ends, the job, cleaning and the diversity report."""
