"""The endpoints that answer at once and whole: embeddings, moderations, decisions, models."""

from __future__ import annotations

import base64
from array import array
from random import Random

from llmwatch.demo.answers.common import (
    JSON,
    Call,
    detailed_usage,
    new_id,
    not_found,
    reply,
    tokens,
)
from llmwatch.demo.wire import Answer

DIMENSIONS = 1536


def embeddings(call: Call) -> Answer:
    """``POST /embeddings``: unit vectors, the same for the same text."""
    given = call.body["input"]
    inputs = given if isinstance(given, list) and not _is_tokens(given) else [given]
    encode = call.body.get("encoding_format") == "base64"
    rows = [
        {"object": "embedding", "index": index, "embedding": _vector(call, each, encode)}
        for index, each in enumerate(inputs)
    ]
    used = sum(len(each) if isinstance(each, list) else tokens(each) for each in inputs)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return reply({"object": "list", "data": rows, "model": call.model, "usage": usage})


def _is_tokens(given: list[object]) -> bool:
    return bool(given) and all(isinstance(each, int) for each in given)


def _vector(call: Call, text: object, encode: bool) -> str | list[float]:
    random = Random(str(text))  # noqa: S311 - a vector, not a secret
    size = call.body.get("dimensions") or DIMENSIONS
    raw = [random.gauss(0.0, 1.0) for _ in range(size)]
    length = sum(each * each for each in raw) ** 0.5
    vector = [round(each / length, 8) for each in raw]
    return base64.b64encode(array("f", vector).tobytes()).decode() if encode else vector


_CATEGORIES = {
    "harassment": ["text"],
    "harassment/threatening": ["text"],
    "hate": ["text"],
    "hate/threatening": ["text"],
    "illicit": ["text"],
    "illicit/violent": ["text"],
    "self-harm": ["text", "image"],
    "self-harm/instructions": ["text", "image"],
    "self-harm/intent": ["text", "image"],
    "sexual": ["text", "image"],
    "sexual/minors": ["text"],
    "violence": ["text", "image"],
    "violence/graphic": ["text", "image"],
}


def moderations(call: Call) -> Answer:
    """``POST /moderations``: a text is flagged if it speaks of a bomb."""
    given = call.body["input"]
    texts = given if isinstance(given, list) and isinstance(given[0], str) else [str(given)]
    results = [_moderation("bomb" in text) for text in texts]
    return reply({"id": new_id("modr-"), "model": call.model, "results": results})


def _moderation(flagged: bool) -> JSON:
    scores = dict.fromkeys(_CATEGORIES, 0.0003) | {"violence": 0.93 if flagged else 0.001}
    return {
        "flagged": flagged,
        "categories": {name: flagged and name == "violence" for name in _CATEGORIES},
        "category_scores": scores,
        "category_applied_input_types": _CATEGORIES,
    }


def decisions(call: Call) -> Answer:
    """``POST /decisions``: the first choice, the middle score, mostly yes."""
    answers = [_decide(question) for question in call.body["questions"]]
    used = tokens(call.body["input"]) + tokens(call.body["questions"])
    usage = detailed_usage(call, used, len(answers))
    return reply({"answers": answers, "model": call.model, "usage": usage})


def _decide(question: JSON) -> JSON:
    answer: JSON = {"type": question["type"], "name": question.get("name")}
    if question["type"] == "predicate":
        return answer | {"probability": 0.87}
    if question["type"] == "choice":
        values = [each["value"] for each in question["choices"]]
        shares = [{"value": value, "probability": 1.0 / len(values)} for value in values]
        return answer | {"choice": values[0], "confidence": 0.9, "probabilities": shares}
    labels = [each["label"] for each in question["levels"]]
    scores = [
        {"label": label, "value": value, "probability": 1.0 / len(labels)}
        for value, label in enumerate(labels)
    ]
    return answer | {"score": (len(labels) - 1) / 2, "confidence": 0.8, "probabilities": scores}


_MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "o4-mini", "text-embedding-3-small")


def models(call: Call) -> Answer:
    """``GET /models``."""
    return reply({"object": "list", "data": [_model(name) for name in _MODELS]})


def model(call: Call) -> Answer:
    """``GET /models/{id}``."""
    name = call.path[0]
    return reply(_model(name)) if name in _MODELS else not_found("Model", name)


def _model(name: str) -> JSON:
    return {"id": name, "object": "model", "created": 1721172741, "owned_by": "system"}
