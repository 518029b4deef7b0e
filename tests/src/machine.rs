//! Bare metal: a QEMU process for as long as the power is on, and a disk that stays.
//!
//! ```text
//!            on                              guest or order: off
//!   Off ───────────▶ On (QEMU process, QMP) ─────────────────────▶ Off
//!                     └─ cycle: the process ends, another one starts with the same disk
//! ```
//!
//! One task owns the process; handles send it orders and watch the power. So "off" is never a flag that could disagree with the
//! process: it is the process being gone.

pub use crate::flash::{Firmware, NetworkBoot};
use crate::namespace::Namespace;
use crate::network::Network;
use crate::qemu::{self, Placement, Wire};
use crate::qmp::Qmp;
use crate::transcript::Transcript;
use anyhow::{Context as _, Result, bail};
use leaseboot_protocol::network::MacAddress;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// What a server is made of.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// Its name at the lender.
    pub name: String,
    /// The card that it boots from.
    pub mac: MacAddress,
    /// What is in its flash chip.
    pub firmware: Firmware,
    /// How its firmware fetches the first loader.
    pub network_boot: NetworkBoot,
    /// The card's model.
    pub nic: NicModel,
    /// Cards of the same model without a cable: so many in slots before the wired one, so many behind it.
    pub unwired: [u8; 2],
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Cores.
    pub cores: u32,
    /// Disks, empty at first.
    pub disks: Vec<Disk>,
}

/// A disk of a server.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The maker's serial number.
    pub serial: String,
    /// Capacity in MiB.
    pub size_mib: u64,
    /// What it hangs on.
    pub bus: Bus,
    /// Whether it refuses every change of its content.
    pub worn_out: bool,
}

impl Disk {
    /// A disk in order.
    pub fn new(bus: Bus, serial: &str, size_mib: u64) -> Self {
        Self {
            serial: serial.to_owned(),
            size_mib,
            bus,
            worn_out: false,
        }
    }
}

/// What a disk hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Paravirtual; can discard.
    Virtio,
    /// Paravirtual, and can neither discard nor zero: everything has to be written.
    Plain,
    /// SATA by AHCI; can discard.
    Sata,
    /// A controller of its own with one namespace; can be formatted.
    Nvme,
}

/// The model of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicModel {
    /// Paravirtual.
    Virtio,
    /// Intel's 82540EM.
    E1000,
    /// Intel's 82574L.
    E1000e,
    /// Realtek's 8139, 100 Mbit/s.
    Rtl8139,
    /// VMware's paravirtual.
    Vmxnet3,
}

/// Whether a server has power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// The process runs.
    On,
    /// There is no process.
    Off,
}

/// What the next power-on boots from, as a BMC's override says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootSource {
    /// Network first, then the disk: how the lender sets up its servers.
    #[default]
    Pxe,
    /// The disk only.
    Hdd,
}

/// An order to a server's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerOrder {
    /// Switch on; nothing happens when it is on.
    On,
    /// Switch off at once; nothing happens when it is off.
    Off,
    /// Off and on again.
    Cycle,
    /// Press the power button and leave the rest to the operating system.
    Button,
    /// The processors stop where they are, as on a board that hangs; only the power ends that.
    Hang,
    /// The wired card loses its link, as when somebody pulls the cable; at the next start it is in again.
    PullCable,
    /// The cable is back.
    PlugCable,
}

/// A bare server. Clones are the same server; when the last is dropped, the power goes off.
#[derive(Clone)]
pub struct Machine {
    shared: Arc<Shared>,
}

struct Shared {
    hardware: Hardware,
    folder: PathBuf,
    namespace: Namespace,
    tap: String,
    serial: Transcript,
    orders: mpsc::UnboundedSender<Order>,
    power: watch::Receiver<Power>,
    boot: watch::Sender<BootSource>,
    starts: Arc<AtomicU32>,
    _owner: JoinSet<()>,
}

type Order = (PowerOrder, oneshot::Sender<Result<()>>);

impl Machine {
    /// Bolts a server to the lender's rack: wired and with power off. Its files go to `folder`.
    pub async fn install(network: &Network, hardware: Hardware, folder: &Path) -> Result<Self> {
        let tap = port_of(&hardware);
        Self::wire(network, hardware, folder, Wire::Bridge(tap)).await
    }

    /// The same with its cable in a [`VlanSwitch`](crate::vlan_switch::VlanSwitch), which has to be started on [`Machine::port`].
    pub(crate) async fn install_behind_switch(
        network: &Network,
        hardware: Hardware,
        folder: &Path,
    ) -> Result<Self> {
        Self::wire(network, hardware, folder, Wire::Switch).await
    }

    async fn wire(network: &Network, hardware: Hardware, folder: &Path, wire: Wire) -> Result<Self> {
        let tap = port_of(&hardware);
        network.add_port(&tap).await?;
        let placement = Placement::prepare(&hardware, folder, wire)?;
        let log = folder.join(format!("{}.serial.log", hardware.name));
        let serial = Transcript::new(&hardware.name, &log, &["Kernel panic"])?;
        let (orders, received) = mpsc::unbounded_channel();
        let (power, is_powered) = watch::channel(Power::Off);
        let boot = watch::Sender::new(BootSource::default());
        let starts = Arc::new(AtomicU32::new(0));
        let owner = Owner {
            namespace: network.lender.clone(),
            hardware: hardware.clone(),
            placement,
            serial: serial.clone(),
            power,
            boot: boot.subscribe(),
            starts: starts.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(owner.run(received));
        let shared = Shared {
            hardware,
            folder: folder.to_owned(),
            namespace: network.lender.clone(),
            tap,
            serial,
            orders,
            power: is_powered,
            boot,
            starts,
            _owner: tasks,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// What it is made of.
    pub fn hardware(&self) -> &Hardware {
        &self.shared.hardware
    }

    /// The port of the lender's switch that it is wired to.
    pub(crate) fn port(&self) -> &str {
        &self.shared.tap
    }

    /// What its serial line said.
    pub fn serial(&self) -> &Transcript {
        &self.shared.serial
    }

    /// Whether it has power.
    pub fn power(&self) -> Power {
        *self.shared.power.borrow()
    }

    /// How many times it was switched on.
    pub fn starts(&self) -> u32 {
        self.shared.starts.load(Ordering::Relaxed)
    }

    /// How many bytes it has received from the wire since it was installed.
    pub async fn received_bytes(&self) -> Result<u64> {
        let counter = format!("/sys/class/net/{}/statistics/tx_bytes", self.shared.tap);
        let text = self.shared.namespace.run("cat", &[&counter]).await?;
        text.trim()
            .parse()
            .with_context(|| format!("{counter} says {text:?}"))
    }

    /// Pulls its cable out of the lender's switch.
    pub async fn unplug(&self) -> Result<()> {
        let line = format!("link set {} down\n", self.shared.tap);
        let done = self.shared.namespace.ip_batch(&line).await;
        done.with_context(|| format!("cannot unplug {}", self.shared.hardware.name))
    }

    /// What the next power-on boots from.
    pub fn boot_source(&self) -> BootSource {
        *self.shared.boot.borrow()
    }

    /// Sets what the next power-on boots from.
    pub fn set_boot_source(&self, source: BootSource) {
        self.shared.boot.send_replace(source);
    }

    /// Gives an order to its power, and waits until it is carried out (the button: until it is pressed).
    pub async fn order(&self, order: PowerOrder) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        let gone = || format!("the machine {} is gone", self.shared.hardware.name);
        self.shared.orders.send((order, done)).ok().with_context(gone)?;
        is_done.await.with_context(gone)?
    }

    /// Waits until the power is as said.
    pub async fn wait_for_power(&self, power: Power, within: Duration) -> Result<()> {
        let mut watched = self.shared.power.clone();
        let waited = tokio::time::timeout(within, watched.wait_for(|now| *now == power)).await;
        match waited {
            Ok(found) => found.map(drop).context("the machine is gone"),
            Err(_) => bail!(
                "{}: power is still {:?} after {} s; its serial line last said:\n{}",
                self.shared.hardware.name,
                self.power(),
                within.as_secs(),
                self.shared.serial.tail(8)
            ),
        }
    }
}

/// The task that owns the process.
struct Owner {
    namespace: Namespace,
    hardware: Hardware,
    placement: Placement,
    serial: Transcript,
    power: watch::Sender<Power>,
    boot: watch::Receiver<BootSource>,
    starts: Arc<AtomicU32>,
}

/// A process and its strings.
struct Running {
    child: Child,
    qmp: Qmp,
    readers: JoinSet<()>,
}

impl Owner {
    /// Goal: carry out orders one after the other and notice when the guest switches itself off. Both branches may be dropped: a
    /// receive takes nothing when it is not chosen, and waiting for a child can be taken up again.
    async fn run(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut running: Option<Running> = None;
        loop {
            let ended = async {
                match &mut running {
                    Some(process) => process.child.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _status = ended => {
                    self.drain(running.take()).await;
                    self.serial.note("power off, by the server itself");
                    self.power.send_replace(Power::Off);
                }
                order = orders.recv() => {
                    let Some((order, done)) = order else { return };
                    let outcome = self.carry_out(order, &mut running).await;
                    let now = if running.is_some() { Power::On } else { Power::Off };
                    self.power.send_replace(now);
                    // Whoever ordered may have given up waiting.
                    drop(done.send(outcome));
                }
            }
        }
    }

    async fn carry_out(&self, order: PowerOrder, running: &mut Option<Running>) -> Result<()> {
        match order {
            PowerOrder::On if running.is_some() => {}
            PowerOrder::On => *running = Some(self.start().await?),
            PowerOrder::Off => self.stop(running.take()).await?,
            PowerOrder::Cycle => {
                self.stop(running.take()).await?;
                self.power.send_replace(Power::Off);
                *running = Some(self.start().await?);
            }
            PowerOrder::Button => {
                if let Some(process) = running {
                    process.qmp.order("system_powerdown").await?;
                }
            }
            PowerOrder::Hang => {
                if let Some(process) = running {
                    process.qmp.order("stop").await?;
                    self.serial.note("the board hangs");
                }
            }
            PowerOrder::PullCable | PowerOrder::PlugCable => {
                let up = order == PowerOrder::PlugCable;
                if let Some(process) = running {
                    let link = json!({ "name": qemu::WIRED, "up": up });
                    process.qmp.order_with("set_link", link).await?;
                    self.serial
                        .note(if up { "the cable is in" } else { "the cable is out" });
                }
            }
        }
        Ok(())
    }

    async fn start(&self) -> Result<Running> {
        let source = *self.boot.borrow();
        let number = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        self.serial
            .note(&format!("power on, number {number}, boots from {source:?}"));
        let sockets = tempfile::tempdir().context("cannot make a folder for QEMU's socket")?;
        let socket = sockets.path().join("qmp");
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
        let emulator = self.hardware.firmware.emulator();
        let mut command = self.namespace.command(emulator);
        command.args(qemu::arguments(&self.hardware, &self.placement, source, &socket));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| {
            format!("cannot start {emulator} (package qemu-system-x86 or qemu-system-arm)")
        })?;
        let mut readers = JoinSet::new();
        if let Some(out) = child.stdout.take() {
            readers.spawn(self.serial.clone().follow(out));
        }
        if let Some(errors) = child.stderr.take() {
            readers.spawn(self.serial.clone().follow(errors));
        }
        let stream = tokio::select! {
            dialled = listener.accept() => dialled.context("QEMU's dial failed")?.0,
            status = child.wait() => {
                while readers.join_next().await.is_some() {}
                bail!("QEMU ended with {} at its start:\n{}", status?, self.serial.tail(10));
            }
        };
        let serial = self.serial.clone();
        let mut qmp = Qmp::greet(stream, move |event, data| {
            if matches!(event, "RESET" | "SHUTDOWN" | "GUEST_PANICKED") {
                serial.note(&format!("machine: {event} {data}"));
            }
        })
        .await?;
        for name in qemu::unwired(&self.hardware) {
            qmp.order_with("set_link", json!({ "name": name, "up": false }))
                .await?;
        }
        Ok(Running { child, qmp, readers })
    }

    async fn stop(&self, running: Option<Running>) -> Result<()> {
        let Some(mut process) = running else { return Ok(()) };
        // The disk's cache is the host's page cache: a process that is killed loses nothing that the guest had written.
        process.child.kill().await.context("cannot kill QEMU")?;
        self.drain(Some(process)).await;
        self.serial.note("power off, by order");
        Ok(())
    }

    /// Reads what the process left in its pipes.
    async fn drain(&self, running: Option<Running>) {
        if let Some(mut process) = running {
            while process.readers.join_next().await.is_some() {}
        }
    }
}

impl Machine {
    /// The files that hold the content of its disks, in their order.
    pub fn disk_files(&self) -> Vec<PathBuf> {
        let hardware = &self.shared.hardware;
        let file = |disk| disk_file(&self.shared.folder, hardware, disk);
        hardware.disks.iter().map(file).collect()
    }
}

/// The name of the TAP device at which the lender's bridge has it.
fn port_of(hardware: &Hardware) -> String {
    format!("tap-{}", &hardware.name[..hardware.name.len().min(11)])
}

/// Where a disk's content lies.
pub(crate) fn disk_file(folder: &Path, hardware: &Hardware, disk: &Disk) -> PathBuf {
    folder.join(format!("{}-{}.disk", hardware.name, disk.serial))
}
