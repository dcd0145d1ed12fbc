"""On a terminal: a live display that erases itself, and Ctrl-C that drains and can be taken up again."""

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest

from tests.topologies.conftest import ROOT

FLIGHTS = ("replay", "topologies.flights", "--from", "flights=data/flights-200k.parquet")


class Terminal:
    """A command on a pseudo-terminal of 100 columns."""

    def __init__(self, folder, *arguments):
        self.master, inner = pty.openpty()
        ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamcore.cli", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
        )
        os.close(inner)
        self.shown = ""

    def read_until(self, pattern):
        """Read until *pattern* was shown; AssertionError when the command ends before."""
        while not re.search(pattern, self.shown):
            data = self._read()
            assert data, f"ended without {pattern!r}:\n{self.shown}"
            self.shown += data.decode(errors="replace")

    def end(self):
        """The exit code, after all was read."""
        while data := self._read():
            self.shown += data.decode(errors="replace")
        os.close(self.master)
        return self.process.wait(60)

    def _read(self):
        try:
            return os.read(self.master, 4096)
        except OSError:
            return b""


@pytest.fixture
def terminal(project):
    started = []

    def start(*arguments):
        started.append(Terminal(project.folder, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_the_display_shows_progress_and_leaves_the_summary(terminal):
    run = terminal(*FLIGHTS)
    assert run.end() == 0
    assert "loading topologies.flights" in run.shown
    assert "replaying flights" in run.shown
    assert re.search(r"[\d,]+ rows +[\d.]+ k? ?rows/s", run.shown)
    kept = run.shown.rsplit("\x1b[2K", 1)[1]  # what stands after the last line was erased
    assert "flights" in kept
    assert "finished" in kept
    assert "replaying" not in kept


def test_ctrl_c_drains_and_the_next_run_goes_on(terminal, project):
    run = terminal(*FLIGHTS, "--speed", "300000")
    run.read_until(r"[1-9][\d,]* rows ")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130
    assert "stopping: finishing what was begun" in run.shown
    assert "interrupted" in run.shown
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", run.shown)
    first = int(re.search(r"in +rows +([\d,]+)", plain)[1].replace(",", ""))
    second = project.document(*FLIGHTS, "--speed", "1e12")
    assert second["status"] == "finished"
    assert 0 < first < 200_000
    assert first + second["rows_in"] == 200_000
