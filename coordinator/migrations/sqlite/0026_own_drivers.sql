-- Which drivers the boot of a token was given, so that one that stayed silent with its server's own drivers is followed by one with all of them.

ALTER TABLE boot_tokens ADD COLUMN drivers TEXT NOT NULL DEFAULT 'all';
