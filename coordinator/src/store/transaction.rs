//! A transaction as the rooms of the store use it, whatever the back end.

use super::group::Seat;
use sqlx::{Any, AnyConnection, Transaction};
use std::ops::{Deref, DerefMut};

/// A transaction that may write. Dropped without [`Tx::commit`] it leaves nothing behind.
///
/// What is read in it may be what a neighbour wrote and has not committed yet: who answers from that must commit or leave first. Else he
/// would tell what may still be lost, and who goes on from what the tables say elsewhere would meet the neighbour's work again and again.
pub(super) struct Tx(Kind);

enum Kind {
    Alone(Transaction<'static, Any>),
    Member(Seat),
}

impl Tx {
    pub(super) fn alone(transaction: Transaction<'static, Any>) -> Self {
        Self(Kind::Alone(transaction))
    }

    pub(super) fn member(seat: Seat) -> Self {
        Self(Kind::Member(seat))
    }

    /// Ends it. What it wrote outlives a loss of power once this has returned.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self.0 {
            Kind::Alone(transaction) => transaction.commit().await,
            Kind::Member(seat) => seat.commit().await,
        }
    }

    /// Ends it and undoes what it wrote. What it has read outlives a loss of power once this has returned.
    pub(super) async fn leave(self) -> Result<(), sqlx::Error> {
        match self.0 {
            Kind::Alone(transaction) => transaction.rollback().await,
            Kind::Member(seat) => seat.leave().await,
        }
    }
}

impl Deref for Tx {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match &self.0 {
            Kind::Alone(transaction) => transaction,
            Kind::Member(seat) => seat,
        }
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match &mut self.0 {
            Kind::Alone(transaction) => transaction,
            Kind::Member(seat) => seat,
        }
    }
}
