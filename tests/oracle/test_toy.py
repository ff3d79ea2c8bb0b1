"""The toy decoder computes exactly its table, and its folder is a real model folder."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer as Backend

from tests.oracle.toy import (
    ToyVocabulary,
    chain,
    path,
    random_table,
    toy_decoder,
    write_toy,
)
from toolkit.completion.text import Tokenizer
from toolkit.models import checkpoint
from toolkit.models.cache import KVCache
from toolkit.models.decoder import Decoder


def logits_of(decoder: Decoder, ids: list[list[int]]) -> np.ndarray:
    tokens = jnp.asarray(ids, jnp.int32)
    cache = KVCache.zeros(decoder.config, rows=len(ids), slots=8, dtype=jnp.dtype(jnp.float32))
    hidden, _ = decoder(tokens, jnp.zeros(tokens.shape[0], jnp.int32), cache)
    return np.asarray(decoder.logits(hidden))


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("vocab_size", [3, 5, 261])
def test_toy_decoder_gives_exactly_its_table(vocab_size, layers):
    table = random_table(vocab_size, 0)
    ids = [[0, 1, 2], [2, 2, 0]]
    logits = logits_of(toy_decoder(table, layers=layers), ids)
    np.testing.assert_array_equal(logits, table[np.asarray(ids)])


def test_toy_decoder_gives_minus_infinity():  # 77
    table = random_table(5, 1)
    table[1, 3] = table[2, 0] = -np.inf
    np.testing.assert_array_equal(logits_of(toy_decoder(table), [[1, 2, 3]])[0], table[[1, 2, 3]])


def test_chain_and_path():
    table = path(4, [0, 2, 3, 1])
    assert [int(np.argmax(table[last])) for last in (0, 2, 3)] == [2, 3, 1]
    assert chain(2, {0: {1: 2.5}}, floor=-1.0).tolist() == [[-1.0, 2.5], [-1.0, -1.0]]
    with pytest.raises(ValueError, match="Only the last id may repeat"):
        path(4, [0, 1, 0, 1])


def test_vocabulary_has_bytes_then_end_then_words_then_specials():
    v = ToyVocabulary(words=(b"he", "🚀".encode()[:2]), bos=True, fim=True)
    assert v.size == 256 + 1 + 2 + 1 + 3 and v.id_of(b"A") == 65 and v.id_of(b"he") == 257
    assert (
        v.tokens[256] == b"<|end|>"
        and v.specials["<|begin|>"] == 259
        and v.specials["<|fim_middle|>"] == 262
    )


def test_tokenizer_encodes_bytes_and_decodes_words():
    v = ToyVocabulary(words=(b"he", b"llo", " 🚀".encode()))
    tokenizer = Backend.from_str(json.dumps(v.tokenizer_json()))
    text = "hé llo\n🚀 \\ 'x'"
    assert tokenizer.get_vocab_size() == v.size
    assert tokenizer.encode(text).ids == list(text.encode())
    assert tokenizer.encode("a<|end|>").ids == [97, 256]
    assert tokenizer.decode([257, 258, 259]) == "hello 🚀"


def test_tokenizer_merges_words_and_begins_text_when_asked():
    v = ToyVocabulary(words=(b"he", b"hel", b"lo"), merges=True, bos=True)
    tokenizer = Backend.from_str(json.dumps(v.tokenizer_json()))
    assert tokenizer.encode("hello").ids == [
        v.specials["<|begin|>"],
        v.id_of(b"hel"),
        v.id_of(b"lo"),
    ]
    with pytest.raises(ValueError, match="must be a token too"):
        ToyVocabulary(words=(b"abc",), merges=True).tokenizer_json()


@pytest.mark.parametrize("options", [{}, {"bos": True, "fim": True, "merges": True}])
def test_folder_loads_as_the_model_and_its_vocabulary(tmp_path, options):
    v = ToyVocabulary(words=(b"he", b"\xf0\x9f"), **options)
    table = random_table(v.size, 2)
    folder = write_toy(tmp_path / "toy", table, v, context=32)
    decoder = checkpoint.load(folder)
    np.testing.assert_array_equal(logits_of(decoder, [[0, 65, 257]])[0], table[[0, 65, 257]])
    tokenizer = Tokenizer.from_folder(folder, vocab_size=v.size)
    assert tokenizer.vocabulary() == v.tokens and tokenizer.eos_ids == (v.eos_id,)
    assert tokenizer.special_ids == set(v.specials.values())
    assert tokenizer.bos_id == v.specials.get("<|begin|>")
    assert (tokenizer.fim is not None) == v.fim
    config = json.loads((folder / "config.json").read_text())
    assert (
        config["vocab_size"],
        config["num_hidden_layers"],
        config["max_position_embeddings"],
    ) == (v.size, 1, 32)
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 256
