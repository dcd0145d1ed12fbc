"""REST collections keep the laws of bounded sources, by each way from page to page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from batch_adapters.catalogue import open_source
from streamcore.contracts import BoundedSource
from streamcore.testing.sources import BoundedSourceConformance, ReadRecord, SourceContent
from tests.services.rest import RestServer, rest_server


@pytest.fixture(scope="module")
def server() -> Iterator[RestServer]:
    with rest_server() as running:
        yield running


class RestLaws(BoundedSourceConformance):
    """A collection of a server in this process."""

    query = "/all"

    @pytest.fixture
    def folder(self, tmp_path: Path, server: RestServer) -> Path:
        self.server = server
        return tmp_path

    def write(self, folder: Path, content: SourceContent) -> None:
        self.server.rows = content.good()

    def open(self, folder: Path) -> BoundedSource:
        return open_source(self.server.url + self.query, allow_private=True)

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        assert isinstance(record.value, bytes)
        row: Mapping[str, object] = json.loads(record.value)
        return row


class TestOneAnswer(RestLaws):
    pass


class TestPages(RestLaws):
    query = "/by/page?pagination=page&page_size=170"


class TestOffsets(RestLaws):
    query = "/by/offset?pagination=offset&page_size=190"


class TestCursors(RestLaws):
    query = "/by/cursor?pagination=cursor&cursor_path=meta.next_cursor&rows_path=data.items"


class TestLinkHeaders(RestLaws):
    query = "/by/link"


class TestLinksInAnswers(RestLaws):
    query = "/by/next?pagination=link&next_path=next"
