"""``streamcore state worker``: what it shows of an answer, and what it says where there is none."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from streamcore.cli.command import Globals
from streamcore.cli.state import state
from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from tests.services.native import free_ports

TOKEN = "sixteen-characters"
ANSWER = {
    "topology": "shop",
    "worker": "http://a:8000",
    "states": [
        {
            "node": "orders/table",
            "what": "aggregates by customer",
            "here": [
                {"partition": 2, "recovered": True, "bytes": 1_500_000},
                {"partition": 0, "recovered": False, "bytes": 0, "records_left": 1200, "seconds_left": 3.4},
                {"partition": 3, "recovered": False, "bytes": 0, "records_left": 7, "seconds_left": None},
            ],
            "standby": [{"partition": 1, "records_behind": 12}],
            "elsewhere": [{"partition": 1, "worker": "http://b:8000"}, {"partition": 4, "worker": None}],
        }
    ],
}


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers as a worker does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Bearer {TOKEN}"
            self.send_response(200 if known and self.path == "/state" else 401 if not known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(ANSWER).encode() if known else b"")

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(monkeypatch: pytest.MonkeyPatch, url: str, token: str | None = TOKEN) -> str:
    if token is not None:
        monkeypatch.setenv("STREAMCORE_STATE__HTTP_TOKEN", "${env:STATE_TOKEN}")
        monkeypatch.setenv("STATE_TOKEN", token)
    done = CliRunner().invoke(state, ["worker", url], obj=Globals(), catch_exceptions=False)
    return done.output


def test_partitions_are_told_in_their_order(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert run(monkeypatch, url + "/").splitlines() == [
        "shop  http://a:8000",
        "orders/table  aggregates by customer",
        "     0  is made again: 1,200 records left, about 3 s",
        "     1  at http://b:8000; standby here, 12 records behind",
        "     2  here, 1.5 MB",
        "     3  is made again: 7 records left, time left not known yet",
        "     4  at nobody yet",
    ]


@pytest.mark.parametrize(
    ("token", "path", "kind", "says"),
    [
        (None, "", BadConfig, "http_token"),
        ("another-token-of-16", "", Permanent, "not the worker's"),
        (TOKEN, "/elsewhere", Permanent, "state.http: true"),
    ],
)
def test_a_worker_that_says_no(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    token: str | None,
    path: str,
    kind: type[StreamcoreError],
    says: str,
) -> None:
    with pytest.raises(kind, match=says):
        run(monkeypatch, url + path, token)


def test_nobody_answers_and_what_is_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    with pytest.raises(Transient, match="no answer"):
        run(monkeypatch, f"http://127.0.0.1:{port}")
    with pytest.raises(BadConfig, match="http://"):
        run(monkeypatch, "file:///etc/passwd")
