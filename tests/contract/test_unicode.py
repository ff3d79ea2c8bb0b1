"""Section 6, cases 62 to 68: characters over several tokens, and bytes that are none."""

from __future__ import annotations

import pytest

from tests.contract.surfaces import (
    L,
    joined,
    legacy_answer,
    legacy_events,
    pieces,
    record_of,
    strict_answer,
    strict_events,
)
from tests.contract.toys import ids
from toolkit.completion.complete import LM


def test_case_62_a_split_emoji_arrives_once_and_whole(toy: LM):
    texts = pieces(strict_events(toy, "L"))
    assert [text for text in texts if text] == ["hi ", "😀", "!"]
    assert "\ufffd" not in "".join(texts)
    assert strict_answer(toy, "L")["choices"][0]["text"] == "hi 😀!"


@pytest.mark.parametrize("count", [2, 3, 4])
def test_case_63_an_end_inside_the_emoji_is_one_replacement_character(toy: LM, count: int):
    events = strict_events(toy, "L", max_tokens=count)
    assert "".join(pieces(events)) == "hi \ufffd"
    assert strict_answer(toy, "L", max_tokens=count)["choices"][0]["text"] == "hi \ufffd"


def test_case_64_one_character_in_four_tokens(toy: LM):
    (choice,) = strict_answer(toy, "L", logprobs=True, max_tokens=5)["choices"]
    entries = choice["logprobs"]["content"][1:]
    assert [entry["bytes"] for entry in entries] == [[0xF0], [0x9F], [0x98], [0x80]]
    assert [entry["token"] for entry in entries] == ["\ufffd"] * 4
    (choice,) = legacy_answer(toy, "L", logprobs=0, max_tokens=5)["choices"]
    assert choice["logprobs"]["tokens"][1:] == [
        "bytes:\\xf0",
        "bytes:\\x9f",
        "bytes:\\x98",
        "bytes:\\x80",
    ]
    assert choice["logprobs"]["text_offset"] == [0, 3, 3, 3, 3]


def test_case_65_a_byte_that_is_no_text(toy: LM):
    (choice,) = strict_answer(toy, "M", logprobs=True)["choices"]
    assert choice["text"] == "\ufffdok"
    assert [entry["bytes"] for entry in choice["logprobs"]["content"]] == [[255], [*b"ok"]]


@pytest.mark.parametrize("stream", [False, True])
def test_case_66_a_token_prompt_that_ends_inside_a_character(toy: LM, stream: bool):
    def text(prompt: list[int], **fields) -> str:
        if stream:
            return "".join(pieces(strict_events(toy, prompt, **fields)))
        return strict_answer(toy, prompt, **fields)["choices"][0]["text"]

    begun = [97, 0xF0, 0x9F]  # 98 80 "!" follow
    assert text(begun) == "😀!"
    assert text(begun, echo=True) == "a😀!"
    assert text(begun, max_tokens=1) == "\ufffd"
    assert text(begun, max_tokens=1, echo=True) == "a\ufffd"
    assert text(begun, max_tokens=0) == ""
    assert text(begun, max_tokens=0, echo=True) == "a\ufffd"
    other = [97, 0xF0, 0x9F, *b"I"]  # EOS follows
    assert text(other, echo=True) == "a\ufffdI" == bytes(other).decode(errors="replace")


def test_case_66_offsets_and_entries_of_the_completed_character(toy: LM):
    fields = {"echo": True, "logprobs": 0}
    (choice,) = legacy_answer(toy, [97, 0xF0, 0x9F], **fields)["choices"]
    assert choice["text"] == "a😀!"
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 1, 1, 2, 3]
    assert choice["logprobs"]["tokens"][-2:] == ["!", "<|end|>"]
    (choice,) = legacy_answer(toy, [97, 0xF0, 0x9F], logprobs=0)["choices"]
    assert choice["text"] == "😀!"
    assert choice["logprobs"]["text_offset"] == [0, 0, 1, 2]


def test_case_66_a_stop_may_end_with_the_completed_character(toy: LM):
    (choice,) = strict_answer(toy, [97, 0xF0, 0x9F], stop="😀", logprobs=True)["choices"]
    assert choice == {
        "index": 0,
        "text": "",
        "finish_reason": "stop",
        "logprobs": {"content": []},
    }
    (choice,) = strict_answer(toy, [97, 0xF0, 0x9F], stop="a😀")["choices"]
    assert choice["text"] == "😀!"


def test_case_67_offsets_count_code_points(toy: LM):
    (choice,) = legacy_answer(toy, "N", logprobs=0)["choices"]
    assert choice["text"] == "🚀go"
    assert choice["logprobs"]["text_offset"] == [0, 1, 3]
    for prompt in ("😀🚀N", [*"😀".encode(), *ids("🚀".encode(), b"N")]):
        (choice,) = legacy_answer(toy, prompt, echo=True, logprobs=0)["choices"]
        assert choice["text"] == "😀🚀N🚀go"
        assert choice["logprobs"]["text_offset"][-4:] == [2, 3, 4, 6]
        assert choice["logprobs"]["text_offset"][:4] == [0, 0, 0, 0]


def test_case_68_random_bytes_are_strict_json_in_every_dialect(toy: LM):
    fields = {"seed": 3, "n": 8, "max_tokens": 40, "temperature": 2, "echo": True}
    prompt = [*b"\x00\xff\xc3q"]
    strict = strict_answer(toy, prompt, logprobs=True, **fields)
    texts = [choice["text"] for choice in strict["choices"]]
    assert all("\ufffd" in text and "\x00" in text for text in texts)
    legacy = legacy_answer(toy, prompt, logprobs=5, return_token_ids=True, **fields)
    assert [choice["text"] for choice in legacy["choices"]] == texts
    whole = joined(legacy_events(toy, prompt, logprobs=5, **fields))
    assert [whole[i]["text"] for i in range(8)] == texts
    spelled = record_of(toy, prompt, L, **fields)
    for choice in spelled.choices:
        data = b"".join(token.bytes for token in choice.tokens if token.contributes)
        assert (bytes(prompt) + data).decode(errors="replace") == choice.text
