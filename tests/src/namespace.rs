//! One network namespace: run a program in it, or a service of this process.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::future::Future;
use std::process::{Output, Stdio};
use std::thread::JoinHandle;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A named network namespace, as ip-netns(8) keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace of this name, which [`Network`](crate::network::Network) makes and deletes.
    pub(crate) fn named(name: String) -> Self {
        Self { name }
    }

    /// Its name, good for `ip netns exec NAME …` while a scenario runs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. The process keeps its identifier (ip-netns(8) replaces itself), dies with its handle, and
    /// at the latest with the laboratory.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a short program inside and gives its standard output; an exit status other than 0 is an error with its words.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        command.args(arguments);
        checked(&mut command)
            .await
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Feeds `lines` to `ip -batch` inside.
    pub(crate) async fn ip_batch(&self, lines: &str) -> Result<()> {
        ip_batch(&["-n", &self.name], lines).await
    }

    /// Runs a service of this process inside. `start` runs on a thread that has entered the namespace, so whatever sockets it opens
    /// belong there; it gives a value for the caller, and the service itself, which runs until the handle is dropped.
    pub async fn serve<T, F, S>(
        &self,
        name: &str,
        start: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(Service, T)>
    where
        T: Send + 'static,
        F: Future<Output = Result<(T, S)>>,
        S: Future<Output = ()>,
    {
        let path = format!("/run/netns/{}", self.name);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (ready, is_ready) = oneshot::channel();
        let work = move || match enter_and_start(&path, start) {
            Ok((runtime, value, service)) => {
                if ready.send(Ok(value)).is_ok() {
                    runtime.block_on(stopped.run_until_cancelled(service));
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .context("cannot start a thread")?;
        let service = Service {
            stop,
            thread: Some(thread),
        };
        let value = is_ready
            .await
            .with_context(|| format!("the service {name} ended at its start"))?
            .with_context(|| format!("cannot start the service {name} in namespace {}", self.name))?;
        Ok((service, value))
    }

    /// Does something of this process inside, such as opening a connection, and gives its outcome.
    pub async fn visit<T, F>(&self, name: &str, errand: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let start = move || async move { Ok((errand().await?, async {})) };
        self.serve(name, start).await.map(|(_over, value)| value)
    }
}

/// A service of this process inside a namespace; dropping it stops it.
pub struct Service {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn enter_and_start<T, F, S>(path: &str, start: impl FnOnce() -> F) -> Result<(Runtime, T, S)>
where
    F: Future<Output = Result<(T, S)>>,
{
    let namespace = File::open(path).with_context(|| format!("cannot open {path}"))?;
    nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter {path}"))?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let (value, service) = runtime.block_on(start())?;
    Ok((runtime, value, service))
}

/// Feeds `lines` to `ip OPTIONS -batch -`, which stops at the first line that fails.
pub(crate) async fn ip_batch(options: &[&str], lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run ip (package iproute2)")?;
    let mut input = child.stdin.take().context("ip has no standard input")?;
    // A broken pipe means that ip stopped early: its own words, below, say why.
    drop(input.write_all(lines.as_bytes()).await);
    drop(input);
    let output = child.wait_with_output().await.context("cannot wait for ip")?;
    expect_success(&format!("ip {} -batch", options.join(" ")), output).map(drop)
}

/// Runs a command to its end and gives its standard output.
pub(crate) async fn checked(command: &mut Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot run {shown}"))?;
    expect_success(&shown, output)
}

fn expect_success(shown: &str, output: Output) -> Result<String> {
    let out = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{shown} ended with {}:\n{out}{errors}", output.status);
    }
    Ok(out.into_owned())
}
