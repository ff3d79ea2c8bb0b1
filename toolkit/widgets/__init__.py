"""Sliders on real logits: a pure handler each, and thin wiring to ipywidgets."""
