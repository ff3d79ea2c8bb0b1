"""The heat map in HTML: escaped, bounded, honest about what is missing."""

from __future__ import annotations

import html
import re

import pytest

from tests.analysis.answers import CHAT, OPENAI, hostile, ours
from tests.completion.records import choice, record, sampled
from toolkit import frames
from toolkit.analysis.card import answer_html, answer_text, table
from toolkit.analysis.heatmap import to_html
from toolkit.analysis.visible import visible
from toolkit.errors import InvalidRequest


def copied(page: str) -> str:
    """What a selection of the text copies: all but the marks that cannot be selected."""
    before = None
    while before != page:
        before = page
        page = re.sub(r"<(span|div)[^<>]*user-select:none[^<>]*>[^<]*</\1>", "", page)
    return html.unescape(re.sub(r"<[^<>]*>", "", page))


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '" onmouseover="x', "</span></div><img src=x>", "&lt;"]
)
def test_every_token_is_escaped(text: str):
    page = answer_html(hostile(text))
    tags = set(re.findall(r"</?([a-z]+)", page))
    assert tags <= {"div", "span"}
    assert not re.search(r"<[^>]*\bon\w+=", re.sub(r'"[^"]*"', '""', page))
    assert text in copied(page)


def test_controls_are_spelled_out_and_direction_is_isolated():
    page = answer_html(hostile("a\x1b[31m\u202eb"))
    assert "\x1b" not in page and "\u202e" not in page
    assert "&lt;1B&gt;" in page and "&lt;202E&gt;" in page
    assert "unicode-bidi:isolate" in page
    assert "\x1b" not in answer_text(hostile("a\x1b[31m"))


def test_dollars_are_no_maths():
    """Jupyter would typeset them; the class holds for all that is within."""
    hidden = re.compile(r'^<div class="mathjax_ignore[^>]*>.*</div>$', re.S)
    pages = [
        to_html(frames.tokens(hostile("$x$"))),
        answer_html(hostile("$x$")),
        table("$x$", {"$y$": "$z$"}),
    ]
    assert all(hidden.fullmatch(page) for page in pages)


def test_a_special_token_is_copied_only_if_the_text_has_it():
    tokens = (sampled(97, 0), sampled(256, 1, bytes=b"<eos>", special=True))
    in_text = frames.tokens(record(choice(*tokens, text="a<eos>"), logprobs=2))
    assert list(in_text["special"]) == [False, True]
    assert copied(to_html(in_text)).endswith("a<eos>")
    assert copied(to_html(in_text.assign(text_end=1))).endswith("a")


def test_a_mark_without_a_letter_stands_on_a_circle():
    assert visible("\u0301") == "◌\u0301"
    assert visible("e\u0301") == "e\u0301"


def test_whitespace_is_seen_and_not_copied():
    page = to_html(frames.tokens(hostile(" a\n\tb")))
    assert "·" in page and "⏎" in page and "⇥" in page
    assert copied(page).endswith(" a\n\tb")


def test_a_character_in_two_tokens_is_shown_once():
    page = to_html(frames.tokens(CHAT))
    assert page.count("\U0001f600") == 1 and "\ufffd" not in page
    assert copied(page).endswith("\U0001f600ok")


def test_hover_has_logprob_rank_and_alternatives():
    page = answer_html(ours())
    title = html.unescape(re.findall(r'title="([^"]*)"', page)[2])
    assert title.splitlines() == [
        "a   id 97",
        "p .22 · logprob -1.500 · rank 3 · entropy 2.00 nats",
        "drawn with p .14 out of 2 tokens",
        "     .61  z",
        "     .47  y   dropped by top_p",
        "▸    .22  a",
    ]


@pytest.mark.parametrize("color", ["probability", "surprisal", "rank", "entropy"])
def test_colours_have_numbers_too(color: str):
    page = to_html(frames.tokens(ours()), color=color, numbers=True)
    number = {"probability": ".22", "surprisal": "2.2", "rank": "3", "entropy": "2.9"}[color]
    assert f">{number}</span></span>" in page
    assert "border-bottom:1px dotted" in page  # the first token of the prompt has no value


def test_long_texts_stop_at_the_limit_and_say_how_much_is_left():
    answer = hostile("word ")
    answer["choices"][0]["logprobs"]["content"] *= 3000
    page = to_html(frames.tokens(answer), frames.candidates(answer))
    assert len(page.encode()) <= 200_000
    (left,) = re.findall(r"… ([\d,]+) more tokens", page)
    assert page.count("<span title=") + int(left.replace(",", "")) == 3000
    assert len(answer_html(answer).encode()) <= 200_000


def test_another_colour_is_refused():
    with pytest.raises(InvalidRequest, match="`color`"):
        to_html(frames.tokens(OPENAI), color="red")


def test_a_completion_shows_itself():
    bundle = ours()._repr_mimebundle_()
    assert bundle["text/plain"].startswith("hia\n-- finish: stop · 2 tokens · 10 tokens/s · seed 7")
    assert "seed 7" in bundle["text/html"] and "<script" not in bundle["text/html"]


def test_an_answer_without_logprobs_shows_its_text():
    page = answer_html({"choices": [{"index": 0, "text": "<i>", "finish_reason": "stop"}]})
    assert "&lt;i&gt;" in page


def test_tokens_that_a_stop_cut_off_are_not_shown():
    kept, cut = sampled(97, 0, -0.5), sampled(98, 1, -0.25, contributes=False)
    made = choice(kept, cut, text="a", finish_reason="stop", stop_reason="b")
    answer = record(made, logprobs=0)
    page = answer_html(answer)
    assert ">a<" in page and ">b<" not in page
    assert frames.tokens(answer)["token"].tolist() == ["a", "b"]


def test_offsets_that_count_an_absent_prompt_hide_nothing():
    assert copied(answer_html(OPENAI)).count("!") == 1


def test_ipython_shows_the_text_and_not_the_dict():
    from IPython.core.formatters import DisplayFormatter

    answer = ours()
    shown, _ = DisplayFormatter().format(answer)
    assert shown == answer._repr_mimebundle_()


def test_a_card_is_escaped():
    page = table("<m>", {"a&b": "<1>"})
    assert "<b>&lt;m&gt;</b>" in page and "a&amp;b" in page and "&lt;1&gt;" in page
