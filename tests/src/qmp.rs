//! QEMU's machine protocol: JSON lines, answers and events mixed on one socket (QEMU document "QEMU Machine Protocol").
//!
//! QEMU dials us, so there is no socket to wait for. One task reads; answers go to whoever asked, in order, and events to the
//! machine.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const ANSWER: Duration = Duration::from_secs(20);

/// A conversation with one QEMU process.
pub(crate) struct Qmp {
    writer: OwnedWriteHalf,
    answers: mpsc::UnboundedReceiver<Value>,
    _reader: JoinSet<()>,
}

impl Qmp {
    /// Greets a QEMU that has dialled. `event` is called with the name and the data of each event.
    pub(crate) async fn greet(
        stream: UnixStream,
        event: impl Fn(&str, &Value) + Send + 'static,
    ) -> Result<Self> {
        let (reader, writer) = stream.into_split();
        let (send, answers) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(message) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                match message["event"].as_str() {
                    Some(name) => event(name, &message["data"]),
                    // Nobody waits for an answer any more when the machine is being dropped.
                    None if message.get("QMP").is_none() => drop(send.send(message)),
                    None => {}
                }
            }
        });
        let mut qmp = Self {
            writer,
            answers,
            _reader: tasks,
        };
        qmp.order("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Gives an order without arguments and waits for the answer.
    pub(crate) async fn order(&mut self, order: &str) -> Result<Value> {
        self.order_with(order, json!({})).await
    }

    /// Gives an order and waits for the answer.
    pub(crate) async fn order_with(&mut self, order: &str, arguments: Value) -> Result<Value> {
        let line = format!("{}\n", json!({ "execute": order, "arguments": arguments }));
        self.writer
            .write_all(line.as_bytes())
            .await
            .with_context(|| format!("cannot order {order} from QEMU"))?;
        let answer = match tokio::time::timeout(ANSWER, self.answers.recv()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => bail!("QEMU went away at the order {order}"),
            Err(_) => bail!("QEMU did not answer {order} within {} s", ANSWER.as_secs()),
        };
        match answer.get("error") {
            Some(error) => bail!("QEMU refused {order}: {error}"),
            None => Ok(answer["return"].clone()),
        }
    }
}
