//! What a simulation leaves to kube-scheduler, said in its answer.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// What is never looked at.
pub(crate) const NOT_CONSIDERED: [&str; 7] = [
    "CPU, memory and other resources of nodes",
    "affinity and anti-affinity between pods, topology spread, host ports",
    "preferred node affinity, and scores of the scheduler's own plugins: the node is the best one for the volumes",
    "what admission does: webhooks, quotas, policies",
    "preemption",
    "volumes of other drivers",
    "claims of classes with volumeBindingMode Immediate: they are placed before any pod, and reported as not bound yet",
];

/// Those of its fields, by path, that matter to the scheduler and are not looked at.
pub(crate) fn fields(spec: &PodSpec, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut set = |is: bool, field: &str| {
        if is {
            found.push(format!("{at}.{field}"));
        }
    };
    let affinity = spec.affinity.as_ref();
    let node = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = node.and_then(|node| {
        node.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    set(spec.node_name.is_some(), "nodeName");
    set(
        preferred.is_some_and(|terms| !terms.is_empty()),
        "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution",
    );
    set(
        affinity.is_some_and(|affinity| affinity.pod_affinity.is_some()),
        "affinity.podAffinity",
    );
    set(
        affinity.is_some_and(|affinity| affinity.pod_anti_affinity.is_some()),
        "affinity.podAntiAffinity",
    );
    set(
        is_some(spec.topology_spread_constraints.as_ref()),
        "topologySpreadConstraints",
    );
    set(is_some(spec.scheduling_gates.as_ref()), "schedulingGates");
    set(is_some(spec.resource_claims.as_ref()), "resourceClaims");
    let containers = || {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    };
    let requests = |container: &Container| {
        let resources = container.resources.as_ref();
        resources
            .is_some_and(|resources| resources.requests.is_some() || resources.limits.is_some())
    };
    let host_port = |container: &Container| {
        container
            .ports
            .iter()
            .flatten()
            .any(|port| port.host_port.is_some_and(|port| port > 0))
    };
    set(containers().any(requests), "containers[].resources");
    set(containers().any(host_port), "containers[].ports[].hostPort");
    found
}

fn is_some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}
