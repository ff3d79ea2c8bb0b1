"""The text of one choice: a stream equals the whole, and each token knows its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.text import contributing, final_text, find_stop, offsets, partial_text
from toolkit.completion.text import ChoiceText

ROCKET = [bytes([byte]) for byte in "🚀".encode()]

BYTES = st.sampled_from(b"ab \xc3\xa9\xf0\x9f\x9a\x80\xed\xa0\xff")
TOKENS = st.lists(st.lists(BYTES, min_size=1, max_size=4).map(bytes), max_size=12)
STOPS = st.lists(st.text(alphabet="ab é🚀\ufffd", min_size=1, max_size=3), max_size=3)
DANGLING = st.sampled_from([b"", b"\xf0\x9f\x9a", b"\xf0", b"\xc3", b"\xed"])


def whole(tokens: list[bytes], **options) -> ChoiceText:
    """All tokens until the stop, then the end."""
    choice = ChoiceText(**options)
    for token in tokens:
        if choice.push(token):
            break
    choice.finish()
    return choice


def streamed(tokens: list[bytes], **options) -> list[str]:
    """The piece after each token, and the piece at the end."""
    choice = ChoiceText(**options)
    pieces = []
    for token in tokens:
        stopped = choice.push(token)
        pieces.append(choice.take())
        if stopped:
            break
    choice.finish()
    return [*pieces, choice.take()]


def contributions(choice: ChoiceText) -> list[bool]:
    return [choice.contributes(i) for i in range(len(choice.offsets))]


def test_case_47_stop_over_several_tokens():
    choice = ChoiceText(stops=["STOP"])
    assert [choice.push(token) for token in (b"ok S", b"T", b"OP and")] == [False, False, True]
    assert (choice.text, choice.stop) == ("ok ", "STOP")


def test_case_48_earliest_end_wins_inside_one_token():
    assert whole([b"abcd"], stops=["bc", "abcd"]).text == "a"
    assert whole([b"abcd"], stops=["abcd", "bc"]).text == "a"
    assert whole([b"hello"], stops=["lo", "ell"]).text == "h"


def test_case_49_ties_follow_the_list():
    assert whole([b"abc"], stops=["c", "bc"]).text == "ab"
    assert whole([b"abc"], stops=["bc", "c"]).text == "a"


def test_case_50_a_stop_never_begins_in_the_prompt():
    choice = whole([b"OP", b"!"], stops=["STOP"])  # the prompt ended with ST
    assert (choice.text, choice.stop) == ("OP!", None)


def test_case_52_stop_on_the_last_allowed_token():
    choice = ChoiceText(stops=["!"])
    assert not choice.push(b"hi")
    assert choice.push(b"!")


def test_case_54_no_token_at_all():
    choice = whole([])
    assert (choice.text, choice.offsets, choice.settled, choice.stop) == ("", [], 0, None)


def test_case_55_tokens_of_the_stop_keep_their_offsets_and_do_not_contribute():
    choice = whole([b"Say", b" ST", b"O", b"P!"], stops=["STOP"])
    assert choice.text == "Say "
    assert choice.offsets == [0, 3, 6, 7]  # those from the cut on are beyond len(text) = 4
    assert contributions(choice) == [True, True, False, False]


def test_case_56_stop_of_a_character_split_over_tokens():
    choice = ChoiceText(stops=["é"])
    assert not choice.push(b"caf\xc3")
    assert choice.push(b"\xa9 au lait")
    assert choice.text == "caf"
    assert contributions(choice) == [True, False]


def test_case_57_nothing_after_br_is_ever_sent():
    tokens = [b"br", b"own", b" f", b"ox", b"!"]
    assert streamed(tokens, stops=["own fox"]) == ["br", "", "", "", ""]


def test_case_58_all_is_sent_when_the_stop_breaks_off():
    tokens = [b"br", b"own", b" d", b"og"]
    assert streamed(tokens, stops=["own fox"]) == ["br", "", "own d", "og", ""]


def test_case_59_held_text_is_flushed_at_the_end():
    assert streamed([b"br", b"own"], stops=["own fox"]) == ["br", "", "own"]


def test_case_60_only_a():
    assert streamed([b"a", b"a", b"b"], stops=["ab"]) == ["", "a", "", ""]


def test_case_61_no_constant_delay():
    choice = ChoiceText(stops=["x" * 50])
    for number, token in enumerate([b"a", b"b", b"c"], 1):
        choice.push(token)
        assert len(choice.text) == number


def test_case_62_split_emoji_arrives_once_and_whole():
    assert streamed(ROCKET) == ["", "", "", "🚀", ""]


def test_case_63_end_inside_the_emoji_gives_one_replacement_character():
    assert streamed([b"a", *ROCKET[:3]]) == ["a", "", "", "", "\ufffd"]
    assert whole([b"a", *ROCKET[:3]]).text == "a\ufffd"


def test_case_64_offsets_and_contributions_of_the_split_emoji():
    choice = whole([b"a", *ROCKET, b"b"])
    assert choice.offsets == [0, 1, 1, 1, 1, 2]
    assert contributions(choice) == [True] * 6


def test_case_65_invalid_byte():
    choice = whole([b"a", b"\xff", b"b"])
    assert (choice.text, choice.offsets) == ("a\ufffdb", [0, 1, 2])


def test_case_66_prompt_that_ends_inside_a_character():
    dangling = b"".join(ROCKET[:2])
    choice = whole([ROCKET[2], ROCKET[3] + b"b", b"c"], dangling=dangling)
    assert (choice.text, choice.offsets) == ("🚀bc", [0, 0, 2])
    assert contributions(choice) == [True] * 3
    assert choice.unclaimed == b""
    broken = whole([b"b"], dangling=dangling)
    assert (broken.text, broken.offsets) == ("\ufffdb", [1])
    cut = whole([ROCKET[2], ROCKET[3] + b"!"], dangling=dangling, stops=["🚀"])
    assert (cut.text, contributions(cut)) == ("", [False, False])


@pytest.mark.parametrize("tokens", [[], [b""]])
def test_case_66_dangling_bytes_without_a_generated_byte_stay_with_the_prompt(tokens):
    choice = whole(tokens, dangling=ROCKET[0])
    assert (choice.text, choice.unclaimed) == ("", ROCKET[0])
    assert contributions(choice) == [False] * len(tokens)


def test_case_67_offsets_count_code_points():
    choice = whole(["🎈🎉".encode(), b"i", "👩🏽".encode(), b"c"])  # 2, 1, 2 and 1 code points
    assert choice.offsets == [0, 2, 3, 5]


def test_case_68_any_bytes_become_strict_json():
    choice = whole([b"\xed\xa0\x80", b"\x00", b"\xf4\x90", b'"\\\n'])
    assert json.loads(json.dumps(choice.text)) == choice.text
    choice.text.encode()  # no lone surrogate


def test_included_stop_stays_and_its_tokens_contribute():
    choice = whole([b"a", b"ST", b"OP!", b"never"], stops=["STOP"], include_stop=True)
    assert (choice.text, choice.stop, choice.offsets) == ("aSTOP", "STOP", [0, 1, 3])
    assert contributions(choice) == [True] * 3


def test_a_token_without_bytes_has_the_place_of_the_next_character():
    choice = whole([b"a", b"", b"b", b""])
    assert choice.offsets == [0, 1, 1, 2]
    assert contributions(choice) == [True, False, True, False]


def test_the_flushed_replacement_character_is_not_searched():
    choice = whole([b"a", ROCKET[0]], stops=["\ufffd"])
    assert (choice.text, choice.stop) == ("a\ufffd", None)


def test_settled_waits_for_held_text_only():
    choice = ChoiceText(stops=["own fox"])
    settled = []
    for token in (b"br", b"own", b"", b" f", b"ar", *ROCKET):
        choice.push(token)
        settled.append(choice.settled)
    assert settled == [1, 1, 1, 1, 5, 5, 5, 5, 9]
    unstoppable = ChoiceText()
    unstoppable.push(ROCKET[0])  # whatever follows, this byte is in the text
    assert (unstoppable.settled, unstoppable.contributes(0), unstoppable.text) == (1, True, "")


def test_misuse_is_an_error():
    choice = ChoiceText(stops=["b"])
    choice.push(b"a")
    with pytest.raises(IndexError, match="below 1"):
        choice.contributes(1)
    choice.push(b"b")
    with pytest.raises(RuntimeError, match="has ended"):
        choice.push(b"c")
    choice.finish()
    assert choice.text == "a"


@given(TOKENS, STOPS, st.booleans(), DANGLING)
def test_stream_equals_whole_and_both_equal_the_definition(tokens, stops, include_stop, dangling):
    options = {"stops": stops, "include_stop": include_stop, "dangling": dangling}
    choice = whole(tokens, **options)
    read = tokens[: len(choice.offsets)]
    cut = find_stop(partial_text(dangling + b"".join(read)), stops)
    text = final_text(dangling + b"".join(read)) if read else ""
    if cut is not None:
        text = text[: cut.end if include_stop else cut.start]
        before = partial_text(dangling + b"".join(read[:-1]))
        assert find_stop(before, stops) is None
    assert choice.text == text == "".join(streamed(tokens, **options))
    assert choice.stop == (cut and cut.stop)
    assert choice.offsets == offsets(read, before=dangling)
    kept = [i for i, contributes in enumerate(contributions(choice)) if contributes]
    assert kept == contributing(read, len(text), before=dangling)


@given(TOKENS, STOPS, st.booleans(), DANGLING)
def test_what_is_settled_never_changes(tokens, stops, include_stop, dangling):
    options = {"stops": stops, "include_stop": include_stop, "dangling": dangling}
    final = contributions(whole(tokens, **options))
    choice = ChoiceText(**options)
    for token in tokens[: len(final)]:
        before = choice.settled
        choice.push(token)
        assert choice.settled >= before
        now = [choice.contributes(i) for i in range(choice.settled)]
        assert now == final[: len(now)]
    choice.finish()
    assert choice.settled == len(final)


@given(st.lists(BYTES, min_size=1).map(bytes), STOPS, st.randoms(use_true_random=False))
def test_token_sizes_cannot_change_the_text(data, stops, random):
    cuts = sorted(random.choices(range(len(data) + 1), k=5))
    tokens = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    by_token, by_byte = whole(tokens, stops=stops), whole([bytes([b]) for b in data], stops=stops)
    assert (by_token.text, by_token.stop) == (by_byte.text, by_byte.stop)
