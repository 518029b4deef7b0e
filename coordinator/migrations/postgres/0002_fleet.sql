-- The tables of migrations/sqlite, with the types of PostgreSQL.

-- The declaration (config::Server in JSON); servers without one are only on record.
ALTER TABLE servers ADD COLUMN declared    TEXT;
-- Out of the declaration, so that no two servers have the same.
ALTER TABLE servers ADD COLUMN mac         TEXT;
ALTER TABLE servers ADD COLUMN address     TEXT;
-- Labels that were changed since, in JSON; null for one that was taken away.
ALTER TABLE servers ADD COLUMN labels      TEXT   NOT NULL DEFAULT '{}';
-- Why it is in maintenance, and since when it is retired: it is never lent then.
ALTER TABLE servers ADD COLUMN maintenance TEXT;
ALTER TABLE servers ADD COLUMN retired     BIGINT;
-- The HardwareReport in JSON that reports are compared with; without one, the next report is taken.
ALTER TABLE servers ADD COLUMN baseline    TEXT;
-- Whether an agent made it (1) or the lender wrote it (0).
ALTER TABLE servers ADD COLUMN reported    BIGINT NOT NULL DEFAULT 0;
-- What the last report has otherwise, in JSON; and whether that put the server into quarantine.
ALTER TABLE servers ADD COLUMN differences TEXT   NOT NULL DEFAULT '[]';
ALTER TABLE servers ADD COLUMN unlike      BIGINT NOT NULL DEFAULT 0;
-- When the row was last changed, in the count of fleet_watermark.
ALTER TABLE servers ADD COLUMN changed     BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX servers_by_mac     ON servers (mac)     WHERE retired IS NULL;
CREATE UNIQUE INDEX servers_by_address ON servers (address) WHERE retired IS NULL;
CREATE INDEX servers_by_change ON servers (changed);

CREATE TABLE server_history (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server TEXT   NOT NULL,
    at     BIGINT NOT NULL,
    what   TEXT   NOT NULL
);
CREATE INDEX server_history_by_server ON server_history (server, number);

-- Whoever follows the fleet reads the watermark first, then all rows that were changed at or after the watermark of last time. Writers end in any
-- order here, so the count is that of transactions, and the watermark is the oldest one that has not ended: what is older can be seen already.
CREATE VIEW fleet_watermark AS
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS watermark;
CREATE FUNCTION servers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END
$$;
CREATE TRIGGER servers_changed BEFORE INSERT OR UPDATE ON servers
    FOR EACH ROW EXECUTE FUNCTION servers_changed();
