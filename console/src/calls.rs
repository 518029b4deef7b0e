//! Who waits for a server to dial in: bounded in number, each for one session of one server.

use crate::Stream;
use leaseboot_protocol::console::CallId;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Calls that may wait at once, of all servers.
const MOST: usize = 64;

/// The calls of a manager. Clones are the same.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<HashMap<String, Waiting>>>);

struct Waiting {
    id: CallId,
    answered: oneshot::Sender<Box<dyn Stream>>,
}

/// Nobody can be called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Somebody has this server's console already, or waits for it.
    Taken,
    /// Too many wait.
    Full,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallError::Taken => "somebody waits for this console already: one at a time",
            CallError::Full => "too many consoles are waited for; try again in a minute",
        })
    }
}

impl std::error::Error for CallError {}

/// A call that waits. It is taken back when this is dropped.
pub struct Call {
    calls: Calls,
    server: String,
    id: CallId,
    answer: oneshot::Receiver<Box<dyn Stream>>,
}

impl Calls {
    /// Calls the server of this name, whatever the manager calls it.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(&self, server: &str, id: CallId) -> Result<Call, CallError> {
        let mut waiting = self.waiting();
        if waiting.contains_key(server) {
            return Err(CallError::Taken);
        }
        if waiting.len() >= MOST {
            return Err(CallError::Full);
        }
        let (answered, answer) = oneshot::channel();
        let call = id.clone();
        waiting.insert(server.to_owned(), Waiting { id, answered });
        Ok(Call {
            calls: self.clone(),
            server: server.to_owned(),
            id: call,
            answer,
        })
    }

    /// The call that waits for this server.
    pub fn of(&self, server: &str) -> Option<CallId> {
        self.waiting().get(server).map(|waiting| waiting.id.clone())
    }

    /// The server has dialled in. `false` when nobody waits for it by this name any more.
    pub fn answer(&self, server: &str, id: &CallId, stream: Box<dyn Stream>) -> bool {
        let mut all = self.waiting();
        if all.get(server).is_none_or(|waiting| waiting.id != *id) {
            return false;
        }
        all.remove(server)
            .is_some_and(|waiting| waiting.answered.send(stream).is_ok())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// The server, once it has dialled in. Cancel-safe.
    pub async fn answered(&mut self) -> Option<Box<dyn Stream>> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Once it is answered, another call of this server may stand there.
        let mut waiting = self.calls.waiting();
        if waiting
            .get(&self.server)
            .is_some_and(|waiting| waiting.id == self.id)
        {
            waiting.remove(&self.server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> CallId {
        CallId::of([byte; 16])
    }

    fn stream() -> Box<dyn Stream> {
        Box::new(tokio::io::duplex(8).0)
    }

    #[tokio::test]
    async fn a_call_is_answered_once_by_the_server_that_was_called() {
        let calls = Calls::default();
        let mut call = calls.call("s1", id(1)).unwrap();
        assert_eq!(calls.of("s1"), Some(id(1)));
        assert_eq!(calls.of("s2"), None);
        assert!(!calls.answer("s2", &id(1), stream()), "another server answered");
        assert!(!calls.answer("s1", &id(2), stream()), "another call was answered");
        assert!(calls.answer("s1", &id(1), stream()));
        assert!(call.answered().await.is_some());
        assert!(!calls.answer("s1", &id(1), stream()), "it was answered twice");
    }

    #[tokio::test]
    async fn one_at_a_time_and_whoever_gives_up_makes_room() {
        let calls = Calls::default();
        let call = calls.call("s1", id(1)).unwrap();
        assert_eq!(calls.call("s1", id(2)).err(), Some(CallError::Taken));
        drop(call);
        assert_eq!(calls.of("s1"), None);
        let mut second = calls.call("s1", id(2)).unwrap();
        assert!(calls.answer("s1", &id(2), stream()));
        assert!(second.answered().await.is_some());
        let third = calls.call("s1", id(3)).unwrap();
        drop(second);
        assert_eq!(calls.of("s1"), Some(id(3)), "an old call took a new one away");
        drop(third);
    }

    #[test]
    fn calls_are_bounded() {
        let calls = Calls::default();
        let held: Vec<_> = (0..MOST)
            .map(|n| calls.call(&format!("s{n}"), id(0)).unwrap())
            .collect();
        assert_eq!(calls.call("more", id(1)).err(), Some(CallError::Full));
        drop(held);
        assert!(calls.call("more", id(1)).is_ok());
    }
}
