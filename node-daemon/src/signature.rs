//! What a device carries: the word of `blkid -p`, and a look of our own where that is "nothing".
//!
//! blkid ends in the same way, with exit status 2 and without a word, for an empty device, for one of which a single read failed,
//! and for one that it takes for a part of another. So nothing is called empty here that was not read.
//!
//! Does not own: what follows from it (`disk`, `mount`).

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hawser_command::{Command, CommandError, Exit, Hangs, Lanes};

/// How much of a device's beginning blkid reads: up to the last place of LUKS's second header. This and [`TAIL`] as seen with
/// `strace -e trace=lseek,read blkid -p` on an empty device, util-linux 2.38.
const HEAD: u64 = 4 * 1024 * 1024 + 64 * 1024;
/// How much of its end: up to 1543 KiB, for the metadata of RAID controllers.
const TAIL: u64 = 2 * 1024 * 1024;
/// How much is read at a time.
const PIECE: usize = 256 * 1024;
/// The beginning and the end that are looked into: as far as the magic numbers reach that are known here.
const KEPT_HEAD: usize = 128 * 1024;
const KEPT_TAIL: usize = 4096;

/// What a device carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All places where signatures lie could be read, and there is none.
    Nothing,
    /// A file system, or a member of something.
    Signature(Signature),
    /// A partition table alone, such as `gpt`.
    Table(String),
    /// Signatures that contradict each other.
    Several,
}

/// A signature, as blkid describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// `ext4`, `LVM2_member`, `linux_raid_member`, `drbd`, `crypto_LUKS`, `swap`, ...
    pub kind: String,
    /// `filesystem`, `raid`, `crypto`, `other`; empty if it does not say.
    pub usage: String,
    /// Empty if it has none.
    pub uuid: String,
    /// A partition table beside it.
    pub table: Option<String>,
}

/// Why there is no telling. The sentences go on after the device's name and a colon.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The device does not answer.
    #[error(transparent)]
    NoAnswer(#[from] Hangs),
    /// The device is not there, or is not for us.
    #[error("it can't be opened")]
    Open(#[source] io::Error),
    /// Some of it could not be read.
    #[error("it can't be read")]
    Read(#[source] io::Error),
    /// The tool is not there, or did not end well.
    #[error("{}", if .0.is_not_found() { "blkid is not installed" } else { "blkid failed" })]
    Tool(#[source] CommandError),
    /// The tool's answer is none that is known.
    #[error("blkid ended with {exit} and said {said:?}")]
    Answer {
        /// How it ended.
        exit: Exit,
        /// Both outputs.
        said: String,
    },
    /// blkid sees nothing, and there is something.
    #[error("blkid takes it for empty, but it {0}")]
    Overlooked(&'static str),
}

/// Looks at devices. Clones share what they know of devices that do not answer.
#[derive(Debug, Clone)]
pub struct Looker {
    blkid: PathBuf,
    lanes: Lanes<PathBuf>,
}

impl Default for Looker {
    fn default() -> Self {
        Self::with("blkid")
    }
}

impl Looker {
    /// One that asks another program instead of `blkid`.
    pub fn with(blkid: impl Into<PathBuf>) -> Self {
        Self {
            blkid: blkid.into(),
            lanes: Lanes::default(),
        }
    }

    /// What a device carries. One look at a device at a time; while one hangs, others fail at once.
    ///
    /// # Errors
    /// If there is any doubt.
    pub async fn look(&self, device: &Path, patience: Duration) -> Result<Found, LookError> {
        let lane = self.lanes.of(device.to_owned());
        let command = Command::new(&self.blkid)
            .args(["-p", "-o", "export", "--"])
            .arg(device)
            .deadline(patience)
            .max_output(PIECE)
            .lane(&lane);
        lane.run(patience, twice(command, device.to_owned()))
            .await?
    }
}

/// blkid's answer; for "nothing", only after all that it reads could be read.
async fn twice(blkid: Command, device: PathBuf) -> Result<Found, LookError> {
    let found = ask(&blkid).await?;
    if found != Found::Nothing {
        return Ok(found);
    }
    let read = tokio::task::spawn_blocking(move || overlooked(&device)).await;
    let seen = read.unwrap_or_else(|_cancelled| {
        Err(LookError::Read(io::Error::other(
            "the daemon is shutting down",
        )))
    })?;
    match seen {
        Some(what) => Err(LookError::Overlooked(what)),
        // A read that failed for blkid and not for us: it is not likely to fail again for what is in memory by now.
        None => ask(&blkid).await,
    }
}

async fn ask(blkid: &Command) -> Result<Found, LookError> {
    let output = blkid.output().await.map_err(LookError::Tool)?;
    answer(output.exit, &output.stdout_text(), &output.stderr_text())
}

/// Exit status 0: found, 2: nothing found or not read, 8: contradicting signatures.
fn answer(exit: Exit, stdout: &str, stderr: &str) -> Result<Found, LookError> {
    let value = |key: &str| {
        let mut lines = stdout.lines();
        lines
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
    };
    match (exit, value("TYPE"), value("PTTYPE")) {
        (Exit::Code(0), Some(kind), table) => Ok(Found::Signature(Signature {
            kind,
            usage: value("USAGE").unwrap_or_default(),
            uuid: value("UUID").unwrap_or_default(),
            table,
        })),
        (Exit::Code(0), None, Some(table)) => Ok(Found::Table(table)),
        (Exit::Code(8), _, _) => Ok(Found::Several),
        (Exit::Code(2), None, None) if stdout.trim().is_empty() && stderr.is_empty() => {
            Ok(Found::Nothing)
        }
        (exit, _, _) => Err(LookError::Answer {
            exit,
            said: format!("{} {stderr}", stdout.trim()).trim().to_owned(),
        }),
    }
}

/// Reads a device that blkid sees nothing on; what lies there all the same, in words that go on after "it ".
fn overlooked(device: &Path) -> Result<Option<&'static str>, LookError> {
    let mut file = File::open(device).map_err(LookError::Open)?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(LookError::Read)?;
    examine(&file, bytes).map_err(LookError::Read)
}

/// What can be read at any place. A trait, so that tests have bad sectors.
trait Medium {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
}

impl Medium for File {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.read_at(buffer, at)
    }
}

/// Reads beginning and end of a medium of so many bytes. Fails if any byte of them can't be read.
fn examine(medium: &impl Medium, bytes: u64) -> io::Result<Option<&'static str>> {
    if bytes == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the device has no size",
        ));
    }
    let mut piece = vec![0; PIECE];
    let mut head = Vec::with_capacity(KEPT_HEAD);
    let mut tail = Vec::with_capacity(KEPT_TAIL);
    let begin = bytes.min(HEAD);
    let runs = [(0, begin), (begin.max(bytes.saturating_sub(TAIL)), bytes)];
    for (from, to) in runs {
        let mut at = from;
        while at < to {
            let most = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
            let read = match medium.read(&mut piece[..most], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let room = KEPT_HEAD - head.len();
            head.extend_from_slice(&piece[..read.min(room)]);
            tail.extend_from_slice(&piece[read.saturating_sub(KEPT_TAIL)..read]);
            tail.drain(..tail.len().saturating_sub(KEPT_TAIL));
            at += u64::try_from(read).unwrap_or(u64::MAX);
        }
    }
    Ok(known_magic(&head, &tail))
}

/// What beginning and end show, of what is most likely to be on a disk or a volume of ours: a second look beside blkid's.
fn known_magic(head: &[u8], tail: &[u8]) -> Option<&'static str> {
    /// A label is in one of the first four sectors.
    const LVM: &str = "begins as an LVM physical volume does";
    const RAID: &str = "begins as a member of a RAID does";
    const GPT: &str = "begins as a GPT does";
    const FIRST: [(usize, &[u8], &str); 14] = [
        (0x438, &[0x53, 0xef], "begins as ext4 does"),
        (0, b"XFSB", "begins as xfs does"),
        (0x1_0040, b"_BHRfS_M", "begins as btrfs does"),
        (0, b"LUKS\xba\xbe", "begins as LUKS does"),
        (0, b"LABELONE", LVM),
        (512, b"LABELONE", LVM),
        (1024, b"LABELONE", LVM),
        (1536, b"LABELONE", LVM),
        (0, &[0xfc, 0x4e, 0x2b, 0xa9], RAID),
        (4096, &[0xfc, 0x4e, 0x2b, 0xa9], RAID),
        (4086, b"SWAPSPACE2", "begins as swap does"),
        (
            0,
            b"bluestore block device",
            "begins as Ceph's BlueStore does",
        ),
        (512, b"EFI PART", GPT),
        (4096, b"EFI PART", GPT),
    ];
    let first = FIRST
        .iter()
        .find(|(at, magic, _)| head.get(*at..at + magic.len()) == Some(*magic));
    // The copy of a GPT is in the last sector.
    let last = [512, 4096].iter().any(|sector| {
        tail.len()
            .checked_sub(*sector)
            .is_some_and(|at| tail[at..].starts_with(b"EFI PART"))
    });
    first
        .map(|(_, _, what)| *what)
        .or_else(|| last.then_some("ends as a GPT does"))
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
