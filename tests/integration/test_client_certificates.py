"""A broker that knows its users by their certificates (mutual TLS), and both clients as such a user."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from running import Running, parsed
from secured import error_lines

from unique_users.demo.sample import frames
from unique_users.local_kafka.broker import LocalKafka
from unique_users.local_kafka.probe import free_port
from unique_users.local_kafka.security import Security

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FRAMES = b"\n".join(frames(1_000)) + b"\n"


def user_certificate(directory: Path, name: str) -> Path:
    """A certificate that signs itself in `NAME.pem`, its key in `NAME.key`."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path = directory / f"{name}.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("operator", "stranger"):
        user_certificate(directory, name)
    return directory


@pytest.fixture(scope="module")
def address(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the listener that asks for a certificate; the broker trusts that of `operator` alone."""
    data = tmp_path_factory.mktemp("mtls") / "data"
    port, controller, mutual = free_port(), free_port(), free_port()
    listeners = f"SASL_SSL://localhost:{port},MUTUAL://localhost:{mutual}"
    properties = {
        "listeners": f"{listeners},CONTROLLER://localhost:{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.voters": f"1@localhost:{controller}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:SASL_SSL,MUTUAL:SSL",
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": (certificates / "operator.pem").as_posix(),
        "super.users": "User:admin;User:CN=operator",
    }
    security = Security(data / "secure")
    with LocalKafka("4.3.1", data, port, properties=properties, security=security) as kafka:
        (certificates / "ca.pem").write_bytes((kafka.data / "secure" / "ca.pem").read_bytes())
        yield f"localhost:{mutual}"


def running(address: str, certificates: Path, directory: Path, client: str, user: str | None) -> Running:
    settings = [f"client={client}", "kafka.security_protocol=SSL", f"kafka.ssl_cafile={certificates / 'ca.pem'}"]
    if user is not None:
        settings += [f"kafka.ssl_certfile={certificates / user}.pem", f"kafka.ssl_keyfile={certificates / user}.key"]
    return Running(address, directory, settings)


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_frames_are_counted_by_who_shows_a_certificate(
    address: str, certificates: Path, tmp_path: Path, client: str
) -> None:
    scripts = running(address, certificates, tmp_path, client, "operator")
    scripts.run("producer", "-", stdin=FRAMES)
    assert scripts.counts() == scripts.recount(FRAMES)
    assert parsed(scripts.run("counter", "--until-caught-up", "--format", "json").stdout)


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
@pytest.mark.parametrize("user", [None, "stranger"])
def test_without_a_trusted_certificate_a_command_ends_with_one_line(
    address: str, certificates: Path, tmp_path: Path, client: str, user: str | None
) -> None:
    done = running(address, certificates, tmp_path, client, user).run("rejected", code=1)
    assert len(error_lines(done.stderr)) == 1, done.stderr
    assert "Traceback" not in done.stderr
    said = "does not accept the certificate" if user else "wants a certificate: set kafka.ssl_certfile"
    assert said in done.stderr
