-- The fleet: what the lender declared of each server, and what it became. servers.toml, imports and approvals all end here.

-- The declaration (config::Server in JSON); servers without one are only on record.
ALTER TABLE servers ADD COLUMN declared    TEXT;
-- Out of the declaration, so that no two servers have the same.
ALTER TABLE servers ADD COLUMN mac         TEXT;
ALTER TABLE servers ADD COLUMN address     TEXT;
-- Labels that were changed since, in JSON; null for one that was taken away.
ALTER TABLE servers ADD COLUMN labels      TEXT    NOT NULL DEFAULT '{}';
-- Why it is in maintenance, and since when it is retired: it is never lent then.
ALTER TABLE servers ADD COLUMN maintenance TEXT;
ALTER TABLE servers ADD COLUMN retired     INTEGER;
-- The HardwareReport in JSON that reports are compared with; without one, the next report is taken.
ALTER TABLE servers ADD COLUMN baseline    TEXT;
-- Whether an agent made it (1) or the lender wrote it (0).
ALTER TABLE servers ADD COLUMN reported    INTEGER NOT NULL DEFAULT 0;
-- What the last report has otherwise, in JSON; and whether that put the server into quarantine.
ALTER TABLE servers ADD COLUMN differences TEXT    NOT NULL DEFAULT '[]';
ALTER TABLE servers ADD COLUMN unlike      INTEGER NOT NULL DEFAULT 0;
-- When the row was last changed, in the count of fleet_watermark.
ALTER TABLE servers ADD COLUMN changed     INTEGER NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX servers_by_mac     ON servers (mac)     WHERE retired IS NULL;
CREATE UNIQUE INDEX servers_by_address ON servers (address) WHERE retired IS NULL;
CREATE INDEX servers_by_change ON servers (changed);

CREATE TABLE server_history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    server TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    what   TEXT    NOT NULL
) STRICT;
CREATE INDEX server_history_by_server ON server_history (server, number);

-- Whoever follows the fleet reads the watermark first, then all rows that were changed at or after the watermark of last time. Writers come one after
-- the other here, so a counter does. A trigger does not set off itself (PRAGMA recursive_triggers is off).
CREATE TABLE fleet_clock (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    change INTEGER NOT NULL
) STRICT;
INSERT INTO fleet_clock VALUES (1, 1);
CREATE VIEW fleet_watermark AS SELECT change + 1 AS watermark FROM fleet_clock;
CREATE TRIGGER servers_inserted AFTER INSERT ON servers BEGIN
    UPDATE fleet_clock SET change = change + 1;
    UPDATE servers SET changed = (SELECT change FROM fleet_clock) WHERE name = NEW.name;
END;
CREATE TRIGGER servers_updated AFTER UPDATE ON servers BEGIN
    UPDATE fleet_clock SET change = change + 1;
    UPDATE servers SET changed = (SELECT change FROM fleet_clock) WHERE name = NEW.name;
END;
