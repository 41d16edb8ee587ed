"""Two throw-away homeservers that federate with each other over TLS on loopback, and with nobody else.

For the tests of what other servers do, and for a demonstration with two communities. They share nothing but a
certificate authority that is made for them and trusted nowhere else. Names carry their port, so that nothing
is looked up (spec, server-server API, "Resolving server names", step 2).
"""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.homeserver import Federation, Homeserver, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

VALID = dt.timedelta(days=30)
_HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM: the authority, and what it has signed for `localhost`, with its key."""

    authority: Path
    server: Path
    key: Path


@asynccontextmanager
async def pair_of_homeservers(
    directory: Path, *, retries: dict[str, object] | None = None
) -> AsyncIterator[tuple[Homeserver, Homeserver]]:
    """Two running servers in `directory`. `retries` are Synapse's `federation` settings; else `SOON`."""
    made = await asyncio.to_thread(certificates, directory / "tls")
    ports = free_port(), free_port()
    names = tuple(f"{_HOST}:{port}" for port in ports)

    def server(at: int) -> Homeserver:
        federation = Federation(ports[at], made.server, made.key, made.authority, names, retries or SOON)
        return Homeserver(directory / f"server{at}", server_name=names[at], federation=federation)

    first, second = server(0), server(1)
    async with first, second:
        yield first, second


SOON: dict[str, object] = {
    "client_timeout": "10s",
    "max_long_retry_delay": "1s",
    "max_long_retries": 10_000,
}
"""A server that was away is tried every second, for as long as it takes."""


def certificates(folder: Path) -> Certificates:
    """Make an authority and a certificate for `localhost` in `folder`, or find them there."""
    made = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    if made.key.exists():
        return made
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    own, root = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("Hearth's throw-away authority")

    def begun(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + VALID)
        )

    signs = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    authority = (
        begun(issuer, root)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs, critical=True)
        .sign(root, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName(_HOST), x509.IPAddress(ip_address("127.0.0.1"))])
    server = (
        begun(_name(_HOST), own)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(root, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    made.authority.write_bytes(authority.public_bytes(pem))
    made.server.write_bytes(server.public_bytes(pem))
    made.key.touch(mode=0o600)
    made.key.write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
