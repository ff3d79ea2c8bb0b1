"""Prompts that a comparison uses unless it is given others: prose, code, numbers, scripts."""

from __future__ import annotations

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived",
    "def fibonacci(n):\n    ",
    "The first five prime numbers are 2, 3,",
    "Q: Why is the sky blue?\nA:",
    "Dear Sir or Madam,\n\nI am writing to",
    "Zwei mal drei macht",
    "東京は日本の",
    'The café\'s "résumé" cost 12.50 €, which',
    "<html>\n<head>\n<title>",
    "My favourite thing about",
    "She looked at him and",
)
