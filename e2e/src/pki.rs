//! A lab's certificates and kubeconfigs: a certificate authority of its own, made anew at each `up`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use crate::net;

/// Where the files of the control plane lie.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    pub(crate) dir: PathBuf,
}

impl Pki {
    pub(crate) fn of(lab: &Path) -> Self {
        Self {
            dir: lab.join("pki"),
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The cluster administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("admin.kubeconfig")
    }
}

/// Makes everything: the control plane's files in `pki`, and in `guest` (which the nodes see as /lab) those of each node.
pub(crate) fn create(pki: &Pki, guest: &Path, nodes: u8) -> Result<()> {
    let guest_pki = guest.join("pki");
    std::fs::create_dir_all(&pki.dir)?;
    std::fs::create_dir_all(&guest_pki)?;
    let ca = authority()?;
    write(&pki.file("ca.crt"), &ca.pem())?;
    write(&guest_pki.join("ca.crt"), &ca.pem())?;
    write(&pki.file("ca.key"), &ca.key().serialize_pem())?;

    let server = Subject {
        name: "kube-apiserver",
        groups: &[],
        addresses: &[net::API_SERVICE, net::API, Ipv4Addr::LOCALHOST],
        names: &[
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ],
    };
    issue(&ca, &server)?.save(&pki.dir, "apiserver")?;
    let admin = issue(&ca, &Subject::client("admin", &["system:masters"]))?;
    admin.save(&pki.dir, "admin")?;
    write(&pki.kubeconfig(), &admin.kubeconfig(&ca.pem()))?;

    let accounts = KeyPair::generate()?;
    write(&pki.file("sa.key"), &accounts.serialize_pem())?;
    write(&pki.file("sa.pub"), &accounts.public_key_pem())?;

    for index in 1..=nodes {
        let name = format!("n{index}");
        let subject = Subject {
            name: &format!("system:node:{name}"),
            groups: &["system:nodes"],
            addresses: &[net::node_ip(index)],
            names: &[&name],
        };
        let node = issue(&ca, &subject)?;
        node.save(&guest_pki, &name)?;
        write(
            &guest_pki.join(format!("{name}.kubeconfig")),
            &node.kubeconfig(&ca.pem()),
        )?;
    }
    Ok(())
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "lab authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("making the lab's authority")
}

/// Whom a certificate is for.
struct Subject<'a> {
    name: &'a str,
    groups: &'a [&'a str],
    addresses: &'a [Ipv4Addr],
    names: &'a [&'a str],
}

impl<'a> Subject<'a> {
    fn client(name: &'a str, groups: &'a [&'a str]) -> Self {
        Self {
            name,
            groups,
            addresses: &[],
            names: &[],
        }
    }
}

struct Issued {
    certificate: String,
    key: String,
}

fn issue(ca: &Authority, subject: &Subject<'_>) -> Result<Issued> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, subject.name);
    for group in subject.groups {
        params
            .distinguished_name
            .push(DnType::OrganizationName, *group);
    }
    for address in subject.addresses {
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(*address)));
    }
    for name in subject.names {
        params
            .subject_alt_names
            .push(SanType::DnsName((*name).try_into()?));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let key = KeyPair::generate()?;
    let certificate = params
        .signed_by(&key, ca)
        .with_context(|| format!("signing the certificate of {}", subject.name))?;
    Ok(Issued {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

impl Issued {
    fn save(&self, folder: &Path, name: &str) -> Result<()> {
        write(&folder.join(format!("{name}.crt")), &self.certificate)?;
        write(&folder.join(format!("{name}.key")), &self.key)
    }

    fn kubeconfig(&self, ca: &str) -> String {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        // JSON is YAML.
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": { "server": format!("https://{}", net::API), "certificate-authority-data": encode(ca) } }],
            "users": [{ "name": "user", "user": { "client-certificate-data": encode(&self.certificate), "client-key-data": encode(&self.key) } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "user" } }],
        })
        .to_string()
    }
}

/// Writes a file that only root may read: most of these are keys.
fn write(path: &Path, content: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("creating {}", path.display()))?;
    std::io::Write::write_all(&mut file, content.as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_gets_its_files_and_the_admin_key_stays_off_the_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::of(folder.path());
        let guest = folder.path().join("guest");
        create(&pki, &guest, 2).unwrap();
        for name in ["ca.crt", "apiserver.key", "admin.crt", "sa.pub", "sa.key"] {
            assert!(pki.file(name).exists(), "{name}");
        }
        for name in ["ca.crt", "n1.crt", "n2.key", "n2.kubeconfig"] {
            assert!(guest.join("pki").join(name).exists(), "{name}");
        }
        assert!(!guest.join("pki/ca.key").exists());
        let config = std::fs::read_to_string(pki.kubeconfig()).unwrap();
        assert!(config.contains("https://10.77.0.1"), "{config}");
    }
}
