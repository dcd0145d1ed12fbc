"""State over HTTP is off, and a worker that can't guard it does not start."""

from __future__ import annotations

import pytest

import streamcore as sc
from streamcore.errors import BadConfig
from streamcore.runtime.state_http import state_endpoints
from streamcore.settings import load

TOKEN = "${env:STATE_TOKEN}"


def endpoints(**state: object):
    given = {f"state.{name}": ("option", value) for name, value in state.items() if name != "port"}
    options = {**given, "http.port": ("option", state.get("port", 8000))}
    settings = load(options, environ={}).settings
    topology = sc.Topology("t")
    topology.stream("s", {"k": "string"}).by("k").aggregate(n="count(*)").to(sc.sinks.Topic("out"))
    return state_endpoints(topology.freeze(), {}, settings)


def test_state_is_not_served_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("STATE_TOKEN", "long-enough-to-be-one")
    assert endpoints() is None
    assert endpoints(http_token=TOKEN) is None
    served = endpoints(http=True, http_token=TOKEN)
    assert all(end.path.startswith("/state") for end in served.endpoints())
    assert all(end.access.token is served.token for end in served.endpoints())
    assert "long-enough" not in repr(served)


@pytest.mark.parametrize(
    ("given", "secret", "says"),
    [
        ({}, "long-enough-to-be-one", "state.http needs a token"),
        ({"http_token": "long-enough-to-be-one"}, "x", "must be a reference"),
        ({"http_token": TOKEN}, "short", "has less than 16 characters"),
        ({"http_token": TOKEN}, None, "STATE_TOKEN is not set"),
        ({"http_token": TOKEN, "port": 0}, "long-enough-to-be-one", "set http.port"),
    ],
)
def test_a_worker_that_can_t_guard_its_state_does_not_start(given, secret, says, monkeypatch):
    monkeypatch.delenv("STATE_TOKEN", raising=False)
    if secret is not None:
        monkeypatch.setenv("STATE_TOKEN", secret)
    with pytest.raises(BadConfig, match=says) as raised:
        endpoints(http=True, **given)
    assert "long-enough" not in str(raised.value)


def test_the_token_is_not_shown_with_the_settings(monkeypatch):
    monkeypatch.setenv("STATE_TOKEN", "long-enough-to-be-one")
    loaded = load({"state.http_token": ("option", TOKEN)}, environ={})
    shown = {one.name: one.value for one in loaded.shown()}
    assert shown["state.http_token"] == TOKEN
    assert "long-enough" not in f"{loaded} {loaded.settings!r} {loaded.settings.model_dump()}"
