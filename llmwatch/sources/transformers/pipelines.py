"""Watch pipelines: what they do is one operation, whoever does it.

Where the model generates, ``generate`` is the operation, and the pipeline only tells it what it is
for. Elsewhere a call is one operation, begun with its first batch; a generator or a data set is
worked at while its results are asked for, so there each batch is one. Nothing is open while the
consumer has the floor, and nothing is computed earlier than without llmwatch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from opentelemetry.trace import SpanKind

from llmwatch import semconv
from llmwatch import semconv_tasks as names
from llmwatch._guard import Guard
from llmwatch.config import CaptureContent
from llmwatch.measure.record import Usage
from llmwatch.patching import Patch
from llmwatch.signals import drift_feed
from llmwatch.signals.operation import Operation, Signals
from llmwatch.sources.transformers import pooling, tasks
from llmwatch.sources.transformers.asking import Asked, ask
from llmwatch.sources.transformers.models import model_of

_CALL = Guard("transformers.pipeline")
_BATCH = Guard("transformers.pipeline.batch")
_END = Guard("transformers.pipeline.end")

PROVIDER = "huggingface"

Wrapped = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class _Run:
    """One call of a pipeline, or one batch of a lazy one."""

    def __init__(self, pipeline: Any, inputs: Any, *, alone: bool = False) -> None:
        self.pipeline = pipeline
        self.inputs = inputs
        self.alone = alone
        """True for one batch that no call waits for."""
        self.begun = perf_counter()
        self.began = self.generated = False
        self.operation: Operation | None = None
        self.batches = self.largest = 0
        self.tokens: int | None = 0

    def begin(self, signals: Signals) -> Operation | None:
        """Open the operation, unless that was done or tried before."""
        if not self.began:
            self.began = True
            self.operation = signals.start(
                tasks.operation_name(self.pipeline, self.inputs),
                PROVIDER,
                model_of(self.pipeline.model).name,
                tasks.attributes_of(self.pipeline),
                kind=SpanKind.INTERNAL,
                started=self.begun,
            )
        return self.operation

    def add(self, tensors: Any) -> None:
        """Count a batch."""
        self.batches += 1
        self.largest = max(self.largest, tasks.batch_of(tensors) or 0)
        tokens = tasks.tokens_of(tensors)
        self.tokens = None if self.tokens is None or tokens is None else self.tokens + tokens

    def finish(self, error: BaseException | None) -> None:
        """Close the operation with what was counted, if there is one."""
        operation = self.operation
        if operation is None:
            return
        with _END:
            self._tell(operation)
        operation.finish(error)

    def _tell(self, operation: Operation) -> None:
        inputs = (self.largest or None) if self.alone else tasks.count(self.inputs)
        if inputs is not None:
            operation.inputs = operation.attributes[semconv.INPUT_COUNT] = inputs
        if self.batches:
            operation.attributes[names.BATCHES] = self.batches
        if self.largest:
            operation.attributes[names.BATCH_SIZE] = self.largest
        if self.batches and self.tokens is not None:
            operation.usage = Usage(input_tokens=self.tokens)


_run: ContextVar[_Run | None] = ContextVar("llmwatch-pipeline", default=None)
"""The innermost call of a pipeline that runs here."""


class Pipelines:
    """The wrappers, and what they share.

    Args:
        signals: Where operations are made.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def patches(self) -> list[Patch]:
        """The patch table. Every pipeline of the library, and of its users, ends in these."""
        base = "transformers.pipelines.base"
        return [
            Patch(base, "Pipeline.__call__", self.call),
            Patch(base, "Pipeline.forward", self.forward),
        ]

    def call(self, wrapped: Wrapped, pipeline: Any, args: Args, kwargs: Kwargs) -> Any:
        """Watch one call; its operation begins with the first batch, for there may be none yet."""
        run = _Run(pipeline, args[0] if args else kwargs.get("inputs"))
        token = _run.set(run)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            with _CALL:
                if not run.generated:  # it may have failed before it came to the model
                    run.begin(self.signals)
            run.finish(error)
            raise
        finally:
            _run.reset(token)
        run.finish(None)
        return result

    def forward(self, wrapped: Wrapped, pipeline: Any, args: Args, kwargs: Kwargs) -> Any:
        """Watch one batch on its way through the model."""
        run = _run.get()
        if run is None or run.pipeline is not pipeline:
            run = _Run(pipeline, None, alone=True)
        asked = operation = None
        with _BATCH:
            if tasks.generates(pipeline):
                asked = self._asked(pipeline, args[0] if args else None)
            else:
                operation = run.begin(self.signals)
        if asked is not None:
            return self._generate(run, asked, wrapped, args, kwargs)
        if operation is not None:
            return self._infer(run, operation, wrapped, args, kwargs)
        return wrapped(*args, **kwargs)

    def _infer(
        self, run: _Run, operation: Operation, wrapped: Wrapped, args: Args, kwargs: Kwargs
    ) -> Any:
        tensors = args[0] if args else None
        with _BATCH:
            run.add(tensors)
        token = operation.enter()
        try:
            outputs = wrapped(*args, **kwargs)
        except BaseException as error:
            if run.alone:
                run.finish(error)
            raise
        finally:
            operation.leave(token)
        with _BATCH:
            _embedded(operation, outputs, tensors)
        if run.alone:
            run.finish(None)
        return outputs

    def _generate(
        self, run: _Run, asked: Asked, wrapped: Wrapped, args: Args, kwargs: Kwargs
    ) -> Any:
        try:
            with ask(asked):
                outputs = wrapped(*args, **kwargs)
        except BaseException as error:
            self._unasked(run, asked, args, error)
            raise
        self._unasked(run, asked, args, None)
        return outputs

    def _unasked(self, run: _Run, asked: Asked, args: Args, error: BaseException | None) -> None:
        """A model that could have generated may not have been asked to: then we are it."""
        run.generated = run.generated or asked.taken
        if asked.taken:
            return
        with _BATCH:
            if run.begin(self.signals) is not None:
                run.add(args[0] if args else None)
        if run.alone:
            run.finish(error)

    def _asked(self, pipeline: Any, tensors: Any) -> Asked:
        prompts = tensors.get("prompt_text") if hasattr(tensors, "get") else None
        describe = None
        if prompts is not None and self.signals.config.capture_content is not (
            CaptureContent.NO_CONTENT
        ):
            from llmwatch.sources.transformers.content import Describe

            describe = Describe(self.signals.config, pipeline.tokenizer, prompts, tensors)
        attributes = {names.TASK: pipeline.task} if pipeline.task else {}
        return Asked(tasks.operation_name(pipeline, prompts), attributes, describe)


def _embedded(operation: Operation, outputs: Any, tensors: Any) -> None:
    """Tell the dimension of embeddings, and show them to whoever watches for drift."""
    if operation.name != "embeddings":
        return
    hidden = pooling.hidden_states(outputs)
    if hidden is None:
        return
    operation.attributes[semconv.EMBEDDINGS_DIMENSION_COUNT] = int(hidden.shape[-1])
    if (feed := drift_feed.feed) is not None:
        mask = tasks.mask_of(tensors)
        feed.put_matrix(operation, pooling.pooled(hidden, mask, feed.pooling))
