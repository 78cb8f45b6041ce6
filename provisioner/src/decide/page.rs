//! Pages of a list that changes while it is read: a token names the last item given, so that what was not deleted is seen
//! exactly once, whatever comes and goes in between. Pure.

/// Begins every token, so that a foreign one is told apart.
const PREFIX: &str = "after:";

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    #[error("max_entries is {0}; it must be 0 (no limit) or more")]
    NegativeLimit(i32),
    #[error("starting_token {0:?} was not given out by this driver; begin without one")]
    UnknownToken(String),
}

/// One page of `items`, which are in order of `key`; and the token for the next one, empty on the last.
pub fn page<T>(
    items: Vec<T>,
    key: impl Fn(&T) -> String,
    max_entries: i32,
    token: &str,
) -> Result<(Vec<T>, String), PageError> {
    let limit = usize::try_from(max_entries).map_err(|_| PageError::NegativeLimit(max_entries))?;
    let after = match token {
        "" => None,
        token => Some(
            token
                .strip_prefix(PREFIX)
                .ok_or_else(|| PageError::UnknownToken(token.to_owned()))?,
        ),
    };
    let mut rest: Vec<T> = items
        .into_iter()
        .filter(|item| after.is_none_or(|after| key(item).as_str() > after))
        .collect();
    if limit == 0 || rest.len() <= limit {
        return Ok((rest, String::new()));
    }
    rest.truncate(limit);
    let next = rest
        .last()
        .map(|last| format!("{PREFIX}{}", key(last)))
        .unwrap_or_default();
    Ok((rest, next))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(items: &[String], limit: i32, token: &str) -> (Vec<String>, String) {
        page(items.to_vec(), Clone::clone, limit, token).unwrap()
    }

    #[test]
    fn foreign_tokens_and_negative_limits_are_refused() {
        let none: Vec<String> = Vec::new();
        assert_eq!(
            page(none.clone(), Clone::clone, -1, ""),
            Err(PageError::NegativeLimit(-1))
        );
        assert!(matches!(
            page(none, Clone::clone, 0, "7"),
            Err(PageError::UnknownToken(_))
        ));
    }

    proptest! {
        #[test]
        fn what_stays_is_seen_once_while_others_come_and_go(
            stays in proptest::collection::btree_set("[a-z]{1,4}", 0..20),
            comes in proptest::collection::btree_set("[A-Z]{1,4}", 0..20),
            goes in proptest::collection::btree_set("[0-9]{1,4}", 0..20),
            limit in 1..5,
        ) {
            let mut items: Vec<String> = stays.iter().chain(&goes).cloned().collect();
            let mut seen = Vec::new();
            let (mut some, mut token) = read(&sorted(&items), limit, "");
            items.retain(|i| stays.contains(i));
            items.extend(comes);
            loop {
                seen.append(&mut some);
                if token.is_empty() {
                    break;
                }
                (some, token) = read(&sorted(&items), limit, &token);
            }
            let found: Vec<&String> = seen.iter().filter(|i| stays.contains(*i)).collect();
            prop_assert_eq!(found, stays.iter().collect::<Vec<_>>());
        }
    }

    fn sorted(items: &[String]) -> Vec<String> {
        let mut items = items.to_vec();
        items.sort();
        items
    }
}
