//! Whether a copy that is not made yet is wanted: asked of the API server itself before it is made.
//!
//! A provisioner that has ceased to lead may have a replica's creation on its way still, of a volume that has been given up
//! meanwhile, whose room another one has by now. The volume's own object can't be wrong about that: it is marked before its room
//! is given away, and named after its claim. So it is asked once, by a read that no cache answers.

use hawser_api::{LocalVolume, LocalVolumeReplica};
use kube::{Api, Client};

use super::plan::Desired;

/// Why the copy is not to be made; `None` if it is to be, or if that is no question any more.
pub(super) async fn objection(
    client: &Client,
    replica: &LocalVolumeReplica,
    desired: &Desired,
) -> Result<Option<String>, kube::Error> {
    if desired.delete || desired.was_made || desired.unsupported.is_some() {
        return Ok(None);
    }
    let api: Api<LocalVolume> = Api::all(client.clone());
    let volume = api.get_opt(&desired.volume).await?;
    let node = &replica.spec.node_name;
    Ok(against(volume.as_ref(), &desired.volume, node))
}

fn against(volume: Option<&LocalVolume>, name: &str, node: &str) -> Option<String> {
    match volume {
        None => Some(format!(
            "LocalVolume {name} does not exist: no copy is made for it"
        )),
        Some(volume) if volume.spec.delete => Some(format!(
            "LocalVolume {name} is being deleted: no copy is made for it"
        )),
        Some(volume) => {
            let wanted = volume.wanted_nodes();
            let elsewhere = !wanted.iter().any(|wanted| wanted == node);
            elsewhere.then(|| {
                format!(
                    "LocalVolume {name} wants its copies on {}, not on this node",
                    wanted.join(", ")
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::Accessibility;
    use hawser_runtime::testing::FakeApi;
    use serde_json::json;

    use super::*;

    const PATH: &str = "/apis/hwameistor.io/v1alpha1/localvolumes/pvc-1";

    fn a_volume(nodes: &[&str]) -> LocalVolume {
        let mut volume = LocalVolume::default();
        volume.spec.accessibility = Some(Accessibility::nodes(nodes.iter().copied()));
        volume
    }

    #[test]
    fn a_copy_is_made_where_its_volume_wants_it() {
        let here = a_volume(&["n1"]);
        assert_eq!(against(Some(&here), "v", "n1"), None);
        let elsewhere = against(Some(&a_volume(&["n2"])), "v", "n1").unwrap();
        assert!(elsewhere.contains("n2"), "{elsewhere}");
        let mut leaving = here;
        leaving.spec.delete = true;
        assert!(against(Some(&leaving), "v", "n1").is_some());
        assert!(against(None, "v", "n1").is_some());
    }

    #[tokio::test]
    async fn the_server_is_asked_only_before_a_copy_is_made() {
        let api = FakeApi::new();
        let mut replica = LocalVolumeReplica::default();
        replica.spec.node_name = "n1".into();
        let wish = Desired {
            volume: "pvc-1".into(),
            ..Desired::default()
        };
        let ask = async |wish: &Desired| objection(&api.client(), &replica, wish).await.unwrap();
        assert!(ask(&wish).await.unwrap().contains("does not exist"));
        let object = json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolume", "metadata": {"name": "pvc-1"},
            "spec": {"accessibility": {"nodes": ["n1"]}},
        });
        api.put(PATH, object);
        assert_eq!(ask(&wish).await, None);
        let before = api.calls().len();
        let made = Desired {
            was_made: true,
            ..wish.clone()
        };
        let leaving = Desired {
            delete: true,
            ..wish
        };
        assert_eq!((ask(&made).await, ask(&leaving).await), (None, None));
        assert_eq!(api.calls().len(), before);
    }
}
