"""Which draws this sampler makes."""

SAMPLER = "2"
"""Raised whenever the same logits, parameters and seed would draw other tokens. Part of what names
a result, so that one made before is not taken for one made after."""
