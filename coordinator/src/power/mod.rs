//! Power controllers of the lent servers.
