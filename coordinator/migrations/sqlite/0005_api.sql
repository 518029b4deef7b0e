-- Answers to requests with an idempotency key. A request that is under way has no answer yet.
CREATE TABLE idempotency_keys (
    tenant  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    -- SHA-256 of the request.
    digest  TEXT    NOT NULL,
    status  INTEGER,
    body    TEXT,
    expires INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (expires);
