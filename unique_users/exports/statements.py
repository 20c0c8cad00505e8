"""The statements for PostgreSQL. `{table}` and `{progress}` stand for the names of the two tables."""

CREATE_TABLE = """
    CREATE TABLE IF NOT EXISTS {table} (
        interval     text        NOT NULL,
        start_at     timestamptz NOT NULL,
        unique_users bigint      NOT NULL,
        lower_bound  bigint,
        upper_bound  bigint,
        at_end       bigint,
        whole        boolean     GENERATED ALWAYS AS (why = '{{}}') STORED,
        why          text[]      NOT NULL DEFAULT '{{}}',
        updated_at   timestamptz NOT NULL DEFAULT now(),
        source       jsonb       NOT NULL,
        PRIMARY KEY (interval, start_at)
    )"""
CREATE_PROGRESS = """
    CREATE TABLE IF NOT EXISTS {progress} (
        only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
        version  bigint      NOT NULL,
        progress jsonb       NOT NULL,
        read_at  timestamptz NOT NULL DEFAULT now()
    )"""
# Whoever holds a lock is named as the reason of a wait. A transaction whose client is gone, or frozen, ends.
TIMEOUTS = """
    SELECT set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '60s', true)"""
LOCK_CREATION = "SELECT pg_advisory_xact_lock(hashtext(%s))"
EXISTS = "SELECT to_regclass(%s) IS NOT NULL"

READ_PROGRESS = "SELECT version, progress::text, extract(epoch FROM now() - read_at) FROM {progress}"
LOCK_PROGRESS = "SELECT version FROM {progress} FOR UPDATE"
# A second export that begins at the same time gets no row back.
BEGIN_PROGRESS = """
    INSERT INTO {progress} (version, progress) VALUES (1, %s::jsonb) ON CONFLICT DO NOTHING RETURNING version"""
WRITE_PROGRESS = """
    UPDATE {progress} SET version = version + 1, progress = %s::jsonb, read_at = now() RETURNING version"""

READ_ROWS = """
    SELECT interval, extract(epoch FROM start_at)::bigint, unique_users, lower_bound, upper_bound, at_end, why,
        source::text
    FROM {table} JOIN unnest(%s::text[], %s::bigint[]) AS asked (name, at)
        ON interval = name AND start_at = to_timestamp(at)"""
READ_PAGE = """
    SELECT interval, extract(epoch FROM start_at)::bigint, unique_users, lower_bound, upper_bound, at_end, why,
        source::text
    FROM {table} WHERE (interval, start_at) > (%s, to_timestamp(%s)) ORDER BY interval, start_at LIMIT %s"""
WRITE_ROWS = """
    INSERT INTO {table} (interval, start_at, unique_users, lower_bound, upper_bound, at_end, why, source)
    SELECT name, to_timestamp(at), users, low, high, at_end, ARRAY(SELECT jsonb_array_elements_text(why)), source
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::jsonb[],
        %s::jsonb[]) AS given (name, at, users, low, high, at_end, why, source)
    ON CONFLICT (interval, start_at) DO UPDATE SET
        (unique_users, lower_bound, upper_bound, at_end, why, source, updated_at) =
        (excluded.unique_users, excluded.lower_bound, excluded.upper_bound, excluded.at_end, excluded.why,
        excluded.source, now())"""
DELETE_ROWS = """
    DELETE FROM {table} USING unnest(%s::text[], %s::bigint[]) AS gone (name, at)
    WHERE interval = name AND start_at = to_timestamp(at)"""
