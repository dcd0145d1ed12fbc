"""Which hosts may be asked over HTTP: none of this machine, of private networks, of clouds' metadata.

Addresses are judged after names have been resolved, and those that were judged are connected to, so that a
name which resolves to another address the next time gets nothing.
"""

from __future__ import annotations

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver


class RefusedAddress(OSError):
    """The host's name resolves to such an address."""


def refused(address: str) -> bool:
    """Whether *address*, of IPv4 or IPv6, is not one of the public internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return not (mapped or found).is_global or found.is_multicast


def refused_literal(host: str) -> bool:
    """Whether *host* is written as an address, and refused."""
    try:
        return refused(host.strip("[]"))
    except ValueError:
        return False


class GuardedResolver(AbstractResolver):
    """The system's resolver, without the addresses that are refused."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of *host*; RefusedAddress when none of them may be asked."""
        found = await self._resolver.resolve(host, port, family)
        allowed = [result for result in found if not refused(result["host"])]
        if found and not allowed:
            raise RefusedAddress("not an address of the public internet")
        return allowed

    async def close(self) -> None:
        """Nothing is held open."""
        await self._resolver.close()
