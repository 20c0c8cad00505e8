"""What the doctor says of a login and of rights, on a broker with TLS, passwords and rights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from examined import Examined, examine
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from patience import until
from running import Running
from secured import Right, documented_rights, login, secrets

from unique_users.local_kafka.broker import LocalKafka
from unique_users.local_kafka.probe import free_port
from unique_users.local_kafka.security import Security

CLIENTS = ["kafka-python", "librdkafka"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Secured:
    """A secured broker, with topics that the administrator made, and the documented rights to them."""

    def __init__(self, kafka: LocalKafka, security: Security, directory: Path) -> None:
        self.kafka = kafka
        self.security = security
        self.directory = directory
        self.name = Running("", directory).name
        admin = self.running("admin")
        admin.run("bucketer", "--until-caught-up")
        admin.run("counter", "--until-caught-up")

    def running(self, user: str) -> Running:
        flags = [f"kafka.{key}={value}" for key, value in login(self.security, user).items()]
        return Running(self.kafka.bootstrap_servers, self.directory, flags, self.name)

    def examine(self, user: str, client: str, *settings: str) -> Examined:
        examined = examine(self.running(user), *settings, client=client)
        for secret in {*secrets(self.security), "wrong-and-secret"}:
            assert secret not in examined.text
        return examined

    def grant(self) -> None:
        with KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers, **login(self.security, "admin")) as admin:
            admin.create_acls([self._acl(right) for right in documented_rights()])

    def revoke(self, user: str, operation: str, topic: str) -> None:
        with KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers, **login(self.security, "admin")) as admin:
            pattern = ResourcePattern(ResourceType.TOPIC, f"{self.name}-{topic}")
            acl = ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)
            admin.delete_acls([acl])

    def _acl(self, right: Right) -> ACL:
        kind = ResourceType.TOPIC if right.resource == "topic" else ResourceType.GROUP
        operation = "".join(f"_{c}" if c.isupper() else c for c in right.operation).strip("_").upper()
        pattern = ResourcePattern(kind, f"{self.name}-{right.name}")
        return ACL(f"User:{right.user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("secured")
    security = Security(directory / "data" / "secure")
    with LocalKafka("4.3.1", directory / "data", free_port(), security=security) as kafka:
        secured = Secured(kafka, security, directory)
        secured.grant()
        yield secured


@pytest.mark.parametrize("client", CLIENTS)
def test_the_administrator_may_run_everything(secured: Secured, client: str) -> None:
    examined = secured.examine("admin", client)
    assert "is trusted; its certificate is for that name and valid until" in examined.of("tls", "ok").says
    assert "logged in" in examined.of("connection", "ok").says
    assert examined.of("rights", "ok").says == "this user may run producer, bucketer, counter, the queries"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_wrong_password_is_named_and_never_shown(secured: Secured, client: str) -> None:
    examined = secured.examine("admin", client, "kafka.sasl_plain_password=wrong-and-secret")
    assert examined.wrong() == ["connection"]
    assert "refuses" in examined.of("connection", "wrong").says
    assert "user and password" in examined.of("connection", "wrong").do
    assert "a connection to the cluster" in examined.of("bucketer", "skipped").says


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_without_tls_is_told_so(secured: Secured, client: str) -> None:
    none = [f"kafka.{key}=null" for key in ("ssl_cafile", "sasl_mechanism", "sasl_plain_username")]
    examined = secured.examine(
        "admin", client, "kafka.security_protocol=PLAINTEXT", *none, "kafka.sasl_plain_password=null"
    )
    assert "requires TLS" in examined.of("address", "wrong").says
    assert "SASL_SSL" in examined.of("address", "wrong").do


@pytest.mark.parametrize("client", CLIENTS)
def test_a_certificate_of_an_unknown_authority_is_named(secured: Secured, client: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    Security(tmp_path / "other" / "secure").make("localhost:1", tmp_path / "other")
    examined = secured.examine("admin", client, f"kafka.ssl_cafile={tmp_path / 'other' / 'secure' / 'ca.pem'}")
    assert examined.wrong() == ["tls"]
    assert "ssl_cafile" in examined.of("tls", "wrong").do


@pytest.mark.parametrize("client", CLIENTS)
def test_a_user_with_the_documented_rights_may_run_its_script_and_one_without_a_right_is_told_which(
    secured: Secured, client: str
) -> None:
    secured.grant()
    told = secured.examine("counter", client).of("rights", "ok").says
    assert told.startswith("this user may run counter")
    assert "not producer" in told
    secured.revoke("counter", "WRITE", "counts")

    def lacks_one() -> Examined | None:
        examined = secured.examine("counter", client)
        return examined if "rights" in examined.wrong() else None

    found = until(lacks_one, "the broker to know").of("rights", "wrong")
    assert found.says == f"counter lacks Write on topic {secured.name}-counts"
    assert f"--operation Write --topic {secured.name}-counts" in found.do
