"""``llmwatch run``: the program is as it was, but watched; in every process, once."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import urlopen

import pytest

from llmwatch.cli import startup
from llmwatch.demo.server import Server
from tests.cli import programs
from tests.cli.programs import llmwatch
from tests.receivers import HttpReceiver

PLAIN = """
import json, os, sys
json.dump({
    "name": __name__, "argv": sys.argv, "path": sys.path, "given": sys.stdin.read(),
    "file": __file__, "watched": "llmwatch.session" in sys.modules,
}, sys.stdout)
print("a word", file=sys.stderr)
sys.exit(7)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "asking.py").write_text(programs.ASK)
    (tmp_path / "plain.py").write_text(PLAIN)
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


@pytest.fixture
def where(receiver: HttpReceiver, server: Server) -> dict[str, str]:
    """What tells a program where its model and its collector are."""
    return {"LLMWATCH_ENDPOINT": receiver.endpoint, "BASE_URL": server.base_url}


def spans_by_process(receiver: HttpReceiver) -> Counter[str]:
    """How many spans each process sent, by its instance id."""
    found: Counter[str] = Counter()
    for each in receiver.of("traces"):
        for resource in each.message.resource_spans:
            attributes = {pair.key: pair.value for pair in resource.resource.attributes}
            instance = attributes["service.instance.id"].string_value
            found[instance] += sum(len(scope.spans) for scope in resource.scope_spans)
    return found


def counted(receiver: HttpReceiver) -> Counter[str]:
    """How many calls the metrics of each process count, in the end."""
    found: Counter[str] = Counter()
    for resource, point in receiver.points("gen_ai.client.operation.duration"):
        attributes = {pair.key: pair.value.string_value for pair in resource.attributes}
        found[attributes["service.instance.id"]] = point.count
    return found


@pytest.mark.parametrize(
    "how", [["plain.py"], ["-m", "plain"], [sys.executable, "plain.py"]], ids=" ".join
)
def test_the_program_is_as_it_would_be(folder: Path, how: list[str]) -> None:
    """Name, arguments, path, streams and exit code; only that somebody watches it is new."""
    import subprocess

    env = programs.environment(XDG_STATE_HOME=str(folder))
    direct = how if how[0] == sys.executable else [sys.executable, *how]
    arguments = ["--port", "1", "-m", "x", "--console"]
    plain = subprocess.run(
        [*direct, *arguments], cwd=folder, env=env, input="in", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    ran = llmwatch(folder, "run", *how, *arguments, given="in", XDG_STATE_HOME=str(folder))
    assert (ran.returncode, ran.stderr) == (plain.returncode, plain.stderr) == (7, "a word\n")
    told, wanted = json.loads(ran.stdout), json.loads(plain.stdout)
    assert (told.pop("watched"), wanted.pop("watched")) == (True, False)
    assert told == wanted


def test_a_script_is_watched(folder: Path, receiver: HttpReceiver, where: dict[str, str]) -> None:
    (folder / "app.py").write_text("from asking import ask\nask()\n")
    ran = llmwatch(folder, "run", "--service-name", "shop", "app.py", **where)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert receiver.names() == ["chat gpt-4o"]
    (resource, point), *_ = receiver.points("gen_ai.client.operation.duration")
    assert point.count == 1
    assert "shop" in {pair.value.string_value for pair in resource.attributes}


def test_options_win_over_variables(folder: Path, where: dict[str, str]) -> None:
    (folder / "app.py").write_text("from asking import ask\nask()\n")
    with HttpReceiver() as other:
        more = ["--endpoint", other.endpoint, "--console", "--set", "operation-events=true"]
        ran = llmwatch(folder, "run", *more, "app.py", **where)
        assert ran.stderr.startswith("llmwatch chat gpt-4o")
        assert len(other.events()) == 1


FAMILY = """
import multiprocessing, os, subprocess, sys
from asking import ask

if __name__ == "__main__":
    ask()
    if (child := os.fork()) == 0:
        ask()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    spawned = multiprocessing.get_context("spawn").Process(target=ask)
    spawned.start()
    spawned.join()
    assert spawned.exitcode == 0
    subprocess.run([sys.executable, "-c", "from asking import ask; ask(); ask()"], check=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_every_process_of_a_program_reports_once(
    folder: Path, receiver: HttpReceiver, where: dict[str, str]
) -> None:
    """Forked, spawned and started: one call each, and two in the last."""
    (folder / "app.py").write_text(FAMILY)
    ran = llmwatch(folder, "run", "app.py", **where)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(spans_by_process(receiver).values()) == [1, 1, 1, 2]
    assert sorted(counted(receiver).values()) == [1, 1, 1, 2]


WSGI = """
import os
from asking import ask

def application(environ, start_response):
    ask()
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
ASGI = """
import asyncio, os
from asking import ask

async def application(scope, receive, send):
    if scope["type"] == "http":
        await asyncio.to_thread(ask)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
GUNICORN = ["--no-control-socket", "--log-level", "error", "--bind", "127.0.0.1:{}"]
SERVERS = {
    "gunicorn": (WSGI, GUNICORN),
    "gunicorn preloading": (WSGI, [*GUNICORN, "--preload"]),  # it forks when all is imported
    "gunicorn with threads": (WSGI, [*GUNICORN, "--threads", "3"]),
    "uvicorn": (ASGI, ["--log-level", "error", "--port", "{}"]),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("name", SERVERS)
def test_each_worker_of_a_server_reports_once(
    folder: Path, receiver: HttpReceiver, where: dict[str, str], name: str
) -> None:
    """As many spans as requests, from two processes, forked or spawned; SIGTERM ends it as ever."""
    from tests.collector.collector import free_ports

    pytest.importorskip(name.partition(" ")[0])
    (port,) = free_ports(1)
    program, arguments = SERVERS[name]
    (folder / "program.py").write_text(program)
    process = programs.start(
        folder, "run", name.partition(" ")[0], "--workers", "2", *(each.format(port) for each in arguments),
        "program:application", **where,
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    )  # fmt: skip
    served: Counter[str] = Counter()
    deadline = monotonic() + 60
    try:
        while len(served) < 2 or served.total() < 4:
            assert monotonic() < deadline
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                    served[answer.read().decode()] += 1
            except OSError:  # it does not listen yet
                sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    wanted = sorted(served.values())
    receiver.wait_for(lambda: sorted(spans_by_process(receiver).values()) == wanted)
    receiver.wait_for(lambda: sorted(counted(receiver).values()) == wanted)


WAITS = """
import signal, sys, time
from asking import ask
ask()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell ignores SIGINT for what it runs in the background, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_program(
    folder: Path, receiver: HttpReceiver, where: dict[str, str], number: signal.Signals
) -> None:
    """It is the same process, it dies by the signal, and what was seen leaves."""
    (folder / "app.py").write_text(WAITS)
    process = programs.start(folder, "run", "app.py", **where)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number
    assert receiver.names() == ["chat gpt-4o"]


@pytest.mark.parametrize(
    ("variable", "value"), [("LLMWATCH_SEMCONV", "9"), ("LLMWATCH_BACKEND", "datadog")]
)
def test_a_setting_that_cannot_be_used_leaves_the_program_alone(
    folder: Path, variable: str, value: str
) -> None:
    """One line says so, and names the variable or the key that is missing."""
    (folder / "app.py").write_text("print('runs')")
    ran = llmwatch(folder, "run", "app.py", **{variable: value})
    assert (ran.returncode, ran.stdout) == (0, "runs\n")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("llmwatch is off:")
    assert ("DD_API_KEY" if value == "datadog" else variable) in line


BREAKS = """
import llmwatch.session

def broken(**settings):
    raise RuntimeError("out of order")

llmwatch.session.instrument = broken
"""


def test_a_failure_of_ours_leaves_the_program_alone(folder: Path) -> None:
    """Whatever `instrument` raises: here by a `sitecustomize` that breaks it, and runs first."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(BREAKS)
    (folder / "app.py").write_text("import sitecustomize; print('runs', sitecustomize.__file__)")
    more = {"PYTHONPATH": str(folder / "site"), "LLMWATCH_STRICT": "0"}
    ran = llmwatch(folder, "run", "app.py", **more)
    assert ran.returncode == 0
    assert ran.stdout == f"runs {folder / 'site' / 'sitecustomize.py'}\n"
    (line,) = ran.stderr.splitlines()
    assert "llmwatch failed in cli.start (RuntimeError)" in line


def test_a_python_without_llmwatch_is_left_alone(folder: Path) -> None:
    """Its own ``sitecustomize`` still runs: in the command, the program and the program's child."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text("print('theirs')")
    program = "import subprocess, sys; subprocess.run([sys.executable, '-S', *sys.argv[1:]])"
    hide = "import sys; sys.modules['llmwatch'] = None; import sitecustomize"
    ran = llmwatch(
        folder, "run", "-c", program, "-c", hide,
        PYTHONPATH=str(folder / "site"), XDG_STATE_HOME=str(folder),
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "theirs\n" * 3, "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "give a file"),
        (["-m"], 2, "after -m"),
        (["./nothing-runs-it"], 126, "nothing-runs-it cannot be run"),
        (["--colour", "app.py"], 2, "no option '--colour'"),
        (["--sample-ratio", "7", "app.py"], 2, "--sample-ratio '7' cannot be used"),
        (["--set", "colour=blue", "app.py"], 2, "'colour=blue'"),
        (["--set", "headers=key=sk-very-secret", "app.py"], 2, "LLMWATCH_HEADERS"),
        (["--backend", "datadgo", "app.py"], 2, "'datadog'"),
        (["--backend", "honeycomb", "app.py"], 2, "HONEYCOMB_API_KEY"),
        (["no-such-thing"], 127, "'no-such-thing'"),
        (["missing.py"], 2, "missing.py"),
    ],
)
def test_what_cannot_be_run_is_told(
    folder: Path, arguments: list[str], code: int, said: str
) -> None:
    """Nothing runs; the value and the remedy are named, and no key is."""
    (folder / "app.py").write_text("print('runs')")
    (folder / "nothing-runs-it").write_text("echo runs")
    (folder / "nothing-runs-it").chmod(0o755)
    ran = llmwatch(folder, "run", *arguments, XDG_STATE_HOME=str(folder))
    assert (ran.returncode, ran.stdout) == (code, "")
    assert said in ran.stderr
    assert "very-secret" not in ran.stderr


def test_a_folder_of_a_commands_name_is_not_what_is_meant(folder: Path) -> None:
    """Unless Python can run it: projects have folders called as the servers that run them."""
    for name in ("env", "package"):
        (folder / name).mkdir()
    (folder / "package" / "__main__.py").write_text("print('runs')")
    ran = llmwatch(folder, "run", "env", "echo", "command", XDG_STATE_HOME=str(folder))
    assert (ran.returncode, ran.stdout) == (0, "command\n")
    ran = llmwatch(folder, "run", "package", XDG_STATE_HOME=str(folder))
    assert (ran.returncode, ran.stdout) == (0, "runs\n")


def test_the_folder_goes_first_on_the_path_once() -> None:
    assert startup.first_on("") == startup.FOLDER
    both: Any = os.pathsep.join([startup.FOLDER, "/a", ""])
    assert startup.first_on(f"/a{os.pathsep}") == both
    assert startup.first_on(both) == both
