-- When the lender takes the server back by itself, in milliseconds since 1970, and whether it has said that this is soon.
ALTER TABLE borrowing ADD COLUMN expires INTEGER;
ALTER TABLE borrowing ADD COLUMN ends_soon INTEGER NOT NULL DEFAULT 0;
