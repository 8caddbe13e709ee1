"""A certificate authority of our own, and one certificate for both servers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme

HOST = "127.0.0.1"  # an address, not a name: no resolver takes part, and the certificate names it


@dataclass(frozen=True)
class Certificates:
    """PEM texts of the server side, and the file that clients trust."""

    authority: Path
    certificate: bytes
    key: bytes


def issue(directory: Path) -> Certificates:
    """Make an authority, write its public half to `directory`/ca.pem, and issue one server certificate.

    The authority's own key is never written: nobody can issue a second certificate that our clients would
    trust.
    """
    authority = trustme.CA(organization_name="MeStore private servers")
    issued = authority.issue_cert("localhost", HOST)
    file = directory / "ca.pem"
    authority.cert_pem.write_to_path(file)
    file.chmod(0o644)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return Certificates(authority=file, certificate=chain, key=issued.private_key_pem.bytes())
