"""A value that cannot be used is named, with what to do; the others are the shipped ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmwatch.errors import ConfigError
from llmwatch.rules.files import export, groups, render
from llmwatch.rules.values import Burn, kind_of, load, meanings
from tests.rules.prometheus import needs_promtool, promtool


def given(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[slo.ttft]\nobjective = 1.5", "slo.ttft.objective = 1.5 .* number between 0 and 1"),
        ("[slo.tfft]\nobjective = 0.9", "'slo.tfft.objective', .* Is it 'slo.ttft.objective'?"),
        ("[slo.ttft]\nobjective = 0.9", r"slo.ttft.objective = 0.9 .* above 0.931, or a lower"),
        ("xyz = 1", "'xyz', which is no value .* There are burn, cost.budget"),
        ("[cost]\nbudget = '100'", "cost.budget = '100' .* give a number above 0"),
        ("[cost]\nbudget = true", "cost.budget = True .* give a number above 0"),
        ("[cost]\nwindow = '1 day'", "cost.window = '1 day' .* give one like \"5m\""),
        ("[cost]\nwindow = '0s'", "cost.window = '0s' .* give one like \"5m\""),
        (
            "[cost]\nwindow = '30m'",
            "cost.window = '30m' must be longer than cost.burn_window, '1h'",
        ),
        ("[cost]\nbudget = inf", "cost.budget = inf .* give a number above 0"),
        (f"[cost]\nbudget = 1{'0' * 400}", "cost.budget = 10+ .* give a number above 0"),
        ("[slo]\nleast = nan", "slo.least = nan .* give a number, 0 or more"),
        ("[slo.ttft]\nslow_models = ['(']", r"slow_models = \['\('\] .* regular expressions"),
        ("[slo.ttft]\nslow_models = ['o(?!ld)']", r"slow_models = .* regular expressions"),
        ("[slo.ttft]\nslow_models = 'o3'", "slow_models = 'o3' .* regular expressions"),
        ("[gpu.memory]\nshare = 95", "gpu.memory.share = 95 .* from 0 to 1"),
        ("[gpu.memory]\nfor = 5", "gpu.memory.for = 5 .* duration"),
        ("[labels]\nservice = 'job'", "labels.service = 'job' .* list of labels"),
        ("[labels]\nservice = ['a-b']", r"labels.service = \['a-b'\] .* list of labels"),
        ("[labels]\nservice = []", r"labels.service = \[\] .* list of labels"),
        ("[severity]\npage = 'very high'", "severity.page = 'very high' .* give a word"),
        ("[severity]\nticket = 'critical'", "severity.page and .* both 'critical', .* two words"),
        ("[gpu.throttling]\nreasons = []", r"throttling.reasons = \[\] .* list of words"),
        ("semconv = 'dup'", 'semconv = \'dup\' .* give "1.41" or "genai-0.1"'),
        ("runbooks = 'wiki'", "runbooks = 'wiki' .* give a URL"),
        ("slo = 1", "'slo', which is no value"),
        ("burn = []", r"at least one table \[\[burn\]\]"),
        ("[[burn]]\nseverity = 'page'", r"\[\[burn\]\] 0 needs severity, long, short, rate"),
        (
            "[[burn]]\nseverity='call'\nlong='1h'\nshort='5m'\nrate=1",
            r"burn\[0\].severity = 'call' .* \"page\" or \"ticket\"",
        ),
        (
            "[[burn]]\nseverity='page'\nlong='5m'\nshort='1h'\nrate=1",
            r"burn\[0\].long = '5m' must be longer than its short, '1h'",
        ),
        ("[slo", "are no TOML: Expected ']'"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"mine.toml.*{said}"):
        load(given(tmp_path, text))


def test_an_alert_may_be_off_if_there_is_one(tmp_path: Path) -> None:
    values = load(given(tmp_path, "off = ['LlmwatchNoData']"))
    found = groups(values).values()
    left = [rule.name for each in found for group in each for rule in group.rules]
    assert "LlmwatchNoData" not in left
    assert "llmwatch:reporting:count" in left
    with pytest.raises(ConfigError, match="off = 'Nothing' is no alert: there are LlmwatchCost"):
        render(load(given(tmp_path, "off = ['Nothing']")))


def test_nothing_is_written_with_a_wrong_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        export(tmp_path / "out", given(tmp_path, "[slo.ttft]\nthreshold = 3"))
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=f"{folder} cannot be written"):
            export(folder)


def test_what_others_wrote_is_not_written_over(tmp_path: Path) -> None:
    """Runbooks are there to be added to; rules are written anew, as they say."""
    export(tmp_path)
    export(tmp_path, given(tmp_path, "[cost]\nbudget = 7\n"))
    runbooks, rules = tmp_path / "runbooks.md", tmp_path / "llmwatch-gpu.rules.yml"
    assert "> 7\n" in (tmp_path / "llmwatch-requests.rules.yml").read_text()
    runbooks.write_text("Call Ann.\n")
    rules.write_bytes(b"groups: [] # \xff")
    with pytest.raises(ConfigError, match=r"llmwatch-gpu.rules.yml, runbooks.md in .* --force"):
        export(tmp_path)
    assert "> 7\n" in (tmp_path / "llmwatch-requests.rules.yml").read_text()
    assert runbooks.read_text() == "Call Ann.\n"
    export(tmp_path, force=True)
    assert "LlmwatchDriftRaised" in runbooks.read_text()


def test_what_is_not_given_is_as_shipped(tmp_path: Path) -> None:
    text = "[slo.ttft]\nthreshold = 4\n[[burn]]\nseverity='page'\nlong='2h'\nshort='10m'\nrate=5\n"
    mine, shipped = load(given(tmp_path, text)), load()
    differs = {key for key, value in mine.items() if value != shipped[key]}
    assert differs == {"slo.ttft.threshold", "burn"}
    assert mine["burn"] == (Burn("page", "2h", "10m", 5),)


def test_labels_severities_and_runbooks_are_where_they_are_wanted(tmp_path: Path) -> None:
    text = (
        "runbooks = 'https://example.org/runbooks.html'\n"
        "[labels]\nservice = ['cluster', 'job']\nmodel = []\n[severity]\npage = 'p1'\n"
    )
    rules = render(load(given(tmp_path, text)))["llmwatch-requests.rules.yml"]
    assert "sum by (cluster, job) (increase(" in rules
    assert "gen_ai_request_model" not in rules
    assert 'severity: "p1"' in rules
    assert '"{{ $labels.cluster }} {{ $labels.job }} spends money too fast"' in rules
    url = "https://example.org/runbooks.html#llmwatchcostbudgetburn"
    assert f'runbook_url: "{url}"' in rules


@needs_promtool
def test_any_pattern_that_may_be_given_can_be_loaded(tmp_path: Path) -> None:
    odd = r"""slow_models = ['a"b\.c\\d', "x`y\nz{{ 1 }}", 'é(b|c)+', '(?i:Q+)']"""
    found = export(tmp_path, given(tmp_path, f"[slo.ttft]\n{odd}\n"))
    promtool("check", "rules", found[0], cwd=tmp_path)


def test_every_value_has_a_meaning_and_is_used(tmp_path: Path) -> None:
    """Changed, it changes the rules."""
    table = list(meanings())
    keys = {key for key, _, _ in table}
    assert keys == set(load()) - {"burn"}
    assert [key for key, _, meaning in table if len(meaning) < 8] == []
    before = render(load())
    assert [key for key in keys if render(_other(tmp_path, key)) == before] == []


def _other(folder: Path, key: str) -> dict[str, object]:
    """The values with another one for a key."""
    values = dict(load())
    value = values[key]
    if key == "semconv":
        values[key] = "genai-0.1"
    elif key == "off":
        values[key] = ["LlmwatchNoData"]
    elif key.endswith("threshold"):
        values[key] = 10.0
    elif isinstance(value, str):
        values[key] = "7m" if re.fullmatch(r"\d+[smhd]", value) else f"{value}x"
    else:
        values[key] = [*value, "x"] if isinstance(value, list) else value + 0.001
    if key != "runbooks":
        assert kind_of(key).fits(values[key])
    return values


def test_the_command_writes_the_rules_and_says_where(tmp_path: Path) -> None:
    testing = pytest.importorskip("click.testing")
    from llmwatch.cli.commands import cli

    run = testing.CliRunner().invoke
    mine = given(tmp_path, "[cost]\nbudget = 7\n")
    done = run(cli, ["rules", "export", str(tmp_path / "out"), "--values", str(mine)])
    assert done.exit_code == 0, done.output
    written = sorted((tmp_path / "out").iterdir())
    assert sorted(done.output.split()) == [str(each) for each in written]
    assert "> 7\n" in (tmp_path / "out" / "llmwatch-requests.rules.yml").read_text()
    mine.write_text("[cost]\nbudget = -7\n")
    done = run(cli, ["rules", "export", str(tmp_path / "out"), "--values", str(mine)])
    assert done.exit_code == 1
    assert "cost.budget = -7 cannot be used: give a number above 0." in done.output
    printed = run(cli, ["rules", "values"]).output
    mine.write_text(printed)
    assert load(mine) == load()
