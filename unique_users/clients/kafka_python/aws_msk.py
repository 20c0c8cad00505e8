"""Checks what AWS_MSK_IAM needs before the client does, which would retry forever without saying why."""

from unique_users.errors import UsageError

MECHANISM = "AWS_MSK_IAM"


def check_iam(security_protocol: object) -> None:
    """Raise UsageError if an IAM login cannot be signed: no TLS, no botocore, no region, no credentials."""
    if security_protocol != "SASL_SSL":
        raise UsageError(f"kafka.security_protocol: {MECHANISM} needs SASL_SSL")
    try:
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - an extra
        from botocore.session import Session  # noqa: PLC0415
    except ModuleNotFoundError:
        message = f"kafka.sasl_mechanism: {MECHANISM} needs the package botocore: pip install 'unique-users[msk]'"
        raise UsageError(message) from None
    try:
        session = Session()
        region, credentials = session.get_config_variable("region"), session.get_credentials()
    except BotoCoreError as error:
        raise UsageError(f"kafka.sasl_mechanism: {MECHANISM}: {error}") from None
    if not region:
        raise UsageError(f"kafka.sasl_mechanism: {MECHANISM} has no region: set AWS_DEFAULT_REGION")
    if credentials is None:
        message = f"kafka.sasl_mechanism: {MECHANISM} has no credentials: set AWS_PROFILE, AWS_ACCESS_KEY_ID and"
        raise UsageError(f"{message} AWS_SECRET_ACCESS_KEY, or give the machine an IAM role")
