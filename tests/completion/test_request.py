"""`parse`: what each surface takes and refuses. Cases are those of the contract, section 6."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.completion.asking import EVERYWHERE, L, P, S, ask, refused
from toolkit.completion.request import (
    CompletionRequest,
    Dialect,
    Limits,
    StreamOptions,
    parameter_names,
    parse,
)
from toolkit.errors import InvalidRequest, ModelNotFound


def test_defaults_are_those_of_the_contract():
    request = parse({"prompt": "x"}, dialect=P)
    assert request == CompletionRequest(prompt=("x",), dialect=P)
    assert (request.max_tokens, request.n, request.best_of, request.seed) == (None, 1, 1, None)
    assert (request.temperature, request.top_p, request.top_k, request.min_p) == (1, 1, 0, 0)
    assert (request.logprobs, request.prompt_logprobs, request.stop) == (None, None, ())
    assert request.add_special_tokens and not request.echo and not request.stream


def test_strict_takes_exactly_the_fields_of_the_specification(specification: dict[str, Any]):
    body = specification["requestBody"]["content"]["application/json"]["schema"]
    assert set(parameter_names(S)) == set(body["properties"])


def test_case_01_model_is_required_on_the_strict_route():
    with pytest.raises(InvalidRequest, match="`model` is required"):
        parse({"prompt": "x"}, dialect=S)
    assert parse({"prompt": "x"}, dialect=L).model is None
    assert parse({"prompt": "x", "model": None}, dialect=L).model is None


def test_case_02_unknown_fields_are_named_and_extensions_belong_to_the_legacy_route():
    assert "/v1/completions" in refused("top_k", S, top_k=5)
    assert ask(L, top_k=5).top_k == 5
    assert "Did you mean `top_k`?" in refused("topk", L, topk=5)
    assert "Also unknown: `b`." in refused("a", P, a=1, b=2)
    assert "Python" in refused("details", L, details=True)
    assert ask(P, details=True).details


def test_unknown_fields_can_be_ignored():
    fields = {"model": "toy", "prompt": "x", "top_k": 5, "whatever": None}
    assert parse(fields, dialect=S, ignore_unknown=True) == ask(S)


def test_errors_come_in_the_order_of_the_contract():
    fields = {"model": "nobody", "prompt": "x", "zzz": 1, "echo": 0, "temperature": 9, "n": 200}

    def first(**changes: Any) -> str | None:
        given = {k: v for k, v in {**fields, **changes}.items() if v != "-"}
        with pytest.raises(InvalidRequest) as caught:
            parse(given, dialect=S, known_models={"toy"})
        return caught.value.param

    assert first() == "zzz"
    assert first(zzz="-") == "echo"
    assert first(zzz="-", echo="-") == "model"
    assert first(zzz="-", echo="-", model="toy") == "temperature"
    assert first(zzz="-", echo="-", model="toy", temperature="-") == "n"


@EVERYWHERE
@pytest.mark.parametrize("value", [True, "5", 2.5, -1, [1], math.nan, math.inf])
def test_case_10_max_tokens(dialect: Dialect, value: Any):
    refused("max_tokens", dialect, max_tokens=value)
    assert ask(dialect, max_tokens=2.0).max_tokens == 2
    assert ask(dialect, max_tokens=0).max_tokens == 0


def test_case_11_logprobs_is_boolean_or_a_number_by_surface():
    assert "/v1/completions" in refused("logprobs", S, logprobs=1)
    assert [ask(S, logprobs=flag).logprobs for flag in (True, False)] == [1, None]
    for dialect in (L, P):
        values = [ask(dialect, logprobs=k).logprobs for k in (True, False, 0, 1, 20, -1)]
        assert values == [1, None, 0, 1, 20, -1]
        refused("logprobs", dialect, logprobs=21)
        refused("logprobs", dialect, logprobs=-2)
        refused("logprobs", dialect, logprobs="1")


def test_the_cap_of_logprobs_can_be_set():
    fields = {"prompt": "x", "logprobs": 50}
    assert parse(fields, dialect=L, limits=Limits(max_logprobs=50)).logprobs == 50


@pytest.mark.parametrize("name", [n for n in parameter_names(S) if n != "prompt"])
def test_case_12_null_is_refused_on_strict_and_absent_elsewhere(name: str):
    assert "Omit" in refused(name, S, **{name: None})
    for dialect in (L, P):
        absent = {"model": "toy", "prompt": "x"}
        absent.pop(name, None)
        assert ask(dialect, **{name: None}) == parse(absent, dialect=dialect)


@EVERYWHERE
@pytest.mark.parametrize("name", ["echo", "stream"])
def test_case_13_flags_are_booleans(dialect: Dialect, name: str):
    for value in (0, 1, "true", []):
        refused(name, dialect, **{name: value})


@EVERYWHERE
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "1", True, [1]])
def test_case_14_numbers_are_finite(dialect: Dialect, value: Any):
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty"):
        refused(name, dialect, **{name: value})


@EVERYWHERE
def test_case_14_lone_surrogates_are_refused_and_the_message_can_be_sent(dialect: Dialect):
    bad = "a\ud800"
    for name, value in {
        "prompt": bad,
        "stop": bad,
        "model": bad,
        "suffix": bad,
        "user": bad,
        "guided_choice": ["ok", bad],
    }.items():
        assert "U+D800 at character 1" in refused(name, dialect, **{name: value})
    refused("prompt", dialect, prompt=["ok", bad])
    with pytest.raises(InvalidRequest) as caught:
        ask(dialect, **{bad: 1})
    assert (caught.value.message + str(caught.value.param)).encode()
    assert ask(dialect, prompt="\U0001f600").prompt == ("\U0001f600",)


@EVERYWHERE
@pytest.mark.parametrize("body", [[], "x", None, 5, [("model", "toy")]])
def test_case_15_a_request_is_an_object(dialect: Dialect, body: Any):
    with pytest.raises(InvalidRequest, match="object"):
        parse(body, dialect=dialect)


@pytest.mark.parametrize("stream", [True, False])
def test_case_16_unknown_models_are_not_found(stream: bool):
    with pytest.raises(ModelNotFound, match="Use 'a', 'b'") as caught:
        parse(
            {"model": "c", "prompt": "x", "stream": stream},
            dialect=S,
            known_models={"b": 1, "a": 2},
        )
    assert (caught.value.status, caught.value.param) == (404, "model")
    fields = {"model": "a", "prompt": "x", "stream": stream}
    assert parse(fields, dialect=S, known_models=["a"]).model == "a"


def test_case_17_the_example_of_the_specification_names_no_model():
    example = {
        "model": "string", "prompt": "string", "best_of": 0, "echo": True, "frequency_penalty": 0,
        "logit_bias": {}, "logprobs": True, "max_tokens": 0, "n": 0, "presence_penalty": 0,
        "seed": 0, "stop": "string", "stream": True, "stream_options": {}, "temperature": 0,
        "top_p": 0, "user": "string", "guided_choice": ["string"], "prompt_logprobs": 0,
        "suffix": "string",
    }  # fmt: skip
    with pytest.raises(ModelNotFound):
        parse(example, dialect=S, known_models=["toy"])


@EVERYWHERE
@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        pytest.param("temperature", [0, 2, 1e-320], [-0.1, 2.1], id="case_18"),
        pytest.param("top_p", [0, 1], [-0.1, 1.1], id="case_19"),
        pytest.param("frequency_penalty", [-2, 2], [2.01, -2.01], id="case_20"),
        pytest.param("presence_penalty", [-2, 2], [2.01, -2.01], id="case_20"),
        pytest.param("n", [1, 128], [0, 129, 1e300], id="case_21"),
        pytest.param("seed", [-(2**63), 2**63 - 1, -1, 0], [2**63, -(2**63) - 1], id="case_22"),
        pytest.param("best_of", [1, 20], [0, 21, -1], id="case_28"),
    ],
)
def test_case_18_to_22_ranges_include_their_ends(
    dialect: Dialect, name: str, inside: list[float], outside: list[float]
):
    for value in inside:
        assert getattr(ask(dialect, **{name: value}), name) == value
    for value in outside:
        assert repr(value) in refused(name, dialect, **{name: value}) or value == 1e300


@EVERYWHERE
@pytest.mark.parametrize(
    "key", ["x", "-1", "1.0", " 5", "05", "5_0", "\u0665", "", "+5", "9" * 5000]
)
def test_case_23_keys_of_logit_bias_are_canonical(dialect: Dialect, key: str):
    refused("logit_bias", dialect, logit_bias={key: 1})


@EVERYWHERE
@pytest.mark.parametrize("value", [101, -101, "1", True, None, math.nan, 10**400])
def test_case_23_values_of_logit_bias(dialect: Dialect, value: Any):
    refused("logit_bias", dialect, logit_bias={"5": value})


@EVERYWHERE
def test_case_23_valid_logit_bias(dialect: Dialect):
    assert ask(dialect, logit_bias={}) == ask(dialect)
    bias = ask(dialect, logit_bias={"0": 100, "42": -100.0}).logit_bias
    assert bias == {0: 100.0, 42: -100.0}
    refused("logit_bias", dialect, logit_bias=[[5, 1]])


@EVERYWHERE
def test_case_24_stop(dialect: Dialect):
    refused("stop", dialect, stop="")
    assert "position 1" in refused("stop", dialect, stop=["a", ""])
    refused("stop", dialect, stop=["a", 1])
    refused("stop", dialect, stop=5)
    refused("stop", dialect, stop=["a"] * 65)
    assert ask(dialect, stop=[]).stop == ()
    assert ask(dialect, stop="a").stop == ("a",)
    assert ask(dialect, stop=["a", "b", "c", "d", "e"]).stop == ("a", "b", "c", "d", "e")


@EVERYWHERE
def test_case_25_guided_choice(dialect: Dialect):
    for bad in ([], [""], ["a", ""], "a", {"choice": ["a"]}):
        refused("guided_choice", dialect, guided_choice=bad)
    assert "quote it" in refused("guided_choice", dialect, guided_choice=["maybe", False])
    assert "quote it" in refused("guided_choice", dialect, guided_choice=[1, 2])


@EVERYWHERE
def test_case_26_stream_options(dialect: Dialect):
    refused("stream_options", dialect, stream_options={"include_usage": True})
    refused("stream_options", dialect, stream_options={"other": 1})
    refused("stream_options", dialect, stream_options={"include_usage": 1}, stream=True)
    refused("stream_options", dialect, stream_options=[], stream=True)
    assert ask(dialect, stream_options={}) == ask(dialect)
    options = ask(dialect, stream=True, stream_options={"include_usage": True, "other": 1})
    assert options.stream_options == StreamOptions(include_usage=True)


@EVERYWHERE
def test_case_27_prompt_logprobs(dialect: Dialect):
    assert ask(dialect, prompt_logprobs=20).prompt_logprobs == 20
    refused("prompt_logprobs", dialect, prompt_logprobs=21)
    refused("prompt_logprobs", dialect, prompt_logprobs=True)
    refused("prompt_logprobs", dialect, prompt_logprobs=0, stream=True)
    if dialect is S:
        refused("prompt_logprobs", S, prompt_logprobs=-1)
    else:
        assert ask(dialect, prompt_logprobs=-1).prompt_logprobs == -1


@EVERYWHERE
def test_case_28_best_of(dialect: Dialect):
    refused("best_of", dialect, best_of=1, n=2)
    refused("best_of", dialect, best_of=0)
    refused("best_of", dialect, best_of=3, stream=True)
    assert ask(dialect, best_of=2, n=2, stream=True).best_of == 2
    assert ask(dialect, n=30).best_of == 30


@EVERYWHERE
def test_case_94_repeated_choices_count_once(dialect: Dialect):
    assert ask(dialect, guided_choice=["b", "a", "b"]).guided_choice == ("b", "a")


@EVERYWHERE
def test_case_96_a_stop_inside_a_choice(dialect: Dialect):
    message = refused("stop", dialect, guided_choice=["yes", "no way"], stop=["!", "o w"])
    assert "'no way'" in message
    assert ask(dialect, guided_choice=["yes"], stop="yes!").stop == ("yes!",)


@EVERYWHERE
def test_case_105_user_is_any_string(dialect: Dialect):
    assert ask(dialect, user="").user == ""
    refused("user", dialect, user=5)


@EVERYWHERE
def test_an_empty_suffix_is_absent(dialect: Dialect):
    assert ask(dialect, suffix="") == ask(dialect)


def test_messages_stay_short():
    for value in ("x" * 10**6, 10**5000, ["x" * 1000] * 1000, {"k": {"k": {"k": "v" * 1000}}}):
        assert len(refused("temperature", P, temperature=value)) < 400
    with pytest.raises(InvalidRequest) as caught:
        ask(S, **{"x" * 10**6: 1})
    assert len(caught.value.message) < 400


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([400, 5000]).map(lambda digits: 10**digits)
    | st.sampled_from([1e300, -0.0, 2.0, np.int64(3), np.float32(0.5)])
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(), max_size=4)
    | st.sampled_from(["\ud800", "raw", "5", "x"])
    | st.binary(max_size=4)
    | st.sampled_from([np.array([1, 2]), np.array("x"), np.zeros((2, 0)), object(), int, {1}]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.text(max_size=2) | st.integers() | st.sampled_from(["choice", "include_usage", "5"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted({name for d in Dialect for name in parameter_names(d)}))


@given(
    fields=st.dictionaries(NAMES | st.text(max_size=3) | st.integers(), JUNK, max_size=4),
    dialect=st.sampled_from(Dialect),
    valid=st.booleans(),
    ignore=st.booleans(),
)
def test_junk_is_refused_and_never_crashes(
    fields: dict[Any, Any], dialect: Dialect, valid: bool, ignore: bool
):
    if valid:
        fields = {"model": "toy", "prompt": "x", **fields}
    try:
        request = parse(fields, dialect=dialect, known_models={"toy"}, ignore_unknown=ignore)
    except InvalidRequest as error:
        assert error.message.encode()
        assert len(error.message) < 1000
    else:
        assert 0 <= request.temperature <= 2
        assert request.prompt and () not in request.prompt
