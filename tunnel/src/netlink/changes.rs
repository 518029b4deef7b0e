//! Word of what others do to links, addresses and routes.
//!
//! Routes that come are nobody's news: whoever sets routes again at each word would be told of his own. The kernel does not tell of routes that go with their address or
//! with their link, so the address and the link are listened for as well.

use super::{Netlink, NetlinkError};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

/// Tells when any link or IPv4 address changes, or when an IPv4 route goes.
pub struct Changes {
    messages: BoxStream<'static, ()>,
    // The connection ends with its last handle.
    _socket: Netlink,
}

impl Changes {
    /// Listens from now on; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
        ];
        let opened = rtnetlink::new_multicast_connection(&groups);
        let (connection, handle, messages) = opened.map_err(NetlinkError::Open)?;
        let told = messages.filter_map(|(message, _)| std::future::ready(is_change(&message).then_some(())));
        Ok(Self {
            messages: told.boxed(),
            _socket: Netlink {
                handle,
                connection: tokio::spawn(connection),
            },
        })
    }

    /// Waits until something has changed; several changes that are known already count as one. Dropping it loses none.
    pub async fn next(&mut self) {
        if self.messages.next().await.is_none() {
            // The socket failed, and nothing will be told any more.
            std::future::pending::<()>().await;
        }
        while let Some(Some(())) = self.messages.next().now_or_never() {}
    }
}

fn is_change(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, NewAddress, NewLink};
    matches!(
        message.payload,
        NetlinkPayload::InnerMessage(NewLink(_) | DelLink(_) | NewAddress(_) | DelAddress(_) | DelRoute(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_core::NetlinkHeader;
    use rtnetlink::packet_route::address::AddressMessage;
    use rtnetlink::packet_route::route::RouteMessage;

    #[test]
    fn a_route_that_goes_is_a_change_and_one_that_comes_is_not() {
        let message =
            |message| NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        assert!(is_change(&message(RouteNetlinkMessage::DelRoute(
            RouteMessage::default()
        ))));
        assert!(!is_change(&message(RouteNetlinkMessage::NewRoute(
            RouteMessage::default()
        ))));
        assert!(is_change(&message(RouteNetlinkMessage::DelAddress(
            AddressMessage::default()
        ))));
    }
}
