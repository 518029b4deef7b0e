CREATE TABLE tenants (
    name    TEXT    NOT NULL PRIMARY KEY,
    -- Terms in JSON.
    terms   TEXT    NOT NULL,
    since   INTEGER NOT NULL,
    revoked INTEGER
) STRICT;

-- A certificate counts only while it stands here and is not revoked.
CREATE TABLE tenant_certificates (
    sha256  TEXT    NOT NULL PRIMARY KEY,
    tenant  TEXT    NOT NULL,
    issued  INTEGER NOT NULL,
    revoked INTEGER
) STRICT;
CREATE INDEX tenant_certificates_by_tenant ON tenant_certificates (tenant);

-- Secrets stand here only as SHA-256.
CREATE TABLE invitations (
    name     TEXT    NOT NULL PRIMARY KEY,
    tenant   TEXT    NOT NULL,
    sha256   TEXT    NOT NULL,
    expires  INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    used     INTEGER
) STRICT;

-- Append-only: each entry's digest covers the one before, and the head says where the end is.
CREATE TABLE audit (
    sequence INTEGER NOT NULL PRIMARY KEY,
    at       INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    lease    TEXT,
    server   TEXT,
    detail   TEXT    NOT NULL,
    previous TEXT    NOT NULL,
    sha256   TEXT    NOT NULL
) STRICT;
CREATE TABLE audit_head (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL,
    sha256   TEXT    NOT NULL
) STRICT;
INSERT INTO audit_head (id, sequence, sha256)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');
