//! What comes out of a merge is valid by the word of pykickstart itself, the parser of the real installer. The test installs it
//! into a virtual environment below `target/`.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

use leaseboot_lm::boot::KernelWord;
use leaseboot_lm::merge::{Lender, merge};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::hardware::{Disk, HardwareReport, Nic};
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::network::{LenderAddress, MacAddress, TunnelSettings, WireguardPublicKey};
use leaseboot_protocol::settings::{Blob, BootImage, InstallSettings, Requirements};
use std::path::{Path, PathBuf};
use std::process::Command;

const PYKICKSTART: &str = "pykickstart==3.78";

const TEMPLATES: [(&str, &str); 3] = [
    (
        "the laboratory's",
        include_str!("../../tests/installer/example.ks"),
    ),
    (
        "a short one",
        "text\nlang en_US.UTF-8\nkeyboard us\ntimezone UTC --utc\nrootpw --lock\nautopart\n",
    ),
    (
        "one with a boot loader, volumes and scripts",
        r#"text
lang en_US.UTF-8
keyboard us
timezone Europe/Berlin
rootpw --iscrypted @sealed:root_password@
url --url=http://172.20.0.2/rocky
bootloader --timeout=1 --append="quiet audit=1"   # fast
part /boot --fstype=xfs --size=1024
part pv.01 --size=4096 --grow
volgroup system pv.01
logvol / --vgname=system --name=root --size=3072 --fstype=xfs
user --name=ops --groups=wheel --password=@sealed:root_password@ --iscrypted
reboot
%pre --interpreter=/bin/bash
echo %packages is only a word here
%end
%packages
@^minimal-environment
%end
%addon com_redhat_kdump --disable
%end
%post
echo done
%end
"#,
    ),
];

#[test]
fn merges_are_valid_kickstarts() {
    let ksvalidator = ksvalidator();
    let folder = tempfile::tempdir().unwrap();
    for console in [None, Some("ttyS0,115200")] {
        for (name, template) in TEMPLATES {
            let path = folder.path().join("merged.ks");
            // The validator's exit status counts what is merely out of fashion in the enterprise's own lines.
            let merged = merged(&template.replace("--instLangs", "--inst-langs"), console);
            std::fs::write(&path, &merged).unwrap();
            let said = Command::new(&ksvalidator)
                .args(["-v", "RHEL9"])
                .arg(&path)
                .output()
                .unwrap();
            let words =
                String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
            assert!(said.status.success(), "{name}: {words}\n{merged}");
        }
    }
}

fn merged(template: &str, console: Option<&str>) -> String {
    let (server, mac): (ServerId, MacAddress) =
        ("lab0001".parse().unwrap(), "52:54:00:4c:42:01".parse().unwrap());
    let place = LenderAddress {
        mac,
        address: "10.10.0.11/24".parse().unwrap(),
        router: Some("10.10.0.1".parse().unwrap()),
        mtu: 9000,
    };
    let hardware = HardwareReport {
        memory_bytes: 4 << 30,
        disks: vec![Disk {
            by_id: "virtio-LAB0001".to_owned(),
            size_bytes: 8 << 30,
            ..Disk::default()
        }],
        nics: vec![Nic {
            name: "eth0".to_owned(),
            mac,
            driver: String::new(),
            speed_mbps: None,
            max_speed_mbps: None,
            carrier: true,
        }],
        ..HardwareReport::default()
    };
    let console: Option<KernelWord> = console.map(|console| console.parse().unwrap());
    let requirements = Requirements::default();
    let lender = Lender {
        server: &server,
        place: &place,
        console: console.as_ref(),
        hardware: &hardware,
        requirements: &requirements,
    };
    merge(&lender, &settings(template)).unwrap().kickstart
}

fn settings(kickstart: &str) -> InstallSettings {
    let blob = || Blob {
        path: "/v1/image/kernel".to_owned(),
        size: 1,
        sha256: Sha256::of(b"x"),
    };
    InstallSettings {
        profile: "web".to_owned(),
        hostname: "web-1".parse().unwrap(),
        kickstart: kickstart.to_owned(),
        kickstart_origin: "web.ks".to_owned(),
        sealed: vec!["root_password".to_owned()],
        tunnel: TunnelSettings {
            address: "10.99.0.10/24".parse().unwrap(),
            gateway_endpoint: "198.51.100.2:51820".parse().unwrap(),
            gateway_public_key: WireguardPublicKey([7; 32]),
            allowed_ips: Vec::new(),
            gateway_service: "10.99.0.1:80".parse().unwrap(),
            mtu: 1420,
            keepalive_s: 25,
        },
        image: BootImage {
            kernel: blob(),
            initrd: blob(),
            command_line: String::new(),
        },
        min_memory_mib: 1024,
    }
}

/// The validator, installed if need be.
fn ksvalidator() -> PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pykickstart-3.78");
    let complete = environment.join("complete");
    if !complete.exists() {
        // What an interrupted installation left is replaced.
        run(Command::new("/usr/bin/python3")
            .args(["-m", "venv", "--clear"])
            .arg(&environment));
        run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", PYKICKSTART]));
        std::fs::write(&complete, "").unwrap();
    }
    environment.join("bin/ksvalidator")
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        status.success(),
        "{command:?} ended with {status}: python3-venv and a package index are needed"
    );
}
