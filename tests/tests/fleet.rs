//! The simulated fleet of `cargo xtask bench fleet` in small, so that the bench is not found broken when it is wanted.

use anyhow::{Result, ensure};
use leaseboot_tests::bench::fleet::{Backing, Plan, simulate};

/// Servers of this fleet.
const SERVERS: usize = 50;

/// Four times as fast as the timetable, every lease followed by its tenant.
fn in_small(backing: Backing) -> Result<()> {
    let plan = Plan {
        servers: SERVERS,
        per_second: 20.0,
        haste: 4.0,
        followed: 1,
    };
    let outcome = simulate(plan, backing)?;
    ensure!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
    ensure!(
        outcome.in_service == SERVERS,
        "{} of {SERVERS} are in service",
        outcome.in_service
    );
    Ok(())
}

#[test]
fn fifty_servers_are_borrowed_and_come_into_service_on_sqlite() -> Result<()> {
    in_small(Backing::Sqlite)
}

#[test]
fn fifty_servers_are_borrowed_and_come_into_service_on_postgresql() -> Result<()> {
    in_small(Backing::Postgres)
}
