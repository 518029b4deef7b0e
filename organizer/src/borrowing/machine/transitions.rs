//! The way from one state to the next.

use super::{Boot, Event, Outcome, Owed, State, Word};
use crate::borrowing::{Order, merged};
use crate::erasure::Erasure;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::lease::{EventKind, LeaseEvent, LeaseState};
use leaseboot_protocol::leases::Prepared;
use leaseboot_protocol::network::WireguardPublicKey;

impl State {
    /// The state after `event`; `None` when the event means nothing here.
    pub fn next(&self, order: &Order, event: &Event) -> Option<State> {
        match (self, event) {
            (State::Over { .. }, _) => None,
            (_, Event::Release) => self.release(order),
            (_, Event::ReleaseNow) => self.leave(Outcome::Released),
            (
                _,
                Event::GaveUp {
                    reason,
                    maybe_granted,
                },
            ) => self.give_up(reason, *maybe_granted),
            (_, Event::Refused(reason)) => self.refused(reason),
            (_, Event::LeaseGone(reason)) => self.lease_gone(reason),
            (_, Event::Lender(event)) => self.hear(event),
            (State::Searching, Event::Granted(view)) => Some(State::Preparing {
                lease: view.id.clone(),
                server: view.server.clone(),
            }),
            (State::Withdrawing { outcome }, Event::Granted(view)) => Some(State::Returning {
                lease: view.id.clone(),
                outcome: outcome.clone(),
            }),
            (State::Preparing { lease, server }, Event::Merged(prepared)) => {
                Some(agree(order, lease, server, prepared))
            }
            (State::Ordering { boot }, Event::Ordered) => Some(State::Transferring {
                boot: boot.clone(),
                stage: LeaseState::Booting,
                agent: None,
                unsealed: false,
            }),
            (State::Returning { lease, outcome }, Event::Returned) => Some(State::Wiping {
                lease: lease.clone(),
                outcome: outcome.clone(),
                ended: false,
            }),
            (State::Wiping { lease, outcome, .. }, Event::Ended) => Some(State::Wiping {
                lease: lease.clone(),
                outcome: outcome.clone(),
                ended: true,
            }),
            (State::Wiping { lease, outcome, .. }, Event::Erasure(erasure)) => Some(State::Over {
                lease: Some(lease.clone()),
                outcome: outcome.clone(),
                erasure: Some(Erasure::clone(erasure)),
            }),
            (State::Draining { .. }, Event::Drained { .. } | Event::Withdrawn) => self.drain(event),
            (_, Event::Gathering) => self.gather(),
            (_, Event::MemberKey(key)) => self.register(*key),
            (_, Event::MemberSeen | Event::MemberHello | Event::Told(_)) => self.arrive(event),
            _ => None,
        }
    }

    /// A server that serves is drained first.
    fn release(&self, order: &Order) -> Option<State> {
        match self {
            State::InService { boot, member, .. } => Some(State::Draining {
                boot: boot.clone(),
                member: *member,
                outcome: Outcome::Released,
                drained: order.membership.drain.is_none(),
            }),
            State::Draining { .. } => None,
            _ => self.leave(Outcome::Released),
        }
    }

    /// First the load, then the name.
    fn drain(&self, event: &Event) -> Option<State> {
        let mut next = self.clone();
        match (&mut next, event) {
            (State::Draining { drained, .. }, Event::Drained { .. }) => {
                *drained = true;
                (next != *self).then_some(next)
            }
            (
                State::Draining {
                    drained: true,
                    outcome,
                    ..
                },
                Event::Withdrawn,
            ) => self.leave(outcome.clone()),
            _ => None,
        }
    }

    /// Gives the server back, or finds out whether there is one to give back.
    fn leave(&self, outcome: Outcome) -> Option<State> {
        match (self, self.lease()) {
            (State::Withdrawing { .. } | State::Returning { .. } | State::Wiping { .. }, _) => None,
            (_, None) => Some(State::Withdrawing { outcome }),
            (_, Some(lease)) => Some(State::Returning {
                lease: lease.clone(),
                outcome,
            }),
        }
    }

    fn give_up(&self, reason: &str, maybe_granted: bool) -> Option<State> {
        match self {
            State::Searching if !maybe_granted => Some(over(None, reason)),
            State::Withdrawing { outcome } => Some(State::Over {
                lease: None,
                outcome: outcome.clone(),
                erasure: None,
            }),
            State::Wiping { .. } => self.close(reason),
            _ => self.leave(failed(reason)),
        }
    }

    fn refused(&self, reason: &str) -> Option<State> {
        match self {
            State::Searching => Some(over(None, reason)),
            State::Withdrawing { outcome } => Some(State::Over {
                lease: None,
                outcome: outcome.clone(),
                erasure: None,
            }),
            State::Returning { .. } | State::Wiping { .. } => self.close(reason),
            _ => self.leave(failed(reason)),
        }
    }

    /// The server is the lender's again, and nothing proves that it was erased.
    fn close(&self, reason: &str) -> Option<State> {
        Some(State::Over {
            lease: self.lease().cloned(),
            outcome: self.outcome()?.clone(),
            erasure: Some(Erasure::None {
                reason: reason.to_owned(),
            }),
        })
    }

    fn lease_gone(&self, reason: &str) -> Option<State> {
        match self {
            State::Returning { .. } | State::Wiping { .. } => self.close(reason),
            _ => Some(over(self.lease().cloned(), reason)),
        }
    }

    /// The sealed values are not given again in this boot attempt.
    fn gather(&self) -> Option<State> {
        let mut next = self.clone();
        match &mut next {
            State::Transferring { unsealed, .. } if self.may_gather() => {
                *unsealed = true;
                Some(next)
            }
            _ => None,
        }
    }

    /// The installer's word. The same key twice changes nothing; another key means that the installer's last step ran again.
    pub(super) fn register(&self, key: WireguardPublicKey) -> Option<State> {
        let (boot, agent) = match self {
            State::Transferring {
                boot,
                stage: LeaseState::Chained | LeaseState::Installing,
                agent: Some(agent),
                ..
            } => (boot, agent),
            State::Installed {
                boot, agent, member, ..
            } if *member != key => (boot, agent),
            _ => return None,
        };
        (*agent != key).then(|| State::Installed {
            boot: boot.clone(),
            agent: *agent,
            member: key,
            owed: Owed {
                installed: true,
                in_service: false,
            },
        })
    }

    /// The member's way into service, and what the LM has heard of it.
    fn arrive(&self, event: &Event) -> Option<State> {
        let mut next = self.clone();
        match (&mut next, event) {
            (
                State::Installed {
                    boot, member, owed, ..
                },
                Event::MemberSeen,
            ) => Some(State::Joining {
                boot: boot.clone(),
                member: *member,
                owed: *owed,
            }),
            (State::Joining { boot, member, owed }, Event::MemberHello) => Some(State::InService {
                boot: boot.clone(),
                member: *member,
                owed: Owed {
                    in_service: true,
                    ..*owed
                },
            }),
            (
                State::Installed { owed, .. } | State::Joining { owed, .. } | State::InService { owed, .. },
                Event::Told(word),
            ) => {
                match word {
                    Word::Installed => owed.installed = false,
                    Word::InService => owed.in_service = false,
                }
                (next != *self).then_some(next)
            }
            _ => None,
        }
    }

    /// The lender's word on a server that is being drained: whatever makes it another server, or no server, ends that.
    fn hear_while_draining(&self, event: &LeaseEvent) -> Option<State> {
        let State::Draining { boot, outcome, .. } = self else {
            return None;
        };
        match (&event.what, event.state) {
            (_, state) if state.is_final() || state == LeaseState::Returning => Some(State::Wiping {
                lease: boot.lease.clone(),
                outcome: outcome.clone(),
                ended: state.is_final(),
            }),
            (EventKind::Moved { .. } | EventKind::AgentKey { .. }, _)
            | (EventKind::Transition { .. }, LeaseState::Moving | LeaseState::Booting | LeaseState::Stage1) => {
                self.leave(outcome.clone())
            }
            _ => None,
        }
    }

    /// The lender's word on a lease.
    fn hear(&self, event: &LeaseEvent) -> Option<State> {
        if matches!(self, State::Draining { .. }) {
            return self.hear_while_draining(event);
        }
        if let Some(next) = self.hear_of_the_server(event) {
            return Some(next);
        }
        let (State::Transferring { boot, .. }
        | State::Installed { boot, .. }
        | State::Joining { boot, .. }
        | State::InService { boot, .. }) = self
        else {
            return None;
        };
        match (&event.what, event.state) {
            (EventKind::Transition { reason }, LeaseState::Booting) => self.boot_again(boot, None, reason),
            // A server that restarted by itself is in stage 1 again, without an order.
            (EventKind::Transition { reason }, LeaseState::Stage1) if self.has_passed(LeaseState::Stage1) => {
                self.boot_again(boot, None, reason)
            }
            (EventKind::AgentKey { key }, _) => self.agent_key(boot, *key, event.state),
            (_, stage) => self.advance(stage),
        }
    }

    /// The lender's word on who has the server: it went back, it failed and another is awaited, or another has come.
    fn hear_of_the_server(&self, event: &LeaseEvent) -> Option<State> {
        let lease = match self {
            // What was before the server was given back is of no interest any more.
            State::Wiping { lease, outcome, .. } => {
                return event.state.is_final().then(|| State::Wiping {
                    lease: lease.clone(),
                    outcome: outcome.clone(),
                    ended: true,
                });
            }
            State::Searching | State::Withdrawing { .. } | State::Returning { .. } | State::Over { .. } => {
                return None;
            }
            held => held.lease()?.clone(),
        };
        match (&event.what, event.state) {
            (EventKind::Moved { to, .. }, _) => Some(State::Preparing {
                lease,
                server: to.clone(),
            }),
            (EventKind::Transition { .. }, LeaseState::Moving) => Some(State::Moving { lease }),
            (EventKind::Transition { reason }, LeaseState::Failed) => Some(State::Wiping {
                lease,
                outcome: failed(reason),
                ended: true,
            }),
            (EventKind::Transition { reason }, state @ (LeaseState::Returning | LeaseState::Ended)) => {
                Some(State::Wiping {
                    lease,
                    outcome: failed(&format!("the lender took the server back: {reason}")),
                    ended: state.is_final(),
                })
            }
            _ => None,
        }
    }

    /// Whether this boot attempt came to `stage` before. What the LM tells of an attempt comes before its end, so a stage that
    /// is told again is a new attempt's.
    fn has_passed(&self, stage: LeaseState) -> bool {
        !matches!(self, State::Transferring { stage: now, .. } if *now < stage)
    }

    /// Every boot has its own agent key, and the member's key comes later: a key that is not the present one is a new boot's.
    fn agent_key(&self, boot: &Boot, key: WireguardPublicKey, stage: LeaseState) -> Option<State> {
        match self {
            State::Transferring {
                agent: Some(agent), ..
            }
            | State::Installed { agent, .. }
                if *agent == key =>
            {
                self.advance(stage)
            }
            _ => self.boot_again(boot, Some((key, stage)), "the agent runs on it again"),
        }
    }

    /// A new boot attempt: whoever had the address before has it no longer. A server in service is not the lender's to boot.
    fn boot_again(
        &self,
        boot: &Boot,
        agent: Option<(WireguardPublicKey, LeaseState)>,
        reason: &str,
    ) -> Option<State> {
        if matches!(self, State::InService { .. }) {
            let reason = format!("the lender booted the server anew while it was in service: {reason}");
            return self.leave(failed(&reason));
        }
        let stage = match agent {
            Some((_, stage)) if (LeaseState::Booting..=LeaseState::TunnelUp).contains(&stage) => stage,
            _ => LeaseState::Booting,
        };
        Some(State::Transferring {
            boot: boot.clone(),
            stage,
            agent: agent.map(|(key, _)| key),
            unsealed: false,
        })
    }

    /// The stage only grows within a boot attempt, so that the lender cannot reopen what is closed.
    fn advance(&self, to: LeaseState) -> Option<State> {
        match self {
            State::Transferring {
                boot,
                stage,
                agent,
                unsealed,
            } if to > *stage && (LeaseState::Booting..=LeaseState::Installing).contains(&to) => {
                Some(State::Transferring {
                    boot: boot.clone(),
                    stage: to,
                    agent: *agent,
                    unsealed: *unsealed,
                })
            }
            _ => None,
        }
    }
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed {
        reason: reason.to_owned(),
    }
}

fn over(lease: Option<LeaseId>, reason: &str) -> State {
    State::Over {
        lease,
        outcome: failed(reason),
        erasure: None,
    }
}

/// The PO's look at the merge.
fn agree(order: &Order, lease: &LeaseId, server: &ServerId, prepared: &Prepared) -> State {
    let refuse = |reason: String| State::Returning {
        lease: lease.clone(),
        outcome: failed(&reason),
    };
    if Sha256::of(prepared.kickstart.as_bytes()) != prepared.kickstart_sha256 {
        return refuse(
            "the lender's merged kickstart does not have the digest that the lender says".to_owned(),
        );
    }
    let settings = &order.settings;
    match merged::check(settings, &prepared.kickstart) {
        Ok(_) => State::Ordering {
            boot: Boot {
                lease: lease.clone(),
                server: server.clone(),
                kickstart_sha256: prepared.kickstart_sha256,
            },
        },
        Err(objection) => refuse(crate::error_chain(&objection)),
    }
}
