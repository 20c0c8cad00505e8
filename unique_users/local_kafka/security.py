"""The security of a local Kafka: certificates, users with passwords, access rights; kept in `DATA/secure`.

Clients trust `ca.pem`; `broker.pem` is the broker's key and certificate. Each user has a file `USER.yaml`, which is a
configuration for the scripts and holds the password; `admin.properties` is for Kafka's own tools. Everything secret is
readable only by its owner.
"""

import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from unique_users.local_kafka.errors import LocalKafkaError, UsageError
from unique_users.local_kafka.pid_file import write_private
from unique_users.local_kafka.probe import Login

ADMIN = "admin"  # may do anything; the others need rights granted by kafka-acls
USERS = (ADMIN, "producer", "bucketer", "counter", "recount")
CERTIFICATE_DAYS = 3650  # longer than a data directory lives
PASSWORD = re.compile(r"[A-Za-z0-9._~-]{8,128}", re.ASCII)  # no character that means something in Java's settings
PASSWORD_BYTES = 24


@dataclass(frozen=True)
class Security:
    """The security of the local Kafka whose files are in `directory`."""

    directory: Path

    @property
    def exists(self) -> bool:
        """Whether the directory was created: once secured, a Kafka stays so."""
        return self.ca.exists()

    @property
    def ca(self) -> Path:
        """The certificate that clients trust."""
        return self.directory / "ca.pem"

    @property
    def tool_settings(self) -> Path:
        """The file for the option `--command-config` of Kafka's own tools."""
        return self.directory / f"{ADMIN}.properties"

    def config(self, user: str) -> Path:
        """The configuration with which the scripts run as this user."""
        return self.directory / f"{user}.yaml"

    def make(self, bootstrap_servers: str, data: Path, environment: Mapping[str, str] = os.environ) -> None:
        """Create what is missing, and write what clients need to connect to `bootstrap_servers`.

        A user's password is taken from `KAFKA_PASSWORD_USER` the first time, or is random. Raises UsageError.
        """
        made = self.exists
        passwords = self._passwords() if made else {user: _new_password(user, environment) for user in USERS}
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for user, password in passwords.items():
            tree = self._client(bootstrap_servers, data, user, password)
            write_private(self.config(user), f"# By `unique-users broker`: to run the scripts as {user!r}.\n{tree}")
        write_private(self.tool_settings, self._tool_settings(passwords[ADMIN]))
        if not made:
            ca, broker = _certificates()
            write_private(self.directory / "broker.pem", broker)
            self.ca.write_text(ca, encoding="ascii")  # last: it marks the directory as whole

    def login(self) -> Login:
        """The administrator's login."""
        return Login(self.ca, ADMIN, self._passwords()[ADMIN])

    def broker_settings(self) -> dict[str, str]:
        """A broker's additional settings: TLS and passwords on both listeners, and no rights except those granted."""
        passwords = self._passwords()
        plain = (
            "org.apache.kafka.common.security.plain.PlainLoginModule required"
            f' username="{ADMIN}" password="{passwords[ADMIN]}"'
            + "".join(f' user_{user}="{password}"' for user, password in passwords.items())
            + ";"
        )
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        broker = (self.directory / "broker.pem").as_posix()
        return {
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:SASL_SSL",
            "inter.broker.listener.name": "SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": broker,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.ca.as_posix(),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            # SCRAM passwords are in the cluster's own log, which brokers and controllers have to agree on first.
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": plain,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.controller.plain.sasl.jaas.config": plain,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:{ADMIN}",
        }

    def format_arguments(self) -> list[str]:
        """The arguments that create the users in new storage."""
        return [
            f"--add-scram=SCRAM-SHA-512=[name={user},password={password}]"
            for user, password in self._passwords().items()
        ]

    def _passwords(self) -> dict[str, str]:
        try:
            trees = {user: yaml.safe_load(self.config(user).read_text(encoding="utf-8")) for user in USERS}
            return {user: str(tree["kafka"]["sasl_plain_password"]) for user, tree in trees.items()}
        except (OSError, yaml.YAMLError, TypeError, KeyError):
            raise LocalKafkaError(
                f"{self.directory}: incomplete: put back what is missing, or name another directory with"
                " --set broker.data=DIRECTORY"
            ) from None

    def _client(self, bootstrap_servers: str, data: Path, user: str, password: str) -> str:
        kafka: dict[str, Any] = {
            "bootstrap_servers": bootstrap_servers,
            "security_protocol": "SASL_SSL",
            "ssl_cafile": str(self.ca),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": user,
            "sasl_plain_password": password,
        }
        return yaml.safe_dump({"kafka": kafka, "broker": {"data": str(data)}}, sort_keys=False, allow_unicode=True)

    def _tool_settings(self, password: str) -> str:
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        return (
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.type=PEM\n"
            f"ssl.truststore.location={self.ca.as_posix()}\n"
            f'sasl.jaas.config={login} username="{ADMIN}" password="{password}";\n'
        )


def _new_password(user: str, environment: Mapping[str, str]) -> str:
    name = f"KAFKA_PASSWORD_{user.upper()}"
    given = environment.get(name)
    if given is None:
        return secrets.token_urlsafe(PASSWORD_BYTES)
    if not PASSWORD.fullmatch(given):
        raise UsageError(f"environment variable {name}: expected 8 to 128 letters, digits and the characters . _ ~ -")
    return given


def _certificates() -> tuple[str, str]:
    """A CA certificate, and a key and a certificate signed by it for the loopback address, as PEM.

    The CA's own key is forgotten: nobody can issue a second certificate.
    """
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in ("local-ca", "kafka"))
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    ca = (
        _certificate(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    certificate = (
        _certificate(name, ca_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = ca.public_bytes(Encoding.PEM)
    return pem.decode(), (private + certificate.public_bytes(Encoding.PEM) + pem).decode()


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
