//! `agent member install --root /mnt/sysimage`: files first, the key's registration last, because the PO takes it as the sign that
//! the installation is complete.

use super::{AGENT_PATH, FACTS_PATH};
use crate::backoff::Backoff;
use crate::errors::{AnyError, chain};
use crate::gateway::Gateway;
use leaseboot_protocol::gateway::MemberSettings;
use leaseboot_protocol::network::{TunnelSettings, WireguardPublicKey};
use leaseboot_protocol::stage2::{MemberFacts, RuntimeFacts};
use leaseboot_protocol::{ARCHIVED_FACTS_PATH, RUNTIME_DIRECTORY};
use leaseboot_tunnel::PrivateKey;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::time::Duration;

/// The units of the installed system, each wanted by `multi-user.target`.
const UNITS: [(&str, &str); 2] = [
    (
        "leaseboot-member.service",
        include_str!("leaseboot-member.service"),
    ),
    (
        "leaseboot-announce.service",
        include_str!("leaseboot-announce.service"),
    ),
];
const UNIT_FOLDER: &str = "/etc/systemd/system";
const WANTS_FOLDER: &str = "/etc/systemd/system/multi-user.target.wants";
const MODULES_PATH: &str = "/etc/modules-load.d/leaseboot.conf";
const ATTEMPTS: u32 = 20;

/// Leaves the member's tunnel in the system that is mounted at `root`.
pub(crate) fn main(root: &Path) -> Result<(), AnyError> {
    if !root.join("etc").is_dir() {
        return Err(format!("{} holds no installed system: it has no /etc", root.display()).into());
    }
    let facts_path = Path::new(RUNTIME_DIRECTORY).join("facts.json");
    let facts = fs::read(&facts_path).or_else(|error| {
        fs::read(ARCHIVED_FACTS_PATH).map_err(|_| {
            format!(
                "cannot read {}: this runs only at the end of a lent server's installation: {error}",
                facts_path.display()
            )
        })
    })?;
    let runtime: RuntimeFacts = serde_json::from_slice(&facts)?;
    let key = PrivateKey::generate();
    leave_files(root, &facts_of(&key, &runtime), &fs::read("/proc/self/exe")?)?;
    let runtime_of_tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let registered = runtime_of_tokio.block_on(register(&runtime.tunnel, key.public()))?;
    if registered.tunnel != runtime.tunnel {
        let mut facts = facts_of(&key, &runtime);
        facts.tunnel = registered.tunnel;
        leave_facts(root, &facts)?;
    }
    println!(
        "leaseboot: the member's tunnel is in place below {}",
        root.display()
    );
    Ok(())
}

fn facts_of(key: &PrivateKey, runtime: &RuntimeFacts) -> MemberFacts {
    MemberFacts {
        address: Some(runtime.address.clone()),
        joins_the_wire: false,
        tunnel: runtime.tunnel.clone(),
        private_key: key.to_base64(),
    }
}

/// The member's facts, the agent and its units, in the system below `root`. May be repeated.
pub(super) fn leave_files(root: &Path, facts: &MemberFacts, agent: &[u8]) -> Result<(), AnyError> {
    leave_facts(root, facts)?;
    put(root, AGENT_PATH, 0o755, agent)?;
    put(
        root,
        MODULES_PATH,
        0o644,
        b"# The member's tunnel needs a TUN device.\ntun\n",
    )?;
    fs::create_dir_all(inside(root, WANTS_FOLDER))?;
    for (name, text) in UNITS {
        let unit = format!("{UNIT_FOLDER}/{name}");
        put(root, &unit, 0o644, text.as_bytes())?;
        match symlink(&unit, inside(root, WANTS_FOLDER).join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn leave_facts(root: &Path, facts: &MemberFacts) -> Result<(), AnyError> {
    let json = zeroize::Zeroizing::new(serde_json::to_vec_pretty(facts)?);
    put(root, FACTS_PATH, 0o600, &json)
}

/// Writes a file whole or not at all.
pub(super) fn put(root: &Path, path: &str, mode: u32, content: &[u8]) -> Result<(), AnyError> {
    let path = inside(root, path);
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .map_err(failed)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&fresh, &path).map_err(failed)?;
    Ok(())
}

fn inside(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Hands the public half of the member's key to the PO, which takes it as the sign that the installation is complete.
pub(crate) async fn register(
    tunnel: &TunnelSettings,
    key: WireguardPublicKey,
) -> Result<MemberSettings, AnyError> {
    let gateway = Gateway::new(tunnel.gateway_service);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    let mut attempt = 1;
    loop {
        match gateway.register_member(key).await {
            Ok(settings) => return Ok(settings),
            Err(error) if attempt >= ATTEMPTS => return Err(error.into()),
            Err(error) => println!("leaseboot: {}; trying again", chain(&error).join(": ")),
        }
        attempt += 1;
        backoff.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn leaves_a_unit_that_starts_by_itself_and_a_key_that_only_root_reads() {
        let root = tempfile::tempdir().unwrap();
        let runtime: RuntimeFacts = serde_json::from_str(
            r#"{"lease":"l-1","address":{"mac":"52:54:00:4c:42:01","address":"10.10.0.11/24","router":"10.10.0.1","mtu":1500},
                "tunnel":{"address":"10.99.0.10/24","gateway_endpoint":"198.51.100.2:51820",
                "gateway_public_key":"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=","allowed_ips":["10.99.0.0/24"],
                "gateway_service":"10.99.0.1:80","mtu":1420,"keepalive_s":15}}"#,
        )
        .unwrap();
        let key = PrivateKey::generate();
        for _ in 0..2 {
            leave_files(root.path(), &facts_of(&key, &runtime), b"agent").unwrap();
        }
        let facts = inside(root.path(), FACTS_PATH);
        assert_eq!(fs::metadata(&facts).unwrap().permissions().mode() & 0o777, 0o600);
        let facts: MemberFacts = serde_json::from_slice(&fs::read(facts).unwrap()).unwrap();
        assert_eq!(facts.private_key.expose(), key.to_base64().expose());
        for (name, _) in UNITS {
            let wanted = fs::read_link(inside(root.path(), WANTS_FOLDER).join(name)).unwrap();
            assert_eq!(wanted, Path::new(UNIT_FOLDER).join(name));
        }
    }

    #[test]
    fn a_folder_without_a_system_is_refused() {
        let root = tempfile::tempdir().unwrap();
        assert!(
            main(root.path())
                .unwrap_err()
                .to_string()
                .contains("no installed system")
        );
    }
}
