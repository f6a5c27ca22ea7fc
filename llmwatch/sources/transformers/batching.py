"""Watch continuous batching: each request is an operation, from `add_request` to its last token.

A request belongs to the trace of whoever added it; it ends on the thread that generates, where its
output is handed over. transformers keeps the time of each token if it is asked to; llmwatch always
asks, and takes the times out of what users get who did not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from opentelemetry.trace import SpanKind

from llmwatch import semconv
from llmwatch import semconv_tasks as names
from llmwatch._guard import Guard
from llmwatch.patching import Patch
from llmwatch.signals.operation import Operation, Signals
from llmwatch.sources.transformers.asking import told
from llmwatch.sources.transformers.books import Book, Books, Entry
from llmwatch.sources.transformers.generate import PROVIDER, generating
from llmwatch.sources.transformers.models import describe, model_of
from llmwatch.sources.transformers.request import Arguments, ends_of, read_parameters

_ADD = Guard("transformers.add_request")
_DELIVER = Guard("transformers.deliver")
_CANCEL = Guard("transformers.cancel")

_PACKAGE = "transformers.generation.continuous_batching."
_PARAMETERS = ("input_ids", "request_id", "max_new_tokens", "streaming", "record_timestamps")
"""The first parameters of ``add_request``, in its order."""
_WANTED = _PARAMETERS.index("record_timestamps")

Wrapped = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Batching:
    """The wrappers, and what they share.

    Args:
        signals: Where operations are made.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.books = Books()

    def patches(self) -> list[Patch]:
        """The patch table; optional, for older releases batch in another way."""
        api, scheduler = f"{_PACKAGE}continuous_api", f"{_PACKAGE}scheduler"
        return [
            Patch(api, "ContinuousBatchingManager.add_request", self.add, optional=True),
            Patch(api, "OutputRouter.deliver", self.deliver, optional=True),
            Patch(api, "OutputRouter.deliver_batch", self.deliver, optional=True),
            Patch(api, "OutputRouter.fail_and_deliver", self.fail, optional=True),
            Patch(scheduler, "Scheduler.clear_cancelled_requests", self.cancel, optional=True),
        ]

    def undo(self) -> None:
        """Let requests in flight go on as if nobody had asked for their times."""
        self.books.let_go()

    # --- on the caller's thread ------------------------------------------------------------------

    def add(self, wrapped: Wrapped, manager: Any, args: Args, kwargs: Kwargs) -> Any:
        """Watch one request from here on."""
        begun, book = perf_counter(), None
        with _ADD:
            book = None if generating() else self.books.of(manager)
        if book is None:
            return wrapped(*args, **kwargs)
        given = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        wanted = bool(given.get("record_timestamps"))
        if not wanted and len(args) > _WANTED:
            args = (*args[:_WANTED], True, *args[_WANTED + 1 :])
        elif not wanted:
            kwargs = {**kwargs, "record_timestamps": True}
        with book.adding(wanted=wanted):
            try:
                request_id = wrapped(*args, **kwargs)
            except BaseException as error:
                with _ADD:
                    self._refused(manager, given, begun, error)
                raise
            with _ADD:
                if request_id is not None:
                    self._added(book, manager, given, begun, request_id)
                elif getattr(manager, "is_tp_driver", True):
                    self._refused(manager, given, begun, None)
        return request_id

    def _added(self, book: Book, manager: Any, given: Kwargs, begun: float, key: str) -> None:
        operation = self._start(manager, given, begun)
        if operation is not None:
            operation.attributes[names.REQUEST_KEY] = key
            left = int(getattr(manager, "num_return_sequences", None) or 1)
            wanted = bool(given.get("record_timestamps"))
            ends = _ends(manager, given)
            book.put(key, Entry(operation, perf_counter(), wanted, left, ends))

    def _refused(
        self, manager: Any, given: Kwargs, begun: float, error: BaseException | None
    ) -> None:
        operation = self._start(manager, given, begun)
        if operation is not None:
            operation.error_type = None if error is not None else "refused"
            operation.finish(error)

    def _start(self, manager: Any, given: Kwargs, begun: float) -> Operation | None:
        asked, model, config = told(), manager.model, manager.generation_config
        found = {**describe(model), **read_parameters(config, Arguments(model, (), {}), None)}
        if isinstance(most := given.get("max_new_tokens"), int):
            found[semconv.REQUEST_MAX_TOKENS] = most
        found[names.CONTINUOUS_BATCHING] = True
        return self.signals.start(
            "text_completion" if asked is None else asked.name,
            PROVIDER,
            model_of(model).name,
            {**found, **({} if asked is None else asked.attributes)},
            kind=SpanKind.INTERNAL,
            started=begun,
        )

    # --- on the thread that generates ------------------------------------------------------------

    def deliver(self, wrapped: Wrapped, router: Any, args: Args, kwargs: Kwargs) -> Any:
        """See what is handed over: one output, or a list of them."""
        with _DELIVER:
            given = args[0] if args else next(iter(kwargs.values()))
            if (book := self.books.known(router)) is not None:
                outputs: Iterable[Any] = given if isinstance(given, list) else (given,)
                for output in outputs:
                    book.take(output)
        return wrapped(*args, **kwargs)

    def fail(self, wrapped: Wrapped, router: Any, args: Args, kwargs: Kwargs) -> Any:
        """``(state, error)``: keep the error itself, for the output only has its text."""
        with _DELIVER:
            if (book := self.books.known(router)) is not None and len(args) > 1:
                book.errors[args[0].request_id] = args[1]
        return wrapped(*args, **kwargs)

    def cancel(self, wrapped: Wrapped, scheduler: Any, args: Args, kwargs: Kwargs) -> Any:
        """End the requests that were cancelled: their output is handed to nobody."""
        states = wrapped(*args, **kwargs)
        if states:
            with _CANCEL:
                if (book := self.books.scheduled_by(scheduler)) is not None:
                    for state in states:
                        book.cancel(state)
        return states


def _ends(manager: Any, given: Kwargs) -> frozenset[int]:
    """The ids that end this request."""
    ends = given.get("eos_token_id")
    if ends is None:
        return ends_of(manager.generation_config)
    return frozenset([ends] if isinstance(ends, int) else ends)
