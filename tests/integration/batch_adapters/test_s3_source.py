"""Objects as a source on a real server: what changes, what fails, what is not allowed."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from batch_adapters.catalogue import open_source
from streamcore.contracts import SplitReader
from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.systems import s3_client
from streamcore.testing.sources import SOURCE, read_source
from tests.faults.proxy import Proxy
from tests.services import s3 as s3_service
from tests.services.s3 import S3Server, certificates
from tests.services.server import Unavailable

ROWS = b"id,name\n" + b"".join(b"%d,name %d\n" % (i, i) for i in range(1000))


class Objects:
    """A bucket of the test's own."""

    def __init__(self, server: S3Server) -> None:
        self.server, self.bucket = server, server.fresh_bucket()["BUCKET"]

    def put(self, **content: bytes) -> None:
        for key, body in content.items():
            name = key.replace("__", "/").replace("_", ".")
            self.server.client.put_object(Bucket=self.bucket, Key=name, Body=body)

    def delete(self, key: str) -> None:
        self.server.client.delete_object(Bucket=self.bucket, Key=key)

    def uri(self, key: str, endpoint: str | None = None) -> str:
        return self.server.uri(f"{self.bucket}/{key}", endpoint)


@pytest.fixture
def objects(s3: S3Server) -> Objects:
    return Objects(s3)


def test_an_object_that_changes_during_a_replay_is_an_error_and_no_mixture(objects: Objects) -> None:
    objects.put(x_csv=ROWS * 100)
    split = open_source(objects.uri("x.csv")).splits(1)[0]
    reader = split.open(SOURCE, 0)
    assert reader.read(10_000) is not None
    objects.put(x_csv=ROWS.replace(b"name", b"nome") * 100)
    with pytest.raises(Permanent, match=r"x\.csv: the file has changed since the replay began"):
        _read_on(reader)
    reader.close()
    with pytest.raises(Permanent, match="has changed since"):
        split.open(SOURCE, 0)
    objects.delete("x.csv")
    with pytest.raises(Permanent, match="no longer there"):
        split.open(SOURCE, 0)


def _read_on(reader: SplitReader) -> None:
    while reader.read(10_000):
        pass


def test_prefixes_patterns_and_hidden_names(objects: Objects) -> None:
    objects.put(
        d__a_csv=b"id\n1\n",
        d__e__b_csv=b"id\n2\n",
        d__c_json=b"{}",
        f__g_csv=b"id\n3\n",
        d2__x_csv=b"id\n4\n",
    )
    for key in ("f/_SUCCESS", "f/.part.csv", "f/_seals/x/1", "f/"):
        objects.server.client.put_object(Bucket=objects.bucket, Key=key, Body=b"")

    def ids(key: str) -> list[object]:
        return [record.value for record in read_source(open_source(objects.uri(key)))]

    assert ids("f") == ids("f/") == ids("f/g.csv") == [("3",)]
    assert ids("d/*.csv") == [("1",)]
    assert ids("d/**/*.csv") == [("1",), ("2",)]
    assert ids("**/?.csv") == [("1",), ("2",), ("4",), ("3",)]
    with pytest.raises(BadConfig, match=r"several formats"):
        ids("d")
    with pytest.raises(BadConfig, match=r"no object matches.*holds: f/, f/.part.csv"):
        ids("f/*.parquet")
    with pytest.raises(BadConfig, match=r"no such object or prefix.*holds: d/a.csv"):
        ids("d/nothing.csv")
    with pytest.raises(BadConfig, match=r"csv has no such option, got 'delimeter'.*did you mean 'delimiter'"):
        open_source(objects.uri("f/g.csv") + "&delimeter=;")


def test_what_the_server_refuses_is_said_without_the_secret(objects: Objects) -> None:
    objects.put(x_csv=ROWS)
    wrong = objects.uri("x.csv").replace("testsecret", "hunter2")
    with pytest.raises(BadConfig, match="check") as caught:
        open_source(wrong)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(BadConfig, match=r"NoSuchBucket.*make the bucket|no such"):
        open_source(objects.uri("*.csv").replace(objects.bucket, "another-bucket"))


@pytest.fixture(scope="module")
def tls_server() -> Iterator[S3Server]:
    try:
        server = s3_service.start(tls=True)
    except Unavailable as error:
        pytest.skip(str(error))
    yield server
    server.close()


def test_certificates_are_verified_unless_told_otherwise(tls_server: S3Server) -> None:
    objects = Objects(tls_server)
    objects.put(x_csv=ROWS)
    with pytest.raises(BadConfig, match=r"certificate.*was not accepted.*ca_file="):
        open_source(objects.uri("x.csv"))
    for option in (f"ca_file={certificates().ca}", "tls_verify=false"):
        assert len(read_source(open_source(f"{objects.uri('x.csv')}&{option}"))) == 1000
    with pytest.raises(StreamcoreError):
        open_source(objects.uri("x.csv", tls_server.endpoint.replace("localhost", "127.0.0.2")))


def test_a_server_that_restarts_is_waited_for(own_s3: S3Server) -> None:
    objects = Objects(own_s3)
    objects.put(x_csv=ROWS)
    split = open_source(objects.uri("x.csv")).splits(1)[0]
    own_s3.kill()
    restart = threading.Timer(0.3, own_s3.start)
    restart.start()
    reader = split.open(SOURCE, 0)
    restart.join()
    chunk = reader.read(1 << 20)
    assert chunk is not None
    assert len(chunk) == 1000


async def test_a_lost_reply_is_asked_for_again(objects: Objects) -> None:
    objects.put(x_csv=ROWS)
    port = int(objects.server.endpoint.rpartition(":")[2])
    async with Proxy("127.0.0.1", port) as proxy:
        uri = objects.uri("x.csv", f"http://127.0.0.1:{proxy.port}")
        source = await asyncio.to_thread(open_source, uri)
        proxy.lose_reply_to(b"GET /")
        assert len(await asyncio.to_thread(read_source, source)) == 1000
        assert proxy.lost == 1


def test_a_black_hole_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "DEADLINE", 1.0)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        endpoint = f"http://127.0.0.1:{hole.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(Transient, match=f"{endpoint} did not answer within 1 s"):
            open_source(f"s3://bucket/x.csv?endpoint={endpoint}&anonymous=true")
        assert time.monotonic() - began < 20
