-- The lender's word that a server's agent is to stay in rescue mode.
CREATE TABLE server_rescues (
    server TEXT NOT NULL PRIMARY KEY,
    since  BIGINT NOT NULL,
    -- It stays no longer than this.
    until  BIGINT NOT NULL
);

-- The tenant's word about its lease. A row without a time is a consent without an order.
CREATE TABLE lease_rescues (
    lease          TEXT NOT NULL PRIMARY KEY,
    -- Until when the agent is to stay.
    until          BIGINT,
    -- 1 when the lender may open a console.
    lender_console BIGINT NOT NULL
);

-- Consoles that an operator waits for, so that whichever Lease Manager the agent asks can tell it.
CREATE TABLE console_calls (
    server TEXT NOT NULL PRIMARY KEY,
    call   TEXT NOT NULL,
    -- The API of the Lease Manager that waits.
    lm_url TEXT NOT NULL,
    until  BIGINT NOT NULL
);

-- Servers on whose disks a tenant's data may be: they were booted for the lease and let go without an erasure.
CREATE TABLE remains (
    server TEXT NOT NULL PRIMARY KEY,
    -- Empty where it is not known any more.
    lease  TEXT NOT NULL
);
-- What was quarantined before this table was there.
INSERT INTO remains (server, lease) SELECT name, '' FROM servers WHERE custody = 'quarantined';
