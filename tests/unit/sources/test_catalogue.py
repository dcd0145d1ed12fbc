"""What is read for ever is named by URIs, and what is not is told."""

from __future__ import annotations

import pytest

from streamcore.errors import BadConfig
from streamcore.sources.catalogue import open_unbounded


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("kafka://api/rows", "postgresql"),
        ("https://u:s3cret@api/rows", "add poll="),
        ("mongodb://u:s3cret@h/x?collection=users", "add changes="),
        ("postgres://u:s3cret@h/x?table=users", "add poll="),
        ("sqlite:///nowhere.db?poll=version", "no such file"),
    ],
)
def test_what_cannot_be_read_for_ever_is_refused_without_its_password(uri: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says) as refused:
        open_unbounded(uri)
    assert "s3cret" not in str(refused.value)
