"""Random requests to the toy that run and may be streamed: all parameters mixed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.contract.toys import EOS, SIZE, VOCABULARY

SCENARIOS = "ABCDEFGHIJKLMNORSTU"
PROMPTS = st.one_of(
    st.sampled_from([*SCENARIOS, "q", "", "one two A", "\N{ROCKET}L", "a<|end|>b"]),
    st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=6),
    st.just([97, 0xF0, 0x9F]),
)
STOPS = st.one_of(
    st.sampled_from(["two", "own fox", "ab", "b", "\u00e9", "\N{GRINNING FACE}", "\ufffd", "\n"]),
    st.text("abcdow \u00e9", min_size=1, max_size=3),
)
CHOICES = st.one_of(
    st.sampled_from(
        ["joy", "sadness", "a", "ab", "abcd", "hello", "\N{GRINNING FACE}!", "one two"]
    ),
    st.text("ab\u00e9\n", min_size=1, max_size=4),
)


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """A request of the legacy route that may be streamed, without logprobs."""
    prompts = draw(st.one_of(PROMPTS, st.lists(st.sampled_from(SCENARIOS), min_size=1, max_size=3)))
    fields: dict[str, Any] = {
        "prompt": prompts,
        "n": draw(st.sampled_from([1, 1, 2, 3])),
        "echo": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**32)),
        "max_tokens": draw(st.sampled_from([0, 1, 2, 3, 5, 8, 20])),
        "temperature": draw(st.sampled_from([0, 1, 1, 2])),
        "top_p": draw(st.sampled_from([1, 1, 0.5])),
        "frequency_penalty": draw(st.sampled_from([0, 0, 2, -1])),
        "logit_bias": draw(st.sampled_from([{}, {str(EOS): -100}, {str(EOS): 4}])),
        "add_special_tokens": draw(st.booleans()),
    }
    if draw(st.integers(0, 3)) == 0:
        fields["guided_choice"] = draw(st.lists(CHOICES, min_size=1, max_size=4))
        return fields
    fields["stop"] = draw(st.lists(STOPS, max_size=3))
    fields["ignore_eos"] = draw(st.booleans())
    fields["stop_token_ids"] = draw(
        st.sampled_from([[], [], [97, 98, 99, VOCABULARY.id_of(b"ab")]])
    )
    fields["include_stop_str_in_output"] = draw(st.booleans())
    return fields


def of_strict(fields: dict[str, Any]) -> dict[str, Any]:
    """The same without what the strict route does not take."""
    own = {"add_special_tokens", "ignore_eos", "stop_token_ids", "include_stop_str_in_output"}
    return {name: value for name, value in fields.items() if name not in own}
