"""Watch ``generate``: the outermost call is the request, and its loops tick once a step.

Wrapped on the class, for transformers looks its methods up there. The choke points inside are
private; where a release lacks one, llmwatch does with less and says so once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from llmwatch._guard import Guard
from llmwatch.patching import Patch, Patches
from llmwatch.signals.operation import Operation, Signals
from llmwatch.sources.transformers.asking import Asked, told
from llmwatch.sources.transformers.loops import MIXIN, Request
from llmwatch.sources.transformers.models import describe, model_of
from llmwatch.sources.transformers.request import STOPPING_CRITERIA, Arguments
from llmwatch.sources.transformers.streamers import Homes

_log = logging.getLogger("llmwatch")

_BEGIN = Guard("transformers.begin")
_END = Guard("transformers.end")
_FAIL = Guard("transformers.fail")
_LOOP = Guard("transformers.loop")
_INNER = Guard("transformers.inner")

PROVIDER = "huggingface"

OVERRIDES = {
    "blip_2.modeling_blip_2": ["Blip2ForConditionalGeneration"],
    "granite_speech.modeling_granite_speech": ["GraniteSpeechForConditionalGeneration"],
    "instructblip.modeling_instructblip": ["InstructBlipForConditionalGeneration"],
    "instructblipvideo.modeling_instructblipvideo": ["InstructBlipVideoForConditionalGeneration"],
    "kosmos2.modeling_kosmos2": ["Kosmos2ForConditionalGeneration"],
    "qwen2_5_omni.modeling_qwen2_5_omni": ["Qwen2_5OmniForConditionalGeneration"],
    "qwen3_omni_moe.modeling_qwen3_omni_moe": ["Qwen3OmniMoeForConditionalGeneration"],
    "seamless_m4t.modeling_seamless_m4t": ["SeamlessM4TModel"],
    "seamless_m4t_v2.modeling_seamless_m4t_v2": ["SeamlessM4Tv2Model"],
    "whisper.generation_whisper": ["WhisperGenerationMixin"],
}
"""Classes with a ``generate`` of their own round that of others: theirs is the request."""

Wrapped = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Tokens = tuple[Token[Context], Token["Request | None"]]

_request: ContextVar[Request | None] = ContextVar("llmwatch-generation", default=None)
"""The request that this context was made in; `_working` says whether it is still worked at here."""


def _working() -> Request | None:
    """The request that this thread works at."""
    request = _request.get()
    # Tasks and threads that a streamer starts inherit its context, and are no part of the request.
    return request if request is not None and request.here else None


def generating() -> bool:
    """Whether this thread works at a request already."""
    return _working() is not None


class Generations:
    """The wrappers, and what they share.

    Args:
        signals: Where operations are made.
        homes: Knows in whose trace a streamer belongs.
    """

    def __init__(self, signals: Signals, homes: Homes) -> None:
        self.signals = signals
        self._homes = homes
        self._told: set[str] = set()
        row = Patch(MIXIN, "GenerationMixin._has_unfinished_sequences", self.goes_on, optional=True)
        self.on_devices = Patches("transformers", [row])
        """Installed with the first model on an accelerator: elsewhere it would tell nothing."""

    def patches(self) -> list[Patch]:
        """The patch table."""
        mixin = "GenerationMixin."
        inside = {
            "_validate_generated_length": self.validate_length,
            "_prepare_cache_for_generation": self.prepare_cache,
            "_get_logits_processor": self.get_processors,
            "_get_stopping_criteria": self.get_criteria,
            "_get_candidate_generator": self.get_drafter,
        }
        return [
            Patch(MIXIN, f"{mixin}generate", self.generate),
            *(Patch(MIXIN, mixin + name, each, optional=True) for name, each in inside.items()),
            *(
                Patch(f"transformers.models.{module}", f"{name}.generate", self.generate, True)
                for module, names in OVERRIDES.items()
                for name in names
            ),
        ]

    # --- the call ------------------------------------------------------------------------------

    def generate(self, wrapped: Wrapped, model: Any, args: Args, kwargs: Kwargs) -> Any:
        """Watch one call: a request, or a part of one."""
        request = None
        with _BEGIN:
            request = _working()
        if request is not None:
            return self._inner(request, wrapped, model, args, kwargs)
        call = self.begin(model, args, kwargs)
        if call is None:
            return wrapped(*args, **kwargs)
        tokens = call.enter()
        try:
            result = wrapped(*call.args, **call.kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            call.leave(tokens)
        call.end(result)
        return result

    def begin(self, model: Any, args: Args, kwargs: Kwargs) -> Call | None:
        """Open an operation for a request; None where it is not to be watched."""
        begun = perf_counter()
        with _BEGIN:
            arguments = Arguments(model, args, kwargs)
            asked = told()
            operation = self._start(model, arguments, asked, begun)
            if operation is None:
                return None
            request = Request(operation, confident=self.signals.config.confidence)
            request.enter(model, arguments, begun)
            call = Call(request, asked, args, kwargs)
            self._prepare(call, model, arguments)
            return call
        return None

    def _start(
        self, model: Any, arguments: Arguments, asked: Asked | None, begun: float
    ) -> Operation | None:
        home = self._homes.of(arguments.get("streamer"))
        token = None if home is None else otel_context.attach(home)
        try:
            return self.signals.start(
                "text_completion" if asked is None else asked.name,
                PROVIDER,
                model_of(model).name,
                {**describe(model), **({} if asked is None else asked.attributes)},
                kind=SpanKind.INTERNAL,
                started=begun,
            )
        finally:
            if token is not None:
                otel_context.detach(token)

    def _prepare(self, call: Call, model: Any, arguments: Arguments) -> None:
        """See to it that the loop can be watched, as well as this release lets us."""
        if getattr(model, "device", None) is not None and model.device.type != "cpu":
            self.on_devices.install()
            self._miss(model, "_has_unfinished_sequences", "tokens on accelerators are not timed")
        if arguments.paged or not hasattr(model, "_update_model_kwargs_for_generation"):
            return  # the loop is not one of the mixin's
        if self._miss(model, "_get_stopping_criteria", "steps are watched by a criterion instead"):
            call.add_criterion(arguments)

    def _miss(self, model: Any, name: str, instead: str) -> bool:
        missing = not hasattr(model, name)
        if missing and name not in self._told:
            self._told.add(name)
            _log.warning("this release of transformers has no %s: %s", name, instead)
        return missing

    def _inner(
        self, request: Request, wrapped: Wrapped, model: Any, args: Args, kwargs: Kwargs
    ) -> Any:
        frames = request.frames
        depth = len(frames)
        with _INNER:
            request.enter(model, Arguments(model, args, kwargs), perf_counter())
        try:
            result = wrapped(*args, **kwargs)
            with _INNER:
                request.returned(result)
        finally:
            del frames[depth:]
        return result

    # --- on the way ----------------------------------------------------------------------------

    def validate_length(self, wrapped: Wrapped, model: Any, args: Args, kwargs: Kwargs) -> Any:
        """``(generation_config, input_ids_length, …)``: how long sequences are before the loop."""
        with _LOOP:
            if (request := _working()) is not None and (frame := request.counting) is not None:
                frame.start = _argument(args, kwargs, 1, "input_ids_length")
        return wrapped(*args, **kwargs)

    def prepare_cache(self, wrapped: Wrapped, model: Any, args: Args, kwargs: Kwargs) -> Any:
        """``(generation_config, model_kwargs, generation_mode, batch_size, …)``."""
        result = wrapped(*args, **kwargs)
        with _LOOP:
            if (request := _working()) is not None:
                batch = _argument(args, kwargs, 3, "batch_size")
                request.keep_cache(batch, _argument(args, kwargs, 1, "model_kwargs"))
        return result

    def get_processors(self, wrapped: Wrapped, model: Any, args: Args, kwargs: Kwargs) -> Any:
        """``(generation_config, …)``: what changes scores before a token is chosen."""
        processors = wrapped(*args, **kwargs)
        with _LOOP:
            if (request := _working()) is not None:
                request.probe(_argument(args, kwargs, 0, "generation_config"), processors)
        return processors

    def get_criteria(self, wrapped: Wrapped, model: Any, args: Args, kwargs: Kwargs) -> Any:
        """``(generation_config, …)``: what the loop asks after each step."""
        criteria = wrapped(*args, **kwargs)
        with _LOOP:
            if (request := _working()) is not None:
                config = _argument(args, kwargs, 0, "generation_config")
                return request.begin_loop(config, criteria)
        return criteria

    def get_drafter(self, wrapped: Wrapped, model: Any, args: Args, kwargs: Kwargs) -> Any:
        """What proposes tokens in speculative modes."""
        generator = wrapped(*args, **kwargs)
        with _LOOP:
            if (request := _working()) is not None and (frame := request.counting) is not None:
                frame.draft(generator)
        return generator

    def goes_on(self, wrapped: Wrapped, model: Any, args: Args, kwargs: Kwargs) -> Any:
        """Asked before each step, once the device has answered whether there is to be one."""
        result = wrapped(*args, **kwargs)
        with _LOOP:
            request = _working()
            frame = None if request is None else request.counting
            ticks = None if frame is None else frame.ticks
            if ticks is not None and not ticks.at_once:
                ticks.arrived()
        return result


class Call:
    """The outermost call: what it is made with, and how it ends."""

    def __init__(self, request: Request, asked: Asked | None, args: Args, kwargs: Kwargs) -> None:
        self.request = request
        self.args = args
        self.kwargs = kwargs
        self._asked = asked

    def add_criterion(self, arguments: Arguments) -> None:
        """Watch steps by the public argument ``stopping_criteria``."""
        config = (
            arguments.get("generation_config") or self.request.frames[0].model.generation_config
        )
        criterion = self.request.begin_blind_loop(config)
        kind = sys.modules["transformers.generation.stopping_criteria"].StoppingCriteriaList
        criteria = kind([*(arguments.get("stopping_criteria") or ()), criterion])
        if len(self.args) > STOPPING_CRITERIA:
            args = list(self.args)
            args[STOPPING_CRITERIA] = criteria
            self.args = tuple(args)
        else:
            self.kwargs = {**self.kwargs, "stopping_criteria": criteria}

    def enter(self) -> Tokens | None:
        """Make the request current while the model works."""
        with _BEGIN:
            return self.request.operation.enter(), _request.set(self.request)
        return None

    def leave(self, tokens: Tokens | None) -> None:
        """Undo `enter`, in the same frame as it was called."""
        if tokens is not None:
            with _END:
                _request.reset(tokens[1])
                self.request.operation.leave(tokens[0])

    def fail(self, error: BaseException) -> None:
        """The call raised: end the operation with what is known."""
        with _FAIL:
            self.request.failed()
            self.request.describe()
        self.request.operation.finish(error)

    def end(self, result: Any) -> None:
        """The call returned: end the operation with what came out."""
        with _END:
            self.request.returned(result)
        with _END:
            self.request.describe()
            if self._asked is not None and self._asked.describe is not None:
                self._asked.describe(self.request.operation, result)
        self.request.operation.finish()


def _argument(args: Args, kwargs: Kwargs, place: int, name: str) -> Any:
    if name in kwargs:
        return kwargs[name]
    return args[place] if place < len(args) else None
