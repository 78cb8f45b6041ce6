//! What is to be simulated, out of JSON or YAML: one document or several, a List, and what of each matters here.

use hawser_api::names::annotations;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, PodSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::considered;
use crate::pods::{PodFacts, PodName};
use crate::problem::{Problem, quoted};

/// What a manifest holds, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) workloads: Vec<Workload>,
    /// Claims that are to be made beside them.
    pub(crate) claims: Vec<PersistentVolumeClaim>,
    /// Objects that placing does not depend on.
    pub(crate) ignored: Vec<String>,
}

/// Pods of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    pub(crate) kind: &'static str,
    pub(crate) name: PodName,
    /// The pod, but for its name.
    pub(crate) pod: PodFacts,
    pub(crate) replicas: i32,
    /// Of a StatefulSet the number of its first pod.
    pub(crate) first: i32,
    /// For each pod of a StatefulSet one claim of each of these.
    pub(crate) templates: Vec<PersistentVolumeClaim>,
    /// For each pod one claim of each of these, named after the pod and this volume.
    pub(crate) ephemeral: Vec<(String, PersistentVolumeClaim)>,
    /// A pod is made only once the one before it runs.
    pub(crate) ordered: bool,
    /// Fields that are set and that matter to the scheduler, but not here.
    pub(crate) not_considered: Vec<String>,
}

impl Workload {
    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// The name of a pod by its place, from 0.
    pub(crate) fn pod_name(&self, place: i32) -> String {
        match self.kind {
            "Pod" => self.name.name.clone(),
            "StatefulSet" => format!("{}-{}", self.name.name, self.first.saturating_add(place)),
            _ => format!("{}-simulated-{place}", self.name.name),
        }
    }
}

/// Reads the manifest. `namespace`: for objects that name none.
pub(crate) fn parse(body: &[u8], namespace: &str) -> Result<Manifest, Problem> {
    let mut manifest = Manifest::default();
    for (i, document) in documents(body)?.into_iter().enumerate() {
        let kind = document["kind"].as_str();
        let list = kind.is_some_and(|kind| kind.ends_with("List"));
        let Some(items) = document.get("items").filter(|_| list) else {
            manifest.take(&document, &format!("document {}", i + 1), namespace)?;
            continue;
        };
        let Some(items) = items.as_array() else {
            let value = quoted(Some(&items.to_string()));
            let expected = "an array of objects is needed";
            return Err(Problem::field("List", "items", value, expected));
        };
        for (i, item) in items.iter().enumerate() {
            manifest.take(item, &format!("item {i} of the List"), namespace)?;
        }
    }
    if manifest.workloads.is_empty() {
        let found = match manifest.ignored.as_slice() {
            [] => "missing".to_owned(),
            [first, ..] => quoted(first.split_whitespace().nth(1)),
        };
        let expected = "a Pod, StatefulSet or Deployment is needed";
        return Err(Problem::field("manifest", "kind", found, expected));
    }
    Ok(manifest)
}

fn documents(body: &[u8]) -> Result<Vec<Value>, Problem> {
    let syntax = |why: String| Problem::Syntax { why };
    let text = std::str::from_utf8(body)
        .map_err(|error| syntax(format!("it is not UTF-8 text: {error}")))?;
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('{') {
        let value = serde_json::from_str(text)
            .map_err(|error| syntax(format!("it is not JSON: {error}")))?;
        return Ok(vec![value]);
    }
    // A manifest has some thousand nodes; what is larger, or grows by references to itself, is not read to its end.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 100_000,
            max_nodes: 50_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 50_000,
            max_documents: 200,
            max_depth: 64,
        },
        with_snippet: false,
    };
    let all: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| syntax(format!("it is not YAML: {error}")))?;
    Ok(all.into_iter().filter(|value| !value.is_null()).collect())
}

impl Manifest {
    fn take(&mut self, value: &Value, at: &str, namespace: &str) -> Result<(), Problem> {
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        for field in ["apiVersion", "kind"] {
            if text(field).is_empty() {
                let found = value.get(field).filter(|found| !found.is_null());
                let shown = quoted(found.map(ToString::to_string).as_deref());
                let expected = "an object of Kubernetes has one, such as apiVersion v1, kind Pod";
                return Err(Problem::field(at, field, shown, expected));
            }
        }
        let name = value["metadata"]["name"]
            .as_str()
            .unwrap_or("(without a name)");
        let shown = format!("{kind} {name}");
        let right = |wanted: &str| {
            let expected = format!("kind {kind} is read as {wanted}");
            let wrong = || Problem::field(&shown, "apiVersion", quoted(Some(version)), expected);
            (version == wanted).then_some(()).ok_or_else(wrong)
        };
        match kind {
            "Pod" => {
                right("v1")?;
                self.workloads
                    .push(of_pod(decode(value, &shown)?, namespace)?);
            }
            "StatefulSet" => {
                right("apps/v1")?;
                self.workloads
                    .push(of_stateful_set(decode(value, &shown)?, namespace)?);
            }
            "Deployment" => {
                right("apps/v1")?;
                self.workloads
                    .push(of_deployment(decode(value, &shown)?, namespace)?);
            }
            "PersistentVolumeClaim" => {
                right("v1")?;
                let claim: PersistentVolumeClaim = decode(value, &shown)?;
                let name = named("PersistentVolumeClaim", &claim.metadata, namespace)?;
                self.claims.push(a_claim(name, claim.metadata, claim.spec));
            }
            _ => self.ignored.push(format!("{version} {shown}")),
        }
        Ok(())
    }
}

fn decode<K: DeserializeOwned>(value: &Value, object: &str) -> Result<K, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        use serde_path_to_error::Segment;
        let mut found = Some(value);
        for segment in error.path() {
            found = found.and_then(|value| match segment {
                Segment::Seq { index } => value.get(*index),
                Segment::Map { key } => value.get(key.as_str()),
                Segment::Enum { .. } | Segment::Unknown => None,
            });
        }
        let shown = found.map_or_else(
            || "not understood".to_owned(),
            |value| match value.as_str() {
                Some(text) => quoted(Some(text)),
                None => cut(&value.to_string()),
            },
        );
        Problem::field(
            object,
            error.path().to_string(),
            shown,
            error.inner().to_string(),
        )
    })
}

/// As `quoted`, without the quotes.
fn cut(text: &str) -> String {
    quoted(Some(text)).trim_matches('"').replace("\\\"", "\"")
}

/// Checks the name as far as names of claims and nodes are made of it.
fn named(kind: &'static str, meta: &ObjectMeta, namespace: &str) -> Result<PodName, Problem> {
    let namespace = meta
        .namespace
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or(namespace);
    let generated = meta
        .generate_name
        .as_ref()
        .map(|prefix| format!("{prefix}simulated"));
    let name = meta
        .name
        .clone()
        .filter(|name| !name.is_empty())
        .or(generated);
    for (field, value) in [
        ("metadata.namespace", Some(namespace)),
        ("metadata.name", name.as_deref()),
    ] {
        check_name(kind, field, value)?;
    }
    Ok(PodName {
        namespace: namespace.to_owned(),
        name: name.unwrap_or_default(),
    })
}

fn check_name(object: &str, field: &str, value: Option<&str>) -> Result<(), Problem> {
    if value.is_some_and(is_name) {
        return Ok(());
    }
    let expected = "a name has 1 to 253 lower case letters, digits, - and .";
    Err(Problem::field(object, field, quoted(value), expected))
}

pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    (1..=253).contains(&name.len()) && name.chars().all(allowed)
}

fn of_pod(pod: Pod, namespace: &str) -> Result<Workload, Problem> {
    let name = named("Pod", &pod.metadata, namespace)?;
    let uid = pod.metadata.uid.clone();
    let mut workload = workload("Pod", name, "spec", pod.spec.unwrap_or_default(), &[])?;
    workload.pod.uid = uid;
    Ok(workload)
}

fn of_stateful_set(set: StatefulSet, namespace: &str) -> Result<Workload, Problem> {
    let name = named("StatefulSet", &set.metadata, namespace)?;
    let spec = set.spec.unwrap_or_default();
    let mut templates = Vec::new();
    for (i, template) in spec
        .volume_claim_templates
        .into_iter()
        .flatten()
        .enumerate()
    {
        let field = format!("spec.volumeClaimTemplates[{i}].metadata.name");
        check_name(
            &format!("StatefulSet {name}"),
            &field,
            template.metadata.name.as_deref(),
        )?;
        let claim = PodName {
            namespace: name.namespace.clone(),
            name: template.metadata.name.clone().unwrap_or_default(),
        };
        templates.push(a_claim(claim, template.metadata, template.spec));
    }
    let names: Vec<&str> = templates
        .iter()
        .filter_map(|one| one.metadata.name.as_deref())
        .collect();
    let pod = spec.template.spec.unwrap_or_default();
    let mut workload = workload("StatefulSet", name, "spec.template.spec", pod, &names)?;
    workload.replicas = spec.replicas.unwrap_or(1);
    workload.first = spec
        .ordinals
        .and_then(|ordinals| ordinals.start)
        .unwrap_or(0);
    workload.ordered = spec.pod_management_policy.as_deref() != Some("Parallel");
    workload.templates = templates;
    Ok(workload)
}

fn of_deployment(deployment: Deployment, namespace: &str) -> Result<Workload, Problem> {
    let name = named("Deployment", &deployment.metadata, namespace)?;
    let spec = deployment.spec.unwrap_or_default();
    let pod = spec.template.spec.unwrap_or_default();
    let mut workload = workload("Deployment", name, "spec.template.spec", pod, &[])?;
    workload.replicas = spec.replicas.unwrap_or(1);
    Ok(workload)
}

/// `replaced`: names of volumes that claims of the templates take the place of, as a StatefulSet has it.
fn workload(
    kind: &'static str,
    name: PodName,
    at: &str,
    mut spec: PodSpec,
    replaced: &[&str],
) -> Result<Workload, Problem> {
    let not_considered = considered::fields(&spec, at);
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(|volume| !replaced.contains(&volume.name.as_str()));
    }
    let mut ephemeral = Vec::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        ephemeral.extend(of_ephemeral(
            volume,
            &name,
            &format!("{at}.volumes[{i}].name"),
        )?);
    }
    let mut pod = Pod {
        spec: Some(spec),
        ..Pod::default()
    };
    pod.metadata.namespace = Some(name.namespace.clone());
    pod.metadata.name = Some(name.name.clone());
    let pod = PodFacts::of(pod).ok_or_else(|| Problem::Broken {
        why: format!("{kind} {name} has lost its name"),
    })?;
    Ok(Workload {
        kind,
        name,
        pod,
        replicas: 1,
        first: 0,
        templates: Vec::new(),
        ephemeral,
        ordered: false,
        not_considered,
    })
}

fn of_ephemeral(
    volume: &Volume,
    pod: &PodName,
    field: &str,
) -> Result<Option<(String, PersistentVolumeClaim)>, Problem> {
    // A volume with a claim is that, whatever else it says.
    let source = volume
        .ephemeral
        .as_ref()
        .filter(|_| volume.persistent_volume_claim.is_none());
    let Some(template) = source.and_then(|source| source.volume_claim_template.clone()) else {
        return Ok(None);
    };
    check_name(&format!("Pod {pod}"), field, Some(&volume.name))?;
    let claim = PodName {
        namespace: pod.namespace.clone(),
        name: volume.name.clone(),
    };
    let meta = template.metadata.unwrap_or_default();
    Ok(Some((
        volume.name.clone(),
        a_claim(claim, meta, Some(template.spec)),
    )))
}

/// Of a claim what placing depends on.
fn a_claim(
    name: PodName,
    meta: ObjectMeta,
    spec: Option<PersistentVolumeClaimSpec>,
) -> PersistentVolumeClaim {
    let read = [annotations::SKIP_AFFINITY, annotations::BETA_CLASS];
    let mut marks = meta.annotations.unwrap_or_default();
    marks.retain(|key, _| read.contains(&key.as_str()));
    let spec = spec.unwrap_or_default();
    let spec = PersistentVolumeClaimSpec {
        storage_class_name: spec.storage_class_name,
        resources: spec.resources,
        data_source: spec.data_source,
        data_source_ref: spec.data_source_ref,
        ..PersistentVolumeClaimSpec::default()
    };
    let metadata = ObjectMeta {
        namespace: Some(name.namespace),
        name: Some(name.name),
        annotations: Some(marks),
        ..ObjectMeta::default()
    };
    PersistentVolumeClaim {
        metadata,
        spec: Some(spec),
        status: None,
    }
}
