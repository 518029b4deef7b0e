//! A second Lease Manager on the same wire and the same PostgreSQL database, for scenarios in which the first one dies.
//!
//! ```text
//!  server ──br0──┬── 10.10.0.1  the first    ◄─────────── transit ◄── PO asks 10.10.0.1
//!                └── 10.10.0.2  the second   ◄── after [`Standby::take_tenants`]
//! ```
//!
//! Tenants ask under one address that leads to one that lives, here by address translation in the transit, as a load balancer would
//! do it. The servers have no such help: their agents find the second by themselves.

use crate::lab::Lab;
use crate::managers::LeaseManager;
use crate::network::{LM_ADDRESS, STANDBY_ADDRESS};
use crate::postgres::Cluster;
use anyhow::Result;

/// The port of the second one on the lender's bridge.
const PORT: &str = "standby";
const API_PORT: u16 = 8443;

/// The second Lease Manager, which runs, and the database that it shares with the first.
pub struct Standby {
    /// The second Lease Manager.
    pub lm: LeaseManager,
    // Last: whoever uses it goes first.
    _cluster: Cluster,
}

impl Standby {
    /// Moves the laboratory's LM from its SQLite file to a PostgreSQL database by backup and restore, and starts a second one beside it.
    pub async fn beside(lab: &mut Lab) -> Result<Self> {
        let cluster = Cluster::start()?;
        let store = cluster.database();
        let backup = lab.folder.path().join("store.backup");
        lab.lm.stop().await?;
        lab.lm.archive("backup", &backup).await?;
        lab.lm.configure(|config| {
            config.insert("store".to_owned(), store.into());
            let others = [LM_ADDRESS, STANDBY_ADDRESS].map(|address| format!("{address}:{API_PORT}"));
            let api = config.entry("api").or_insert_with(|| toml::Table::new().into());
            if let Some(api) = api.as_table_mut() {
                api.insert("others".to_owned(), others.to_vec().into());
            }
        })?;
        lab.lm.archive("restore", &backup).await?;
        lab.lm.start().await?;
        let address = format!("{STANDBY_ADDRESS}/24");
        let namespace = lab.network.add_lender_port(PORT, &address).await?;
        namespace
            .ip_batch(&format!(
                "route add 198.51.100.0/24 via {LM_ADDRESS} dev {PORT}\n"
            ))
            .await?;
        let mut lm = lab.lm.twin("standby", namespace, PORT, &address)?;
        lm.start().await?;
        Ok(Self {
            lm,
            _cluster: cluster,
        })
    }

    /// From now on who asks the first one from outside is answered by the second.
    pub async fn take_tenants(&self, lab: &Lab) -> Result<()> {
        let rules = format!(
            "table ip balancer {{ chain arriving {{ type nat hook prerouting priority dstnat; \
             ip daddr {LM_ADDRESS} tcp dport {API_PORT} dnat to {STANDBY_ADDRESS}; }}; }}"
        );
        lab.network.transit.run("nft", &[&rules]).await.map(drop)
    }
}
