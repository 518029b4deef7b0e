-- The tables of migrations/sqlite, with the types of PostgreSQL.

CREATE TABLE tenants (
    name    TEXT    NOT NULL PRIMARY KEY,
    -- Terms in JSON.
    terms   TEXT    NOT NULL,
    since   BIGINT  NOT NULL,
    revoked BIGINT
);

-- A certificate counts only while it stands here and is not revoked.
CREATE TABLE tenant_certificates (
    sha256  TEXT    NOT NULL PRIMARY KEY,
    tenant  TEXT    NOT NULL,
    issued  BIGINT  NOT NULL,
    revoked BIGINT
);
CREATE INDEX tenant_certificates_by_tenant ON tenant_certificates (tenant);

-- Secrets stand here only as SHA-256.
CREATE TABLE invitations (
    name     TEXT    NOT NULL PRIMARY KEY,
    tenant   TEXT    NOT NULL,
    sha256   TEXT    NOT NULL,
    expires  BIGINT  NOT NULL,
    attempts BIGINT  NOT NULL,
    used     BIGINT
);

-- Append-only: each entry's digest covers the one before, and the head says where the end is.
CREATE TABLE audit (
    sequence BIGINT  NOT NULL PRIMARY KEY,
    at       BIGINT  NOT NULL,
    actor    TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    lease    TEXT,
    server   TEXT,
    detail   TEXT    NOT NULL,
    previous TEXT    NOT NULL,
    sha256   TEXT    NOT NULL
);
CREATE TABLE audit_head (
    id       BIGINT  NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence BIGINT  NOT NULL,
    sha256   TEXT    NOT NULL
);
INSERT INTO audit_head (id, sequence, sha256)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');
