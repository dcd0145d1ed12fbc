"""Prometheus' promtool, by Debian's package: it checks and tests our alerts."""

from __future__ import annotations

from tests.services.install import apt_install


def install() -> str:
    """The name of the program; raises :class:`tests.services.server.Unavailable`."""
    apt_install("promtool", "prometheus")
    return "promtool"
