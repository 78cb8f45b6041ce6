//! What can happen. A step that can't happen now is left out, so any part of a history is a history, which is what lets a failing
//! one be made small. The number in a step picks among what is there at that moment.

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A pod is created, with claims; the number is its shape.
    Pod(u16),
    DeletePod(u16),
    DeleteClaim(u16),
    /// A pool grows by a GiB.
    Grow(u16),
    /// A node's daemon falls silent, or comes back.
    Silence(u16),
    /// A node becomes unable to make volumes, or is mended.
    Break(u16),
    /// A node is lost for good with its disks, or a new one of its name joins.
    Lose(u16),
    /// A controller of Kubernetes does one thing.
    Chore(u16),
    /// The scheduler does the next thing for a pod.
    Schedule(u16),
    /// Another replica of scheduler and extender takes over.
    RestartScheduler,
    /// external-provisioner calls for a volume, or has one destroyed.
    Call(u16),
    /// A controller of the provisioner looks at an object.
    Work(u16),
    /// A task of a provisioner goes on until it waits.
    Poll(u16),
    /// A call to the API server is carried out and answered.
    Serve(u16),
    /// A call is refused.
    Refuse(u16),
    /// A call is carried out, its answer lost.
    LoseAnswer(u16),
    /// The caller gives up waiting, the call is still on its way.
    Delay(u16),
    /// A call on which nobody waits any more arrives.
    Arrive(u16),
    /// ... or never does.
    Vanish(u16),
    /// Somebody's watch tells some news.
    Hear(u16),
    /// All watches of somebody tell everything.
    Catch(u16),
    /// Somebody's watch breaks: the next news is a list.
    Relist(u16),
    /// Somebody's watch tells the last news again.
    HearAgain(u16),
    /// A node's daemon does one thing.
    Daemon(u16),
    /// A provisioner is killed.
    Kill(u16),
    /// The leader loses its leadership, and does not know yet what that means for its work.
    Depose,
    /// A provisioner starts to lead.
    Lead,
    /// A provisioner leads, and has heard and taken over everything.
    Ready,
    /// So many seconds pass.
    Wait(u16),
    /// Everything goes on as it should, for so many rounds.
    Run(u16),
    /// The leader alone goes on until it waits for others.
    RunLeader,
    /// Extender and provisioner are compared.
    Compare,
}

impl Step {
    /// For counting.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pod(_) => "pods created",
            Self::DeletePod(_) => "pods deleted",
            Self::DeleteClaim(_) => "claims deleted",
            Self::Grow(_) => "pools grown",
            Self::Silence(_) => "nodes silent or back",
            Self::Break(_) => "nodes broken or mended",
            Self::Lose(_) => "nodes lost or joined",
            Self::Chore(_) => "chores of Kubernetes",
            Self::Schedule(_) => "scheduling steps",
            Self::RestartScheduler => "schedulers restarted",
            Self::Call(_) => "CSI calls begun",
            Self::Work(_) => "controllers' looks",
            Self::Poll(_) => "tasks polled",
            Self::Serve(_) => "requests served",
            Self::Refuse(_) => "requests refused",
            Self::LoseAnswer(_) => "answers lost",
            Self::Delay(_) => "requests delayed",
            Self::Arrive(_) => "late arrivals",
            Self::Vanish(_) => "requests vanished",
            Self::Hear(_) => "news heard",
            Self::Catch(_) => "somebody up to date",
            Self::Relist(_) => "watches broken",
            Self::HearAgain(_) => "news heard twice",
            Self::Daemon(_) => "daemons' acts",
            Self::Kill(_) => "provisioners killed",
            Self::Depose => "leaders deposed",
            Self::Lead => "leaders started",
            Self::Ready => "leaders made ready",
            Self::Wait(_) => "waits",
            Self::Run(_) => "rounds",
            Self::RunLeader => "leader's rounds",
            Self::Compare => "comparisons",
        }
    }

    /// The same with another number, if it has one.
    pub(crate) fn with(self, pick: u16) -> Self {
        match self {
            Self::Pod(_) => Self::Pod(pick),
            Self::DeletePod(_) => Self::DeletePod(pick),
            Self::DeleteClaim(_) => Self::DeleteClaim(pick),
            Self::Grow(_) => Self::Grow(pick),
            Self::Silence(_) => Self::Silence(pick),
            Self::Break(_) => Self::Break(pick),
            Self::Lose(_) => Self::Lose(pick),
            Self::Chore(_) => Self::Chore(pick),
            Self::Schedule(_) => Self::Schedule(pick),
            Self::Call(_) => Self::Call(pick),
            Self::Work(_) => Self::Work(pick),
            Self::Poll(_) => Self::Poll(pick),
            Self::Serve(_) => Self::Serve(pick),
            Self::Refuse(_) => Self::Refuse(pick),
            Self::LoseAnswer(_) => Self::LoseAnswer(pick),
            Self::Delay(_) => Self::Delay(pick),
            Self::Arrive(_) => Self::Arrive(pick),
            Self::Vanish(_) => Self::Vanish(pick),
            Self::Hear(_) => Self::Hear(pick),
            Self::Catch(_) => Self::Catch(pick),
            Self::Relist(_) => Self::Relist(pick),
            Self::HearAgain(_) => Self::HearAgain(pick),
            Self::Daemon(_) => Self::Daemon(pick),
            Self::Kill(_) => Self::Kill(pick),
            Self::Wait(_) => Self::Wait(pick),
            Self::Run(_) => Self::Run(pick),
            Self::RestartScheduler
            | Self::Depose
            | Self::Lead
            | Self::Ready
            | Self::RunLeader
            | Self::Compare => self,
        }
    }

    /// Its number; 0 if it has none.
    pub(crate) fn pick(self) -> u16 {
        match self {
            Self::Pod(n)
            | Self::DeletePod(n)
            | Self::DeleteClaim(n)
            | Self::Grow(n)
            | Self::Silence(n)
            | Self::Break(n)
            | Self::Lose(n)
            | Self::Chore(n)
            | Self::Schedule(n)
            | Self::Call(n)
            | Self::Work(n)
            | Self::Poll(n)
            | Self::Serve(n)
            | Self::Refuse(n)
            | Self::LoseAnswer(n)
            | Self::Delay(n)
            | Self::Arrive(n)
            | Self::Vanish(n)
            | Self::Hear(n)
            | Self::Catch(n)
            | Self::Relist(n)
            | Self::HearAgain(n)
            | Self::Daemon(n)
            | Self::Kill(n)
            | Self::Wait(n)
            | Self::Run(n) => n,
            Self::RestartScheduler
            | Self::Depose
            | Self::Lead
            | Self::Ready
            | Self::RunLeader
            | Self::Compare => 0,
        }
    }
}
