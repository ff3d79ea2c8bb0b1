"""Both serialisers on whole answers. Cases are those of the contract, section 6."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from tests.completion.records import (
    AB,
    EOS,
    PROMPT,
    alternative,
    choice,
    content,
    prompted,
    record,
    sampled,
)
from toolkit.completion.request import Dialect
from toolkit.completion.response import legacy, scored_prompt_tokens, strict
from toolkit.errors import EngineFault


def test_strict_shape_has_exactly_the_members_of_the_schema():
    assert strict(record(choice(*AB, text="ab"))) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1700000000,
        "model": "toy",
        "choices": [{"index": 0, "text": "ab", "finish_reason": "length"}],
    }


def test_legacy_shape():
    answer = legacy(record(choice(*AB, text="a", finish_reason="stop", stop_reason="b")))
    assert answer == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1700000000,
        "model": "toy",
        "choices": [
            {
                "index": 0,
                "text": "a",
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": "b",
                "prompt_logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
        "system_fingerprint": "fp-1",
    }


def test_case_30_nothing_generated():
    nothing = record(choice(text=""), max_tokens=0, logprobs=1)
    assert strict(nothing)["choices"][0]["text"] == ""
    assert legacy(nothing)["choices"][0]["logprobs"] == {
        "tokens": [],
        "token_logprobs": [],
        "top_logprobs": [],
        "text_offset": [],
    }


def test_case_31_scoring_a_prompt():
    tokens = (prompted(104, 0, None, top=()), prompted(105, 1))
    answer = choice(text="hi", completion="", echoed="hi", prompt_tokens=tokens)
    scored = record(answer, max_tokens=0, echo=True, logprobs=1)
    assert legacy(scored)["choices"][0]["logprobs"] == {
        "tokens": ["h", "i"],
        "token_logprobs": [None, -2.0],
        "top_logprobs": [None, {"z": -0.5, "i": -2.0}],
        "text_offset": [0, 1],
    }
    assert content(strict(scored)) == [
        {
            "token": "i",
            "bytes": [105],
            "logprob": -2.0,
            "top_logprobs": [{"token": "z", "bytes": [122], "logprob": -0.5}],
        }
    ]


def test_case_36_choices_are_in_index_order():
    choices = [choice(index=i, prompt_index=i // 2, text=f"t{i}") for i in range(4)]
    answer = dataclasses.replace(record(*choices), prompts=((104,), (105,)))
    for shape in (strict(answer), legacy(answer)):
        assert [(c["index"], c["text"]) for c in shape["choices"]] == [
            (0, "t0"),
            (1, "t1"),
            (2, "t2"),
            (3, "t3"),
        ]


def test_case_54_first_token_eos():
    eos = sampled(EOS, 0, contributes=False)
    ended = record(choice(eos, text="", finish_reason="stop"), logprobs=1)
    assert content(strict(ended)) == []
    arrays = legacy(ended)["choices"][0]["logprobs"]
    assert arrays is not None
    assert {name: len(values) for name, values in arrays.items()} == {  # type: ignore[arg-type]
        "tokens": 1,
        "token_logprobs": 1,
        "top_logprobs": 1,
        "text_offset": 1,
    }
    assert arrays["tokens"] == ["<eos>"]


def test_case_55_tokens_of_a_stop_are_in_the_arrays_and_not_in_the_content():
    # "ab" + stop "cd": c was cut off with d, both end after the text.
    tokens = (*AB, sampled(99, 2, contributes=False), sampled(100, 3, contributes=False))
    stopped = record(choice(*tokens, text="ab", finish_reason="stop"), logprobs=1)
    arrays = legacy(stopped)["choices"][0]["logprobs"]
    assert arrays is not None
    assert (arrays["tokens"], arrays["text_offset"]) == (["a", "b", "c", "d"], [0, 1, 2, 3])
    assert bytes(byte for entry in content(strict(stopped)) for byte in entry["bytes"]) == b"ab"


def test_case_64_one_character_in_four_tokens():
    tokens = [sampled(byte, 0) for byte in "😀".encode()]
    emoji = record(choice(*tokens, text="😀"), logprobs=0)
    entries = content(strict(emoji))
    assert [entry["bytes"] for entry in entries] == [[240], [159], [152], [128]]
    assert [entry["token"] for entry in entries] == ["\ufffd"] * 4
    arrays = legacy(emoji)["choices"][0]["logprobs"]
    assert arrays is not None
    assert arrays["tokens"] == [r"bytes:\xf0", r"bytes:\x9f", r"bytes:\x98", r"bytes:\x80"]
    assert arrays["text_offset"] == [0, 0, 0, 0]
    assert arrays["top_logprobs"] == [{name: -1.0} for name in arrays["tokens"]]


def test_case_65_a_byte_that_is_no_text():
    invalid = record(choice(sampled(255, 0), text="\ufffd"), logprobs=True)
    assert content(strict(invalid))[0]["bytes"] == [255]
    name = sampled(0, 0, bytes=b"a\xe2\x80")
    arrays = legacy(record(choice(name, text="a\ufffd"), logprobs=0))["choices"][0]["logprobs"]
    assert arrays is not None and arrays["tokens"] == [r"bytes:\x61\xe2\x80"]


def test_case_69_true_gives_the_argmax_and_python_takes_k():
    argmax = record(choice(*AB, text="ab"), logprobs=True, dialect=Dialect.STRICT)
    assert content(strict(argmax)) == [
        {
            "token": name,
            "bytes": [token],
            "logprob": logprob,
            "top_logprobs": [{"token": "z", "bytes": [122], "logprob": -0.5}],
        }
        for name, token, logprob in [("a", 97, -1.0), ("b", 98, -0.25)]
    ]
    for k, names in [(0, []), (2, ["z", "y"]), (-1, ["z", "y"])]:
        entries = content(strict(record(choice(*AB, text="ab"), logprobs=k)))
        assert [[top["token"] for top in entry["top_logprobs"]] for entry in entries] == [names] * 2


def test_case_70_no_logprobs_no_key():
    for fields in ({}, {"logprobs": False}):
        answer = strict(record(choice(*AB, text="ab"), dialect=Dialect.STRICT, **fields))
        assert "logprobs" not in answer["choices"][0]


def test_case_71_tables_hold_k_and_the_sampled_token():
    greedy = sampled(122, 0, -0.5)
    for k, tables in [
        (0, [{"a": -1.0}, {"z": -0.5}]),
        (1, [{"z": -0.5, "a": -1.0}, {"z": -0.5}]),
        (2, [{"z": -0.5, "y": -0.75, "a": -1.0}, {"z": -0.5, "y": -0.75}]),
    ]:
        answer = legacy(record(choice(AB[0], greedy, text="az"), logprobs=k))
        assert answer["choices"][0]["logprobs"]["top_logprobs"] == tables  # type: ignore[index]


def test_case_71_the_sampled_value_is_the_identical_float():
    # The two values of one token come from two reductions and may differ in the last bit.
    top = (alternative(97, -0.1), alternative(98, -3.0))
    token = sampled(97, 0, math.nextafter(-0.1, 0), top=top)
    answer = record(choice(token, text="a"), logprobs=1)
    arrays = legacy(answer)["choices"][0]["logprobs"]
    assert arrays is not None
    assert arrays["top_logprobs"] == [{"a": token.logprob}]
    entry = content(strict(answer))[0]
    assert entry["top_logprobs"][0]["logprob"] == entry["logprob"] == token.logprob


def test_case_77_minus_infinity_is_a_number():
    token = sampled(97, 0, -math.inf, top=(alternative(122, 0.0), alternative(121, -math.inf)))
    answer = record(choice(token, text="a"), logprobs=2)
    assert content(strict(answer))[0]["logprob"] == -9999.0
    arrays = json.loads(json.dumps(legacy(answer), allow_nan=False))["choices"][0]["logprobs"]
    assert arrays["token_logprobs"] == [-9999.0]
    assert arrays["top_logprobs"] == [{"z": 0.0, "y": -9999.0, "a": -9999.0}]
    for value in (math.nan, math.inf):
        with pytest.raises(EngineFault):
            strict(record(choice(sampled(97, 0, value), text="a"), logprobs=1))


def test_case_78_of_equal_strings_the_larger_value_stays():
    # Ids 97 and 300 are both spelled "a"; 300 is drawn and the less likely one.
    top = (alternative(97, -0.5), alternative(300, -1.0, bytes=b"a"))
    drawn = sampled(300, 0, -1.0, bytes=b"a", top=top)
    arrays = legacy(record(choice(drawn, text="a"), logprobs=2))["choices"][0]["logprobs"]
    assert arrays is not None
    assert arrays["top_logprobs"] == [{"a": -0.5}]
    assert (arrays["tokens"], arrays["token_logprobs"]) == (["a"], [-1.0])


def test_case_79_prompt_logprobs_as_vllm_gives_them():
    choices = [choice(index=i, text="", prompt_tokens=PROMPT, inserted=1) for i in range(2)]
    answer = record(*choices, prompt_logprobs=2, n=2, max_tokens=0, dialect=Dialect.LEGACY)
    expected = [
        None,
        {
            "104": {"logprob": -2.0, "rank": 3, "decoded_token": "h"},
            "122": {"logprob": -0.5, "rank": 1, "decoded_token": "z"},
            "121": {"logprob": -0.75, "rank": 2, "decoded_token": "y"},
        },
        {
            "121": {"logprob": -0.75, "rank": 2, "decoded_token": "y"},
            "122": {"logprob": -0.5, "rank": 1, "decoded_token": "z"},
        },
    ]
    for shape in legacy(answer)["choices"]:
        assert shape["prompt_logprobs"] == expected
        assert shape["logprobs"] is None
        first = [next(iter(entry)) for entry in shape["prompt_logprobs"] or [] if entry]
        assert first == ["104", "121"]


def test_case_80_prompt_logprobs_come_first_in_the_strict_content():
    scored = choice(*AB, text="ab", prompt_tokens=PROMPT, inserted=1)
    alone = record(scored, prompt_logprobs=2, dialect=Dialect.STRICT)
    entries = content(strict(alone))
    assert [(entry["token"], len(entry["top_logprobs"])) for entry in entries] == [
        ("h", 2),
        ("y", 2),
    ]
    echoed = choice(*AB, text="hyab", completion="ab", prompt_tokens=PROMPT, inserted=1)
    both = record(echoed, prompt_logprobs=2, logprobs=True, echo=True, dialect=Dialect.STRICT)
    entries = content(strict(both))
    assert [(entry["token"], len(entry["top_logprobs"])) for entry in entries] == [
        ("h", 2),
        ("y", 2),
        ("a", 1),
        ("b", 1),
    ]
    assert len(scored_prompt_tokens(echoed, both.request)) == 2
    fewest = record(echoed, prompt_logprobs=0, logprobs=True, echo=True, dialect=Dialect.STRICT)
    assert [len(entry["top_logprobs"]) for entry in content(strict(fewest))] == [1, 1, 1, 1]


def test_case_74_echo_hides_an_inserted_bos_and_the_first_value():
    echoed = choice(*AB, text="hyab", completion="ab", prompt_tokens=PROMPT, inserted=1)
    arrays = legacy(record(echoed, logprobs=0, echo=True))["choices"][0]["logprobs"]
    assert arrays is not None
    assert arrays["tokens"] == ["h", "y", "a", "b"]
    assert arrays["token_logprobs"] == [None, -0.75, -1.0, -0.25]
    assert arrays["top_logprobs"] == [None, {"y": -0.75}, {"a": -1.0}, {"b": -0.25}]


def test_prompt_tokens_are_not_in_the_arrays_without_echo():
    scored = choice(*AB, text="ab", prompt_tokens=PROMPT, inserted=1)
    arrays = legacy(record(scored, logprobs=0, prompt_logprobs=0))["choices"][0]["logprobs"]
    assert arrays is not None and arrays["tokens"] == ["a", "b"]


def test_case_97_a_suffix_is_text_without_entries():
    suffixed = choice(*AB, text="ab!", completion="ab", suffix="!")
    answer = strict(record(suffixed, suffix="!", logprobs=True, dialect=Dialect.STRICT))
    assert answer["choices"][0]["text"] == "ab!"
    assert len(content(answer)) == 2


def test_case_98_echo_of_an_empty_prompt_is_the_completion():
    bos = prompted(1, 0, None, bytes=b"<s>", top=())
    echoed = choice(*AB, text="ab", prompt_tokens=(bos,), inserted=1)
    answer = record(echoed, prompt="", echo=True, logprobs=0)
    arrays = legacy(answer)["choices"][0]["logprobs"]
    assert arrays is not None
    # The first entry is null with `echo`, also when no token of a prompt comes first.
    assert (arrays["tokens"], arrays["token_logprobs"]) == (["a", "b"], [None, -0.25])
    assert [entry["token"] for entry in content(strict(answer))] == ["a", "b"]


def test_processed_logprobs_are_those_drawn_from():
    top = (
        alternative(97, -3.0, sampling_logprob=-0.125),
        alternative(122, -0.5, sampling_logprob=-math.inf, dropped_by="guided_choice"),
    )
    token = sampled(97, 2, -3.0, sampling_logprob=-0.125, top=top)
    echoed = choice(token, text="hya", prompt_tokens=PROMPT, inserted=1)
    fields = {"logprobs": 2, "echo": True, "logprobs_mode": "processed"}
    arrays = legacy(record(echoed, **fields))["choices"][0]["logprobs"]
    assert arrays is not None
    assert arrays["token_logprobs"] == [None, -0.75, -0.125]
    assert arrays["top_logprobs"][2] == {"a": -0.125, "z": -9999.0}
    assert content(strict(record(echoed, **fields)))[-1]["logprob"] == -0.125
    with pytest.raises(EngineFault, match="sampling_logprob"):
        legacy(record(choice(sampled(97, 0)), **fields))


def test_case_108_token_ids_run_parallel_to_the_arrays():
    fields = {"logprobs": True, "top_k": -1, "return_token_ids": True}
    skyrl = legacy(record(choice(*AB, text="ab"), **fields, dialect=Dialect.LEGACY))
    shape = skyrl["choices"][0]
    assert (shape.get("token_ids"), shape.get("prompt_token_ids")) == ([97, 98], [104, 105])
    assert shape["logprobs"] is not None
    assert len(shape["logprobs"]["token_logprobs"]) == 2

    prompt = (prompted(104, 0, None, top=()), prompted(105, 1))
    echoed = choice(*AB, text="iab", prompt_tokens=prompt, inserted=1)
    for logprobs in (None, 1):
        answer = record(echoed, return_token_ids=True, echo=True, logprobs=logprobs)
        assert legacy(answer)["choices"][0].get("token_ids") == [105, 97, 98]
    assert strict(answer)["choices"][0].keys() == {"index", "text", "finish_reason", "logprobs"}


def test_tokens_as_token_ids():
    answer = record(choice(*AB, text="ab"), logprobs=1, return_tokens_as_token_ids=True)
    arrays = legacy(answer)["choices"][0]["logprobs"]
    assert arrays is not None
    assert arrays["tokens"] == ["token_id:97", "token_id:98"]
    assert arrays["top_logprobs"][0] == {"token_id:122": -0.5, "token_id:97": -1.0}
    entry = content(strict(answer))[0]
    assert (entry["token"], entry["bytes"]) == ("token_id:97", [97])


def test_stop_token_ids_are_the_stop_reason():
    ended = choice(text="", finish_reason="stop", stop_reason=17)
    assert legacy(record(ended))["choices"][0]["stop_reason"] == 17
