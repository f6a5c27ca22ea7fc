"""Lines are as wide as they should be, and say what the records say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmwatch import semconv, semconv_layers, semconv_models
from llmwatch import semconv_hardware as hardware
from llmwatch.export.store_reader import StoredLog
from llmwatch.view.records import (
    DriftLight,
    Filter,
    Finding,
    LayerCell,
    OperationRow,
    Request,
    RequestRow,
    Series,
)
from llmwatch.view.top import layers, machine, once, rows, signs, status, waterfall
from llmwatch.view.top.columns import OPERATIONS, REQUESTS, Column, model
from llmwatch.view.top.frame import Frame, Look, look
from llmwatch.view.top.layout import cells, fitted, heading, ordered, told
from llmwatch.view.top.pieces import Line, clean, fit, plain, slots, spark, width_of, wrapped
from tests.view.top.made import SECOND, Made, opened, row, span

NOW = 1_800_000_000 * SECOND
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


def frame(view: Made) -> Frame:
    return replace(look(view, Look(None)), time=NOW)


def texts(lines: list[Line]) -> list[str]:
    return [plain(line) for line in lines]


# --- pieces --------------------------------------------------------------------------------------


@given(TEXTS, st.integers(0, 60), st.booleans())
def test_a_fitted_text_is_exactly_as_wide(text: str, width: int, right: bool) -> None:
    """Whatever letters it has, the wide ones too; what fits is whole."""
    fitting = fit(clean(text), width, right=right)
    assert cell_len(fitting) == width
    if cell_len(clean(text)) <= width:
        assert fitting.strip() == clean(text).strip()


@given(TEXTS)
def test_a_clean_text_is_harmless(text: str) -> None:
    """Nothing in it moves a cursor; what was harmless stays."""
    assert clean(text).isprintable()
    assert len(clean(text)) == len(text)


def test_the_strip_has_no_codes_of_a_terminal_in_it() -> None:
    """Names of devices come from any program."""
    view = Made.of(1)
    at = replace(
        frame(view),
        machine=[
            series(hardware.GPU_METRICS["power"].name, 3.0, **{hardware.HW_NAME: "gpu\x1b[31m"})
        ],
    )
    assert plain(status.strip(at)).isprintable()


def test_a_bar_of_any_number_is_a_bar() -> None:
    """Gauges come from any program."""
    assert spark([1e308, -1e308, 0.0, 1.0], 1.0) == "█▁▁█"
    assert spark([1e308, 5e-324], 5e-324)[-1] == "█"


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0.1, 100))
def test_a_bar_is_as_high_as_its_value(values: list[float], top: float) -> None:
    """In eighths of the top, rounded down; never above it."""
    for bar, value in zip(spark(values, top), values, strict=True):
        eighths = "▁▂▃▄▅▆▇█".index(bar)
        assert eighths == 7 or eighths <= value / top * 8 < eighths + 1.0001
        assert eighths < 7 or value / top * 8 >= 6.9999


@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.floats(0, 1)), max_size=40, unique_by=lambda p: p[0]
    ),
    st.integers(1, 30),
)
def test_a_slot_shows_the_highest_reading_in_it(
    points: list[tuple[int, float]], number: int
) -> None:
    """One without a reading shows the one before, or nothing; never a value that was not read."""
    points.sort()
    times, values = [time for time, _ in points], [value for _, value in points]
    found = slots(times, values, 0, 1000, number)
    assert len(found) == number
    for at, shown in enumerate(found):
        mine = [value for time, value in points if min(int(time * number / 1000), number - 1) == at]
        if mine:
            assert shown == max(mine)
        elif shown is not None:
            assert shown == found[at - 1]


def test_a_reading_holds_as_long_as_readings_are_apart() -> None:
    """Not for ever: a program that ended leaves a gap."""
    found = slots([0, 10, 20, 30], [0.1, 0.2, 0.3, 0.4], 0, 100, 20)
    assert found[:7] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4]
    assert found[10:] == [None] * 10


@given(st.lists(st.text("abc ", min_size=1, max_size=12), max_size=12), st.integers(12, 40))
def test_wrapped_parts_are_whole_and_fit(parts: list[str], width: int) -> None:
    """Each in one piece, in their order."""
    from llmwatch.view.top.pieces import Piece

    lines = wrapped([[Piece(part)] for part in parts], width, "|")
    assert all(width_of(line) <= width for line in lines)
    joined = "|".join("".join(piece.text for piece in line) for line in lines)
    assert joined == "|".join(parts)


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [OPERATIONS, REQUESTS])
@given(width=st.integers(1, 300), number=st.integers(0, 12))
def test_a_row_never_exceeds_the_width(
    columns: tuple[Column[RequestRow | OperationRow], ...], width: int, number: int
) -> None:
    """Heading and cells are alike; more room never shows less."""
    view = Made([row(each, NOW) for each in range(number)])
    rows: list[RequestRow | OperationRow] = list(
        view.operations(Filter()) if columns is OPERATIONS else view.requests(Filter())  # type: ignore[comparison-overlap]
    )
    layout = fitted(told(columns, rows), rows, width)
    always = [column for column in columns if column.rank == 0]
    assert [column for column, _ in layout if column.rank == 0] == always
    head = heading(layout, None)
    if len(layout) > len(always):
        assert width_of(head) <= width
    for each in rows:
        assert width_of(cells(layout, each)) == width_of(head)


@pytest.mark.parametrize("column", [*range(len(REQUESTS))])
@pytest.mark.parametrize("falling", [True, False])
def test_rows_are_in_order_and_unknown_ones_last(column: int, falling: bool) -> None:
    """Either way; equal ones stay as they were."""
    rows = [row(each, NOW) for each in range(25)]
    key = REQUESTS[column].key
    found = ordered(rows, REQUESTS[column], falling=falling)
    assert sorted(map(id, found)) == sorted(map(id, rows))
    values = [key(each) for each in found]
    known = [value for value in values if value is not None]
    assert values == known + [None] * (len(values) - len(known))
    folded = [value.casefold() if isinstance(value, str) else value for value in known]
    assert folded == sorted(folded, reverse=falling)  # type: ignore[type-var]
    for value in set(known):
        mine = [each for each in found if key(each) == value]
        assert mine == [each for each in rows if key(each) == value]


def test_columns_that_nobody_fills_are_left_out() -> None:
    """Where nothing has a price there is no column of prices."""
    rows = [row(each, NOW, cost=None, error=None, outcome="ok") for each in range(5)]
    titles = [column.title for column in told(REQUESTS, rows)]
    assert "cost $" not in titles
    assert "error" not in titles
    assert "time" in titles


def test_a_model_from_a_folder_goes_by_its_last_name() -> None:
    """Others by the whole one."""
    assert model("/models/SmolLM2/") == "SmolLM2"
    assert model("org/SmolLM2") == "org/SmolLM2"
    assert model(None) is None


# --- machine -------------------------------------------------------------------------------------

GPU = {hardware.HW_NAME: "GPU 0", hardware.HW_ID: "GPU-0", hardware.HW_MODEL: "H100"}


def series(metric: str, *values: float, **attributes: str) -> Series:
    times = [NOW - (len(values) - 1 - at) * SECOND for at in range(len(values))]
    known = {key.replace("__", "."): value for key, value in attributes.items()}
    return Series(metric, "", known, "shop", times, list(values))


def test_a_gpu_is_drawn_to_its_limits() -> None:
    """Name, busy share, memory and power of their limits, and the heat."""
    view = Made()
    gpu = {key.replace(".", "__"): value for key, value in GPU.items()}
    view.machine = [
        series("hw.gpu.utilization", 0.1, 0.5, **gpu, hw__gpu__task="general"),
        series("hw.gpu.utilization", 0.9, 0.9, **gpu, hw__gpu__task="encoder"),
        series("hw.gpu.memory.usage", 20 * 2**30, 40 * 2**30, **gpu),
        series("hw.gpu.memory.limit", 80 * 2**30, 80 * 2**30, **gpu),
        series("hw.power", 100, 350, **gpu),
        series("llmwatch.gpu.power.limit", 700, 700, **gpu),
        series("hw.temperature", 40, 50, **gpu, hw__sensor_location="gpu"),
    ]
    shown = texts(machine.lines(frame(view), 60))
    assert shown[0] == "GPU 0  H100"
    assert [line.split()[0] for line in shown[1:]] == ["busy", "memory", "power", "heat"]
    for line, value in zip(
        shown[1:], ("50%", "40.0 / 80.0 GiB", "350 / 700 W", "50 °C"), strict=True
    ):
        assert line.endswith(value)
        assert "▅" in line  # half of the limit
    assert all(len(line) <= 60 for line in shown)


def test_many_gpus_have_a_line_each() -> None:
    """With all that is told of them in numbers."""
    view = Made()
    for number in range(8):
        gpu = {"hw__name": f"GPU {number}", "hw__id": f"G{number}", "hw__model": "H100"}
        view.machine += [
            series("hw.gpu.utilization", number / 10, **gpu, hw__gpu__task="general"),
            series("hw.power", 100 + number, **gpu),
        ]
    shown = texts(machine.lines(frame(view), 60))
    assert shown[0] == "8 GPUs  H100"
    assert len(shown) == 9
    for number, line in enumerate(shown[1:]):
        assert line.startswith(f"  GPU {number} ")
        assert line.endswith(f"{number * 10}%  {100 + number} W")


def test_what_nobody_reported_has_no_line() -> None:
    """No GPU, no GPU; the host alone has no program."""
    view = Made()
    assert machine.lines(frame(view), 60) == []
    view.machine = [series("system.cpu.utilization", 0.25)]
    shown = texts(machine.lines(frame(view), 60))
    assert shown[0] == "host"
    assert len(shown) == 2


def test_what_is_no_number_is_not_drawn() -> None:
    """Foreign programs may send anything; a chart goes on without it."""
    view = Made([row(1, NOW, cost=float("nan"), ttft=float("inf"))])
    view.machine = [series("process.cpu.utilization", 0.5, float("nan"), float("inf"), 0.5)]
    view.cells = [cell(f"h.{n}", "Block", "decode", float("nan"), n) for n in range(3)]
    shown = once.text(frame(view), 80)
    (line,) = [line for line in shown.splitlines() if line.startswith("  CPU")]
    assert "▅" in line
    assert "▇" not in line


def test_old_readings_say_so() -> None:
    """They are not of now."""
    view = Made()
    old = series("process.cpu.utilization", 0.5)
    view.machine = [replace(old, times=[NOW - 600 * SECOND])]
    assert texts(machine.lines(frame(view), 60))[0] == "shop  10 min ago"


# --- layers --------------------------------------------------------------------------------------


def cell(layer: str, kind: str, phase: str, mean: float, block: int | None, share: float = 0.1) -> (
    LayerCell
):  # fmt: skip
    return LayerCell("shop", "/m/Tiny", layer, kind, phase, "cpu", 4, mean, share, block)


def test_the_map_has_a_cell_for_each_block() -> None:
    """Height from zero, so that equal layers look equal; the slowest in the hottest colour."""
    cells = [cell("(model)", "LlamaForCausalLM", "decode", 0.5, None)]
    cells += [
        cell(f"layers.{n}", "LlamaDecoderLayer", "decode", 0.08 if n == 3 else 0.04, n)
        for n in range(6)
    ]
    lines = layers.lines(cells, 70)
    (found,) = [line for line in lines if plain(line).startswith("  DecoderLayer")]
    bars = [piece for piece in found if piece.role.startswith("hot")]
    assert [piece.text[0] for piece in bars] == ["▅", "▅", "▅", "█", "▅", "▅"]
    assert [piece.role for piece in bars] == ["hot0"] * 3 + ["hot7"] + ["hot0"] * 2
    assert plain(found).endswith("40 ms … 80 ms")
    assert texts(lines)[:2] == ["Tiny", "decode cpu  500 ms in 4  DecoderLayer 60%  the rest 10%"]


@given(st.integers(1, 120), st.integers(40, 200))
def test_the_map_fits_as_far_as_a_cell_a_block_does(blocks: int, width: int) -> None:
    """With many blocks the scale gives way first."""
    cells = [cell(f"h.{n}", "Block", "prefill", 0.001 * (n + 1), n) for n in range(blocks)]
    lines = layers.lines(cells, width)
    if blocks + layers.LABEL + layers.NARROW_SCALE <= width:
        assert all(width_of(line) <= width for line in lines)


def test_layers_without_blocks_are_listed_by_name() -> None:
    """The slowest first."""
    cells = [cell(name, "Linear", "forward", mean, None) for name, mean in (("a", 0.1), ("b", 0.3))]
    shown = texts(layers.lines(cells, 60))
    assert [line.split()[0] for line in shown] == ["Tiny", "forward", "b", "a"]


# --- signs ---------------------------------------------------------------------------------------


def test_alarms_come_first_and_say_so_in_words() -> None:
    """Colour alone tells nothing."""
    steady = DriftLight("shop", "questions", None, None, False, 0.4, 0.01, 0.1, 200, NOW)
    alarm = replace(steady, monitor="answers", key="de", alarm=True, p_value=0.0001, effect=0.3)
    shown = texts(signs.lines([steady, alarm], [], NOW, 80))
    assert shown[0].startswith("▲ DRIFT answers/de  p 0.0001  effect 30%")
    assert shown[1].startswith("● steady questions")


def test_findings_that_hold_come_before_those_that_are_over() -> None:
    """With their text in full, over as many lines as it takes."""
    text = "the attention takes 78 % of the time for 20 % of the work, twice in a row"
    over = Finding("shop", "nan_first", "a NaN", NOW - 9 * SECOND, NOW - 5 * SECOND, {})
    holds = Finding("shop", "time_beyond_flops", text, NOW - 90 * SECOND, None, {})
    shown = texts(signs.lines([], [over, holds], NOW, 40))
    assert shown[0] == "! time_beyond_flops  for 1 min"
    assert " ".join(line.strip() for line in shown[1:-2]) == text
    assert shown[-2].startswith("✓ nan_first")
    assert all(len(line) <= 40 for line in shown)


# --- the line above, and the strip ---------------------------------------------------------------


def test_the_strip_says_what_panels_would() -> None:
    """Machine, drift and findings, as far as there are any."""
    view = Made()
    assert status.strip(frame(view)) == []
    gpu = {key.replace(".", "__"): value for key, value in GPU.items()}
    view.machine = [
        series("hw.gpu.utilization", 0.5, **gpu, hw__gpu__task="general"),
        series("hw.power", 350, **gpu),
        series("process.cpu.utilization", 0.25),
    ]
    view.lights = [DriftLight("shop", "m", None, None, True, None, None, None, None, NOW)]
    view.raised = [Finding("shop", "k", "t", NOW, None, {}), Finding("shop", "k", "t", 1, 2, {})]
    shown = plain(status.strip(frame(view)))
    assert shown == "GPU 0 50% 350 W  CPU 25%  drift ▲ 1 drifting  ! 1 finding"


# --- the waterfall -------------------------------------------------------------------------------


def stream(tokens: list[float], **attributes: object) -> Request:
    one = row(0, NOW, duration=tokens[-1], ttft=tokens[0])
    return opened(one, tokens=tokens, spans=[span(one, attributes=attributes)])


def drawn(request: Request, width: int = 120) -> list[str]:
    span_ = waterfall.length(request)
    return texts([each.line(width, span_) for each in waterfall.rows(request, width)])


def test_each_chunk_has_its_time_and_its_gap() -> None:
    """And a bar from the chunk before it to itself, on the axis of the request."""
    shown = drawn(stream([0.5, 0.6, 0.8, 1.0]), 100 + rows.LABEL + rows.VALUE + 2)
    chunks = [line for line in shown if line.strip().startswith("chunk ")]
    for number, (line, at, gap) in enumerate(
        zip(
            chunks,
            ("500 ms", "600 ms", "800 ms", "1.00 s"),
            ("+500 ms", "+100 ms", "+200 ms", "+200 ms"),
            strict=True,
        ),
        1,
    ):
        assert line.split()[:2] == ["chunk", str(number)]
        assert at in line
        assert gap in line
    axis = rows.LABEL + rows.VALUE + 2
    assert [line.index("●") - axis for line in chunks] == [49, 59, 79, 99]
    assert [line.index("─") - axis for line in chunks] == [0, 50, 60, 80]


def test_stalls_are_those_that_the_span_counted() -> None:
    """The longest ones; a gap that the program made itself is named, and is none."""
    tokens = [0.1, 0.2, 2.2, 2.3, 7.3, 7.4]
    counted = {
        semconv.STREAM_STALLS: 1,
        semconv.STREAM_GAP_MAX: 2.0,
        semconv.STREAM_READY_CHUNKS: 1,
        semconv.STREAM_CONSUMER_TIME: 5.0,
    }
    shown = drawn(stream(tokens, **counted))
    marked = {line.split()[1]: line for line in shown if line.strip().startswith("chunk ")}
    assert [number for number, line in marked.items() if line.endswith("stall")] == ["3"]
    assert [number for number, line in marked.items() if "the program was away" in line] == ["5"]
    silent = drawn(stream(tokens, **counted | {semconv.STREAM_CONSUMER_TIME: 0.1}))
    assert not any("away" in line for line in silent)  # the gap is round a chunk without output
    assert not any("stall" in line for line in drawn(stream(tokens)) if "chunk" in line)


def test_spans_are_a_tree_whose_bars_are_cut_at_the_ends_of_the_axis() -> None:
    """Parents before children; what is before or after the request shows at its edge."""
    one = row(0, NOW, duration=1.0)
    agent = span(
        one, span_id="a", name="agent", start=one.start - SECOND, end=one.start + 3 * SECOND
    )
    mine = span(one, parent_id="a")
    before = span(one, span_id="b", parent_id="a", name="embeddings", start=one.start - SECOND // 2,
                  end=one.start - SECOND // 4)  # fmt: skip
    layer = span(one, span_id="c", parent_id=mine.span_id, name="layer", end=one.start + SECOND // 2,
                 attributes={semconv_layers.LAYER_NAME: "h.0"})  # fmt: skip
    shown = drawn(opened(one, spans=[agent, before, mine, layer]))
    at = next(at for at, line in enumerate(shown) if line.startswith("agent"))
    tree = shown[at : at + 4]
    assert [line.split("  ")[0] for line in tree[:2]] == ["agent", "└ embeddings"]
    assert tree[3].startswith("  └ h.0")
    assert tree[0].split()[-1][0] == "◂"
    assert tree[0].endswith("▸")
    assert tree[1].endswith("◂")
    assert set(tree[2].split()[-1]) == {"█"}
    assert any(line.startswith("Layers") for line in shown)


def test_a_local_model_has_a_prefill_and_steps() -> None:
    """A step gives each sequence one token."""
    one = row(0, NOW, duration=1.0, ttft=0.4)
    attributes = {semconv_models.GENERATION_TIMELINE: [400_000]}
    request = opened(one, tokens=[0.4, 0.5], prefill=0.3, spans=[span(one, attributes=attributes)])
    shown = drawn(request)
    assert any(line.startswith("prefill") and "300 ms" in line for line in shown)
    assert any(line.strip().startswith("step 2") for line in shown)
    assert not any(semconv_models.GENERATION_TIMELINE in line for line in shown)


def test_without_times_it_says_how_to_get_them() -> None:
    """And shows the time to the first chunk all the same."""
    shown = drawn(opened(row(0, NOW)))
    assert any("timeline=True" in line for line in shown)
    assert any(line.startswith("to the first chunk") for line in shown)
    assert not any("timeline=True" in line for line in drawn(opened(row(0, NOW, ttft=None))))


def test_machine_events_and_attributes_are_there() -> None:
    """What is known of a request is on its screen."""
    one = row(0, NOW)
    log = StoredLog("gen_ai.event", NOW + SECOND // 4, 9, "said", {}, None, None, "", {})
    cpu = Series("process.cpu.utilization", "1", {}, "shop", [NOW, NOW + SECOND // 4], [0.2, 0.9])
    spans = [span(one, attributes={"gen_ai.request.model": "gpt\x1b[2J"})]
    shown = drawn(opened(one, machine=[cpu], logs=[log], spans=spans))
    (line,) = [line for line in shown if line.startswith("shop CPU")]
    assert "90%" in line
    assert any("250 ms  gen_ai.event  said" in line for line in shown)
    assert any("gpt·[2J" in line for line in shown)


@given(st.integers(60, 220), st.lists(st.floats(0.0, 5.0), max_size=30))
def test_no_line_of_it_exceeds_the_width(width: int, tokens: list[float]) -> None:
    """But for notes at the end of a bar, which a screen cuts."""
    request = opened(row(0, NOW), tokens=sorted(tokens))
    span_ = waterfall.length(request)
    for each in waterfall.rows(request, width):
        if not isinstance(each, rows.Words):
            assert width_of(each.line(width, span_)) <= width


# --- one look as text ----------------------------------------------------------------------------


def test_one_look_as_text_has_every_panel_that_has_anything() -> None:
    """In their order."""
    view = Made([row(each, NOW) for each in range(30)])
    view.machine = [series("process.cpu.utilization", 0.25)]
    shown = once.text(frame(view), 120)
    titles = [line for line in shown.splitlines() if line in ("Operations", "Machine", "Layers",
                                                             "Requests")]  # fmt: skip
    assert titles == ["Operations", "Machine", "Requests"]
    assert shown.startswith("all time  30 operations")


# --- looking -------------------------------------------------------------------------------------


class Quiet(Made):
    """One that nobody writes to."""

    def refresh(self) -> bool:
        return False

    def operations(self, by: Filter) -> list[OperationRow]:
        self.asked.append("operations")
        return super().operations(by)


def test_where_nothing_is_written_nothing_is_asked_again() -> None:
    """But for another look, and now and then for one that moves with the time."""
    view = Quiet([row(each, NOW) for each in range(3)])
    first = look(view, Look(None))
    assert look(view, Look(None), first).operations is first.operations
    assert view.asked == ["operations"]
    look(view, Look(60.0), first)
    assert view.asked == ["operations"] * 2
    moving = look(view, Look(60.0))
    assert look(view, Look(60.0), moving).operations is moving.operations
    look(view, Look(60.0), replace(moving, asked=moving.asked - 6 * SECOND))
    assert view.asked == ["operations"] * 4
