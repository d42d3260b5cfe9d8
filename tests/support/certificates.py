"""Authorities and certificates made for a test, as PEM files."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class PemPair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path

    def replace(self, newer: "PemPair") -> None:
        """Put another pair's content into these files, one after the other."""
        self.certificate.write_bytes(newer.certificate.read_bytes())
        self.key.write_bytes(newer.key.read_bytes())


class Authority:
    """An authority with a file of its own certificate; serial numbers tell certificates apart."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issued = 0
        self.file = folder / f"{name}.pem"
        certificate = self._certificate(
            name, self._key.public_key(), [x509.BasicConstraints(ca=True, path_length=None)], _DAY
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *hosts: str, is_expired: bool = False) -> PemPair:
        """A pair for hosts, names or addresses; expired for an hour, or good for a day."""
        self._issued += 1
        key = ec.generate_private_key(ec.SECP256R1())
        lifetime = -_DAY / 24 if is_expired else _DAY
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        certificate = self._certificate(hosts[0], key.public_key(), [names], lifetime)
        stem = self._folder / f"{self._name}-{self._issued}"
        pair = PemPair(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(private_key_pem(key))
        return pair

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        extensions: Sequence[x509.ExtensionType],
        lifetime: dt.timedelta,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self._name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + lifetime)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def private_key_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """The key as a PEM file holds it."""
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def serial_number(certificate: bytes) -> int:
    """Of a certificate in PEM or, as a connection gives its peer's, DER."""
    if certificate.startswith(b"-----"):
        return x509.load_pem_x509_certificate(certificate).serial_number
    return x509.load_der_x509_certificate(certificate).serial_number


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
