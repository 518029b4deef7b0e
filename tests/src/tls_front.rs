//! TLS in front of the LM's boot files, for HTTPS boot: stunnel (package stunnel4) with a certificate of an RSA authority.
//!
//! It is needed because the OVMF of Debian 12 (edk2 2022.11) was built without elliptic curves: its ClientHello, which this laboratory
//! printed with `openssl s_server -msg`, offers TLS 1.2 with the key exchanges DHE-RSA and RSA only (suites 009f 009e 006b 0067 0039 0033 009d 009c 003d 003c 0035 002f) and no
//! `supported_groups`. The LM's own TLS (rustls) knows elliptic curves only, as does its CA; the two have nothing in common. Boards of these years are
//! built the same way, so what stands here is what a lender would set up: `dhcp.http_boot_url` names the front.

use crate::daemon::Daemon;
use crate::flash;
use crate::namespace::checked;
use crate::network::{LM_ADDRESS, Network};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// `EFI_CERT_X509_GUID` (UEFI specification 2.10, section 32.4.1), as its bytes lie in memory.
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];

/// Who enrolled it: a laboratory.
const OWNER: [u8; 16] = *b"leaseboot lab 01";

/// The front's URL, without a slash at its end.
pub fn url() -> String {
    format!("https://{LM_ADDRESS}")
}

/// Starts the front on the LM's address, and has the servers of the laboratory trust its CA. Files go to `folder`.
pub async fn start(network: &Network, folder: &Path) -> Result<Daemon> {
    let name = |name: &str| folder.join(name).display().to_string();
    let alternative = format!("subjectAltName=IP:{LM_ADDRESS}");
    let (ca, ca_key) = (name("https-ca.pem"), name("https-ca.key"));
    let (certificate, key) = (name("https.pem"), name("https.key"));
    let common = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7"];
    let mut make_ca = Command::new("openssl");
    make_ca
        .args(common)
        .args(["-subj", "/CN=laboratory", "-out", &ca, "-keyout", &ca_key]);
    checked(&mut make_ca).await?;
    let mut make = Command::new("openssl");
    make.args(common)
        .args(["-subj", "/CN=boot files", "-addext", &alternative]);
    make.args([
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-out",
        &certificate,
        "-keyout",
        &key,
    ]);
    checked(&mut make).await?;
    let der = name("https-ca.der");
    let mut convert = Command::new("openssl");
    convert.args(["x509", "-in", &ca, "-outform", "DER", "-out", &der]);
    checked(&mut convert).await?;
    let der = std::fs::read(&der).with_context(|| format!("cannot read {der}"))?;
    let trusted = flash::trusted(folder);
    std::fs::write(&trusted, signature_list(&der)?)
        .with_context(|| format!("cannot write {}", trusted.display()))?;

    let configuration = name("stunnel.conf");
    let text = format!(
        "foreground = yes\npid =\n[boot]\naccept = {LM_ADDRESS}:443\nconnect = {LM_ADDRESS}:80\ncert = {certificate}\nkey = {key}\n"
    );
    std::fs::write(&configuration, text).with_context(|| format!("cannot write {configuration}"))?;
    let mut command = network.lender.command("stunnel4");
    command.arg(&configuration);
    let mut daemon = Daemon::start("stunnel", command, &folder.join("stunnel.log"))?;
    daemon
        .ready("Configuration successful", Duration::from_secs(10))
        .await?;
    Ok(daemon)
}

/// An `EFI_SIGNATURE_LIST` of one certificate (UEFI specification 2.10, section 32.4.1).
fn signature_list(der: &[u8]) -> Result<Vec<u8>> {
    let signature = u32::try_from(OWNER.len() + der.len()).context("the certificate is too long")?;
    let header = u32::try_from(X509.len() + 3 * size_of::<u32>()).context("the header is too long")?;
    let lengths = [header + signature, 0, signature];
    let lengths = lengths.iter().flat_map(|length| length.to_le_bytes());
    let head = X509.into_iter().chain(lengths).chain(OWNER);
    Ok(head.chain(der.iter().copied()).collect())
}
