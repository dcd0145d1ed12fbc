"""TLS to a server: what its certificate is checked by, and the client's own certificate."""

from __future__ import annotations

import ssl

from streamcore.errors import BadConfig


def client_context(
    where: str,
    *,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    verify: bool = True,
    check_name: bool = True,
) -> ssl.SSLContext:
    """A context that checks the server's certificate by *ca*, a PEM file, or the system's authorities.

    *cert* and *key* are PEM files of the client's own. BadConfig, at *where*, for files that can't be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert:
            context.load_cert_chain(cert, key)
    except OSError as error:  # an SSLError is one
        raise BadConfig(
            f"the TLS files can't be read ({error.strerror or type(error).__name__})",
            where=where,
            got=", ".join(file for file in (ca, cert, key) if file),
            fix="give PEM files that this user may read",
        ) from None
    context.check_hostname = verify and check_name
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    return context
