"""The doctor asks for the rights that docs/operations.md grants."""

import pytest
from secured import documented_rights

from unique_users.config.load import load_config
from unique_users.doctor.rights import Role, roles

USERS = {"producer": "producer", "bucketer": "bucketer", "counter": "counter", "the queries": "recount"}
REPLAY = {"Write on topic feed", "Read on group bucketer-replay"}  # for `rejected --replay` alone


@pytest.mark.parametrize("role", roles(load_config("", [], {})), ids=lambda role: role.script)
def test_the_doctor_asks_for_the_rights_that_the_document_grants(role: Role) -> None:
    granted = {
        f"{right.operation} on {right.resource} {right.name}"
        for right in documented_rights()
        if right.user == USERS[role.script] and right.operation != "DescribeConfigs"
    }
    assert set(map(str, role.rights)) == granted - (REPLAY if role.script == "the queries" else set())
