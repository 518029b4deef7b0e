//! Links, addresses and routes by rtnetlink(7). The one module that knows the rtnetlink crate, which changes often.

mod changes;

pub use changes::Changes;

use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkUnspec, LinkVlan, LinkWireguard, RouteMessageBuilder};
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

/// A network interface as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number, which a new name does not change.
    pub index: u32,
    /// The present name.
    pub name: String,
    /// Whether it is up, with or without a carrier.
    pub is_up: bool,
    /// The hardware address of a card; empty for what is built on others.
    pub card: Vec<u8>,
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            is_up: message.header.flags.contains(LinkFlags::Up),
            card: Vec::new(),
        };
        let mut is_built = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(address) => link.card.clone_from(address),
                // A VLAN or a bridge has the address of its card, too.
                LinkAttribute::LinkInfo(_) => is_built = true,
                _ => {}
            }
        }
        if is_built {
            link.card.clear();
        }
        link
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The priority of routes that go before all others to the same network.
const FIRST: u32 = 1;

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

    /// All interfaces.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let all = self.handle.link().get().execute();
        let links = all.map_ok(|message| Link::of(&message)).try_collect().await;
        links.map_err(|source| NetlinkError::Request {
            what: "list the network interfaces".to_owned(),
            source,
        })
    }

    /// Whether the interface with this number has this address, with whatever prefix.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn has_address(&self, index: u32, address: IpAddr) -> Result<bool, NetlinkError> {
        let addresses = self.handle.address().get();
        let all = addresses.set_link_index_filter(index).set_address_filter(address);
        let found = std::pin::pin!(all.execute()).try_next().await;
        let found = found.map_err(|source| NetlinkError::Request {
            what: format!("look for {address}"),
            source,
        })?;
        Ok(found.is_some())
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
    pub async fn add_unreachable(&self, network: IpNet) -> Result<(), NetlinkError> {
        let route = match network {
            IpNet::V4(network) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(network.network(), network.prefix_len())
                .kind(RouteType::Unreachable)
                .build(),
            // IPv6 keeps routes of several priorities: this one goes before the kernel's own.
            IpNet::V6(network) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(network.network(), network.prefix_len())
                .kind(RouteType::Unreachable)
                .priority(FIRST)
                .build(),
        };
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
