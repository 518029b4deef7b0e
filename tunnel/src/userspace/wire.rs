//! The stack's end of the tunnel as smoltcp sees it: one packet that has arrived, and room for those that leave. Nothing is copied on the way in.

use crate::packets::Packets;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// A network card for the length of one call.
pub(super) struct Wire<'a> {
    /// The packet that has arrived; taken when it is looked at.
    pub(super) arrived: Option<&'a [u8]>,
    /// Where packets go that leave.
    pub(super) leaving: &'a mut Packets,
    /// Largest packet in bytes.
    pub(super) mtu: u16,
}

/// A packet on its way in.
pub(super) struct Arrival<'a>(&'a [u8]);

/// Room for a packet on its way out.
pub(super) struct Departure<'a>(&'a mut Packets);

impl RxToken for Arrival<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, look: F) -> R {
        look(self.0)
    }
}

impl TxToken for Departure<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let room = self.0.room(length);
        // What was here before is another packet's.
        room.fill(0);
        let result = write(room);
        self.0.commit(length);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Arrival<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Departure<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Arrival<'_>, Departure<'_>)> {
        let packet = self.arrived.take()?;
        Some((Arrival(packet), Departure(self.leaving)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Departure<'_>> {
        Some(Departure(self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut all = DeviceCapabilities::default();
        all.medium = Medium::Ip;
        all.max_transmission_unit = usize::from(self.mtu);
        all
    }
}
