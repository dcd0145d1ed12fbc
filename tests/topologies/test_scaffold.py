"""``streamcore init`` makes a project whose own test passes and whose first command works."""

import subprocess
import sys


def test_the_new_project_works(project):
    made = project.document("init", "shop")
    assert "shop/config/streamcore.yaml" in made["files"]
    folder = project.folder / "shop"
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    assert "3 passed" in tests.stdout

    project.folder = folder
    summary = project.document("replay", "topologies/orders.py", "--from", "orders=data/sample.csv")
    assert summary["rows_out"] == {"orders-file": 4}
    assert summary["dead_letters"]["rows"] == 2
    assert project.document("config", "show")["http.port"] == {"value": 8000, "origin": "default"}


def test_a_folder_with_something_in_it_is_refused(project):
    assert "the folder is not empty" in project.run("init", "data", code=2).stderr
    assert "can't be the name" in project.run("init", "1st", code=2).stderr
