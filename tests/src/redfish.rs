//! Power by Redfish: an emulator that others wrote (sushy-tools) speaks HTTP, and asks us over a socket what to do.
//!
//! The socket carries one JSON line each way; `redfish/bmc.py` is the other end.

use crate::daemon::Daemon;
use crate::folders::Folders;
use crate::machine::{BootSource, Machine, Power, PowerOrder};
use crate::namespace::checked;
use crate::network::Network;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::task::JoinSet;

const EMULATOR: &str = "sushy-tools==2.2.0";
const PORT: u16 = 8000;
/// The user that the controller knows.
pub const USER: &str = "lender";

/// The controller of all servers of a lender.
pub struct Redfish {
    _emulator: Daemon,
    _answers: JoinSet<()>,
    _state: tempfile::TempDir,
    password_file: PathBuf,
}

impl Redfish {
    /// Starts a controller for `machines` at the lender's loopback address.
    pub async fn start(
        network: &Network,
        machines: Vec<Machine>,
        folders: &Folders,
        folder: &Path,
    ) -> Result<Self> {
        let python = emulator(folders).await?;
        let state = tempfile::tempdir().context("cannot make a folder for the Redfish emulator")?;
        let password_file = folder.join("redfish-password");
        write_private(&password_file, "lend me power\n")
            .with_context(|| format!("cannot write {}", password_file.display()))?;
        let socket = state.path().join("machines");
        let listener = UnixListener::bind(&socket).context("cannot listen for the Redfish emulator")?;
        let names: Vec<String> = machines.iter().map(|m| m.hardware().name.clone()).collect();
        let mut answers = JoinSet::new();
        answers.spawn(answer_all(listener, machines));
        let mut command = network.lender.command(python);
        command.arg(folders.sources().join("redfish/bmc.py"));
        command.arg(&socket).arg(state.path());
        command.args(["127.0.0.1", &PORT.to_string(), USER]);
        command.arg(&password_file).args(&names);
        let mut emulator = Daemon::start("redfish", command, &folder.join("redfish.log"))?;
        emulator.ready("Running on", Duration::from_secs(60)).await?;
        Ok(Self {
            _emulator: emulator,
            _answers: answers,
            _state: state,
            password_file,
        })
    }

    /// The service's root, as the lender sees it.
    pub fn root(&self) -> String {
        format!("http://127.0.0.1:{PORT}")
    }

    /// A server's resource.
    pub fn system(&self, name: &str) -> String {
        format!("{}/redfish/v1/Systems/{name}", self.root())
    }

    /// A file with [`USER`]'s password.
    pub fn password_file(&self) -> &Path {
        &self.password_file
    }
}

/// A question of the emulator: optional orders, then how the machine stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    system: String,
    order: Option<PowerOrder>,
    boot: Option<BootSource>,
}

#[derive(Serialize)]
struct Answer {
    power: Power,
    boot: BootSource,
    mode: &'static str,
    mac: String,
}

async fn answer_all(listener: UnixListener, machines: Vec<Machine>) {
    let mut conversations = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        conversations.spawn(converse(stream, machines.clone()));
        while conversations.try_join_next().is_some() {}
    }
}

async fn converse(stream: UnixStream, machines: Vec<Machine>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).await.is_err() {
        return;
    }
    let answer = match answer(&line, &machines).await {
        Ok(answer) => serde_json::json!(answer),
        Err(error) => serde_json::json!({ "error": format!("{error:#}") }),
    };
    // An emulator that went away does not want the answer.
    drop(stream.write_all(format!("{answer}\n").as_bytes()).await);
}

async fn answer(line: &str, machines: &[Machine]) -> Result<Answer> {
    let question: Question = serde_json::from_str(line).context("cannot read the question")?;
    let machine = machines
        .iter()
        .find(|machine| machine.hardware().name == question.system)
        .with_context(|| format!("there is no machine {}", question.system))?;
    if let Some(boot) = question.boot {
        machine.set_boot_source(boot);
    }
    if let Some(order) = question.order {
        machine.order(order).await?;
    }
    Ok(Answer {
        power: machine.power(),
        boot: machine.boot_source(),
        mode: match machine.hardware().firmware.is_uefi() {
            false => "Legacy",
            true => "UEFI",
        },
        mac: machine.hardware().mac.to_string(),
    })
}

/// The emulator's Python, installed once into a folder of its own.
async fn emulator(folders: &Folders) -> Result<PathBuf> {
    let place = folders.cache().join("redfish-emulator");
    let python = place.join("bin/python3");
    let stamp = place.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|version| version == EMULATOR) {
        return Ok(python);
    }
    let mut make = Command::new("/usr/bin/python3");
    make.args(["-m", "venv", "--clear"]).arg(&place);
    checked(&mut make)
        .await
        .context("cannot make a Python environment (package python3-venv)")?;
    let mut install = Command::new(&python);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        EMULATOR,
    ]);
    checked(&mut install)
        .await
        .context("cannot install the Redfish emulator from PyPI")?;
    std::fs::write(&stamp, EMULATOR).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// For its owner only: the LM refuses a password that others may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}
