//! Steps and their reports. Each step says on the console and to the LM when it starts, how far it is, and how it ended.
//!
//! ```text
//!  Steps::run ──► console, at once
//!       │
//!       └─► before the hello: kept, and sent with it
//!           after the hello:  queue ──► deliver() ──► POST /v1/agent/reports, repeated until the LM has them
//! ```
//!
//! An LM that restarts delays reports and loses none. The answer to a report may be the word to power off.

use crate::backoff::Backoff;
use crate::clock;
use crate::console::say;
use crate::errors::{AnyError, chain};
use crate::kernel_log;
use crate::lm::Session;
use leaseboot_protocol::agent::{Directive, Outcome, Report, Reports};
use leaseboot_protocol::lease::Step;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// The least time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
const BATCH: usize = 64;
const FLUSH_DEADLINE: Duration = Duration::from_secs(20);

/// A failure of one attempt.
pub(crate) enum Fault {
    /// Another attempt may succeed.
    Again(AnyError),
    /// It cannot.
    Final(AnyError),
}

impl Fault {
    /// Sorts an error by what it says of itself.
    pub(crate) fn sort(is_final: bool, error: impl Into<AnyError>) -> Self {
        if is_final {
            Fault::Final(error.into())
        } else {
            Fault::Again(error.into())
        }
    }
}

/// A step that failed for good; it has been reported.
#[derive(Debug, thiserror::Error)]
#[error("the step '{0}' failed for good")]
pub(crate) struct StepFailed(pub(crate) Step);

/// An attempt that neither succeeded nor failed.
#[derive(Debug, thiserror::Error)]
#[error("the step '{step}' hung: nothing came of it within {} s", limit.as_secs())]
struct Hung {
    step: Step,
    limit: Duration,
}

/// How long one attempt may take, more than all that it waits for by itself; none for steps that move bytes, which are watched byte by byte.
fn limit(step: Step) -> Option<Duration> {
    let seconds = match step {
        Step::Clock => 20,
        Step::Hello | Step::Key | Step::Kickstart | Step::Sealed | Step::Tunnel | Step::Wrapper => 150,
        Step::Drivers | Step::Network | Step::Kexec => 240,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

async fn within<T>(step: Step, attempt: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let Some(limit) = limit(step) else {
        return attempt.await;
    };
    let done = tokio::time::timeout(limit, attempt).await;
    done.unwrap_or_else(|_| Err(Fault::Again(Hung { step, limit }.into())))
}

/// Runs steps and tells of them.
#[derive(Clone)]
pub(crate) struct Steps {
    outlet: Rc<RefCell<Outlet>>,
    waited: Rc<Cell<Duration>>,
    /// The last failure for good.
    last_failure: Rc<RefCell<Option<(Step, Outcome)>>>,
}

enum Outlet {
    Kept(Vec<Report>),
    Queue(mpsc::UnboundedSender<Item>),
}

enum Item {
    Report(Report),
    Flush(oneshot::Sender<()>),
}

/// How far a step is.
pub(crate) struct Progress {
    step: Step,
    steps: Option<Steps>,
    bytes: Cell<u64>,
    told: Cell<Instant>,
}

impl Progress {
    /// Bytes so far, and in all when known. Told to the LM at most twice a second.
    pub(crate) fn bytes(&self, bytes: u64, total: Option<u64>) {
        self.bytes.set(bytes);
        if let Some(steps) = &self.steps
            && self.told.get().elapsed() >= PROGRESS_INTERVAL
        {
            self.told.set(Instant::now());
            steps.tell(self.step, Outcome::Progress { bytes, total });
        }
    }

    /// Something that people should know, on the console and at the LM.
    pub(crate) fn note(&self, note: String) {
        if let Some(steps) = &self.steps {
            steps.note(self.step, note);
        }
    }

    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self {
            step: Step::Unknown,
            steps: None,
            bytes: Cell::new(0),
            told: Cell::new(Instant::now()),
        }
    }
}

impl Steps {
    /// Before the hello: reports are kept.
    pub(crate) fn new() -> Self {
        Self {
            outlet: Rc::new(RefCell::new(Outlet::Kept(Vec::new()))),
            waited: Rc::default(),
            last_failure: Rc::default(),
        }
    }

    /// The time that went into steps which mostly wait for somebody else: the network, the LM, the PO.
    pub(crate) fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Runs one step, up to `attempts` times with growing waits between.
    pub(crate) async fn run<T>(
        &self,
        step: Step,
        attempts: u32,
        mut action: impl AsyncFnMut(&Progress) -> Result<T, Fault>,
    ) -> Result<T, StepFailed> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        for attempt in 1.. {
            say!("{step}: started");
            self.tell(step, Outcome::Started);
            let progress = Progress {
                step,
                steps: Some(self.clone()),
                bytes: Cell::new(0),
                told: Cell::new(Instant::now()),
            };
            let begun = Instant::now();
            let outcome = within(step, action(&progress)).await;
            if !matches!(step, Step::Drivers | Step::Clock | Step::Kexec) {
                self.waited.set(self.waited.get() + begun.elapsed());
            }
            match outcome {
                Ok(value) => {
                    self.finished(step, begun.elapsed(), progress.bytes.get());
                    return Ok(value);
                }
                Err(Fault::Again(error)) if attempt < attempts => {
                    self.failed(step, &error, true);
                    backoff.wait().await;
                }
                Err(Fault::Again(error) | Fault::Final(error)) => {
                    self.failed(step, &error, false);
                    break;
                }
            }
        }
        Err(StepFailed(step))
    }

    /// Tells something about a step, on the console and to the LM.
    pub(crate) fn note(&self, step: Step, note: String) {
        say!("{step}: {note}");
        self.tell(step, Outcome::Note { note });
    }

    fn finished(&self, step: Step, took: Duration, bytes: u64) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match bytes {
            0 => say!("{step}: done in {:.3} s", took.as_secs_f64()),
            _ => say!("{step}: done in {:.3} s, {bytes} bytes", took.as_secs_f64()),
        }
        self.tell(step, Outcome::Finished { took_ms, bytes });
    }

    fn failed(&self, step: Step, error: &AnyError, retrying: bool) {
        let error = chain(error.as_ref());
        say!(
            "{step}: FAILED: {}{}",
            error.join(": "),
            if retrying { "; trying again" } else { "" }
        );
        let outcome = Outcome::Failed {
            error,
            kernel_log: kernel_log::tail(),
            retrying,
        };
        if !retrying {
            self.last_failure.replace(Some((step, outcome.clone())));
        }
        self.tell(step, outcome);
    }

    /// What failed for good, if anything did: to be told once more when it was looked at in between.
    pub(crate) fn last_failure(&self) -> Option<(Step, Outcome)> {
        self.last_failure.borrow().clone()
    }

    /// Tells the LM once more what failed.
    pub(crate) fn failed_all_the_same(&self, (step, outcome): (Step, Outcome)) {
        self.tell(step, outcome);
    }

    /// Tells how an earlier boot ended; nothing of this one fails by it.
    pub(crate) fn earlier_boot(&self, reason: String, kernel_log: Vec<String>) {
        say!("an earlier boot ended: {reason}");
        self.tell(
            Step::EarlierBoot,
            Outcome::Failed {
                error: vec![reason],
                kernel_log,
                retrying: true,
            },
        );
    }

    fn tell(&self, step: Step, outcome: Outcome) {
        let report = Report {
            step,
            at: clock::now(),
            outcome,
        };
        match &mut *self.outlet.borrow_mut() {
            Outlet::Kept(reports) => reports.push(report),
            // The deliverer ends only with the process.
            Outlet::Queue(queue) => drop(queue.send(Item::Report(report))),
        }
    }

    /// The reports that were kept so far, for the hello.
    pub(crate) fn kept(&self) -> Vec<Report> {
        match &*self.outlet.borrow() {
            Outlet::Kept(reports) => reports.clone(),
            Outlet::Queue(_) => Vec::new(),
        }
    }

    /// From now on reports go to the LM. Those in `already_sent` at the front of the kept ones are not repeated.
    pub(crate) fn connect(&self, session: Session, already_sent: usize) -> Delivery {
        let (queue, items) = mpsc::unbounded_channel();
        for report in self.kept().into_iter().skip(already_sent) {
            let _ = queue.send(Item::Report(report));
        }
        *self.outlet.borrow_mut() = Outlet::Queue(queue.clone());
        let (directive, directives) = watch::channel(Directive::Continue);
        Delivery {
            queue,
            directives,
            task: tokio::spawn(deliver(session, items, directive)),
        }
    }
}

/// The running delivery of reports; it stops when this is dropped.
pub(crate) struct Delivery {
    queue: mpsc::UnboundedSender<Item>,
    directives: watch::Receiver<Directive>,
    task: JoinHandle<()>,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Delivery {
    /// Waits until the LM has every report so far; `false` when it could not be reached in time.
    pub(crate) async fn flush(&self) -> bool {
        let (done, delivered) = oneshot::channel();
        let asked = self.queue.send(Item::Flush(done)).is_ok();
        asked
            && tokio::time::timeout(FLUSH_DEADLINE, delivered)
                .await
                .is_ok_and(|delivered| delivered.is_ok())
    }

    /// Whether the LM's last word was to stay in rescue mode before handing over.
    pub(crate) fn stays(&self) -> bool {
        *self.directives.borrow() == Directive::Stay
    }

    /// Returns when the LM says that the lease is over; otherwise never.
    pub(crate) async fn told_to_power_off(&self) {
        let mut directives = self.directives.clone();
        if directives
            .wait_for(|directive| *directive == Directive::PowerOff)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

/// Goal: the LM gets every report in order. Ends when the queue's owner is gone, or the LM refuses the session.
async fn deliver(
    session: Session,
    mut items: mpsc::UnboundedReceiver<Item>,
    directive: watch::Sender<Directive>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while items.recv_many(&mut batch, BATCH).await > 0 {
        let (mut reports, mut flushed) = (Reports::default(), Vec::new());
        for item in batch.drain(..) {
            match item {
                Item::Report(report) => push_coalesced(&mut reports.reports, report),
                Item::Flush(done) => flushed.push(done),
            }
        }
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
        while !reports.reports.is_empty() {
            match session.report(&reports).await {
                Ok(word) => {
                    directive.send_if_modified(|held| std::mem::replace(held, word) != word);
                    break;
                }
                Err(error) if error.is_final() => return say!("reports: {}", chain(&error).join(": ")),
                Err(error) => {
                    say!("reports: {}; trying again", chain(&error).join(": "));
                    backoff.wait().await;
                }
            }
        }
        // Whoever asked may have given up waiting.
        for done in flushed {
            let _ = done.send(());
        }
    }
}

/// Of progress that follows progress of the same step, only the last counts.
fn push_coalesced(reports: &mut Vec<Report>, report: Report) {
    let progress = |report: &Report| matches!(report.outcome, Outcome::Progress { .. });
    match reports.last_mut() {
        Some(last) if progress(last) && progress(&report) && last.step == report.step => *last = report,
        _ => reports.push(report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_is_tried_again_and_every_attempt_is_told() {
        let steps = Steps::new();
        let mut left = 2;
        let done = steps
            .run(Step::Tunnel, 5, async |_| {
                left -= 1;
                if left > 0 {
                    Err(Fault::Again("not yet".into()))
                } else {
                    Ok(7)
                }
            })
            .await;
        assert_eq!(done.ok(), Some(7));
        let outcomes: Vec<_> = steps.kept().into_iter().map(|report| report.outcome).collect();
        assert!(matches!(
            outcomes[..],
            [
                Outcome::Started,
                Outcome::Failed { retrying: true, .. },
                Outcome::Started,
                Outcome::Finished { .. }
            ]
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_is_given_up_and_tried_again() {
        let steps = Steps::new();
        let mut hangs = true;
        let done = steps
            .run(Step::Hello, 2, async |_| {
                if std::mem::take(&mut hangs) {
                    std::future::pending::<()>().await;
                }
                Ok(7)
            })
            .await;
        assert_eq!(done.ok(), Some(7));
        let hung = |report: &Report| matches!(&report.outcome, Outcome::Failed { error, retrying: true, .. } if error[0].contains("hung"));
        assert!(steps.kept().iter().any(hung));
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_fault_ends_the_step_at_once() {
        let steps = Steps::new();
        let mut tries = 0;
        let done: Result<(), _> = steps
            .run(Step::Kernel, 5, async |_| {
                tries += 1;
                Err(Fault::Final("digest".into()))
            })
            .await;
        assert!(done.is_err());
        assert_eq!(tries, 1);
        assert!(matches!(
            steps.kept().last().unwrap().outcome,
            Outcome::Failed { retrying: false, .. }
        ));
    }

    #[test]
    fn progress_is_coalesced() {
        let report = |step, outcome| Report {
            step,
            at: clock::now(),
            outcome,
        };
        let mut reports = Vec::new();
        for bytes in 0..3 {
            push_coalesced(
                &mut reports,
                report(Step::Kernel, Outcome::Progress { bytes, total: None }),
            );
        }
        push_coalesced(
            &mut reports,
            report(
                Step::Initrd,
                Outcome::Progress {
                    bytes: 9,
                    total: None,
                },
            ),
        );
        assert_eq!(reports.len(), 2);
        assert_eq!(
            reports[0].outcome,
            Outcome::Progress {
                bytes: 2,
                total: None
            }
        );
    }
}
