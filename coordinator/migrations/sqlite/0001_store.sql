-- Only what SQLite and PostgreSQL share, but for the types: the same tables stand in migrations/postgres.
-- Numbers are INTEGER here and BIGINT there; times are milliseconds since 1970; structured values are JSON in TEXT.

-- One row for each server of servers.toml that the Lease Manager has seen.
CREATE TABLE servers (
    name               TEXT    NOT NULL PRIMARY KEY,
    custody            TEXT    NOT NULL CHECK (custody IN ('free', 'lent', 'held', 'quarantined')),
    reason             TEXT    NOT NULL,
    since              INTEGER NOT NULL,
    lease              TEXT,
    -- HardwareReport in JSON, once it is known.
    hardware           TEXT,
    inventory_boots    INTEGER NOT NULL DEFAULT 0,
    inventory_deadline INTEGER
) STRICT;

CREATE TABLE leases (
    -- The order in which they were made.
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    tenant       TEXT    NOT NULL,
    request_id   TEXT    NOT NULL,
    server       TEXT    NOT NULL,
    -- Requirements in JSON.
    requirements TEXT    NOT NULL,
    -- The machine's phase in JSON, and the same state as others see it.
    phase        TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    since        INTEGER NOT NULL,
    deadline     INTEGER,
    -- Events so far.
    events       INTEGER NOT NULL,
    -- Counted up at each change: whoever changes a lease says which version it saw.
    version      INTEGER NOT NULL,
    UNIQUE (tenant, request_id)
) STRICT;
CREATE INDEX leases_by_deadline ON leases (deadline) WHERE deadline IS NOT NULL;
-- Whatever a program believes, two leases cannot hold one server. One that moves has let its last one go.
CREATE UNIQUE INDEX one_lease_for_a_server ON leases (server) WHERE state NOT IN ('"moving"', '"ended"', '"failed"');

CREATE TABLE events (
    lease    TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    state    TEXT    NOT NULL,
    -- EventKind in JSON.
    what     TEXT    NOT NULL,
    PRIMARY KEY (lease, sequence)
) STRICT, WITHOUT ROWID;

-- The text that a server is given, marks in place. The enterprise agreed to its digest, which stands nowhere here: whoever
-- changes `merged` is found out by the agent.
CREATE TABLE kickstarts (
    lease    TEXT NOT NULL PRIMARY KEY,
    merged   TEXT NOT NULL,
    -- InstallSettings in JSON, as the PO sent them.
    settings TEXT NOT NULL,
    -- The disk that is installed on, as /dev/disk/by-id names it.
    disk     TEXT NOT NULL,
    -- The server's address inside the enterprise, from the settings.
    address  TEXT NOT NULL
) STRICT;
CREATE INDEX kickstarts_by_address ON kickstarts (address);

-- Tokens stand here only as SHA-256.
CREATE TABLE boot_tokens (
    sha256  TEXT    NOT NULL PRIMARY KEY,
    mac     TEXT    NOT NULL UNIQUE,
    server  TEXT,
    lease   TEXT,
    address TEXT    NOT NULL,
    expires INTEGER NOT NULL,
    used    INTEGER
) STRICT;

CREATE TABLE sessions (
    sha256  TEXT    NOT NULL PRIMARY KEY,
    mac     TEXT    NOT NULL UNIQUE,
    lease   TEXT,
    address TEXT    NOT NULL
) STRICT;

-- Power orders that are not yet carried out, one for each server.
CREATE TABLE power_orders (
    -- Drawn anew for each order, so that an answer to the one before finds nothing.
    id         INTEGER NOT NULL UNIQUE,
    server     TEXT    NOT NULL PRIMARY KEY,
    power      TEXT    NOT NULL,
    lease      TEXT,
    not_before INTEGER NOT NULL,
    -- The Lease Manager that carries it out, and until when it must have renewed that claim.
    claimant      TEXT,
    claimed_until INTEGER
) STRICT;

-- Servers that nobody wrote down, as they reported themselves. Bounded by the store.
CREATE TABLE strangers (
    mac      TEXT    NOT NULL PRIMARY KEY,
    address  TEXT    NOT NULL,
    hardware TEXT    NOT NULL,
    seen     INTEGER NOT NULL
) STRICT;
