//! What this replica has counted for each policy since it started.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::{PolicyCounts, PolicyMode, PolicyViolation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use crate::policy::judge::Judgement;

/// Longest part of a message and of a name that goes into a status: requests are as long as their senders like.
const LONGEST: usize = 512;

/// What a request was, for the record.
#[derive(Clone, Debug)]
pub(crate) struct Occasion {
    /// Such as `PersistentVolumeClaim shop/data`.
    pub(crate) object: String,
    pub(crate) operation: &'static str,
    pub(crate) user: String,
}

#[derive(Debug, Default)]
struct Entry {
    counts: PolicyCounts,
    /// Not written since.
    dirty: bool,
}

/// Counts. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book(Arc<Mutex<BTreeMap<String, Entry>>>);

impl Book {
    /// Counts one request.
    pub(crate) fn enter(
        &self,
        judgement: &Judgement,
        occasion: impl FnOnce() -> Occasion,
        now: &Time,
    ) {
        if judgement.matched.is_empty() {
            return;
        }
        let mut entries = self.0.lock();
        for name in &judgement.matched {
            let entry = entries.entry(name.clone()).or_default();
            entry.counts.matched = entry.counts.matched.saturating_add(1);
            entry.dirty = true;
        }
        if judgement.violations.is_empty() {
            return;
        }
        let occasion = occasion();
        for name in &judgement.matched {
            let mut own = judgement.violations.iter().filter(|v| v.policy == *name);
            let (Some(first), Some(entry)) = (own.next(), entries.get_mut(name)) else {
                continue;
            };
            let counts = &mut entry.counts;
            let counter = match first.mode {
                PolicyMode::Enforce => &mut counts.denied,
                PolicyMode::Warn => &mut counts.warned,
                PolicyMode::Audit | PolicyMode::Unset | PolicyMode::Other(_) => &mut counts.audited,
            };
            *counter = counter.saturating_add(1);
            let rest = own.map(|violation| violation.sentence.as_str());
            let message: Vec<&str> = std::iter::once(first.sentence.as_str())
                .chain(rest)
                .collect();
            counts.last_violation = Some(PolicyViolation {
                message: cut(&message.join("; ")),
                object: cut(&occasion.object),
                operation: occasion.operation.to_owned(),
                time: Some(now.clone()),
                user: cut(&occasion.user),
            });
        }
    }

    /// What is to be written now: the counts that have changed since they were last taken.
    pub(crate) fn take(&self) -> Vec<(String, PolicyCounts)> {
        let mut entries = self.0.lock();
        let dirty = entries.iter_mut().filter(|(_, entry)| entry.dirty);
        dirty
            .map(|(name, entry)| {
                entry.dirty = false;
                (name.clone(), entry.counts.clone())
            })
            .collect()
    }

    /// Writing failed: the same is to be written again, with what has come meanwhile.
    pub(crate) fn put_back(&self, name: &str) {
        if let Some(entry) = self.0.lock().get_mut(name) {
            entry.dirty = true;
        }
    }

    /// The policy is gone: so are its counts.
    pub(crate) fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::judge::Violation;

    fn a_judgement(violated: &[(&str, PolicyMode)]) -> Judgement {
        Judgement {
            matched: vec!["a".to_owned(), "b".to_owned()],
            violations: violated
                .iter()
                .map(|(policy, mode)| Violation {
                    policy: (*policy).to_owned(),
                    mode: mode.clone(),
                    sentence: "x".repeat(600),
                })
                .collect(),
        }
    }

    fn enter(book: &Book, judgement: &Judgement) {
        let occasion = || Occasion {
            object: "PersistentVolumeClaim shop/data".to_owned(),
            operation: "CREATE",
            user: "ann".to_owned(),
        };
        book.enter(
            judgement,
            occasion,
            &Time("2026-01-01T00:00:00Z".parse().unwrap()),
        );
    }

    #[test]
    fn a_request_counts_once_for_a_policy_and_is_taken_once() {
        let book = Book::default();
        enter(&book, &a_judgement(&[]));
        enter(
            &book,
            &a_judgement(&[("b", PolicyMode::Enforce), ("b", PolicyMode::Enforce)]),
        );
        let taken: BTreeMap<_, _> = book.take().into_iter().collect();
        let numbers = |name: &str| (taken[name].matched, taken[name].denied);
        assert_eq!((numbers("a"), numbers("b")), ((2, 0), (2, 1)));
        let last = taken["b"].last_violation.clone().unwrap();
        assert_eq!(
            (last.object.as_str(), last.user.as_str()),
            ("PersistentVolumeClaim shop/data", "ann")
        );
        assert!(last.message.len() < 600 && last.message.ends_with("..."));
        assert!(book.take().is_empty());

        book.put_back("b");
        assert_eq!(book.take().len(), 1);
        book.forget("b");
        book.put_back("b");
        assert!(book.take().is_empty());
    }

    #[test]
    fn modes_have_counters_of_their_own() {
        let book = Book::default();
        enter(
            &book,
            &a_judgement(&[("a", PolicyMode::Warn), ("b", PolicyMode::Audit)]),
        );
        let taken: BTreeMap<_, _> = book.take().into_iter().collect();
        assert_eq!(
            (taken["a"].warned, taken["a"].audited, taken["a"].denied),
            (1, 0, 0)
        );
        assert_eq!(
            (taken["b"].warned, taken["b"].audited, taken["b"].denied),
            (0, 1, 0)
        );
    }
}
