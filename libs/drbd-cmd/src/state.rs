//! The words for states that DRBD uses, the same for all of its outputs. A word that we don't know is kept.

use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A word of another version.
            Other(String),
        }

        impl $name {
            /// The state that this word means.
            #[must_use]
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }

            /// DRBD's word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Who may write.
    Role {
        /// May be opened for writing.
        Primary = "Primary",
        /// Only receives.
        Secondary = "Secondary",
        /// Of a peer that is not connected.
        Unknown = "Unknown",
    }
}

words! {
    /// What a copy of the data is worth.
    DiskState {
        /// No lower device.
        Diskless = "Diskless",
        /// Metadata is being read.
        Attaching = "Attaching",
        /// On the way to diskless, waiting for I/O.
        Detaching = "Detaching",
        /// The lower device failed; soon diskless. A new generation must not begin in this state.
        Failed = "Failed",
        /// Comparing with the peer.
        Negotiating = "Negotiating",
        /// In the middle of a resync, or never written.
        Inconsistent = "Inconsistent",
        /// Whole but old.
        Outdated = "Outdated",
        /// Of a peer that is not connected.
        DUnknown = "DUnknown",
        /// Whole; whether it is current is not known without the peer.
        Consistent = "Consistent",
        /// Whole and current.
        UpToDate = "UpToDate",
    }
}

words! {
    /// The connection to the peer.
    ConnectionState {
        /// Not trying: never told to, told to stop, or refused the peer.
        StandAlone = "StandAlone",
        /// On the way to stand-alone.
        Disconnecting = "Disconnecting",
        /// Between two tries.
        Unconnected = "Unconnected",
        /// The peer did not answer.
        Timeout = "Timeout",
        /// The connection broke.
        BrokenPipe = "BrokenPipe",
        /// The network failed.
        NetworkFailure = "NetworkFailure",
        /// The peer sent nonsense.
        ProtocolError = "ProtocolError",
        /// The peer is closing.
        TearDown = "TearDown",
        /// Waiting for the peer.
        Connecting = "Connecting",
        /// There.
        Connected = "Connected",
    }
}

words! {
    /// What goes on over the connection for one volume.
    Replication {
        /// Nothing.
        Off = "Off",
        /// Writes are mirrored.
        Established = "Established",
        /// A full resync to the peer begins.
        StartingSyncS = "StartingSyncS",
        /// A full resync from the peer begins.
        StartingSyncT = "StartingSyncT",
        /// Bitmaps are exchanged; we are to be the source.
        WfBitMapS = "WFBitMapS",
        /// Bitmaps are exchanged; we are to be the target.
        WfBitMapT = "WFBitMapT",
        /// Waiting for an identifier from the peer.
        WfSyncUuid = "WFSyncUUID",
        /// The peer gets what it lacks from us.
        SyncSource = "SyncSource",
        /// We get what we lack from the peer.
        SyncTarget = "SyncTarget",
        /// A source that pauses.
        PausedSyncS = "PausedSyncS",
        /// A target that pauses.
        PausedSyncT = "PausedSyncT",
        /// Copies are compared; we began it.
        VerifyS = "VerifyS",
        /// Copies are compared; the peer began it.
        VerifyT = "VerifyT",
        /// Writes are only noted, not sent.
        Ahead = "Ahead",
        /// The peer only notes what it writes.
        Behind = "Behind",
    }
}

impl ConnectionState {
    /// 8.4's single word for both, as in `/proc/drbd`: `cs:`.
    pub(crate) fn from_cs(word: &str) -> (Self, Replication) {
        match (word, Replication::from_word(word)) {
            ("Connected", _) => (Self::Connected, Replication::Established),
            ("WFConnection" | "WFReportParams", _) => (Self::Connecting, Replication::Off),
            (_, Replication::Other(_)) => (Self::from_word(word), Replication::Off),
            (_, replication) => (Self::Connected, replication),
        }
    }
}
