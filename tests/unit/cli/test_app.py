"""The command line's shell: three lines for each error, exit codes, hints, a start without heavy imports."""

import json
import subprocess
import sys

import click
import pytest

from streamcore import __version__
from streamcore.cli.app import root, run
from streamcore.cli.command import Command
from streamcore.errors import BadConfig, Permanent


@pytest.fixture
def failing(monkeypatch):
    """Adds a command ``fail`` that raises what it is given."""

    def add(error):
        @click.command(cls=Command)
        def fail():
            raise error

        monkeypatch.setitem(root.commands, "fail", fail)

    return add


def lines(capsys):
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["wroker"], ["no such command 'wroker'", "streamcore", "did you mean 'worker'?"]),
        (["dlq", "lst", "x"], ["no such command 'lst'", "streamcore dlq", "did you mean 'list'?"]),
        (
            ["config", "show", "--jsn"],
            ["no such option: --jsn", "streamcore config show", "did you mean --json?"],
        ),
        (
            ["worker", "m"],
            ["a worker needs a broker", "streamcore worker", "give --broker kafka://host:port"],
        ),
        (
            ["replay", "m", "--from", "a=b", "--wait", "--isolate"],
            ["--wait and --isolate exclude each other", "--wait", "--isolate works in this process"],
        ),
        (["replay", "m", "--from", "a=b", "--wait"], ["only a replay into Kafka", "--wait", "give --broker"]),
        (
            ["replay", "nowhere", "--from", "a=b"],
            ["there is no such module", "streamcore replay", "give package.module"],
        ),
        (["replay"], ["missing argument 'MODULE'", "streamcore replay", "see streamcore replay --help"]),
        (["replay", "m"], ["missing option '--from'", "streamcore replay", "see streamcore replay --help"]),
        (
            ["dlq", "list", "t", "--since", "soon"],
            [
                "invalid value for '--since': 'soon' is no time",
                "streamcore dlq list",
                "see streamcore dlq list",
            ],
        ),
    ],
)
def test_a_wrong_command_is_told_in_three_lines_and_exits_with_2(arguments, expected, capsys):
    assert run(arguments) == 2
    shown = lines(capsys)
    assert [line.split()[0] for line in shown] == ["error:", "where:", "do:"]
    for line, text in zip(shown, expected, strict=True):
        assert text in line


@pytest.mark.parametrize(
    ("error", "code"), [(BadConfig("a", where="f.py:3", fix="b"), 2), (Permanent("a"), 1)]
)
def test_our_errors_are_told_in_three_lines_with_their_exit_code(error, code, failing, capsys):
    failing(error)
    assert run(["fail"]) == code
    shown = lines(capsys)
    assert len(shown) == 3
    assert shown[0] == "error: a"
    assert shown[1] == f"where: {error.where or 'streamcore fail'}"
    assert shown[2].startswith("do:    b" if error.fix else "do:    see Permanent in docs/troubleshooting.md")


def test_an_unexpected_error_shows_no_text_of_it_without_debug(failing, capsys):
    failing(KeyError("hunter2"))
    assert run(["fail"]) == 1
    shown = "\n".join(lines(capsys))
    assert "unexpected KeyError" in shown
    assert "test_app.py:" in shown
    assert "hunter2" not in shown
    assert "Traceback" not in shown


def test_debug_shows_the_traceback(failing, capsys):
    failing(KeyError("k"))
    assert run(["--debug", "fail"]) == 1
    assert "Traceback" in "\n".join(lines(capsys))


def test_many_allowed_values_are_cut(failing, capsys):
    failing(BadConfig("no such column", got="x", allowed=[f"c{i}" for i in range(300)]))
    run(["fail"])
    assert lines(capsys)[0].endswith("c10, c11 and 288 more")


@pytest.mark.parametrize("arguments", [["--json", "fail"], ["fail", "--json"]])
def test_with_json_an_error_is_one_document_on_standard_output(arguments, failing, capsys):
    failing(BadConfig("a", where="f.py:3", fix="b"))
    assert run(arguments) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["error"] == {
        "what": "a",
        "where": "f.py:3",
        "fix": "b",
        "type": "BadConfig",
        "exit_code": 2,
    }


def test_ctrl_c_exits_with_130(failing, capsys):
    failing(KeyboardInterrupt())
    assert run(["fail"]) == 130


def test_global_options_may_stand_before_or_after_the_command(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_text("http:\n  port: 9\n")
    for arguments in (
        ["--json", "--config", str(file), "config", "show"],
        ["config", "--config", str(file), "show", "--json"],
        ["config", "show", "--json", "--config", str(file)],
    ):
        assert run(arguments) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["http.port"] == {"value": 9, "origin": f"{file}:2:3"}


def test_config_show_hides_secrets(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_text("broker:\n  url: kafka://u:hunter2@h:1\n")
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        assert run([*arguments, "--config", str(file)]) == 0
        shown = capsys.readouterr()
        assert "hunter2" not in shown.out + shown.err
        assert "kafka://u:***@h:1" in shown.out


def test_help_imports_nothing_heavy():
    heavy = {"polars", "pyarrow", "numpy", "faust", "aiokafka", "pydantic", "rich", "asyncpg", "aiohttp"}
    script = (
        "import sys; from streamcore.cli.app import run\n"
        "assert run(['replay', '--help']) == 0\n"
        f"print('heavy:', sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_module_runs_as_the_command_does():
    done = subprocess.run(
        [sys.executable, "-m", "streamcore.cli", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("streamcore ")
    assert done.stderr == ""


def test_the_version_is_an_option_too(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["streamcore", __version__]
