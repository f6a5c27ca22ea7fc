"""What a shell offers when TAB is pressed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import programs

SHELLS = ("bash", "zsh", "fish")


def offered(*words: str, **more: str) -> list[str]:
    """What bash is given for the last of *words*."""
    ran = subprocess.run(
        programs.LLMWATCH,
        env=programs.environment(
            _LLMWATCH_COMPLETE="bash_complete",
            COMP_WORDS=" ".join(["llmwatch", *words]),
            COMP_CWORD=str(len(words)),
            **more,
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["doc"], ["plain,doctor"]),
        (["run", "--sam"], ["plain,--sample-ratio"]),
        (["run", "--backend", "da"], ["plain,datadog", "plain,datadog-agent"]),
        (["doctor", "--capture-content", "span_"], ["plain,span_only", "plain,span_and_event"]),
        (["run", "--set", "stall"], ["plain,stall_after="]),
        (["run", "--set", "head"], []),
        (["run", "--store-path", "/va"], ["dir,/va"]),
        (["run", "ap"], ["file,ap"]),
    ],
)
def test_what_was_begun_is_completed(words: list[str], wanted: list[str]) -> None:
    """Commands, options, values, names of settings; files for the program to run."""
    assert offered(*words) == wanted


def test_every_command_is_offered_and_none_is_loaded(tmp_path: Path) -> None:
    """Whatever extra is missing: here each module that is not llmwatch's own or click's."""
    from llmwatch.cli.commands import COMMANDS

    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('numpy', 'torch', 'textual', 'starlette', 'openai', 'opentelemetry'):\n"
        "    sys.modules[name] = None\n"
    )
    found = offered("", PYTHONPATH=str(tmp_path))
    assert {each.removeprefix("plain,") for each in found} >= set(COMMANDS)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str) -> None:
    ran = subprocess.run(
        programs.LLMWATCH,
        env=programs.environment(_LLMWATCH_COMPLETE=f"{shell}_source"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "llmwatch" in ran.stdout
    if (found := shutil.which(shell)) is not None:
        subprocess.run([found, "-n"], input=ran.stdout, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_by_the_line_of_the_docs(tmp_path: Path) -> None:
    """The line that the docs give for ``~/.bashrc``, and what TAB does then."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md"
    (line,) = [each for each in page.read_text().splitlines() if "bash_source" in each]
    command = tmp_path / "llmwatch"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmwatch.cli "$@"\n')
    command.chmod(0o755)
    program = f"""
{line}
COMP_WORDS=(llmwatch run --proto)
COMP_CWORD=2
_llmwatch_completion llmwatch
echo "${{COMPREPLY[@]}}"
complete -p llmwatch
"""
    ran = subprocess.run(
        ["bash", "--norc"],
        input=program,
        env=programs.environment(PATH=os.pathsep.join([str(tmp_path), os.environ["PATH"]])),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[0] == "--protocol"
    assert "_llmwatch_completion" in ran.stdout
