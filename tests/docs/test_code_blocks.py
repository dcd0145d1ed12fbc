"""What the documentation shows works: every code block is run, or says why not and is still parsed."""

import re
import sys

import pytest

from tests.docs.code_blocks import CHECKED, PAGES, PROSE, ROOT, blocks, parse, prepare, run

DATABASES = {"DATABASE_URL": "postgres", "MYSQL_URL": "mariadb", "MONGODB_URL": "mongo", "REDIS_URL": "redis"}
"""Pages that ask for these variables have an empty database of these fixtures."""
ALL = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_block_names_its_language_and_can_be_parsed(block):
    assert block.language in (*CHECKED, *PROSE)
    parse(block)
    assert block.no_run is None or len(block.no_run) > 10, "say why it is not run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_in_their_order(page, tmp_path, monkeypatch, request):
    for variable, server in DATABASES.items():
        if f'environ["{variable}"]' in page.read_text(encoding="utf-8"):
            monkeypatch.setenv(variable, request.getfixturevalue(server).fresh_database())
    if 'environ["KAFKA_URL"]' in page.read_text(encoding="utf-8"):
        monkeypatch.setenv("KAFKA_URL", request.getfixturevalue("kafka").url)
    if 'environ["BUCKET"]' in page.read_text(encoding="utf-8"):
        for name, value in request.getfixturevalue("s3").fresh_bucket().items():
            monkeypatch.setenv(name, value)
    todo = [b for b in blocks(page) if b.language in CHECKED and b.no_run is None]
    if todo:
        prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.partition(".")[0] == "topologies"]:
        monkeypatch.delitem(sys.modules, name)  # those of the repository are not the page's
    namespace = {"__name__": "page"}
    for block in todo:
        run(block, tmp_path, namespace)
    for name in [n for n in sys.modules if n.partition(".")[0] == "topologies"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_documentation_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


def anchors(text):
    """The anchors that GitHub makes of headings."""
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
