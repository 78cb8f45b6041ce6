//! What the jobs do.
//!
//! A job runs for hours, and people work on the same volume groups. So whenever it writes down how far it is, and before it
//! removes or declares anything, it looks whether the logical volume is still the one that it was started for.

use std::time::Duration;

use hawser_runtime::telemetry::chain;
use tokio::time::Instant;

use super::{Job, Jobs, Kind, Subject};
use crate::replica::effects::{EffectError, Zero};
use crate::replica::plan::{entangled, named};
use crate::replica::tags::{Change, Tags};

const FIRST_PIECE: u64 = 64 * 1024 * 1024;
const LARGEST_PIECE: u64 = 16 * 1024 * 1024 * 1024;
/// How often progress is written down: an LVM metadata change each.
const NOTE_EVERY: Duration = Duration::from_secs(20);

impl Jobs {
    /// The subject as it is now, if it is still what the job was started for.
    async fn look(&self, subject: &Subject) -> Result<Option<Look>, EffectError> {
        let report = self.effects.lvs.report().await?;
        let found = named(&report, &subject.lv)
            .find(|volume| volume.vg.name == subject.vg && volume.lv.uuid == subject.uuid)
            .map(|volume| Look {
                path: volume.lv.path.clone(),
                bytes: volume.lv.size_bytes,
                open: volume.lv.open,
                present: volume.lv.tags.clone(),
                entangled: entangled(&volume).map(|(_, sentence)| sentence),
                tags: volume.tags,
            });
        Ok(found)
    }

    /// The subject, if it may be wiped. `None`: it is not what it was, and somebody else will say what is to be done.
    async fn look_to_wipe(&self, subject: &Subject) -> Result<Option<Look>, EffectError> {
        let look = self.look(subject).await?;
        let Some(look) = look.filter(|look| look.tags.wiping && !look.open) else {
            return Ok(None);
        };
        match &look.entangled {
            Some(sentence) => Err(EffectError::Unsafe(sentence.clone())),
            None => Ok(Some(look)),
        }
    }

    pub(super) async fn wipe(&self, subject: &Subject) -> Result<(), EffectError> {
        let Some(look) = self.look_to_wipe(subject).await? else {
            return Ok(());
        };
        tracing::info!(
            volume = subject.lv,
            pool = subject.vg,
            bytes = look.bytes,
            from = look.tags.wiped,
            "wiping"
        );
        let begin = look.tags.wiped.min(look.bytes);
        let all = Zero {
            device: look.path.clone(),
            offset: begin,
            length: look.bytes - begin,
            exclusive: true,
        };
        if !self.zero(Kind::Wipe, subject, &all, look.bytes).await? {
            return Ok(());
        }
        // It may have been grown by hand; what is left of it is done by the next job.
        let bytes = look.bytes;
        let Some(look) = self.look_to_wipe(subject).await? else {
            return Ok(());
        };
        if look.bytes != bytes {
            return self
                .note(subject, |_, tags| Some(wiped(tags, bytes)))
                .await
                .map(drop);
        }
        let whole = Zero {
            offset: 0,
            length: bytes,
            ..all
        };
        if let Err(error) = self.effects.wipe.discard(&whole).await {
            tracing::debug!(volume = subject.lv, error = %chain(&error), "discard refused; the blocks are zeroed anyway");
        }
        let Subject { vg, lv, uuid } = subject;
        self.effects.lvs.remove(vg, lv, uuid).await?;
        tracing::info!(volume = lv, pool = vg, bytes, "wiped and removed");
        Ok(())
    }

    pub(super) async fn clean(&self, subject: &Subject) -> Result<(), EffectError> {
        // More than once if it is grown by hand meanwhile; Hawser itself grows it afterwards.
        loop {
            let Some(look) = self.look(subject).await? else {
                return Ok(());
            };
            let begin = look.tags.unzeroed.map(|begin| begin.min(look.bytes));
            let Some(begin) = begin.filter(|_| !look.tags.wiping) else {
                return Ok(());
            };
            if let Some(sentence) = &look.entangled {
                return Err(EffectError::Unsafe(sentence.clone()));
            }
            self.check_hidden(subject, &look, begin).await?;
            // Its own front device may hold it, but shows nothing of this range.
            let range = Zero {
                device: look.path.clone(),
                offset: begin,
                length: look.bytes - begin,
                exclusive: false,
            };
            if !self.zero(Kind::Clean, subject, &range, look.bytes).await? {
                return Ok(());
            }
            let (end, mut grown) = (look.bytes, false);
            let noted = self
                .note(subject, |bytes, tags| {
                    grown = bytes > end;
                    tags.unzeroed.is_some().then(|| Tags {
                        unzeroed: grown.then_some(end),
                        raw: true,
                        ..tags
                    })
                })
                .await?;
            if !grown || !noted {
                return Ok(());
            }
        }
    }

    /// What is to be zeroed must lie behind the end of the front device of a volume that is in use: else somebody may have written
    /// there. (A volume that was never given to anybody is zeroed before that, by who gives it.)
    async fn check_hidden(
        &self,
        subject: &Subject,
        look: &Look,
        from: u64,
    ) -> Result<(), EffectError> {
        if !look.tags.raw {
            return Ok(());
        }
        let fronts = self.effects.fronts.list().await?;
        let front = fronts.iter().find(|front| front.volume == subject.lv);
        let hidden = front.map_or(!look.open, |front| front.bytes <= from);
        if hidden {
            return Ok(());
        }
        let Subject { vg, lv, .. } = subject;
        Err(EffectError::Unsafe(format!(
            "logical volume {vg}/{lv} is used beyond byte {from}, where it was to be zeroed: nothing is overwritten"
        )))
    }

    /// Zeroes a range in pieces and writes down how far it is. `false`: the volume is not what it was, so it stopped.
    async fn zero(
        &self,
        kind: Kind,
        subject: &Subject,
        range: &Zero,
        total: u64,
    ) -> Result<bool, EffectError> {
        let (mut offset, end) = (range.offset, range.offset.saturating_add(range.length));
        let mut size = FIRST_PIECE;
        let mut noted = Instant::now();
        while offset < end {
            self.by_volume.lock().insert(
                subject.lv.clone(),
                Job::Running {
                    kind,
                    done: offset,
                    total,
                },
            );
            let began = Instant::now();
            let piece = Zero {
                offset,
                length: size.min(end - offset),
                ..range.clone()
            };
            self.effects.wipe.zero(&piece).await?;
            offset += piece.length;
            size = next_size(size, began.elapsed());
            if noted.elapsed() >= NOTE_EVERY && offset < end {
                noted = Instant::now();
                let same = self
                    .note(subject, |_, tags| progress(kind, tags, offset))
                    .await?;
                if !same {
                    return Ok(false);
                }
                (self.listener)(&subject.lv);
            }
        }
        Ok(true)
    }

    /// Changes the tags, given the size and the tags; `false` if the volume is not what it was any more, or `change` finds no sense
    /// in it.
    async fn note(
        &self,
        subject: &Subject,
        change: impl FnOnce(u64, Tags) -> Option<Tags>,
    ) -> Result<bool, EffectError> {
        let Some(look) = self.look(subject).await? else {
            return Ok(false);
        };
        if let Some(sentence) = look.entangled {
            return Err(EffectError::Unsafe(sentence));
        }
        let Some(wanted) = change(look.bytes, look.tags) else {
            return Ok(false);
        };
        let change = Change::between(&look.present, &wanted);
        self.effects
            .lvs
            .retag(&subject.vg, &subject.lv, &change.add, &change.delete)
            .await?;
        Ok(true)
    }
}

fn wiped(tags: Tags, bytes: u64) -> Tags {
    Tags {
        wiped: bytes,
        ..tags
    }
}

/// The tags that say how far a job is; `None` if they do not ask for it any more.
fn progress(kind: Kind, tags: Tags, offset: u64) -> Option<Tags> {
    match kind {
        Kind::Wipe => tags.wiping.then(|| wiped(tags, offset)),
        Kind::Clean => (tags.unzeroed.is_some() && !tags.wiping).then_some(Tags {
            unzeroed: Some(offset),
            ..tags
        }),
    }
}

struct Look {
    path: std::path::PathBuf,
    bytes: u64,
    open: bool,
    present: Vec<String>,
    /// Why its blocks must not be written over, or taken away.
    entangled: Option<String>,
    tags: Tags,
}

/// Pieces of about a second to ten.
fn next_size(size: u64, took: Duration) -> u64 {
    if took < Duration::from_secs(1) {
        (size * 2).min(LARGEST_PIECE)
    } else if took > Duration::from_secs(10) {
        (size / 2).max(FIRST_PIECE / 4)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_the_speed_of_the_disk() {
        assert_eq!(
            next_size(FIRST_PIECE, Duration::from_millis(5)),
            2 * FIRST_PIECE
        );
        assert_eq!(next_size(FIRST_PIECE, Duration::from_secs(5)), FIRST_PIECE);
        assert_eq!(
            next_size(FIRST_PIECE, Duration::from_secs(20)),
            FIRST_PIECE / 2
        );
        assert_eq!(next_size(LARGEST_PIECE, Duration::ZERO), LARGEST_PIECE);
    }
}
