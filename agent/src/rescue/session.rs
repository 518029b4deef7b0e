//! One console: frames of the manager into the terminal, and what the terminal shows back. The bounds are those of the managers, held here too, so that a manager that vanishes leaves
//! no shell behind.

use super::shell::Terminal;
use crate::clock;
use leaseboot_protocol::console::session::{Ending, Limits, Session};
use leaseboot_protocol::console::{Decoder, Frame, Party, WindowSize};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

const READ: usize = 4096;
const LOOK: Duration = Duration::from_secs(5);
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves the terminal until one side ends it.
pub(super) async fn run(stream: impl AsyncRead + AsyncWrite, mut terminal: Terminal) -> Ending {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut decoder = Decoder::new(Party::Person);
    let mut session = Session::new(Limits::default(), clock::now());
    let (mut typed, mut shown) = ([0; READ], [0; READ]);
    let ending = loop {
        let look = Instant::now() + LOOK;
        // Goal: the next bytes of either side. Both reads lose nothing when they are dropped; what was read is written before the next look.
        let next = tokio::select! {
            read = reader.read(&mut typed) => match read {
                Ok(0) => Err(Ending::Left(String::new())),
                Ok(read) => type_in(&typed[..read], &mut decoder, &mut session, &mut terminal).await,
                Err(error) => Err(Ending::Broken(error.to_string())),
            },
            read = terminal.read(&mut shown) => match read {
                Ok(0) => Err(Ending::HungUp("the shell ended".to_owned())),
                Ok(read) => show(&shown[..read], &mut session, &mut writer).await,
                Err(error) => Err(Ending::Broken(error.to_string())),
            },
            () = tokio::time::sleep_until(look) => session.look(clock::now()),
        };
        if let Err(ending) = next {
            break ending;
        }
    };
    let words = match &ending {
        Ending::HungUp(words) => words.clone(),
        other => other.to_string(),
    };
    let farewell = async {
        let _ = writer.write_all(&Frame::End(words).encode()).await;
        let _ = writer.shutdown().await;
    };
    // Who does not listen is not waited for.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    ending
}

async fn type_in(
    bytes: &[u8],
    decoder: &mut Decoder,
    session: &mut Session,
    terminal: &mut Terminal,
) -> Result<(), Ending> {
    let frames = decoder
        .read(bytes)
        .map_err(|error| Ending::Broken(error.to_string()))?;
    for frame in frames {
        session.pass(Party::Person, &frame, clock::now())?;
        match frame {
            Frame::Input(bytes) => {
                // A program that reads nothing must not keep the session from its end.
                let typed = tokio::time::timeout(LOOK, terminal.write(&bytes)).await;
                match typed {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(Ending::Broken(error.to_string())),
                    Err(_) => {
                        return Err(Ending::Broken(
                            "nothing on the server reads what is typed".to_owned(),
                        ));
                    }
                }
            }
            Frame::Size(WindowSize { columns, rows }) => terminal.resize(WindowSize { columns, rows }),
            Frame::Output(_) | Frame::End(_) => {}
        }
    }
    Ok(())
}

async fn show(
    bytes: &[u8],
    session: &mut Session,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Ending> {
    for frame in Frame::of_bytes(Party::Server, bytes) {
        let wait = session.pass(Party::Server, &frame, clock::now())?;
        tokio::time::sleep(wait).await;
        let written = async {
            writer.write_all(&frame.encode()).await?;
            writer.flush().await
        };
        written.await.map_err(|error| Ending::Broken(error.to_string()))?;
    }
    Ok(())
}
