//! The servers that are measured: the LM as it is shipped, and the peers, each with what its manual says makes it fast.

use super::wire::{INTERFACE, SERVER, Wire};
use crate::bench::group::Group;
use crate::folders::Folders;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const READY: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills it.
pub(super) struct Server {
    name: &'static str,
    child: Child,
    group: Group,
    log: PathBuf,
}

/// Where everything lies.
pub(super) struct Places<'a> {
    /// The wire.
    pub(super) wire: &'a Wire,
    /// A folder for configurations and logs.
    pub(super) folder: &'a Path,
    /// The peers' unpacked packages.
    pub(super) peers: PathBuf,
    /// The files that TFTP and HTTP serve.
    pub(super) files: &'a Path,
}

impl Server {
    fn start(name: &'static str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let errors = out.try_clone().context("cannot share a log")?;
        let group = Group::new()?;
        let child = command
            .stdout(out)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let server = Self {
            name,
            child,
            group,
            log,
        };
        server.group.take(server.pid())?;
        Ok(server)
    }

    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// CPU seconds of the process and of all that it started so far.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        self.group.cpu_seconds()
    }

    /// The process that was started.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From now on it gets at most `share` of one core.
    pub(super) fn held_to(mut self, share: f64) -> Result<Self> {
        let held = Group::held_to(share)?;
        held.take(self.pid())?;
        self.group = held;
        Ok(self)
    }

    /// Waits until `probe` finds it at work.
    pub(super) fn ready(mut self, probe: impl Fn() -> Result<bool>) -> Result<Self> {
        let until = Instant::now() + READY;
        while !probe()? {
            if let Some(status) = self
                .child
                .try_wait()
                .context("cannot ask for a server's status")?
            {
                bail!("{} ended with {status}:\n{}", self.name, self.said());
            }
            if Instant::now() > until {
                bail!("{} does not answer after {READY:?}:\n{}", self.name, self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// Its log.
    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its children end with the group.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Places<'_> {
    fn peer(&self, package: &str, program: &str) -> Result<PathBuf> {
        let path = self.peers.join(package).join(program);
        anyhow::ensure!(
            path.is_file(),
            "there is no {}: run this by `cargo xtask bench boot`",
            path.display()
        );
        Ok(path)
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The Lease Manager with all its services. `change` edits its settings and list of servers.
    pub(super) fn lease_manager(&self, change: impl FnOnce(&mut toml::Table, &mut String)) -> Result<Server> {
        let program = Folders::find()?.program("leaseboot-lm")?;
        let home = self.folder.join("lm");
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("cannot empty {}", home.display()))?;
        }
        let mut init = self.wire.at_server(&program);
        init.arg("init")
            .arg(&home)
            .args(["--interface", INTERFACE, "--address", &format!("{SERVER}/16")]);
        let made = init.output().context("cannot run leaseboot-lm init")?;
        anyhow::ensure!(
            made.status.success(),
            "leaseboot-lm init: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let (config, servers) = (home.join("lm.toml"), home.join("servers.toml"));
        let mut table: toml::Table = std::fs::read_to_string(&config)
            .context("cannot read lm.toml")?
            .parse()?;
        let mut list = String::new();
        change(&mut table, &mut list);
        std::fs::write(&config, table.to_string()).context("cannot write lm.toml")?;
        if !list.is_empty() {
            std::fs::write(&servers, list).context("cannot write servers.toml")?;
        }
        let mut serve = self.wire.at_server(&program);
        serve
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--boot-files")
            .arg(self.files);
        // As the peers, which write no line per packet either.
        serve.env("RUST_LOG", "warn");
        let server = Server::start("leaseboot-lm", &mut serve, self.folder)?;
        let log = server.log.clone();
        server.ready(move || {
            Ok(std::fs::read_to_string(&log)
                .unwrap_or_default()
                .contains("leaseboot-lm ready"))
        })
    }

    /// dnsmasq, serving TFTP only.
    pub(super) fn dnsmasq_tftp(&self) -> Result<Server> {
        let mut command = self.wire.at_server("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
                "--pid-file=",
            ])
            .args([
                "--log-facility=-",
                "--quiet-tftp",
                "--enable-tftp",
                "--tftp-max=2000",
            ])
            .arg(format!("--tftp-root={}", self.files.display()));
        Server::start("dnsmasq", &mut command, self.folder)
    }

    /// dnsmasq, serving DHCP only, leases in memory.
    pub(super) fn dnsmasq_dhcp(&self) -> Result<Server> {
        let mut command = self.wire.at_server("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
                "--pid-file=",
            ])
            .args([
                "--log-facility=-",
                "--quiet-dhcp",
                "--dhcp-authoritative",
                "--leasefile-ro",
                "--no-ping",
            ])
            .args([
                "--dhcp-lease-max=20000",
                "--dhcp-range=10.77.16.1,10.77.63.254,255.255.0.0,1h",
            ])
            .arg(format!("--interface={INTERFACE}"));
        Server::start("dnsmasq", &mut command, self.folder)
    }

    /// atftpd: a thread for each transfer.
    pub(super) fn atftpd(&self) -> Result<Server> {
        let mut command = self.wire.at_server(self.peer("atftpd", "usr/sbin/atftpd")?);
        command
            .args([
                "--daemon",
                "--no-fork",
                "--user",
                "root",
                "--group",
                "root",
                "--maxthread",
                "1500",
            ])
            .args([
                "--tftpd-timeout",
                "3600",
                "--verbose=0",
                "--logfile",
                "-",
                "--bind-address",
                &SERVER.to_string(),
            ])
            .arg(self.files);
        Server::start("atftpd", &mut command, self.folder)
    }

    /// tftpd-hpa: a process for each transfer.
    pub(super) fn tftpd_hpa(&self) -> Result<Server> {
        let mut command = self.wire.at_server(self.peer("tftpd-hpa", "usr/sbin/in.tftpd")?);
        command
            .args([
                "--foreground",
                "--user",
                "root",
                "--secure",
                "--address",
                &format!("{SERVER}:69"),
            ])
            .arg(self.files);
        Server::start("tftpd-hpa", &mut command, self.folder)
    }

    /// nginx with sendfile and one worker for each core.
    pub(super) fn nginx(&self) -> Result<Server> {
        let text = format!(
            "daemon off;\nuser root;\nworker_processes auto;\npid {0}/nginx.pid;\nerror_log {0}/nginx-error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65;\n\
             client_body_temp_path {0}/nginx-body; proxy_temp_path {0}/nginx-proxy; fastcgi_temp_path {0}/nginx-fastcgi;\n\
             uwsgi_temp_path {0}/nginx-uwsgi; scgi_temp_path {0}/nginx-scgi;\n\
             server {{ listen {SERVER}:80; root {1}; }} }}\n",
            self.folder.display(),
            self.files.display()
        );
        let config = self.file("nginx.conf", &text)?;
        let mut command = self.wire.at_server(self.peer("nginx", "usr/sbin/nginx")?);
        command.arg("-c").arg(config).arg("-p").arg(self.folder);
        Server::start("nginx", &mut command, self.folder)
    }

    /// Kea, leases in memory only: its fastest way.
    pub(super) fn kea(&self) -> Result<Server> {
        let config = serde_json::json!({ "Dhcp4": {
            "interfaces-config": { "interfaces": [INTERFACE], "dhcp-socket-type": "udp" },
            "lease-database": { "type": "memfile", "persist": false },
            "valid-lifetime": 3600,
            "multi-threading": { "enable-multi-threading": false },
            "subnet4": [{ "id": 1, "subnet": "10.77.0.0/16", "pools": [{ "pool": "10.77.16.1 - 10.77.63.254" }] }],
            "loggers": [{ "name": "kea-dhcp4", "severity": "WARN", "output_options": [{ "output": "stdout" }] }],
        }});
        let config = self.file("kea.json", &serde_json::to_string_pretty(&config)?)?;
        let mut command = self
            .wire
            .at_server(self.peer("kea-dhcp4-server", "usr/sbin/kea-dhcp4")?);
        command.arg("-c").arg(config);
        for variable in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR"] {
            command.env(variable, self.folder);
        }
        Server::start("kea", &mut command, self.folder)
    }
}
