//! Rescue mode: the agent stays where it is, asks both managers every few seconds whether it still has to, and opens the consoles that somebody waits for.
//!
//! ```text
//!            ┌──────────── word of the LM (TLS), word of the PO (tunnel) ◄─ every POLL
//!            ▼
//!  Staying ─[desk]─► a call that is permitted ─► shell fetched and checked, once ─► session: frames ⇄ PTY, a task of its own
//!            │                                                                        └─ ended by either side, by time, or with rescue mode
//!            └─► nobody wants it to stay any more, or LONGEST has passed ─► on to where it was
//! ```
//!
//! The agent dials; nothing listens on the server. What it permits does not rest on the lender's word alone: [`desk`].

mod desk;
mod session;
mod shell;
mod system_calls;

use crate::clock;
use crate::console::say;
use crate::errors::{AnyError, chain};
use crate::gateway::Gateway;
use crate::lm::Session as Lm;
use crate::report::{Fault, Progress, StepFailed, Steps};
use desk::{Desk, Side};
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::rescue::ConsoleCall;
use shell::Shell;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How often the managers are asked.
const POLL: Duration = Duration::from_secs(2);
/// How often a line says that the agent still stays.
const SAY: Duration = Duration::from_secs(600);
/// How long a manager may take to answer: neither keeps the other's word away.
const ANSWER: Duration = Duration::from_secs(10);

/// A session that runs; it ends, with its shell, when this is dropped.
struct Open(JoinHandle<()>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Rescue<'a> {
    lm: &'a Lm,
    /// The PO, where there is a tunnel to it.
    gateway: Option<Gateway>,
    desk: Desk,
    shell: Option<Shell>,
    lender: Option<Open>,
    tenant: Option<Open>,
    /// What went wrong with the last questions, which is said once.
    trouble: [String; 2],
}

/// Stays until nobody wants it any more. With `lent`, a lease has the server.
///
/// # Errors
/// When the LM does not know this boot any more.
pub(crate) async fn stay(
    steps: &Steps,
    lm: &Lm,
    gateway: Option<Gateway>,
    lent: bool,
) -> Result<(), StepFailed> {
    steps
        .run(Step::Rescue, 1, async |progress| {
            let mut rescue = Rescue {
                lm,
                gateway,
                desk: Desk::new(lent, clock::now()),
                shell: None,
                lender: None,
                tenant: None,
                trouble: Default::default(),
            };
            rescue.run(progress).await
        })
        .await
}

impl Rescue<'_> {
    async fn run(&mut self, progress: &Progress) -> Result<(), Fault> {
        let mut said = Instant::now();
        loop {
            self.ask().await?;
            let decision = self.desk.decide(clock::now());
            if !decision.lender_permitted && self.lender.take().is_some() {
                progress.note("the lender's console is not permitted any more".to_owned());
            }
            for (side, call) in decision.answer {
                self.open(side, &call, progress).await;
            }
            if let Some(why) = decision.go_on {
                progress.note(why.to_owned());
                return Ok(());
            }
            if said.elapsed() >= SAY {
                said = Instant::now();
                progress.note("the agent stays in rescue mode, as it was ordered to".to_owned());
            }
            tokio::time::sleep(POLL).await;
            shell::reap();
        }
    }

    async fn ask(&mut self) -> Result<(), Fault> {
        let tenants = async {
            match &self.gateway {
                Some(gateway) => Some(timeout(ANSWER, gateway.rescue()).await),
                None => None,
            }
        };
        let (lender, tenant) = tokio::join!(timeout(ANSWER, self.lm.rescue()), tenants);
        let mut trouble = [String::new(), String::new()];
        match lender {
            Ok(Ok(word)) => self.desk.hear(Side::Lender, word, clock::now()),
            Ok(Err(error)) if error.is_final() => return Err(Fault::Final(error.into())),
            Ok(Err(error)) => trouble[0] = chain(&error).join(": "),
            Err(_) => trouble[0] = silence("lease manager"),
        }
        match tenant {
            Some(Ok(Ok(word))) => self.desk.hear(Side::Tenant, word, clock::now()),
            Some(Ok(Err(error))) => trouble[1] = chain(&error).join(": "),
            Some(Err(_)) => trouble[1] = silence("enterprise's gateway"),
            None => {}
        }
        for (new, known) in trouble.iter().zip(&self.trouble) {
            if !new.is_empty() && new != known {
                say!("rescue mode: {new}");
            }
        }
        self.trouble = trouble;
        Ok(())
    }

    async fn open(&mut self, side: Side, call: &ConsoleCall, progress: &Progress) {
        let running = match side {
            Side::Lender => &self.lender,
            Side::Tenant => &self.tenant,
        };
        if running.as_ref().is_some_and(|open| !open.0.is_finished()) {
            return progress.note(format!("a second console of {side} at once was not opened"));
        }
        match self.session(side, call).await {
            Ok(open) => {
                progress.note(format!("a console is open for {side}"));
                match side {
                    Side::Lender => self.lender = Some(open),
                    Side::Tenant => self.tenant = Some(open),
                }
            }
            Err(error) => {
                let error = chain(error.as_ref()).join(": ");
                progress.note(format!("a console for {side} could not be opened: {error}"));
            }
        }
    }

    async fn session(&mut self, side: Side, call: &ConsoleCall) -> Result<Open, AnyError> {
        let shell = match &self.shell {
            Some(shell) => shell.clone(),
            None => {
                let shell = Shell::install(&self.lm.shell().await?)?;
                self.shell.insert(shell).clone()
            }
        };
        let terminal = shell.start()?;
        let stream = match (side, &self.gateway) {
            (Side::Lender, _) => self.lm.console(call).await?,
            (Side::Tenant, Some(gateway)) => gateway.console(&call.id).await?,
            (Side::Tenant, None) => {
                return Err("the tenant's console comes through the tunnel, and there is none".into());
            }
        };
        Ok(Open(tokio::spawn(async move {
            let ended = session::run(stream, terminal).await;
            say!("rescue mode: the console of {side} is closed: {ended}");
        })))
    }
}

fn silence(who: &str) -> String {
    format!(
        "the {who} has not said within {} s whether to stay",
        ANSWER.as_secs()
    )
}
