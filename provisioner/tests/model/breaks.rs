//! Faults that are built in on purpose, each by the adapter between the model and the product's code, to show that the model
//! finds them.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// The provisioner does not see reservations.
    OthersReservations,
    /// It decides for each claim by itself.
    NotJoint,
    /// Reservations are never looked at again.
    KeeperSleeps,
    /// The extender does not see reservations.
    ExtenderBlind,
    /// All provisioners share one epoch: nothing keeps a former leader's late writes apart.
    NoEpochs,
    /// Writes are not made for a version of the object.
    NoVersions,
    /// Writes whose answers were lost are forgotten.
    LostAnswersForgotten,
    /// The node's daemon does not ask whether a copy's volume wants it.
    CopiesUnasked,
    /// A volume's last step does not look for copies that the index does not know.
    NoLook,
    /// The extender does not count what was chosen for other pods and is not reserved yet.
    ChoicesForgotten,
}
