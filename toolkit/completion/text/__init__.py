"""Between token ids and text: tokenizer, bytes to characters, stop strings, one choice's text.

Bytes come first. A token is bytes; text is the UTF-8 reading of all the bytes together, so neither
the size of the tokens nor the chunks of a stream can change it. Nothing here knows the engine.
"""

from __future__ import annotations

from toolkit.completion.text.choice import ChoiceText
from toolkit.completion.text.special import Fim, Specials
from toolkit.completion.text.stops import StopSearch
from toolkit.completion.text.tokenizer import Tokenizer
from toolkit.completion.text.utf8 import IncrementalUTF8

__all__ = ["ChoiceText", "Fim", "IncrementalUTF8", "Specials", "StopSearch", "Tokenizer"]
