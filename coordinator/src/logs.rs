//! What the Lease Manager writes to standard error: lines for people, or one JSON object per line for machines.
//!
//! A line that concerns a lease has its `lease` and `server`, either itself or in one of its spans: the API, the driver and the power
//! queue open a span for each request, deadline and order, and name in it what they find out ([`crate::lease`]). Secrets have no
//! `Debug`, so they cannot be written by accident; a test runs a whole life and looks for them.

use std::io::IsTerminal as _;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object per line, with the spans around it, outermost first
    Json,
}

/// Writes to standard error from now on; what is written is chosen by `RUST_LOG`, or is all of `info` and above.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = subscriber(format, filter, std::io::stderr().is_terminal(), std::io::stderr);
    // Another one can only be there when somebody called this twice.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The subscriber of [`start`], with a writer of one's own.
pub fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colours: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colours);
    match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(true)
                .finish(),
        ),
    }
}
