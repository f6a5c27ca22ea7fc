"""Content is recorded whole where it may be, and never where it may not."""

from __future__ import annotations

import base64
import json
import os
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from llmwatch import _guard, semconv
from llmwatch.config import Config
from llmwatch.signals import content as module
from llmwatch.signals.content import Content, clean_text

TEXT = "What is the weather in Paris?"


def content(input_messages: Any = None, /, **more: Any) -> Content:
    """Content under a configuration; other keywords than settings are its attributes."""
    names = ("output_messages", "system_instructions", "tool_definitions")
    made = Content(Config(**{key: value for key, value in more.items() if key not in names}))
    made.input_messages = input_messages
    for name in names:
        setattr(made, name, more.get(name))
    return made


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": list(parts)}]


def text(value: Any) -> dict[str, Any]:
    return {"type": "text", "content": value}


def first_part(made: Content) -> dict[str, Any]:
    return made.for_event()[semconv.INPUT_MESSAGES][0]["parts"][0]


def call(arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": arguments}


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for pair in value.items() for each in pair for leaf in leaves(each)]
    if isinstance(value, (list, tuple)):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


def test_what_is_within_the_limits_arrives_unchanged() -> None:
    said = [
        {"role": "system", "parts": [text("Be brief. ☂ 好")]},
        *user(text(TEXT), {"type": "uri", "modality": "image", "uri": "https://x.test/a.png"}),
        {"role": "assistant", "parts": [call({"where": ["Paris", 1, 2.5, None, True]})]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": ""}]},
    ]
    answer = [{"role": "assistant", "parts": [text("Rain.")], "finish_reason": "stop"}]
    tools = [{"type": "function", "name": "get_weather"}]
    made = content(
        said, output_messages=answer, system_instructions=[text("x")], tool_definitions=tools
    )
    assert made.for_event() == {
        semconv.INPUT_MESSAGES: said,
        semconv.OUTPUT_MESSAGES: answer,
        semconv.SYSTEM_INSTRUCTIONS: [text("x")],
        semconv.TOOL_DEFINITIONS: tools,
    }


def test_a_span_gets_the_same_as_json() -> None:
    made = content(user(text("好 \u2028")), output_messages=[], content_limit=1)
    on_span = made.for_span()
    assert on_span.pop(semconv.CONTENT_TRUNCATED) is True
    assert {key: json.loads(value) for key, value in on_span.items()} == {
        semconv.INPUT_MESSAGES: user(text("好"))
    }


def test_functions_are_called_late_and_once() -> None:
    calls = []

    def messages() -> list[dict[str, Any]]:
        calls.append(1)
        return user(text(TEXT))

    made = content(messages)
    assert calls == []
    assert made.for_event() == {semconv.INPUT_MESSAGES: user(text(TEXT))}
    assert json.loads(made.for_span()[semconv.INPUT_MESSAGES]) == user(text(TEXT))
    assert calls == [1]


def test_one_broken_function_costs_only_its_own_attribute(monkeypatch) -> None:
    monkeypatch.setattr(_guard, "strict", False)
    made = content(lambda: 1 / 0, output_messages=user(text("still here")))
    assert made.for_event() == {semconv.OUTPUT_MESSAGES: user(text("still here"))}
    assert _guard.error_counts() == {"signals.content": 1}


def test_nothing_said_means_no_attribute() -> None:
    assert content().for_event() == {} == content([], output_messages=lambda: None).for_span()


# --- redaction -----------------------------------------------------------------------------------


def test_every_text_passes_redact_and_only_its_answer_is_recorded() -> None:
    said = [
        {"role": "system", "parts": [text("SECRET 0")], "name": "SECRET 1"},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "SECRET 2"}]},
        {
            "role": "assistant",
            "parts": [call({"SECRET 3": ["SECRET 4", {"a": "SECRET 5"}]})],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "response": "SECRET 6"}]},
        *user({"type": "uri", "modality": "image", "uri": "https://x.test/SECRET"}),
        *user({"type": "refusal", "content": "SECRET 7"}, {"type": "SECRET 8"}),
    ]
    made = content(
        said,
        output_messages=user(text("SECRET 9")),
        system_instructions=[text("SECRET 10")],
        tool_definitions=[{"type": "function", "name": "SECRET"}],
        redact=lambda value: value.replace("SECRET", "***"),
    )
    recorded = json.dumps(made.for_span()) + repr(made.for_event())
    assert "SECRET" not in recorded
    for number in range(11):
        assert f"*** {number}" in recorded


def test_numbers_in_arguments_are_shown_to_redact_as_text() -> None:
    made = content(
        user(call({"card": 4111111111111111, "count": 2, "share": 0.5, "ok": True})),
        redact=lambda value: "(card)" if value.startswith("4111") else value,
    )
    expected = {"card": "(card)", "count": 2, "share": 0.5, "ok": True}
    assert first_part(made)["arguments"] == expected


def test_redact_sees_the_whole_text_before_it_is_cut() -> None:
    seen = []
    made = content(
        user(text("x" * 50 + "my key is 12345")),
        content_limit=55,
        redact=lambda value: seen.append(value) or value.replace("my key is 12345", "(key)"),
    )
    assert first_part(made)["content"] == "x" * 50 + "(key)"
    assert seen == ["x" * 50 + "my key is 12345"]
    assert semconv.CONTENT_TRUNCATED not in made.for_event()


def test_none_from_redact_drops_the_text_alone() -> None:
    made = content(
        user(text("drop me"), text("keep me"), call({"a": "drop me", "b": ["keep me", "drop me"]})),
        redact=lambda value: None if value == "drop me" else value,
    )
    assert made.for_event()[semconv.INPUT_MESSAGES] == user(
        {"type": "text"}, text("keep me"), call({"b": ["keep me"]})
    )


@pytest.mark.parametrize("answer", [ValueError, 7, b"bytes", ["list"]])
def test_a_redact_that_fails_leaks_nothing_and_is_told_once(monkeypatch, answer) -> None:
    monkeypatch.setattr(_guard, "strict", False)

    def redact(value: str) -> Any:
        if "bad" not in value:
            return value
        if isinstance(answer, type):
            raise answer(value)
        return answer

    made = content(
        user(text("good"), text("bad")), output_messages=user(text("good")), redact=redact
    )
    assert made.for_event() == {}
    assert made.for_span() == {}
    assert _guard.error_counts() == {"redact": 1}
    assert clean_text(Config(redact=redact), "bad") is None


# --- bytes ---------------------------------------------------------------------------------------

PICTURE = os.urandom(3000)
ENCODED = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    "hidden",
    [
        ENCODED,
        f"data:image/png;base64,{ENCODED}",
        f"![a picture](data:image/png;base64,{ENCODED}) and more",
        json.dumps({"screenshot": ENCODED, "ok": True}),
        base64.urlsafe_b64encode(PICTURE).decode(),
        PICTURE,
        bytearray(PICTURE),
        memoryview(PICTURE),
        list(PICTURE),
        [float(each) for each in PICTURE],
    ],
)
def test_bytes_never_get_out_wherever_they_hide(hidden) -> None:
    made = content(
        user(text(hidden), call({"a": hidden, "b": [hidden]}), {"type": "x", "y": {"z": hidden}})
    )
    recorded = json.dumps(made.for_span())
    assert len(recorded) < 2000
    assert ENCODED[600:640] not in recorded
    assert str(len(hidden)) in recorded or str(len(PICTURE)) in recorded


@pytest.mark.parametrize(
    "plain",
    [
        "x" * 5000,
        "-" * 5000,
        "word " * 2000,
        "https://example.com/" + "path/" * 200,
        "data:image/png;base64 is a prefix",
        json.dumps([{"name": f"Item{i}", "value": i} for i in range(300)], separators=(",", ":")),
    ],
)
def test_long_text_is_not_taken_for_bytes(plain) -> None:
    assert first_part(content(user(text(plain))))["content"] == plain


def test_searching_for_bytes_takes_linear_time() -> None:
    import time

    for evil in ("A1b" * 170 + " ", "data:", "data:a;b=c", "A1b" * 170 + "."):
        started = time.process_time()
        clean_text(Config(), evil * (1_000_000 // len(evil)))
        assert time.process_time() - started < 2


# --- limits --------------------------------------------------------------------------------------


def test_each_text_is_cut_and_the_cut_is_told() -> None:
    made = content(user(text("abcdef"), call({"a": "abcdef"})), content_limit=3)
    assert made.for_event() == {
        semconv.INPUT_MESSAGES: user(text("abc"), {**call({"a": "abc"}), "name": "get"}),
        semconv.CONTENT_TRUNCATED: True,
    }


def test_in_a_long_conversation_the_oldest_messages_go() -> None:
    said = [user(text(f"{number} " + "x" * 10_000))[0] for number in range(300)]
    made = content(said, output_messages=user(text("the answer")))
    kept = made.for_event()[semconv.INPUT_MESSAGES]
    assert kept[-1] == said[-1]
    assert len(kept) < 120
    assert made.for_event()[semconv.OUTPUT_MESSAGES] == user(text("the answer"))
    assert made.for_event()[semconv.CONTENT_TRUNCATED] is True


def test_depth_and_count_are_bounded() -> None:
    deep: Any = "bottom"
    for _ in range(5000):
        deep = {"a": [deep]}
    wide = {f"key{number}": [number] * 3 for number in range(50_000)}
    made = content(user(call(deep), call(wide)))
    assert made.for_event()[semconv.CONTENT_TRUNCATED] is True
    assert len(leaves(made.for_event())) < 3 * module.MOST_ITEMS


class Color(StrEnum):
    RED = "red"


class Lazy:
    """Must not be walked, printed or asked for anything."""

    def __iter__(self) -> Any:
        raise AssertionError

    __str__ = __len__ = __bool__ = __getitem__ = model_dump = __iter__


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        (Lazy(), "(Lazy)"),
        (SimpleNamespace(a=1), "(SimpleNamespace)"),
        ((each for each in [1]), "(generator)"),
        ({1, 2}, "(set)"),
        (Color.RED, "red"),
        (10**30, hex(10**30)),
        (10**5000, hex(10**5000)),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("\ud800 lone", "? lone"),
        ({"": 1, 2: 3, None: 4}, {"(empty)": 1, "2": 3, "None": 4}),
        ({"\udfff": "\udfff"}, {"?": "?"}),
        ((1, "a"), [1, "a"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_become_plain_ones(odd, shown) -> None:
    made = content(user(call({"value": odd})))
    assert first_part(made)["arguments"] == {"value": shown}


@pytest.mark.parametrize(
    "wrong", ["text", 5, {"role": "user"}, [None], ["text"], [["text"]], Lazy()]
)
def test_wrong_shapes_do_no_harm(wrong) -> None:
    made = content(wrong, output_messages=wrong, system_instructions=wrong, tool_definitions=wrong)
    for value in made.for_span().values():
        json.loads(value)


# --- anything at all -----------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=60)
    | st.binary(max_size=60)
    | st.sampled_from([Lazy(), object(), ENCODED, f"data:a/b;base64,{ENCODED}"])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), inner, max_size=8)
        | st.tuples(inner, inner)
        | st.fixed_dictionaries({"type": inner, "content": inner})
        | st.fixed_dictionaries({"role": inner, "parts": inner})
    ),
    max_leaves=40,
)


@given(anything, anything, st.integers(1, 50), st.sampled_from([None, str.upper, lambda _: None]))
def test_any_content_is_exported_within_its_limits(said, answered, limit, redact) -> None:
    made = content(said, output_messages=[answered], content_limit=limit, redact=redact)
    event = made.for_event()
    for leaf in leaves([value for key, value in event.items() if key != semconv.CONTENT_TRUNCATED]):
        assert leaf is None or type(leaf) in (str, int, float, bool)
        if isinstance(leaf, str) and leaf not in module._PART_WORDS | {"role", "parts", "content"}:
            assert len(leaf) <= 256  # words of the schema; texts are at most `limit`
    for key, value in made.for_span().items():
        assert key == semconv.CONTENT_TRUNCATED or json.loads(value) is not None
    assert ENCODED[:100] not in repr(event)
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("test").emit(attributes=event)
    encode_logs(exporter.get_finished_logs()).SerializeToString()
