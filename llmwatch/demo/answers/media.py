"""Images, audio and video. The bytes are small and real where a reader might look at them."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator

from llmwatch.demo.answers.common import (
    DONE,
    JSON,
    SERVER_ERROR,
    Call,
    data,
    events,
    named,
    new_id,
    not_found,
    now,
    reply,
    tokens,
)
from llmwatch.demo.wire import Answer, Event

# --- images ------------------------------------------------------------------------------------


def _png() -> bytes:
    """One grey pixel."""

    def part(name: bytes, body: bytes) -> bytes:
        check = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)

    header = part(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixel = part(b"IDAT", zlib.compress(b"\0\x80"))
    return b"\x89PNG\r\n\x1a\n" + header + pixel + part(b"IEND", b"")


PNG = base64.b64encode(_png()).decode()


def images(call: Call) -> Answer:
    """``POST /images/generations``, ``/images/edits``, ``/images/variations``."""
    kind = "image_edit" if call.exchange.path.endswith("edits") else "image_generation"
    if call.stream:
        return events(_image_events(call, kind), data(SERVER_ERROR).data)
    number = int(call.body.get("n") or 1)
    link = call.model.startswith("dall-e") and call.body.get("response_format") != "b64_json"
    image = {"url": "https://images.invalid/demo.png"} if link else {"b64_json": PNG}
    body = {"created": now(), "data": [image] * number}
    if not link:
        body |= {k: v for k, v in _image_look().items() if k != "created_at"}
        if call.script.usage:
            body["usage"] = _image_usage(call, number)
    return reply(body)


def _image_look() -> JSON:
    return {
        "background": "opaque",
        "created_at": now(),
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
    }


def _image_usage(call: Call, number: int) -> JSON:
    text = tokens(call.body.get("prompt"))
    return {
        "input_tokens": text,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
        "output_tokens": 272 * number,
        "total_tokens": text + 272 * number,
    }


def _image_events(call: Call, kind: str) -> Iterator[Event]:
    for index in range(int(call.body.get("partial_images") or 0)):
        name = f"{kind}.partial_image"
        look = {**_image_look(), "b64_json": PNG, "partial_image_index": index}
        yield named(name, {"type": name, **look}, output=True)
    name = f"{kind}.completed"
    final = {**_image_look(), "b64_json": PNG, "usage": _image_usage(call, 1)}
    yield named(name, {"type": name, **final}, output=True)


# --- audio -------------------------------------------------------------------------------------

_AUDIO_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "opus": "audio/opus", "pcm": "audio/pcm"}
_AUDIO_PART = bytes(range(256)) * 4


def speech(call: Call) -> Answer:
    """``POST /audio/speech``: binary in parts, or server-sent events."""
    if call.body.get("stream_format") == "sse":
        return events(_speech_events(call), data(SERVER_ERROR).data)
    kind = call.body.get("response_format") or "mp3"
    parts = (Event(_AUDIO_PART, output=True) for _ in range(call.script.chunks))
    return Answer(events=parts, content_type=_AUDIO_TYPES.get(kind, f"audio/{kind}"))


def _speech_events(call: Call) -> Iterator[Event]:
    for _ in range(call.script.chunks):
        audio = base64.b64encode(_AUDIO_PART).decode()
        yield data({"type": "speech.audio.delta", "audio": audio}, output=True)
    used, made = tokens(call.body["input"]), call.script.chunks
    usage = {"input_tokens": used, "output_tokens": made, "total_tokens": used + made}
    yield data({"type": "speech.audio.done", "usage": usage})


def transcriptions(call: Call) -> Answer:
    """``POST /audio/transcriptions``."""
    if call.stream:
        return events(_transcript_events(call), data(SERVER_ERROR).data)
    usage = {"usage": _audio_usage(call)} if call.script.usage else {}
    return _transcript(call, {"text": "".join(call.pieces())} | usage)


def translations(call: Call) -> Answer:
    """``POST /audio/translations``."""
    return _transcript(call, {"text": "".join(call.pieces())})


def _transcript(call: Call, plain: JSON) -> Answer:
    text, kind = plain["text"], call.body.get("response_format") or "json"
    if kind in ("text", "srt", "vtt"):
        clock = "" if kind == "text" else "00:00:00.000 --> 00:00:03.500\n"
        head = {"srt": "1\n", "vtt": "WEBVTT\n\n"}.get(kind, "")
        body = f"{head}{clock}{text}\n".encode()
        return Answer(body, content_type="text/plain; charset=utf-8")
    if kind == "verbose_json":
        usage = {"usage": {"type": "duration", "seconds": 3.5}} if "usage" in plain else {}
        long = {"task": "transcribe", "duration": 3.5, "language": "english", "text": text}
        return reply({**long, "segments": [_segment(text)], **usage})
    if kind == "diarized_json":
        turn = {"id": "seg_0", "start": 0.0, "end": 3.5, "speaker": "A", "text": text}
        turn["type"] = "transcript.text.segment"
        return reply({"task": "transcribe", "duration": 3.5, "segments": [turn], **plain})
    return reply(plain)


def _segment(text: str) -> JSON:
    return {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": 3.5,
        "text": text,
        "tokens": [50364, 50539],
        "temperature": 0.0,
        "avg_logprob": -0.21,
        "compression_ratio": 1.1,
        "no_speech_prob": 0.01,
    }


def _audio_usage(call: Call) -> JSON:
    made = len(call.pieces())
    return {
        "type": "tokens",
        "input_tokens": 35,
        "input_token_details": {"audio_tokens": 35, "text_tokens": 0},
        "output_tokens": made,
        "total_tokens": 35 + made,
    }


def _transcript_events(call: Call) -> Iterator[Event]:
    for piece in call.pieces():
        yield data({"type": "transcript.text.delta", "delta": piece}, output=True)
    usage = {"usage": _audio_usage(call)} if call.script.usage else {}
    yield data({"type": "transcript.text.done", "text": "".join(call.pieces()), **usage})
    yield DONE


# --- video -------------------------------------------------------------------------------------

POLL_AFTER = ("openai-poll-after-ms", "5")
"""Tells the client's polling helpers how long to wait."""


def videos(call: Call) -> Answer:
    """``POST /videos``, ``/videos/edits``, ``/videos/extensions``, ``/videos/{id}/remix``."""
    source = call.path[0] if call.path else None
    first = {
        "id": new_id("video_"),
        "object": "video",
        "created_at": now(),
        "status": "queued",
        "progress": 0,
        "model": call.body.get("model") or "sora-2",
        "prompt": call.body.get("prompt"),
        "remixed_from_video_id": source,
        "seconds": str(call.body.get("seconds") or "4"),
        "size": call.body.get("size") or "720x1280",
    }
    done = {**first, "status": "completed", "progress": 100, "completed_at": now()}
    call.store.put(first, {**first, "status": "in_progress", "progress": 50}, done)
    return reply(first, POLL_AFTER)


def video(call: Call) -> Answer:
    """``GET /videos/{id}``."""
    found = call.store.get(call.path[0])
    return reply(found, POLL_AFTER) if found else not_found("Video", call.path[0])


def video_content(call: Call) -> Answer:
    """``GET /videos/{id}/content``."""
    return Answer(_AUDIO_PART, content_type="video/mp4")


def video_delete(call: Call) -> Answer:
    """``DELETE /videos/{id}``."""
    call.store.drop(call.path[0])
    return reply({"id": call.path[0], "object": "video.deleted", "deleted": True})


def video_character(call: Call) -> Answer:
    """``POST /videos/characters``."""
    return reply({"id": new_id("char_"), "created_at": now(), "name": call.body.get("name")})
