//! How often a display is updated: states that come faster than a person reads wait, and the last one is sent.

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time between two updates of a display at least.
pub(super) const EVERY: Duration = Duration::from_millis(500);

/// Displays that were sent a short time ago, by their ids.
#[derive(Debug, Default)]
pub(super) struct Outbox(BTreeMap<String, Sent>);

#[derive(Debug)]
struct Sent {
    last: Instant,
    /// The newest state, which waits for its turn.
    waiting: Option<Value>,
}

impl Outbox {
    /// Notes that a state is sent now, and forgets those before it.
    pub fn sent(&mut self, id: &str, now: Instant) {
        self.0.insert(id.to_string(), Sent { last: now, waiting: None });
    }

    /// Returns a new state if it is to be sent at once; otherwise it waits, and what waited before is forgotten.
    pub fn offer(&mut self, id: &str, state: Value, now: Instant) -> Option<Value> {
        match self.0.get_mut(id) {
            Some(sent) if now.saturating_duration_since(sent.last) < EVERY => {
                sent.waiting = Some(state);
                None
            }
            _ => {
                self.sent(id, now);
                Some(state)
            }
        }
    }

    /// Takes out the states whose time has come.
    pub fn due(&mut self, now: Instant) -> Vec<(String, Value)> {
        // Without a state that waits there is nothing to know of an older one.
        self.0.retain(|_, sent| sent.waiting.is_some() || now.saturating_duration_since(sent.last) < EVERY);
        self.take(now, EVERY)
    }

    /// Takes out all states that wait.
    pub fn all(&mut self, now: Instant) -> Vec<(String, Value)> {
        self.take(now, Duration::ZERO)
    }

    fn take(&mut self, now: Instant, age: Duration) -> Vec<(String, Value)> {
        let mut taken = Vec::new();
        for (id, sent) in &mut self.0 {
            if now.saturating_duration_since(sent.last) >= age
                && let Some(state) = sent.waiting.take()
            {
                sent.last = now;
                taken.push((id.clone(), state));
            }
        }
        taken
    }

    /// When the next state is to be sent.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().filter(|sent| sent.waiting.is_some()).map(|sent| sent.last + EVERY).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_is_updated_twice_a_second_and_the_last_state_arrives() {
        let (begin, mut outbox) = (Instant::now(), Outbox::default());
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        outbox.sent("a", at(0));
        let mut seen: Vec<(u64, u64)> = Vec::new();
        // A new state every 10 ms for ten seconds.
        for now in (10..=10_000).step_by(10) {
            let state = outbox.offer("a", now.into(), at(now));
            let due = outbox.due(at(now)).into_iter().map(|(_, state)| state);
            seen.extend(state.into_iter().chain(due).map(|state| (now, state.as_u64().unwrap())));
        }
        assert_eq!(seen.len(), 20);
        assert!(seen.windows(2).all(|two| two[1].0 - two[0].0 >= 500), "{seen:?}");
        assert!(seen.iter().all(|(now, state)| now == state), "the newest: {seen:?}");
        assert_eq!((outbox.next(), outbox.offer("a", 1.into(), at(10_010))), (None, None));
        assert_eq!(outbox.offer("a", 2.into(), at(10_020)), None);
        assert_eq!(outbox.next(), Some(at(10_500)));
        assert!(outbox.due(at(10_499)).is_empty());
        assert_eq!(outbox.due(at(10_500)), [("a".to_string(), 2.into())]);
        assert!(outbox.due(at(11_000)).is_empty() && outbox.0.is_empty(), "nothing stays");
    }

    #[test]
    fn displays_do_not_wait_for_each_other_and_a_flush_waits_for_none() {
        let (now, mut outbox) = (Instant::now(), Outbox::default());
        outbox.sent("a", now);
        outbox.sent("b", now);
        assert_eq!(outbox.offer("c", 1.into(), now), Some(1.into()));
        assert_eq!([outbox.offer("a", 2.into(), now), outbox.offer("b", 3.into(), now)], [None, None]);
        assert_eq!(outbox.all(now), [("a".to_string(), 2.into()), ("b".to_string(), 3.into())]);
        assert!(outbox.all(now).is_empty());
        // A final state stands in for one that waits.
        outbox.offer("a", 4.into(), now);
        outbox.sent("a", now);
        assert!(outbox.all(now).is_empty() && outbox.next().is_none());
    }
}
