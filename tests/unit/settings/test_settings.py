"""Settings: the order of the sources, the origin of each value, errors that name line and column."""

import pytest

from streamcore.errors import BadConfig
from streamcore.settings import Settings, load


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes config/streamcore.yaml in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    return (tmp_path / "config" / "streamcore.yaml").write_text


def shown(loaded):
    return {s.name: (s.value, s.origin) for s in loaded.shown()}


def test_without_any_source_all_are_defaults(file):
    loaded = load(environ={})
    assert loaded.settings == Settings()
    assert {origin for _, origin in shown(loaded).values()} == {"default"}


def test_the_command_line_beats_the_environment_beats_the_file(file):
    file("http:\n  port: 1\n  host: a\nlog:\n  level: debug\n")
    environ = {"STREAMCORE_HTTP__PORT": "2", "STREAMCORE_HTTP__HOST": "b", "STREAMCORE_CRASH_POINT": "x"}
    loaded = load({"http.port": ("--port", 3)}, environ=environ)
    assert (loaded.settings.http.port, loaded.settings.http.host, loaded.settings.log.level) == (
        3,
        "b",
        "debug",
    )
    values = shown(loaded)
    assert values["http.port"] == (3, "--port")
    assert values["http.host"] == ("b", "STREAMCORE_HTTP__HOST")
    assert values["log.level"] == ("debug", "config/streamcore.yaml:5:3")
    assert values["log.format"] == ("console", "default")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "http:\nlog:\n  # level: info\n"])
def test_a_file_with_everything_commented_out_changes_nothing(file, text):
    file(text)
    assert load(environ={}).settings == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("htttp:\n  port: 1\n", r"streamcore.yaml:1:1: unknown section 'htttp'.*did you mean 'http'"),
        (
            "http:\n  prot: 1\n",
            r"streamcore.yaml:2:3: unknown setting 'http.prot'.*did you mean 'port'",
        ),
        ("http: 8000\n", r"streamcore.yaml:1:1: http must be a mapping.*host, port"),
        (
            "http:\n  port: many\n",
            r"streamcore.yaml:2:3: http.port: must be a valid integer.*got 'many'",
        ),
        (
            "http:\n  port: 70000\n",
            r"streamcore.yaml:2:3: http.port: must be less than.*65535, got 70000",
        ),
        ("http:\n  port: true\n", r"streamcore.yaml:2:3: http.port must not be true or false"),
        (
            "log:\n  format: xml\n",
            r"streamcore.yaml:2:3: log.format: must be 'console' or 'json', got 'xml'",
        ),
        ("retry:\n  max_s: .inf\n", r"streamcore.yaml:2:3: retry.max_s: must be a finite number"),
        (
            "broker:\n  url: redis://h\n",
            r"streamcore.yaml:2:3: broker.url: must be embedded or kafka://",
        ),
        ("http:\n  port: 1\n  port: 2\n", r"streamcore.yaml:3:3: 'port' is given twice"),
        ("http:\n port: [1\n", r"streamcore.yaml:3:1: the settings file is not YAML"),
        ("- a\n- b\n", r"streamcore.yaml:1:1: the settings file must be a mapping"),
        ("a\x07b: 1\n", r"streamcore.yaml: the settings file is not YAML"),
        (
            "log:\n  level: !!python/object:os.system x\n",
            r"streamcore.yaml:2:10: not a plain YAML value",
        ),
        ("state:\n  dir: 2024-13-45\n", r"streamcore.yaml:2:8: not a plain YAML value"),
        ("state:\n  dir: ${env:SC_NONE}\n", r"streamcore.yaml:2:3, \$\{env:SC_NONE\}: .* SC_NONE is not set"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_column(file, text, message):
    file(text)
    with pytest.raises(BadConfig, match=message):
        load(environ={})


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"STREAMCORE_HTTP__PROT": "1"},
            "STREAMCORE_HTTP__PROT: unknown setting 'http.prot'.*did you mean 'port'",
        ),
        ({"STREAMCORE_HTTP__PORT": "x"}, "STREAMCORE_HTTP__PORT: http.port: must be a valid integer"),
        ({"STREAMCORE_HTTP__PORT__X": "1"}, "STREAMCORE_HTTP__PORT__X: unknown setting"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(file, environ, message):
    with pytest.raises(BadConfig, match=message):
        load(environ=environ)


def test_a_named_file_must_exist(file, tmp_path):
    with pytest.raises(BadConfig, match="can't be read: No such file"):
        load(file=tmp_path / "none.yaml", environ={})


def test_references_are_resolved_in_values(file, monkeypatch):
    monkeypatch.setenv("SC_PORT", "9000")
    monkeypatch.setenv("SC_PW", "a@b")
    file("http:\n  port: ${SC_PORT:1}\nbroker:\n  url: kafka://u:${env:SC_PW}@h:1\n")
    settings = load(environ={}).settings
    assert settings.http.port == 9000
    assert settings.broker.url == "kafka://u:a%40b@h:1"


def test_what_is_shown_holds_no_secret(file, monkeypatch):
    monkeypatch.setenv("SC_PW", "hunter2")
    for url, shown_url in (
        ("kafka://u:${env:SC_PW}@h:1", "kafka://u:${env:SC_PW}@h:1"),
        ("kafka://u:hunter2@h:1", "kafka://u:***@h:1"),
        ("kafka://u:${NOT_SET:hunter2}@h:1", "kafka://u:***@h:1"),
    ):
        file(f"broker:\n  url: {url}\n")
        loaded = load(environ={})
        assert shown(loaded)["broker.url"] == (shown_url, "config/streamcore.yaml:2:3")
        assert "hunter2" not in repr(loaded)


def test_a_password_is_not_quoted_when_the_url_is_refused(file):
    file("broker:\n  url: redis://u:hunter2@h\n")
    with pytest.raises(BadConfig, match="redis://u:") as caught:
        load(environ={})
    assert "hunter2" not in str(caught.value)


def test_names_made_from_the_topology():
    assert Settings().dead_letter_topic("flights") == "flights.dead-letters"
    assert Settings().group("flights") == "flights"
