-- What boots said on their consoles, in pieces as they came. Bounded by the store, which drops the oldest pieces of a boot.
CREATE TABLE boot_logs (
    lease    TEXT NOT NULL,
    server   TEXT NOT NULL,
    -- The how many-th boot of the lease on that server.
    attempt  BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    -- LogSource in JSON.
    source   TEXT NOT NULL,
    text     TEXT NOT NULL,
    PRIMARY KEY (lease, server, attempt, sequence)
);
