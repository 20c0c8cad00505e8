"""Certificates that are, or soon will be, no use: shown by a real TLS server."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socket import create_server

import pytest
from brokers import config_for
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fakes import FakeAdmin, FakeConsumer, FakeKafka

from unique_users.doctor.certificates import look
from unique_users.doctor.examination import TRUST, Clock, Examination
from unique_users.doctor.finding import Finding

DAY = timedelta(days=1)


def certificate(path: Path, ends: timedelta, name: str) -> Path:
    """A certificate that signs itself, and its key, in one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a broker")])
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name[0].isdigit():
        names = [x509.IPAddress(ip_address(name))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 100 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))
    return path


@contextmanager
def server(file: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as shaken:
                    shaken.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def found(kafka: FakeKafka, file: Path) -> tuple[Finding, bool]:
    with server(file) as address:
        config = config_for(address, kafka={"security_protocol": "SSL", "ssl_cafile": str(file)})
        made = Examination(
            config, lambda: FakeAdmin(kafka), lambda topic: FakeConsumer(kafka, topic, None, alone=True), Clock()
        )
        made.answering.append(address)
        (finding,) = look(made)
        return finding, TRUST in made.provided


@pytest.mark.parametrize(
    ("ends", "name", "status", "says"),
    [
        (300 * DAY, "127.0.0.1", "ok", "valid until"),
        (5.5 * DAY, "127.0.0.1", "warning", "in 5 days"),
        (-DAY, "127.0.0.1", "wrong", "expired"),
        (300 * DAY, "another.invalid", "wrong", "mismatch"),
    ],
)
def test_a_certificate_is_judged_by_its_end_and_its_name(
    kafka: FakeKafka, tmp_path: Path, ends: timedelta, name: str, status: str, says: str
) -> None:
    finding, trusted = found(kafka, certificate(tmp_path / "broker.pem", ends, name))
    assert finding.status == status, finding
    assert says in finding.says
    assert trusted == (status != "wrong")
