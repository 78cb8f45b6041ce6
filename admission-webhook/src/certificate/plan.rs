//! What has to change in the Secret. Pure but for the keys that it makes.

use jiff::Timestamp;

use crate::certificate::issue::{self, IssueError, Names, Pair};
use crate::certificate::material::{Material, Validity, certificates};

/// The Secret's next content and why it changes; `None` if it is fine as it is.
///
/// A certificate of an older authority stays in use as long as the bundle vouches for it: renewing authority and
/// certificate at once would serve what the API server does not trust yet. `trusted`: the bundle that was published last, if one is known;
/// where all is made anew, because somebody deleted the Secret to that end or broke it, what is served still goes on being trusted.
pub(crate) fn plan(
    found: Option<&Material>,
    trusted: &str,
    names: &Names,
    now: Timestamp,
) -> Result<Option<(Material, &'static str)>, IssueError> {
    let Some(found) = found else {
        return Ok(Some((made(trusted, names, now)?, "there were none")));
    };
    if !authority_works(found, now) {
        return Ok(Some((
            made(&found.bundle, names, now)?,
            "the authority had expired or could not be read",
        )));
    }
    if !Validity::of(&found.authority).is_some_and(|validity| validity.is_fresh(now)) {
        return Ok(Some((
            with_new_authority(found, now)?,
            "the authority was due",
        )));
    }
    let trusted = found.is_trusted(names.as_slice(), now);
    if !trusted || !Validity::of(&found.certificate).is_some_and(|validity| validity.is_fresh(now))
    {
        let reason = if trusted {
            "the certificate was due"
        } else {
            "the certificate would not be accepted"
        };
        return Ok(Some((with_new_certificate(found, names, now)?, reason)));
    }
    if bundle(&found.authority, &found.bundle, now) != found.bundle {
        let next = Material {
            bundle: bundle(&found.authority, &found.bundle, now),
            ..found.clone()
        };
        return Ok(Some((next, "an old authority had expired")));
    }
    Ok(None)
}

/// Whether the authority can still sign, and its certificates would be accepted.
fn authority_works(found: &Material, now: Timestamp) -> bool {
    let lasts = Validity::of(&found.authority).is_some_and(|validity| validity.lasts(now));
    let pair = authority_of(found);
    let probe = Names::of_service("probe", "probe");
    lasts
        && issue::certificate(&pair, &probe, now).is_ok_and(|leaf| {
            let signed = Material {
                certificate: leaf.certificate,
                certificate_key: leaf.key,
                ..found.clone()
            };
            signed.is_trusted(probe.as_slice(), now)
        })
}

fn authority_of(found: &Material) -> Pair {
    Pair {
        certificate: found.authority.clone(),
        key: found.authority_key.clone(),
    }
}

fn made(trusted: &str, names: &Names, now: Timestamp) -> Result<Material, IssueError> {
    let authority = issue::authority(now)?;
    let leaf = issue::certificate(&authority, names, now)?;
    Ok(Material {
        bundle: bundle(&authority.certificate, trusted, now),
        authority: authority.certificate,
        authority_key: authority.key,
        certificate: leaf.certificate,
        certificate_key: leaf.key,
    })
}

fn with_new_authority(found: &Material, now: Timestamp) -> Result<Material, IssueError> {
    let authority = issue::authority(now)?;
    Ok(Material {
        bundle: bundle(&authority.certificate, &found.bundle, now),
        authority: authority.certificate,
        authority_key: authority.key,
        ..found.clone()
    })
}

fn with_new_certificate(
    found: &Material,
    names: &Names,
    now: Timestamp,
) -> Result<Material, IssueError> {
    let leaf = issue::certificate(&authority_of(found), names, now)?;
    Ok(Material {
        bundle: bundle(&found.authority, &found.bundle, now),
        certificate: leaf.certificate,
        certificate_key: leaf.key,
        ..found.clone()
    })
}

/// The authority first, then those of the old bundle that have not expired.
fn bundle(authority: &str, old: &str, now: Timestamp) -> String {
    let mut kept = authority.to_owned();
    let current = certificates(authority);
    for block in blocks(old) {
        let Some(parsed) = certificates(&block).into_iter().next() else {
            continue;
        };
        let lasts = Validity::of_der(&parsed).is_some_and(|validity| validity.lasts(now));
        if lasts && !current.contains(&parsed) {
            kept.push_str(&block);
        }
    }
    kept
}

/// The PEM blocks of a text, each with its final newline.
fn blocks(pem: &str) -> Vec<String> {
    let end = "-----END CERTIFICATE-----";
    pem.split_inclusive(end)
        .filter(|block| block.trim_end().ends_with(end))
        .map(|block| format!("{}\n", block.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::certificate::issue::{AUTHORITY_LIFE, CERTIFICATE_LIFE};

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn names() -> Names {
        Names::of_service("webhook", "storage")
    }

    /// The material after every step that is due at this time.
    fn settle(found: Option<Material>, now: Timestamp) -> Material {
        let mut found = found;
        for _ in 0..5 {
            match plan(found.as_ref(), "", &names(), now).unwrap() {
                Some((next, _)) => found = Some(next),
                None => return found.unwrap(),
            }
        }
        panic!("never settles");
    }

    #[test]
    fn what_was_just_made_is_trusted_and_needs_nothing() {
        let (made, _) = plan(None, "", &names(), start()).unwrap().unwrap();
        assert!(made.is_trusted(names().as_slice(), start()));
        assert!(!made.is_trusted(&["elsewhere.storage.svc".to_owned()], start()));
        assert_eq!(plan(Some(&made), "", &names(), start()).unwrap(), None);
        assert_eq!(Material::read(&made.write()).unwrap(), made);
    }

    #[test]
    fn an_api_server_whose_clock_is_behind_trusts_it_too() {
        let made = settle(None, start());
        assert!(made.is_trusted(names().as_slice(), start() - SignedDuration::from_mins(30)));
    }

    #[test]
    fn the_certificate_is_renewed_after_two_thirds_by_the_same_authority() {
        let made = settle(None, start());
        assert_eq!(
            plan(
                Some(&made),
                "",
                &names(),
                start() + CERTIFICATE_LIFE * 2 / 3 - DAY
            )
            .unwrap(),
            None
        );
        let due = start() + CERTIFICATE_LIFE * 2 / 3 + DAY;
        let renewed = settle(Some(made.clone()), due);
        assert_ne!(renewed.certificate, made.certificate);
        assert_eq!(
            (&renewed.authority, &renewed.bundle),
            (&made.authority, &made.bundle)
        );
        assert!(renewed.is_trusted(names().as_slice(), due + CERTIFICATE_LIFE - DAY));
    }

    #[test]
    fn a_new_authority_is_trusted_before_it_signs_what_is_served() {
        let due = start() + AUTHORITY_LIFE * 2 / 3 + DAY;
        // A certificate that is not due at the same time.
        let made = with_new_certificate(&settle(None, start()), &names(), due - DAY).unwrap();
        let (next, reason) = plan(Some(&made), "", &names(), due).unwrap().unwrap();
        assert_eq!(reason, "the authority was due");
        assert_ne!(next.authority, made.authority);
        // Served as before, signed by the old authority, which is in the bundle still.
        assert_eq!(next.certificate, made.certificate);
        assert_eq!(certificates(&next.bundle).len(), 2);
        assert!(next.is_trusted(names().as_slice(), due));
        assert_eq!(plan(Some(&next), "", &names(), due).unwrap(), None);

        // An API server that still trusts the old bundle accepts it too.
        let before = Material {
            bundle: made.bundle.clone(),
            ..next.clone()
        };
        assert!(before.is_trusted(names().as_slice(), due));

        // The next certificate is the new authority's.
        let later = settle(Some(next.clone()), due + CERTIFICATE_LIFE);
        let new_only = Material {
            bundle: next.authority.clone(),
            ..later
        };
        assert!(new_only.is_trusted(names().as_slice(), due + CERTIFICATE_LIFE));
    }

    #[test]
    fn an_authority_that_expired_leaves_the_bundle() {
        let due = start() + AUTHORITY_LIFE * 2 / 3 + DAY;
        let two = settle(Some(settle(None, start())), due);
        assert_eq!(certificates(&two.bundle).len(), 2);
        let one = settle(Some(two), start() + AUTHORITY_LIFE + DAY);
        assert_eq!(certificates(&one.bundle).len(), 1);
    }

    #[test]
    fn after_a_long_sleep_everything_is_made_anew() {
        let made = settle(None, start());
        let late = start() + AUTHORITY_LIFE + DAY;
        let (next, reason) = plan(Some(&made), "", &names(), late).unwrap().unwrap();
        assert_eq!(reason, "the authority had expired or could not be read");
        assert!(next.is_trusted(names().as_slice(), late));
    }

    #[test]
    fn what_can_not_be_used_is_replaced() {
        let made = settle(None, start());
        let other = settle(None, start());
        for broken in [
            Material {
                authority: "nonsense".to_owned(),
                ..made.clone()
            },
            Material {
                authority_key: other.authority_key.clone(),
                ..made.clone()
            },
            Material {
                certificate: other.certificate.clone(),
                ..made.clone()
            },
            Material {
                certificate: "nonsense".to_owned(),
                ..made.clone()
            },
            Material {
                bundle: other.bundle.clone(),
                ..made.clone()
            },
        ] {
            assert!(settle(Some(broken), start()).is_trusted(names().as_slice(), start()));
        }
    }

    #[test]
    fn what_is_served_goes_on_being_trusted_when_all_is_made_anew() {
        let old = settle(None, start());
        let (anew, _) = plan(None, &old.bundle, &names(), start()).unwrap().unwrap();
        assert_eq!(certificates(&anew.bundle).len(), 2);
        let broken = Material {
            authority_key: "nonsense".to_owned(),
            ..old.clone()
        };
        let (mended, _) = plan(Some(&broken), "", &names(), start()).unwrap().unwrap();
        for next in [anew, mended] {
            let still = Material {
                bundle: next.bundle.clone(),
                ..old.clone()
            };
            assert!(still.is_trusted(names().as_slice(), start()));
            assert!(next.is_trusted(names().as_slice(), start()));
        }
        // What has ended leaves.
        let late = start() + AUTHORITY_LIFE + DAY;
        let (next, _) = plan(None, &old.bundle, &names(), late).unwrap().unwrap();
        assert_eq!(certificates(&next.bundle).len(), 1);
    }

    #[test]
    fn another_service_name_needs_another_certificate() {
        let made = settle(None, start());
        let moved = Names::of_service("webhook", "elsewhere");
        let (next, reason) = plan(Some(&made), "", &moved, start()).unwrap().unwrap();
        assert_eq!(reason, "the certificate would not be accepted");
        assert!(next.is_trusted(moved.as_slice(), start()));
        assert_eq!(next.authority, made.authority);
    }
}
