"""GGUF files -> prepared folders in Hugging Face's form."""

from toolkit.models.gguf.architectures import architectures_of
from toolkit.models.gguf.convert import prepare
from toolkit.models.gguf.reader import GGUFFile, read_gguf

__all__ = ["GGUFFile", "architectures_of", "prepare", "read_gguf"]
