"""GGUF files of the Llama architecture -> prepared folders in Hugging Face's form."""

from toolkit.models.gguf.convert import prepare
from toolkit.models.gguf.reader import GGUFFile, read_gguf

__all__ = ["GGUFFile", "prepare", "read_gguf"]
