//! The command line of a bare server, and nothing else.

use crate::flash::Flash;
use crate::machine::{BootSource, Bus, Disk, Hardware, NicModel, disk_file};
use crate::vlan_switch::{SERVER_END, SWITCH_END};
use anyhow::{Context as _, Result};
use std::fs::File;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

/// What a disk answers that can still be read (QEMU document "blkdebug"): an input/output error to every write, zeroing and discard.
const WORN_OUT: &str = "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=5,\
    inject-error.1.event=none,inject-error.1.iotype=write-zeroes,inject-error.1.errno=5,\
    inject-error.2.event=none,inject-error.2.iotype=discard,inject-error.2.errno=5";

/// The network of the wired card, by QEMU's name.
pub(crate) const WIRED: &str = "net0";

/// Where a server stands: its port and its files.
pub(crate) struct Placement {
    wire: Wire,
    disks: Vec<PathBuf>,
    flash: Option<Flash>,
}

/// The server's end of its cable.
pub(crate) enum Wire {
    /// The lender's bridge, by this TAP device.
    Bridge(String),
    /// The [switch that knows tags](crate::vlan_switch).
    Switch,
}

impl Wire {
    /// The back end of `net0`.
    fn netdev(&self) -> String {
        match self {
            Self::Bridge(tap) => format!("tap,id={WIRED},ifname={tap},script=no,downscript=no"),
            Self::Switch => {
                let end = |which, address: SocketAddrV4| {
                    let (host, port) = (address.ip(), address.port());
                    format!("{which}.type=inet,{which}.host={host},{which}.port={port}")
                };
                let (local, remote) = (end("local", SERVER_END), end("remote", SWITCH_END));
                format!("dgram,id={WIRED},{local},{remote}")
            }
        }
    }
}

impl Placement {
    /// Makes empty disks and, for UEFI, a flash chip of its own.
    pub(crate) fn prepare(hardware: &Hardware, folder: &Path, wire: Wire) -> Result<Self> {
        let mut disks = Vec::new();
        for disk in &hardware.disks {
            let path = disk_file(folder, hardware, disk);
            let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            // Sparse: takes no room until the guest writes.
            file.set_len(disk.size_mib << 20)
                .with_context(|| format!("cannot size {}", path.display()))?;
            disks.push(path);
        }
        let flash = Flash::prepare(hardware, folder)?;
        Ok(Self { wire, disks, flash })
    }
}

/// The arguments of qemu-system-x86_64(1) or its like. The serial line is its standard output; QMP dials `qmp`.
pub(crate) fn arguments(
    hardware: &Hardware,
    placement: &Placement,
    source: BootSource,
    qmp: &Path,
) -> Vec<String> {
    let mut line = Line::default();
    line.add("-name", &hardware.name);
    // SeaBIOS and iPXE write to the serial line when graphics are off.
    line.words("-nodefaults -no-user-config -display none");
    line.add("-machine", hardware.firmware.machine());
    // Software emulation everywhere: a scenario that passes here passes on a machine without KVM, and takes the same time.
    line.words("-accel tcg,thread=multi");
    line.add("-cpu", hardware.firmware.processor());
    line.add("-smp", &hardware.cores.to_string());
    line.add("-m", &hardware.memory_mib.to_string());
    line.words("-chardev stdio,id=serial,signal=off -serial chardev:serial");
    line.add(
        "-chardev",
        &format!("socket,id=qmp,path={},server=off", qmp.display()),
    );
    line.words("-mon chardev=qmp,mode=control -device virtio-rng-pci");
    if let Some(flash) = &placement.flash {
        for (option, value) in flash.arguments(hardware.network_boot) {
            line.add(option, &value);
        }
    }
    add_card(&mut line, hardware, placement, source);
    if hardware.disks.iter().any(|disk| disk.bus == Bus::Sata) {
        line.words("-device ich9-ahci,id=sata");
    }
    for (number, (disk, file)) in hardware.disks.iter().zip(&placement.disks).enumerate() {
        add_disk(&mut line, number, disk, file);
    }
    line.0
}

fn add_disk(line: &mut Line, number: usize, disk: &Disk, file: &Path) {
    let content = match disk.worn_out {
        false => format!("format=raw,file={}", file.display()),
        true => format!(
            "driver=blkdebug,{WORN_OUT},image.driver=raw,image.file.filename={}",
            file.display()
        ),
    };
    line.add(
        "-drive",
        &format!("if=none,id=disk{number},cache=unsafe,discard=unmap,{content}"),
    );
    let device = match disk.bus {
        Bus::Virtio => "virtio-blk-pci".to_owned(),
        Bus::Plain => "virtio-blk-pci,discard=off,write-zeroes=off".to_owned(),
        // The controller's ports are counted from the first disk on, whatever other disks there are.
        Bus::Sata => format!("ide-hd,bus=sata.{number}"),
        Bus::Nvme => "nvme".to_owned(),
    };
    let (serial, order) = (&disk.serial, number + 1);
    line.add(
        "-device",
        &format!("{device},drive=disk{number},serial={serial},bootindex={order}"),
    );
}

fn add_card(line: &mut Line, hardware: &Hardware, placement: &Placement, source: BootSource) {
    line.add("-netdev", &placement.wire.netdev());
    let device = match hardware.nic {
        NicModel::Virtio => "virtio-net-pci",
        NicModel::E1000 => "e1000",
        NicModel::E1000e => "e1000e",
        NicModel::Rtl8139 => "rtl8139",
        NicModel::Vmxnet3 => "vmxnet3",
    };
    let [before, _] = hardware.unwired;
    let cards: Vec<_> = unwired(hardware).collect();
    let (before, behind) = cards.split_at(before.into());
    before.iter().for_each(|name| add_unwired(line, device, name));
    let boot = match (source, hardware.firmware.is_uefi()) {
        // OVMF drives the card itself; iPXE in the ROM would only take its place.
        (BootSource::Pxe, true) => "romfile=,bootindex=0",
        // QEMU's own choice of ROM is iPXE (package ipxe-qemu), with the card's identifiers written into it. A ROM that is named
        // goes in as it is, and then declines to run.
        (BootSource::Pxe, false) => "bootindex=0",
        (BootSource::Hdd, _) => "romfile=",
    };
    line.add(
        "-device",
        &format!("{device},netdev={WIRED},mac={},{boot}", hardware.mac),
    );
    behind.iter().for_each(|name| add_unwired(line, device, name));
}

/// The names of the cards without a cable, in the order of their slots. QEMU takes the cable out by this name when it runs.
pub(crate) fn unwired(hardware: &Hardware) -> impl Iterator<Item = String> {
    let [before, behind] = hardware.unwired;
    (0..before + behind).map(|number| format!("unwired{number}"))
}

/// A card in a hub of its own: QEMU chooses its hardware address.
fn add_unwired(line: &mut Line, device: &str, name: &str) {
    let hub = name.trim_start_matches("unwired");
    line.add("-netdev", &format!("hubport,id={name},hubid={hub}"));
    line.add("-device", &format!("{device},netdev={name},romfile="));
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn add(&mut self, option: &str, value: &str) {
        self.0.extend([option.to_owned(), value.to_owned()]);
    }

    fn words(&mut self, words: &str) {
        self.0.extend(words.split_whitespace().map(str::to_owned));
    }
}
