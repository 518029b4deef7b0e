//! A laboratory in one piece, and the frame around a scenario.
//!
//! ```no_run
//! # use leaseboot_tests::lab::Plan;
//! # async fn example() -> anyhow::Result<()> {
//! Plan::named("transfer").run(async |lab| {
//!     lab.borrow("web")?.in_service(leaseboot_tests::lab::INSTALLATION).await?;
//!     assert!(lab.page("10.99.0.10").await?.contains("enterprise web server"));
//!     Ok(())
//! }).await
//! # }
//! ```

use crate::assets::Assets;
use crate::capture::Capture;
use crate::daemon::Daemon;
use crate::dnsmasq;
use crate::folders::{Folders, RunFolder};
use crate::ipv6;
use crate::machine::Machine;
use crate::managers::{Borrowing, LeaseManager, Organizer, Profile};
use crate::namespace::Service;
use crate::network::{LM_ADDRESS, Network};
use crate::redfish::Redfish;
use crate::relay;
use crate::servers::{Server, servers_toml};
use crate::tiny_image;
use crate::vlan_switch::VlanSwitch;
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::agent::Hello;
use leaseboot_protocol::hardware::HardwareReport;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A whole transfer under software emulation on two busy cores.
pub const INSTALLATION: Duration = Duration::from_secs(15 * 60);
/// From power-on to the enterprise's kernel.
pub const CHAIN: Duration = Duration::from_secs(4 * 60);
/// The hash that the sealed root password has in scenarios; the password is `correct horse`.
pub const ROOT_PASSWORD_HASH: &str =
    "$6$leaseboot$L20C858A6gJ8S0AP./fGGDZVFfzhsIUb28Al2QWbjmjUykfpK4fb22pPtSqBSMhAIi5EOOnvdsJpjfBIFX7Mf1";
/// For the enterprise's kernels: an emulated timer on a busy host may be so late that the kernel takes it for broken, and panics.
pub(crate) const BUSY_HOST: &str = "no_timer_check";
const LINES: usize = 40;

/// What a scenario needs; by default one server that the lender knows, and the profile `web` of the example kickstart.
pub struct Plan {
    name: String,
    servers: Vec<Server>,
    ipxe_chain: &'static str,
    capture: bool,
    image: BootImage,
    image_words: &'static str,
    attempts: Option<i64>,
    deadlines: Vec<(&'static str, i64)>,
    rival: bool,
    beside_dnsmasq: bool,
    /// Words of dnsmasq's that [`Plan::beside_dnsmasq`] has not.
    dnsmasq_words: Vec<&'static str>,
    behind_relay: bool,
    ipv6_only: bool,
    mtu: Option<u16>,
    dhcp: toml::Table,
    boot_files: Option<PathBuf>,
    held: bool,
}

/// What the enterprise has its servers boot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BootImage {
    Installer,
    Tiny,
    None,
}

/// A laboratory that runs.
pub struct Lab {
    /// Files of this run.
    pub folder: RunFolder,
    /// The lender's side.
    pub lm: LeaseManager,
    /// The enterprise's side.
    pub po: Organizer,
    /// The other enterprise's, when the plan wants one.
    pub rival: Option<Organizer>,
    /// The bare servers, in the plan's order.
    pub machines: Vec<Machine>,
    /// The capture of the lender's bridge, when the plan wants one.
    pub capture: Option<Capture>,
    /// The switch of the server that stands in a tagged network, when there is one.
    pub switch: Option<VlanSwitch>,
    _redfish: Redfish,
    _packages: Option<Service>,
    _dnsmasq: Option<Daemon>,
    _relay: Option<Daemon>,
    /// The wires.
    pub network: Network,
}

impl Plan {
    /// A plan whose files go to `target/lab/<name>`.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            servers: vec![Server::numbered(1)],
            ipxe_chain: "script",
            capture: false,
            image: BootImage::Installer,
            image_words: "",
            attempts: None,
            deadlines: Vec::new(),
            rival: false,
            beside_dnsmasq: false,
            dnsmasq_words: Vec::new(),
            behind_relay: false,
            ipv6_only: false,
            mtu: None,
            dhcp: toml::Table::new(),
            boot_files: None,
            held: false,
        }
    }

    /// These bare servers.
    #[must_use]
    pub fn servers(mut self, servers: Vec<Server>) -> Self {
        self.servers = servers;
        self
    }

    /// iPXE is sent to GRUB by TFTP instead of to its script by HTTP.
    #[must_use]
    pub fn by_grub(mut self) -> Self {
        self.ipxe_chain = "grub";
        self
    }

    /// The lender's bridge is captured from the first packet on.
    #[must_use]
    pub fn captured(mut self) -> Self {
        self.capture = true;
        self
    }

    /// No profile, boot image or package repository: the scenario brings its own.
    #[must_use]
    pub fn without_installer(mut self) -> Self {
        self.image = BootImage::None;
        self
    }

    /// Instead of the installer the tiny image, with a profile of its own name that fits every server.
    #[must_use]
    pub fn tiny(mut self) -> Self {
        self.image = BootImage::Tiny;
        self
    }

    /// The installer's kernel is started with these words as well.
    #[must_use]
    pub fn image_words(mut self, words: &'static str) -> Self {
        self.image_words = words;
        self
    }

    /// The LM gives a transfer up at its first failure.
    #[must_use]
    pub fn one_attempt(mut self) -> Self {
        self.attempts = Some(1);
        self
    }

    /// The LM waits in a state for so many seconds instead of its usual time.
    #[must_use]
    pub fn deadline(mut self, state: &'static str, seconds: i64) -> Self {
        self.deadlines.push((state, seconds));
        self
    }

    /// Another enterprise borrows from the same lender.
    #[must_use]
    pub fn with_rival(mut self) -> Self {
        self.rival = true;
        self
    }

    /// Addresses on the lender's wire come from a dnsmasq that knows nothing of booting, and the LM is its proxy.
    #[must_use]
    pub fn beside_dnsmasq(mut self) -> Self {
        self.beside_dnsmasq = true;
        self
    }

    /// That dnsmasq lets the agent, but not the firmware, wait for its offers.
    #[must_use]
    pub fn late_for_the_agent(mut self) -> Self {
        self.dnsmasq_words = vec![
            "--dhcp-vendorclass=set:agent,leaseboot",
            "--dhcp-reply-delay=tag:agent,5",
        ];
        self.beside_dnsmasq()
    }

    /// The servers stand in a network of their own, [`relay::SUBNET`], behind a router that relays their DHCP.
    #[must_use]
    pub fn behind_relay(mut self) -> Self {
        self.behind_relay = true;
        self
    }

    /// The lender's wire carries IPv6 and nothing else.
    #[must_use]
    pub fn ipv6_only(mut self) -> Self {
        self.ipv6_only = true;
        self
    }

    /// The lender's wire carries packets of so many bytes.
    #[must_use]
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// More settings of the LM's `[dhcp]` table, as a text of TOML.
    #[must_use]
    pub fn dhcp(mut self, settings: &str) -> Self {
        // A mistake here is one of the scenario's author.
        self.dhcp = settings.parse().expect("a text of TOML");
        self
    }

    /// Other boot files than those of `cargo xtask image`.
    #[must_use]
    pub fn boot_files(mut self, folder: PathBuf) -> Self {
        self.boot_files = Some(folder);
        self
    }

    /// The managers are set up and not started: the scenario does that.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Builds the laboratory, runs the scenario in it, and takes it down. When the scenario fails, the last lines of everything
    /// that speaks go to standard error.
    pub async fn run(self, scenario: impl AsyncFnOnce(&mut Lab) -> Result<()>) -> Result<()> {
        let mut lab = self.start(&Folders::find()?).await?;
        let outcome = scenario(&mut lab).await;
        if outcome.is_err() {
            lab.dump();
        }
        outcome
    }

    /// Builds the laboratory and starts both managers.
    pub async fn start(self, folders: &Folders) -> Result<Lab> {
        let folder = folders.scenario(&self.name)?;
        self.start_in(folders, folder).await
    }

    /// What the lender's operator would write into `lm.toml`.
    fn settle(&self, config: &mut toml::Table) {
        set(config, "dhcp", "ipxe_chain", self.ipxe_chain);
        for (key, value) in &self.dhcp {
            set(config, "dhcp", key, value.clone());
        }
        for (state, seconds) in &self.deadlines {
            set(config, "deadlines", state, *seconds);
        }
        if self.beside_dnsmasq {
            set(config, "dhcp", "mode", "proxy");
        }
        if self.behind_relay {
            relay::configure(config);
        }
        if self.ipv6_only {
            ipv6::configure(config);
        }
        if let Some(mtu) = self.mtu {
            config.insert("mtu".to_owned(), i64::from(mtu).into());
        }
        if let Some(attempts) = self.attempts {
            config.insert("attempts".to_owned(), attempts.into());
        }
    }

    /// As [`Plan::start`], with files in this folder.
    pub async fn start_in(self, folders: &Folders, run: RunFolder) -> Result<Lab> {
        let folder = run.path();
        let network = Network::build().await?;
        let capture = match self.capture {
            true => Some(Capture::start(&network, folder).await?),
            false => None,
        };
        let (machines, switch) = self.rack(&network, folder).await?;
        let redfish = Redfish::start(&network, machines.clone(), folders, folder).await?;
        let mut lm = LeaseManager::prepare(&network, folders, folder).await?;
        lm.write_servers(&servers_toml(&self.servers, &redfish)?)?;
        lm.configure(|config| self.settle(config))?;
        let mut po = Organizer::prepare(&network, folders, folder, &lm.bundle()).await?;
        let packages = match self.image {
            BootImage::Installer => Some(add_web_profile(&network, folders, &po, self.image_words).await?),
            BootImage::Tiny => tiny_image::add(&po).await.map(|()| None)?,
            BootImage::None => None,
        };
        let dnsmasq = match self.beside_dnsmasq {
            true => Some(start_dnsmasq(&network, folder, &self.dnsmasq_words).await?),
            false => None,
        };
        let relay = match self.behind_relay {
            true => Some(relay::start(&network, &machines, folder).await?),
            false => None,
        };
        if self.ipv6_only {
            network.speak_ipv6(&machines).await?;
        }
        if let Some(mtu) = self.mtu {
            network.set_lender_mtu(mtu, &machines).await?;
        }
        if let Some(files) = self.boot_files {
            lm.serve_boot_files(files);
        }
        if !self.held {
            lm.start().await?;
            po.start().await?;
        }
        let rival = match self.rival {
            true => Some(start_rival(&network, folders, folder, &lm).await?),
            false => None,
        };
        Ok(Lab {
            folder: run,
            lm,
            po,
            rival,
            machines,
            capture,
            switch,
            _redfish: redfish,
            _packages: packages,
            _dnsmasq: dnsmasq,
            _relay: relay,
            network,
        })
    }

    /// The servers, and the switch of the one that stands in a tagged network.
    async fn rack(&self, network: &Network, folder: &Path) -> Result<(Vec<Machine>, Option<VlanSwitch>)> {
        let tagged = self.servers.iter().filter(|server| server.tagged);
        ensure!(tagged.count() <= 1, "the switch has one port for a server");
        let (mut machines, mut switch) = (Vec::new(), None);
        for server in &self.servers {
            let hardware = server.hardware.clone();
            machines.push(match server.tagged {
                false => Machine::install(network, hardware, folder).await?,
                true => {
                    let machine = Machine::install_behind_switch(network, hardware, folder).await?;
                    switch = Some(VlanSwitch::start(network, machine.port()).await?);
                    machine
                }
            });
        }
        Ok((machines, switch))
    }
}

impl Lab {
    /// The first server.
    pub fn machine(&self) -> &Machine {
        &self.machines[0]
    }

    /// Starts borrowing a server for a profile.
    pub fn borrow(&mut self, profile: &str) -> Result<Borrowing> {
        self.po.borrow(profile, &[])
    }

    /// The page that a server shows to the office inside the enterprise.
    pub async fn page(&self, address: &str) -> Result<String> {
        let url = format!("http://{address}/");
        self.network
            .office
            .run("curl", &["-sSf", "--max-time", "30", &url])
            .await
    }

    /// Says hello to the LM from the lender's wire as the first server, with this boot token; gives the status of the answer.
    pub async fn hello_with(&self, token: &str) -> Result<String> {
        let hello = Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            mac: self.machine().hardware().mac,
            hardware: HardwareReport::default(),
            earlier: Vec::new(),
            without_kexec: false,
        };
        let ca = self.lm.bundle().join("lm-ca.pem").display().to_string();
        let (body, bearer) = (
            serde_json::to_string(&hello)?,
            format!("Authorization: Bearer {token}"),
        );
        let url = format!("https://{LM_ADDRESS}:8443/v1/agent/hello");
        let json = "Content-Type: application/json";
        let quiet = ["-sS", "-o", "/dev/null", "-w", "%{http_code}"];
        let asked = ["--cacert", &ca, "-H", &bearer, "-H", json, "-d", &body, &url];
        let arguments = [&quiet[..], &asked].concat();
        self.network.lender.run("curl", &arguments).await
    }

    /// Prints the last lines of everything that speaks.
    pub fn dump(&self) {
        eprintln!("\nfiles of this run: {}", self.folder.path().display());
        for machine in &self.machines {
            print_tail(&machine.hardware().name, &machine.serial().tail(LINES));
        }
        for (name, said) in [("leaseboot-lm", self.lm.said()), ("leaseboot-po", self.po.said())] {
            match said {
                Ok(said) => print_tail(name, &said.tail(LINES)),
                Err(error) => eprintln!("{error}"),
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A failed assertion in the scenario does not come back through `Plan::run`.
        if std::thread::panicking() {
            self.dump();
        }
    }
}

fn print_tail(name: &str, tail: &str) {
    eprintln!("\n===== {name}, last {LINES} lines =====\n{tail}");
}

async fn start_rival(
    network: &Network,
    folders: &Folders,
    folder: &Path,
    lm: &LeaseManager,
) -> Result<Organizer> {
    let bundle = folder.join("rival-bundle");
    lm.add_tenant("rival", &bundle).await?;
    let mut rival = Organizer::prepare_rival(network, folders, folder, &bundle).await?;
    rival.start().await?;
    Ok(rival)
}

/// The addresses that dnsmasq gives in [`Plan::beside_dnsmasq`] begin so.
pub const DNSMASQ_ADDRESSES: &str = "10.10.0.2";

/// A DHCP server by other authors, at a port of its own on the lender's bridge: 10.10.0.201 to 10.10.0.219, and not a word about booting.
async fn start_dnsmasq(network: &Network, folder: &Path, more: &[&str]) -> Result<Daemon> {
    let namespace = network.add_lender_port("dhcp", "10.10.0.2/24").await?;
    let words = [
        "--interface=dhcp",
        "--dhcp-range=10.10.0.201,10.10.0.219,255.255.255.0,1h",
        "--dhcp-option=option:router,10.10.0.1",
    ];
    let words = dnsmasq::GIVES_ADDRESSES.iter().chain(&words).chain(more);
    let words: Vec<String> = words.map(|word| (*word).to_owned()).collect();
    let ready = "DHCP, sockets bound exclusively to interface dhcp";
    dnsmasq::start(namespace, &words, &folder.join("dnsmasq.log"), ready).await
}

/// The enterprise's boot image, the profile `web`, and the packages that it installs.
async fn add_web_profile(
    network: &Network,
    folders: &Folders,
    po: &Organizer,
    words: &str,
) -> Result<Service> {
    let assets = Assets::find(folders)?;
    let command_line = format!("console=tty0 {BUSY_HOST} {words}");
    po.add_image("installer", &assets.kernel(), &assets.initrd(), &command_line)?;
    po.add_profile(&web_profile(&folders.sources())?)?;
    assets.serve_repository(network).await
}

/// The profile of the example kickstart, for servers that are numbered: the merge writes each one's name.
pub fn web_profile(sources: &Path) -> Result<Profile> {
    let path = sources.join("installer/example.ks");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.contains("--hostname"));
    Ok(Profile {
        name: "web".to_owned(),
        image: "installer".to_owned(),
        kickstart: lines.map(|line| format!("{line}\n")).collect(),
        hostname: "web-{n}".to_owned(),
        labels: Vec::new(),
        sealed: vec![("root_password".to_owned(), ROOT_PASSWORD_HASH.to_owned())],
    })
}

pub(crate) fn set(config: &mut toml::Table, table: &str, key: &str, value: impl Into<toml::Value>) {
    let table = config.entry(table).or_insert_with(|| toml::Table::new().into());
    if let Some(table) = table.as_table_mut() {
        table.insert(key.to_owned(), value.into());
    }
}
