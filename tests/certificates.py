"""Certificates for tests of TLS, and the contexts that are made of them, in children too.

Always: `write` is called before a context is made.
"""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path
from typing import Any

VARIABLE = "MANYHANDS_TEST_CERTIFICATES"


def write(folder: Path) -> None:
    """Writes an authority, and what it signed: a server (localhost, 127.0.0.1) and a client; and a stranger."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    for name, maker in [("server", authority), ("client", authority), ("stranger", trustme.CA())]:
        maker.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(folder / f"{name}.pem")
        )  # fmt: skip
    os.environ[VARIABLE] = str(folder)


def file(name: str) -> str:
    return str(Path(os.environ[VARIABLE]) / f"{name}.pem")


def server(certificate: str | None = "server", *, wants: bool = False) -> ssl.SSLContext:
    """A listener's context; it may want a certificate of whoever connects."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=file("authority"))
    if certificate is not None:
        made.load_cert_chain(file(certificate))
    if wants:
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def client(certificate: str | None = None, *, trusts: bool = True) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=file("authority") if trusts else None)
    if certificate is not None:
        made.load_cert_chain(file(certificate))
    return made


def both() -> Any:
    """What makes the contexts of both sides, in processes that were started before the files were written too: each has
    a certificate and wants one."""
    return functools.partial(_either, os.environ[VARIABLE])


def _either(folder: str, server_side: bool) -> ssl.SSLContext:
    os.environ[VARIABLE] = folder
    return server(wants=True) if server_side else client("client")
