//! `leaseboot-po init`: a folder with configuration, gateway key and the lender's bundle. Everything is read and checked before the
//! first file is written, and `po.toml` comes last: a folder without it can be given to `init` again.

use anyhow::{Context, bail, ensure};
use clap::Args;
use ipnet::{IpNet, Ipv4Net};
use leaseboot_po::config::PoConfig;
use leaseboot_po::files;
use leaseboot_tunnel::PrivateKey;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const BUNDLE: [(&str, u32); 3] = [("lm-ca.pem", 0o644), ("client.pem", 0o644), ("client.key", 0o600)];
/// Came into the bundle later: a lender of before has none.
const ERASURE_KEY: &str = "erasure.pub";

/// Make configuration and keys
#[derive(Args)]
pub(crate) struct Init {
    /// The folder to make.
    folder: PathBuf,
    /// Where lent servers reach the gateway's WireGuard, such as 198.51.100.2:51820.
    #[arg(long)]
    endpoint: SocketAddr,
    /// The gateway's address inside the tunnel with the tunnel's network, such as 10.99.0.1/24.
    #[arg(long)]
    tunnel: Ipv4Net,
    /// The lender's API, such as https://10.10.0.1:8443.
    #[arg(long, value_name = "URL")]
    lm: String,
    /// The folder that `leaseboot-po enrol` made, or the lender's `leaseboot-lm tenant add`: client.pem, client.key, lm-ca.pem.
    #[arg(long, value_name = "FOLDER")]
    lm_bundle: PathBuf,
    /// A network that servers reach through the gateway; may be repeated.
    #[arg(long, value_name = "NETWORK")]
    allowed: Vec<IpNet>,
}

impl Init {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let folder = &self.folder;
        for taken in ["po.toml", "gateway.key"].map(|name| folder.join(name)) {
            ensure!(
                !taken.exists(),
                "{} is there already; remove it, or choose another folder",
                taken.display()
            );
        }
        let bundle = self.read_bundle()?;
        let config = self.config();
        PoConfig::check(&folder.join("po.toml"), &config)
            .context("the options do not make a configuration")?;
        let key = PrivateKey::generate();
        for part in ["", "profiles", "images", "lender"] {
            let part = folder.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot make the folder {}", part.display()))?;
        }
        for (name, mode, content) in &bundle {
            files::replace(&folder.join("lender").join(name), *mode, content)?;
        }
        if let Ok(published) = fs::read(self.lm_bundle.join(ERASURE_KEY)) {
            files::replace(&folder.join("lender").join(ERASURE_KEY), 0o644, &published)?;
        }
        let secret = key.to_base64();
        files::replace(&folder.join("gateway.key"), 0o600, secret.expose().as_bytes())?;
        files::replace(&folder.join("po.toml"), 0o644, config.as_bytes())?;
        println!(
            "{} is ready. The gateway's public key is {}",
            folder.display(),
            key.public()
        );
        println!("next: put boot images into images/ and profiles into profiles/, then");
        println!(
            "  leaseboot-po serve --config {}",
            folder.join("po.toml").display()
        );
        Ok(ExitCode::SUCCESS)
    }

    fn read_bundle(&self) -> anyhow::Result<Vec<(&'static str, u32, Vec<u8>)>> {
        let read = |(name, mode): (&'static str, u32)| {
            let path = self.lm_bundle.join(name);
            let content = fs::read(&path).with_context(|| {
                format!(
                    "cannot read {}: --lm-bundle is the folder that `leaseboot-po enrol` made, or the lender's `leaseboot-lm tenant add`",
                    path.display()
                )
            })?;
            if !content.starts_with(b"-----BEGIN ") {
                bail!("{} is not a PEM file", path.display());
            }
            Ok((name, mode, content))
        };
        BUNDLE.into_iter().map(read).collect()
    }

    fn config(&self) -> String {
        let quoted: Vec<_> = self
            .allowed
            .iter()
            .map(|network| format!("{:?}", network.to_string()))
            .collect();
        let mut text =
            String::from("# leaseboot-po. Paths are relative to this file's folder.\n\n[gateway]\n");
        let _ = write!(
            text,
            "# Where lent servers reach WireGuard: UDP, open in the firewall.\n\
             endpoint = \"{}\"\n\
             private_key = \"gateway.key\"\n\
             # The gateway's address inside the tunnel, with the network that servers get theirs from.\n\
             tunnel = \"{}\"\n\
             # first_server = \"10.99.0.10\"\n\
             # What servers reach through the gateway, besides the tunnel's network.\n\
             allowed = [{}]\n\
             # interface = \"leaseboot0\"\n\
             # mtu = 1420\n\
             # keepalive_s = 15\n\
             # Who carries the packets: \"auto\" is the kernel where it has WireGuard; or \"kernel\", or \"user\".\n\
             # plane = \"auto\"\n\n\
             [lender]\n\
             url = {:?}\n\
             ca = \"lender/lm-ca.pem\"\n\
             certificate = \"lender/client.pem\"\n\
             key = \"lender/client.key\"\n\
             # What the lender signs erasure records with.\n\
             erasure_key = \"lender/erasure.pub\"\n\n\
             [announce]\n\
             # Program and arguments; it is run with `in-service` or `gone`, name and address.\n\
             hook = []\n\
             # Where Prometheus finds targets: http://ADDRESS/v1/http_sd\n\
             # listen = \"127.0.0.1:9490\"\n\n\
             # Names in a zone that takes dynamic updates, signed by the key in dns.key.\n\
             # [announce.dns]\n\
             # server = \"192.0.2.53:53\"\n\
             # zone = \"borrowed.example.com\"\n",
            self.endpoint,
            self.tunnel,
            quoted.join(", "),
            self.lm,
        );
        text
    }
}
