//! Frames from one stream to the other, in both directions, for as long as the session may last. The rules are `leaseboot_protocol::console::session`'s; here
//! is only what reads, waits and writes.

use crate::Stream;
use leaseboot_protocol::console::session::{Ending, Limits, Session, Tally};
use leaseboot_protocol::console::{Decoder, Frame, Party};
use leaseboot_protocol::timestamp::Timestamp;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

/// How often to look whether the session is still permitted.
const LOOK: Duration = Duration::from_secs(1);
/// How long a side may take to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes that are read at once; nothing is read while what came before waits.
const READ: usize = 4096;

struct Clock {
    began_at: Timestamp,
    began: Instant,
}

impl Clock {
    /// Does not jump when the system's clock is set.
    fn now(&self) -> Timestamp {
        self.began_at + self.began.elapsed()
    }
}

struct Shared {
    session: Mutex<Session>,
    clock: Clock,
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes frames between the person and the server until one of them ends it, its time is over, or `permitted` says why not any more. Both are told.
pub async fn run<P: Future<Output = Result<(), String>>>(
    person: impl Stream,
    server: impl Stream,
    limits: Limits,
    permitted: impl FnMut() -> P,
) -> (Ending, Tally) {
    let began_at = Timestamp::from(SystemTime::now());
    let shared = Shared {
        session: Mutex::new(Session::new(limits, began_at)),
        clock: Clock {
            began_at,
            began: Instant::now(),
        },
    };
    let (mut from_person, mut to_person) = tokio::io::split(person);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (person_whole, server_whole) = (AtomicBool::new(true), AtomicBool::new(true));
    // Goal: the first reason to end. A direction that is dropped may have written a part of a frame: it is marked then, and nothing follows there.
    let ending = tokio::select! {
        ending = pump(Party::Person, &mut from_person, &mut to_server, &server_whole, &shared) => ending,
        ending = pump(Party::Server, &mut from_server, &mut to_person, &person_whole, &shared) => ending,
        ending = watch(&shared, permitted) => ending,
    };
    let words = ending.to_string();
    // What the server shows last is on its way before the end is.
    farewell(&mut to_person, &person_whole, &words).await;
    farewell(&mut to_server, &server_whole, &words).await;
    let tally = shared.session().tally(shared.clock.now());
    (ending, tally)
}

async fn pump(
    from: Party,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    whole: &AtomicBool,
    shared: &Shared,
) -> Ending {
    let mut decoder = Decoder::new(from);
    let mut buffer = [0; READ];
    loop {
        let read = match reader.read(&mut buffer).await {
            Ok(0) if from == Party::Person => return Ending::Left(String::new()),
            Ok(0) => return Ending::HungUp(String::new()),
            Ok(read) => read,
            Err(error) => return Ending::Broken(error.to_string()),
        };
        let frames = match decoder.read(&buffer[..read]) {
            Ok(frames) => frames,
            Err(error) => return Ending::Broken(error.to_string()),
        };
        for frame in frames {
            let passed = shared.session().pass(from, &frame, shared.clock.now());
            match passed {
                Ok(wait) if wait.is_zero() => {}
                Ok(wait) => tokio::time::sleep(wait).await,
                Err(ending) => return ending,
            }
            whole.store(false, Ordering::Relaxed);
            let written = async {
                writer.write_all(&frame.encode()).await?;
                writer.flush().await
            };
            if let Err(error) = written.await {
                return Ending::Broken(error.to_string());
            }
            whole.store(true, Ordering::Relaxed);
        }
    }
}

async fn watch<P: Future<Output = Result<(), String>>>(
    shared: &Shared,
    mut permitted: impl FnMut() -> P,
) -> Ending {
    loop {
        tokio::time::sleep(LOOK).await;
        let looked = shared.session().look(shared.clock.now());
        if let Err(ending) = looked {
            return ending;
        }
        if let Err(why) = permitted().await {
            return Ending::Forbidden(why);
        }
    }
}

async fn farewell(writer: &mut (impl AsyncWrite + Unpin), whole: &AtomicBool, words: &str) {
    let end = async {
        if whole.load(Ordering::Relaxed) {
            let _ = writer.write_all(&Frame::End(words.to_owned()).encode()).await;
        }
        let _ = writer.shutdown().await;
    };
    // Who does not listen is not waited for.
    let _ = tokio::time::timeout(FAREWELL, end).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    struct Sides {
        person: DuplexStream,
        server: DuplexStream,
        ended: tokio::task::JoinHandle<(Ending, Tally)>,
    }

    fn open(limits: Limits, mut permitted: impl FnMut() -> Result<(), String> + Send + 'static) -> Sides {
        let (person, far_person) = duplex(64 << 10);
        let (server, far_server) = duplex(64 << 10);
        let ended = tokio::spawn(async move {
            run(far_person, far_server, limits, || std::future::ready(permitted())).await
        });
        Sides {
            person,
            server,
            ended,
        }
    }

    async fn said(stream: &mut DuplexStream, by: Party) -> Vec<Frame> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Decoder::new(by).read(&bytes).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_typed_arrives_and_what_is_shown_comes_back() {
        let mut sides = open(Limits::default(), || Ok(()));
        let typed = Frame::Input(b"ls\n".to_vec());
        let shown = Frame::Output(b"etc\r\n".to_vec());
        sides.person.write_all(&typed.encode()).await.unwrap();
        let mut buffer = vec![0; typed.encode().len()];
        sides.server.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, typed.encode());
        sides.server.write_all(&shown.encode()).await.unwrap();
        sides
            .server
            .write_all(&Frame::End("exit 0".to_owned()).encode())
            .await
            .unwrap();
        let end = Frame::End("the server ended it: exit 0".to_owned());
        assert_eq!(said(&mut sides.person, Party::Server).await, [shown, end]);
        let (ending, tally) = sides.ended.await.unwrap();
        assert_eq!(ending, Ending::HungUp("exit 0".to_owned()));
        assert_eq!((tally.typed, tally.shown), (3, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_permitted_any_more_ends_and_both_are_told() {
        let mut looks = 0;
        let mut sides = open(Limits::default(), move || {
            looks += 1;
            if looks < 3 {
                Ok(())
            } else {
                Err("the lease is over".to_owned())
            }
        });
        let (ending, _) = sides.ended.await.unwrap();
        assert_eq!(ending, Ending::Forbidden("the lease is over".to_owned()));
        let end = Frame::End(ending.to_string());
        assert_eq!(
            said(&mut sides.person, Party::Server).await,
            std::slice::from_ref(&end)
        );
        assert_eq!(said(&mut sides.server, Party::Person).await, [end]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_session_ends() {
        let sides = open(Limits::default(), || Ok(()));
        let (ending, tally) = sides.ended.await.unwrap();
        assert!(matches!(ending, Ending::Idle(_)), "{ending}");
        assert!(tally.lasted >= Limits::default().idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_the_server_is_slowed_down() {
        let limits = Limits {
            rate: 1000,
            burst: 4096,
            ..Limits::default()
        };
        let Sides {
            mut person,
            mut server,
            ended,
        } = open(limits, || Ok(()));
        let flood = tokio::spawn(async move {
            let piece = Frame::Output(vec![b'y'; 4096]).encode();
            while server.write_all(&piece).await.is_ok() {}
        });
        let began = Instant::now();
        let mut read = vec![0; 20 * 4099];
        person.read_exact(&mut read).await.unwrap();
        // 20 pieces of 4,096 bytes at 1,000 a second, the first at once.
        assert!(
            began.elapsed() >= Duration::from_secs(75),
            "{:?}",
            began.elapsed()
        );
        drop(person);
        let (ending, _) = ended.await.unwrap();
        assert!(matches!(ending, Ending::Left(_) | Ending::Broken(_)), "{ending}");
        flood.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn noise_of_the_server_ends_it() {
        let mut sides = open(Limits::default(), || Ok(()));
        sides.server.write_all(&[9, 0, 1, 0]).await.unwrap();
        let (ending, _) = sides.ended.await.unwrap();
        assert!(matches!(ending, Ending::Broken(_)), "{ending}");
    }
}
