-- Answers to requests with an idempotency key. A request that is under way has no answer yet.
CREATE TABLE idempotency_keys (
    tenant  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    -- SHA-256 of the request.
    digest  TEXT    NOT NULL,
    status  BIGINT,
    body    TEXT,
    expires BIGINT  NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (expires);
