"""All checks, in the order in which one builds on the other."""

from unique_users.doctor import (
    addresses,
    certificates,
    clocks,
    configuration,
    connection,
    flow,
    movement,
    rights,
    state_files,
    topics,
    versions,
)
from unique_users.doctor.examination import ANSWER, BUCKETED, CONNECTION, COUNTS, FEED, REJECTED, TRUST
from unique_users.doctor.runner import Check

# A check asks several questions, each of which may take ten seconds; a broker that is well answers in milliseconds.
WATCH_SECONDS = movement.WATCH_SECONDS_MAX + 20

CHECKS = [
    Check(configuration.NAME, configuration.look),
    Check(versions.NAME, versions.look),
    Check(state_files.DISK, state_files.look_at_disk),
    Check(addresses.BOOTSTRAP, addresses.look_at_bootstrap),
    Check(certificates.NAME, certificates.look, (ANSWER,)),
    Check(connection.NAME, connection.look, (ANSWER, TRUST), 30),
    Check(addresses.LISTENERS, addresses.look_at_listeners, (CONNECTION,)),
    Check(topics.NAME, topics.look, (CONNECTION,)),
    Check(rights.NAME, rights.look, (CONNECTION,)),
    Check(flow.FRAMES, flow.look_at_frames, (CONNECTION, FEED)),
    Check(flow.TRANSACTIONS, flow.look_at_transactions, (CONNECTION, FEED), WATCH_SECONDS),
    Check(movement.BUCKETER, movement.look_at_bucketers, (CONNECTION, FEED), WATCH_SECONDS),
    Check(flow.REJECTED, flow.look_at_rejected, (CONNECTION, FEED, REJECTED)),
    Check(movement.COUNTER, movement.look_at_counters, (CONNECTION, BUCKETED), WATCH_SECONDS),
    Check(flow.COUNTS, flow.look_at_counts, (CONNECTION, BUCKETED, COUNTS)),
    Check(clocks.NAME, clocks.look, (CONNECTION,)),
    Check(state_files.STATE, state_files.look),
]
