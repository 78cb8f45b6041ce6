//! What users do, and the controllers of Kubernetes that follow: claims of ephemeral volumes, protection of claims, binding,
//! kubelet.

use hawser_runtime::index::Key;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use provisioner::decide::claimant::{claims_of, is_bound};

use crate::{
    objects::{Class, KUBELET, PVC_PROTECTION, SHOP, a_claim, a_pod, in_shop, uses},
    server::Server,
};

/// More pods are not created at a time.
const MOST_PODS: usize = 6;
const MOST_CLAIMS: usize = 9;

/// The smallest free name with this letter.
fn free_name(letter: char, taken: impl Fn(&str) -> bool, most: usize) -> Option<String> {
    let mut names = (0..most).map(|n| format!("{letter}{n}"));
    names.find(|name| !taken(name))
}

/// Creates a pod and the claims that it needs; `shape` says which. False if there are enough.
pub(crate) fn create_pod(server: &mut Server, shape: u16) -> bool {
    let taken = |name: &str| server.pods.objects.contains_key(&in_shop(name));
    let Some(name) = free_name('p', taken, MOST_PODS) else {
        return false;
    };
    let mut digits = Digits(shape);
    let kind = digits.next(12);
    let special = digits.next(8) == 0;
    let sizes: Vec<i64> = (0..3).map(|_| i64::from(1 + digits.next(6))).collect();
    let (mut claims, mut ephemeral) = (Vec::new(), Vec::new());
    let new = |class: Class, size: usize, server: &mut Server, source: Option<&str>| {
        new_claim(server, class, sizes[size], source)
    };
    match kind {
        0 | 1 => claims.extend([new(Class::One, 0, server, None)]),
        2 | 3 => {
            claims.extend([
                new(Class::One, 0, server, None),
                new(Class::One, 1, server, None),
            ]);
        }
        4 => claims.extend((0..3).map(|size| new(Class::One, size, server, None))),
        5 => {
            claims.push(some_claim(server, digits.next(9)));
            claims.push(new(Class::One, 0, server, None));
        }
        6 => {
            ephemeral.push("scratch".to_owned());
            claims.push(new(Class::One, 0, server, None));
        }
        7 => claims.extend([
            new(Class::Now, 0, server, None),
            new(Class::One, 1, server, None),
        ]),
        8 => claims.push(some_claim(server, digits.next(9))),
        9 => {
            if let Some(source) = some_claim(server, digits.next(9)) {
                claims.push(new(Class::One, 0, server, Some(&source)));
            }
            claims.push(new(Class::One, 1, server, None));
        }
        10 => claims.extend([
            new(Class::Two, 0, server, None),
            new(Class::One, 1, server, None),
        ]),
        _ => claims.extend([
            new(Class::Two, 0, server, None),
            new(Class::Fast, 1, server, None),
        ]),
    }
    let mut claims: Vec<String> = claims.into_iter().flatten().collect();
    claims.dedup();
    if claims.is_empty() && ephemeral.is_empty() {
        return false;
    }
    server
        .create(a_pod(&name, &claims, &ephemeral, special))
        .is_ok()
}

/// Numbers taken out of a number.
struct Digits(u16);

impl Digits {
    fn next(&mut self, base: u16) -> u16 {
        let digit = self.0 % base;
        // What is left is mixed, so that few bits make many different shapes.
        self.0 = (self.0 / base).wrapping_mul(31).wrapping_add(self.0 >> 3);
        digit
    }
}

fn new_claim(server: &mut Server, class: Class, gib: i64, source: Option<&str>) -> Option<String> {
    let taken = |name: &str| server.claims.objects.contains_key(&in_shop(name));
    let name = free_name('c', taken, MOST_CLAIMS)?;
    let created = server.create(a_claim(&name, class, gib, source, None));
    created.is_ok().then_some(name)
}

/// A claim that is there and belongs to no pod.
fn some_claim(server: &Server, pick: u16) -> Option<String> {
    let claims: Vec<String> = server
        .claims
        .objects
        .values()
        .filter(|c| c.owner_references().is_empty() && c.metadata.deletion_timestamp.is_none())
        .map(|c| c.name_any())
        .collect();
    pick_of(&claims, pick).cloned()
}

pub(crate) fn pick_of<T>(all: &[T], pick: u16) -> Option<&T> {
    let at = usize::from(pick).checked_rem(all.len())?;
    all.get(at)
}

pub(crate) fn delete_pod(server: &mut Server, pick: u16) -> bool {
    let pods: Vec<Key> = server.pods.objects.keys().cloned().collect();
    let Some(key) = pick_of(&pods, pick) else {
        return false;
    };
    server.delete::<Pod>(key);
    true
}

pub(crate) fn delete_claim(server: &mut Server, pick: u16) -> bool {
    let claims: Vec<Key> = server.claims.objects.keys().cloned().collect();
    let Some(key) = pick_of(&claims, pick) else {
        return false;
    };
    server.delete::<PersistentVolumeClaim>(key);
    true
}

/// One thing that a controller of Kubernetes has to do.
#[derive(Clone, Debug)]
pub(crate) enum Chore {
    /// The claim of an ephemeral volume.
    Ephemeral { pod: String, volume: String },
    /// A pod has ended.
    End(Key),
    /// A claim whose pod is gone.
    Collect(Key),
    /// A claim that nobody uses any more.
    Unprotect(Key),
    /// A claim gets its persistent volume.
    Bind(Key),
}

/// All that there is to do, in a fixed order.
pub(crate) fn chores(server: &Server) -> Vec<Chore> {
    let mut chores = Vec::new();
    let pods = || server.pods.objects.values();
    for pod in pods() {
        if pod.metadata.deletion_timestamp.is_some() {
            chores.push(Chore::End(in_shop(&pod.name_any())));
            continue;
        }
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        for volume in volumes.filter(|v| v.ephemeral.is_some()) {
            let claim = format!("{}-{}", pod.name_any(), volume.name);
            if !server.claims.objects.contains_key(&in_shop(&claim)) {
                chores.push(Chore::Ephemeral {
                    pod: pod.name_any(),
                    volume: volume.name.clone(),
                });
            }
        }
    }
    for (key, claim) in &server.claims.objects {
        let owner = claim.owner_references().first();
        let lives = |uid: &String| pods().any(|pod| pod.metadata.uid.as_ref() == Some(uid));
        let leaving = claim.metadata.deletion_timestamp.is_some();
        if !leaving && owner.is_some_and(|owner| !lives(&owner.uid)) {
            chores.push(Chore::Collect(key.clone()));
        }
        if leaving && !pods().any(|pod| uses(pod, &claim.name_any())) {
            chores.push(Chore::Unprotect(key.clone()));
        }
    }
    for (key, persistent) in &server.persistent.objects {
        if bound_claim(server, persistent).is_some_and(|claim| !is_bound(&claim)) {
            chores.push(Chore::Bind(key.clone()));
        }
    }
    chores
}

/// The claim that a persistent volume was made for, if it is still there.
pub(crate) fn bound_claim(
    server: &Server,
    persistent: &PersistentVolume,
) -> Option<std::sync::Arc<PersistentVolumeClaim>> {
    let wanted = persistent.spec.as_ref()?.claim_ref.as_ref()?;
    let claim = server.get::<PersistentVolumeClaim>(&in_shop(wanted.name.as_deref()?))?;
    (claim.metadata.uid == wanted.uid).then_some(claim)
}

pub(crate) fn perform(server: &mut Server, chore: &Chore) {
    match chore {
        Chore::Ephemeral { pod, volume } => {
            let Some(owner) = server.get::<Pod>(&in_shop(pod)) else {
                return;
            };
            let (uid, gib) = (owner.uid().unwrap_or_default(), 2);
            let name = format!("{pod}-{volume}");
            let claim = a_claim(&name, Class::One, gib, None, Some((pod, &uid)));
            let created = server.create(claim);
            created.expect("the claim was not there");
        }
        Chore::End(key) => {
            server.edit::<Pod>(key, |pod| pod.finalizers_mut().retain(|f| f != KUBELET));
        }
        Chore::Collect(key) => server.delete::<PersistentVolumeClaim>(key),
        Chore::Unprotect(key) => {
            server.edit::<PersistentVolumeClaim>(key, |claim| {
                claim.finalizers_mut().retain(|f| f != PVC_PROTECTION);
            });
        }
        Chore::Bind(key) => {
            let Some(persistent) = server.get::<PersistentVolume>(key) else {
                return;
            };
            if let Some(claim) = bound_claim(server, &persistent) {
                server.edit::<PersistentVolumeClaim>(&in_shop(&claim.name_any()), |claim| {
                    let spec = claim.spec.get_or_insert_default();
                    spec.volume_name = Some(persistent.name_any());
                });
            }
        }
    }
}

/// Whether any claim of the pod does not exist, or is on its way out: then nobody can say when it will run.
pub(crate) fn lacks_claims(server: &Server, pod: &Pod) -> bool {
    claims_of(pod).any(|name| {
        let claim = server.get::<PersistentVolumeClaim>(&Key::namespaced(SHOP, name));
        claim.is_none_or(|c| c.metadata.deletion_timestamp.is_some())
    })
}
