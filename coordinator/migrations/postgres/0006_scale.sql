-- So that no question about one lease or a few goes through those of the whole fleet.

-- Those that wait for another server are few.
CREATE INDEX leases_moving ON leases (number) WHERE state = '"moving"';
-- Tokens end with the boot of their lease.
CREATE INDEX boot_tokens_by_lease ON boot_tokens (lease);
CREATE INDEX sessions_by_lease    ON sessions (lease);
