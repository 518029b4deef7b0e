//! Links, addresses and routes by rtnetlink(7). The one module that knows the rtnetlink crate, which changes often.

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkUnspec, LinkVlan, LinkWireguard, MulticastGroup, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::task::JoinHandle;

/// A netlink socket in the calling thread's network namespace.
pub struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

/// The kernel refused, or the socket failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// No such interface.
    #[error("there is no network interface {name:?}")]
    NoSuchLink {
        /// The name.
        name: String,
    },
    /// The kernel knows no such kind of device.
    #[error("this kernel cannot {what}")]
    Unsupported {
        /// What was attempted.
        what: String,
    },
    /// A request failed.
    #[error("cannot {what}")]
    Request {
        /// What was attempted, on what.
        what: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
}

/// Tells when IPv4 addresses of any interface change.
pub struct AddressChanges {
    messages: BoxStream<'static, ()>,
    // The connection ends with its last handle.
    _socket: Netlink,
}

impl AddressChanges {
    /// Listens from now on; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        let groups = [MulticastGroup::Ipv4Ifaddr];
        let opened = rtnetlink::new_multicast_connection(&groups);
        let (connection, handle, messages) = opened.map_err(NetlinkError::Open)?;
        Ok(Self {
            messages: messages.map(drop).boxed(),
            _socket: Netlink {
                handle,
                connection: tokio::spawn(connection),
            },
        })
    }

    /// Waits for the next change; several that are known already count as one. Dropping it loses none.
    pub async fn next(&mut self) {
        if self.messages.next().await.is_none() {
            // The socket failed, and nothing will be told any more.
            std::future::pending::<()>().await;
        }
        while let Some(Some(())) = self.messages.next().now_or_never() {}
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens a socket; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// The kernel's number of an interface.
    ///
    /// # Errors
    /// [`NetlinkError::NoSuchLink`], or what the kernel said.
    pub async fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await;
        match found {
            Ok(Some(link)) => Ok(link.header.index),
            Ok(None) => Err(NetlinkError::NoSuchLink {
                name: name.to_owned(),
            }),
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::ENODEV => {
                Err(NetlinkError::NoSuchLink {
                    name: name.to_owned(),
                })
            }
            Err(source) => Err(NetlinkError::Request {
                what: format!("look {name} up"),
                source,
            }),
        }
    }

    /// The kernel's number of an interface, if there is one.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn find(&self, name: &str) -> Result<Option<u32>, NetlinkError> {
        match self.index(name).await {
            Ok(index) => Ok(Some(index)),
            Err(NetlinkError::NoSuchLink { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a WireGuard device of the kernel, at first without a key and down.
    ///
    /// # Errors
    /// [`NetlinkError::Unsupported`], or what the kernel said.
    pub async fn add_wireguard(&self, name: &str) -> Result<(), NetlinkError> {
        let link = LinkWireguard::new(name).build();
        let what = format!("create the WireGuard device {name}");
        match self.handle.link().add(link).execute().await {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::EOPNOTSUPP => {
                Err(NetlinkError::Unsupported { what })
            }
            done => done.map_err(|source| NetlinkError::Request { what, source }),
        }
    }

    /// Creates an interface for the frames on `below` that carry this tag (IEEE 802.1Q), down at first; one that is there is kept.
    ///
    /// # Errors
    /// As [`Netlink::index`].
    pub async fn add_vlan(&self, name: &str, below: &str, tag: u16) -> Result<(), NetlinkError> {
        if self.find(name).await?.is_some() {
            return Ok(());
        }
        let link = LinkVlan::new(name, self.index(below).await?, tag).build();
        let done = self.handle.link().add(link).execute().await;
        done.map_err(|source| NetlinkError::Request {
            what: format!("create the VLAN interface {name}"),
            source,
        })
    }

    /// Brings an interface up, and sets its largest packet in bytes when one is given.
    ///
    /// # Errors
    /// As [`Netlink::index`].
    pub async fn set_up(&self, name: &str, mtu: Option<u16>) -> Result<(), NetlinkError> {
        let index = self.index(name).await?;
        let mut change = LinkUnspec::new_with_index(index).up();
        if let Some(mtu) = mtu {
            change = change.mtu(u32::from(mtu));
        }
        let done = self.handle.link().set(change.build()).execute().await;
        done.map_err(|source| NetlinkError::Request {
            what: format!("bring {name} up"),
            source,
        })
    }

    /// Takes an interface down.
    ///
    /// # Errors
    /// As [`Netlink::index`].
    pub async fn set_down(&self, name: &str) -> Result<(), NetlinkError> {
        let index = self.index(name).await?;
        let change = LinkUnspec::new_with_index(index).down();
        let done = self.handle.link().set(change.build()).execute().await;
        done.map_err(|source| NetlinkError::Request {
            what: format!("take {name} down"),
            source,
        })
    }

    /// Adds an address with its connected route; one that is there already is kept.
    ///
    /// # Errors
    /// As [`Netlink::index`].
    pub async fn add_address(&self, name: &str, address: IpNet) -> Result<(), NetlinkError> {
        let index = self.index(name).await?;
        let request = self
            .handle
            .address()
            .add(index, address.addr(), address.prefix_len())
            .replace();
        let done = request.execute().await;
        done.map_err(|source| NetlinkError::Request {
            what: format!("give {address} to {name}"),
            source,
        })
    }

    /// Routes a network to an interface, or to a next hop that is reached through it; a route that is there is replaced.
    ///
    /// # Errors
    /// As [`Netlink::index`].
    pub async fn add_route(
        &self,
        network: IpNet,
        name: &str,
        via: Option<IpAddr>,
    ) -> Result<(), NetlinkError> {
        let index = self.index(name).await?;
        let route = match (network, via) {
            (IpNet::V4(network), via) => {
                let route = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(network.network(), network.prefix_len())
                    .output_interface(index);
                match via {
                    Some(IpAddr::V4(via)) => route.gateway(via).build(),
                    _ => route.scope(RouteScope::Link).build(),
                }
            }
            (IpNet::V6(network), via) => {
                let route = RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(network.network(), network.prefix_len())
                    .output_interface(index);
                match via {
                    Some(IpAddr::V6(via)) => route.gateway(via).build(),
                    _ => route.build(),
                }
            }
        };
        self.replace_route(route, format!("route {network} to {name}"))
            .await
    }

    /// Makes a network unreachable, whatever wider route there is or comes; a route to just this network is replaced.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn add_unreachable(&self, network: Ipv4Net) -> Result<(), NetlinkError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network.network(), network.prefix_len())
            .kind(RouteType::Unreachable)
            .build();
        self.replace_route(route, format!("make {network} unreachable"))
            .await
    }

    /// Makes every address of a network this host's own on the loopback interface, whatever its cards have; narrower routes go before it.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn add_local(&self, network: Ipv4Net) -> Result<(), NetlinkError> {
        let index = self.index("lo").await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network.network(), network.prefix_len())
            .output_interface(index)
            .scope(RouteScope::Host)
            .kind(RouteType::Local)
            .build();
        self.replace_route(route, format!("make {network} local")).await
    }

    async fn replace_route(&self, route: RouteMessage, what: String) -> Result<(), NetlinkError> {
        let done = self.handle.route().add(route).replace().execute().await;
        done.map_err(|source| NetlinkError::Request { what, source })
    }
}
