"""Logging in to Amazon MSK by IAM, as far as that goes without Amazon."""

import json
import sys
from pathlib import Path

import pytest
from brokers import config_for
from kafka.net.sasl.msk import SaslMechanismAwsMskIam

from unique_users.clients.connect import get_consumer
from unique_users.clients.kafka_python.aws_msk import check_iam
from unique_users.errors import UsageError

SECRET = "a-secret-access-key"


@pytest.fixture(autouse=True)
def amazon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials and a region in the environment, and nothing from this machine or the network."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def test_with_credentials_and_region_a_login_is_signed_without_the_secret() -> None:
    check_iam("SASL_SSL")
    message = SaslMechanismAwsMskIam(security_protocol="SASL_SSL", host="b-1.example").auth_bytes()
    signed = json.loads(message)
    assert signed["host"] == "b-1.example"
    assert signed["x-amz-credential"].startswith("AKIDEXAMPLE/")
    assert "/eu-central-1/kafka-cluster/aws4_request" in signed["x-amz-credential"]
    assert len(signed["x-amz-signature"]) == 64
    assert SECRET not in message.decode()


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("AWS_DEFAULT_REGION", "has no region: set AWS_DEFAULT_REGION"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_MSK_IAM: Partial credentials"),
    ],
)
def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, missing: str, line: str) -> None:
    monkeypatch.delenv(missing)
    kafka = {"security_protocol": "SASL_SSL", "sasl_mechanism": "AWS_MSK_IAM"}
    with pytest.raises(UsageError, match=line) as caught:
        get_consumer(config_for("localhost:1", kafka=kafka), "topic", "group")
    assert "\n" not in str(caught.value)


def test_no_credentials_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UsageError, match="has no credentials"):
        check_iam("SASL_SSL")


def test_without_tls_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"kafka\.security_protocol: AWS_MSK_IAM needs SASL_SSL"):
        check_iam("PLAINTEXT")


def test_without_botocore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UsageError, match=r"needs the package botocore: pip install 'unique-users\[msk\]'"):
        check_iam("SASL_SSL")
