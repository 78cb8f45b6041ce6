//! The control plane: etcd, the API server, controller manager, scheduler, kube-proxy and DNS, as processes in the lab's network namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::command;
use crate::net::{self, Net};
use crate::pki::Pki;
use crate::process::Process;

/// What the processes need to know.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlane {
    pub(crate) programs: PathBuf,
    /// The lab's folder.
    pub(crate) lab: PathBuf,
    pub(crate) net: Net,
}

/// The processes, in the order in which they start; those of [`AFTER_API`] want an API server that answers, those of [`AFTER_NODES`] nodes with addresses
/// (kube-proxy ends when its node's addresses change).
pub(crate) const BEFORE_API: [&str; 2] = ["etcd", "kube-apiserver"];
pub(crate) const AFTER_API: [&str; 3] = ["kube-controller-manager", "kube-scheduler", "coredns"];
pub(crate) const AFTER_NODES: [&str; 1] = ["kube-proxy"];

impl ControlPlane {
    /// Starts one of them.
    pub(crate) fn start(&self, name: &str) -> Result<Process> {
        self.prepare(name)?;
        let mut command = self.command(name);
        let log = self.lab.join("logs").join(format!("{name}.log"));
        self.net.inside(|| Process::start(name, &mut command, &log))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = command(self.programs.join(name));
        command.args(self.arguments(name)).current_dir(&self.lab);
        command
    }

    /// Files that a process reads.
    fn prepare(&self, name: &str) -> Result<()> {
        let kubeconfig = Pki::of(&self.lab).kubeconfig();
        let (file, text) = match name {
            "kube-proxy" => ("kube-proxy.yaml", kube_proxy(&kubeconfig)),
            "coredns" => ("Corefile", corefile(&kubeconfig)),
            _ => return Ok(()),
        };
        std::fs::write(self.lab.join(file), text).with_context(|| format!("writing {file}"))
    }

    fn arguments(&self, name: &str) -> Vec<String> {
        let pki = Pki::of(&self.lab);
        let file = |name: &str| pki.file(name).display().to_string();
        let kubeconfig = format!("--kubeconfig={}", pki.kubeconfig().display());
        let lab = |name: &str| self.lab.join(name).display().to_string();
        match name {
            "etcd" => vec![
                format!("--data-dir={}", lab("etcd")),
                // A lab's cluster need not survive this machine's own power cut.
                "--unsafe-no-fsync".to_owned(),
                "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
                "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
                "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            ],
            "kube-apiserver" => api_server(&file),
            "kube-controller-manager" => vec![
                kubeconfig,
                format!("--service-account-private-key-file={}", file("sa.key")),
                format!("--root-ca-file={}", file("ca.crt")),
                format!("--cluster-signing-cert-file={}", file("ca.crt")),
                format!("--cluster-signing-key-file={}", file("ca.key")),
                "--use-service-account-credentials".to_owned(),
                "--leader-elect=false".to_owned(),
            ],
            "kube-scheduler" => vec![kubeconfig, "--leader-elect=false".to_owned()],
            "kube-proxy" => vec![format!("--config={}", lab("kube-proxy.yaml"))],
            "coredns" => vec!["-conf".to_owned(), lab("Corefile")],
            _ => Vec::new(),
        }
    }
}

fn api_server(file: &impl Fn(&str) -> String) -> Vec<String> {
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        // Pods find it at its service address without any service proxy.
        "--secure-port=443".to_owned(),
        format!("--advertise-address={}", net::API),
        format!("--service-cluster-ip-range={}", net::SERVICES),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        // Webhooks are dialed at their pods' addresses, not by a service proxy.
        "--enable-aggregator-routing=true".to_owned(),
        format!("--requestheader-client-ca-file={}", file("ca.crt")),
        "--requestheader-allowed-names=front-proxy".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("admin.crt")),
        format!("--kubelet-client-key={}", file("admin.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--event-ttl=24h".to_owned(),
    ]
}

/// One kube-proxy serves all nodes: their kernel has no address translation, and their default route leads here. It masquerades all, so that
/// replies come back through it.
fn kube_proxy(kubeconfig: &Path) -> String {
    serde_json::json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": { "kubeconfig": kubeconfig },
        "conntrack": { "maxPerCore": 0 },
        "nftables": { "masqueradeAll": true },
        "hostnameOverride": "n1",
        "bindAddress": net::API,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    })
    .to_string()
}

fn corefile(kubeconfig: &Path) -> String {
    format!(
        ".:53 {{\n  bind {}\n  errors\n  cache 5\n  kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {}\n    pods insecure\n  }}\n}}\n",
        net::DNS,
        kubeconfig.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_control_plane() -> ControlPlane {
        ControlPlane {
            programs: "/programs".into(),
            lab: "/labs/a".into(),
            net: Net::of("a"),
        }
    }

    #[test]
    fn the_api_server_reads_the_labs_own_files() {
        let arguments = a_control_plane().arguments("kube-apiserver");
        assert!(arguments.contains(&"--tls-cert-file=/labs/a/pki/apiserver.crt".to_owned()));
        assert!(arguments.contains(&"--advertise-address=10.77.0.1".to_owned()));
    }

    #[test]
    fn every_process_has_arguments() {
        for name in BEFORE_API.iter().chain(&AFTER_API).chain(&AFTER_NODES) {
            assert!(!a_control_plane().arguments(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn the_dns_server_listens_on_the_address_that_kubelets_hand_out() {
        let text = corefile(Path::new("/k"));
        assert!(text.contains("bind 10.96.0.10\n"), "{text}");
        assert!(include_str!("guest/kubelet.yaml").contains("clusterDNS: [10.96.0.10]"));
    }
}
