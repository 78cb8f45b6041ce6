//! HTTPS certificates: the one crypto provider, and server configurations that follow their files.
//!
//! Files are compared by content on a timer: kubelet swaps a symlink above them, which watches on the files never see.
//! A broken new certificate is logged and the old one stays in use.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{error::Category, shutdown::Shutdown, telemetry::chain};

/// kubelet brings a changed Secret into the pod within about a minute; once more is enough.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Makes aws-lc-rs the provider of all TLS in this process. First line of `main`; repeating it does nothing.
pub fn install_provider() {
    // Err means that one is installed already, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not PEM, or no certificate or no key in it.
    #[error("the {what} is not usable PEM")]
    Pem {
        /// `certificate` or `key`.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Key and certificate don't match, or are of a kind that we don't support.
    #[error("certificate and key can't be used together")]
    Unusable(#[source] rustls::Error),
}

impl TlsError {
    /// What kind of failure this is.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Read { .. } => Category::Unavailable,
            Self::Pem { .. } | Self::Unusable(_) => Category::Invalid,
        }
    }
}

/// A server configuration (HTTP/1.1, no client certificates) from a chain and a key in PEM.
pub fn server_config(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem {
            what: "certificate",
            source,
        })?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem {
        what: "key",
        source,
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .and_then(|builder| {
        builder
            .with_no_client_auth()
            .with_single_cert(certificates, key)
    })
    .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate in two files that may be replaced at any time.
#[derive(Debug)]
pub struct ReloadingCertificate {
    chain: PathBuf,
    key: PathBuf,
    current: (Vec<u8>, Vec<u8>),
    config: RustlsConfig,
}

impl ReloadingCertificate {
    /// Reads and checks both files, before any socket is opened.
    pub async fn load(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let (chain, key) = (chain.into(), key.into());
        let current = (read(&chain).await?, read(&key).await?);
        let config = RustlsConfig::from_config(server_config(&current.0, &current.1)?);
        Ok(Self {
            chain,
            key,
            current,
            config,
        })
    }

    /// For `axum_server::bind_rustls`; follows the files for as long as [`ReloadingCertificate::follow`] runs.
    #[must_use]
    pub fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Starts comparing the files with what is in use, every `interval` until shutdown.
    pub fn follow(mut self, interval: Duration, shutdown: &Shutdown) {
        let token = shutdown.token();
        shutdown.spawn("certificate reload", async move {
            let mut ticks = tokio::time::interval(interval);
            while token.run_until_cancelled(ticks.tick()).await.is_some() {
                match self.reload().await {
                    Ok(false) => {}
                    Ok(true) => tracing::info!(file = %self.chain.display(), "new certificate in use"),
                    Err(error) => tracing::warn!(error = %chain(&error), "certificate not reloaded, the old one stays in use"),
                }
            }
        });
    }

    /// Compares once; says whether another certificate is in use now.
    ///
    /// A pair that is half written doesn't match and is an error; the next call tries again.
    pub async fn reload(&mut self) -> Result<bool, TlsError> {
        let found = (read(&self.chain).await?, read(&self.key).await?);
        if found == self.current {
            return Ok(false);
        }
        self.config
            .reload_from_config(server_config(&found.0, &found.1)?);
        self.current = found;
        Ok(true)
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| TlsError::Read {
            path: path.clone(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    fn write_pair(folder: &Path, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
        fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    }

    /// As kubelet does: files are links into ..data, ..data is a link to a dated folder and is swapped by a rename.
    fn swap(mount: &Path, dated: &str) {
        let next = mount.join("..data_tmp");
        symlink(dated, &next).unwrap();
        fs::rename(next, mount.join("..data")).unwrap();
    }

    #[tokio::test]
    async fn a_swapped_symlink_is_seen_and_a_broken_pair_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path();
        write_pair(&mount.join("..1"), "first.test");
        swap(mount, "..1");
        for file in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{file}"), mount.join(file)).unwrap();
        }
        let mut certificate =
            ReloadingCertificate::load(mount.join("tls.crt"), mount.join("tls.key"))
                .await
                .unwrap();
        let config = certificate.config();
        let first = config.get_inner();
        assert!(!certificate.reload().await.unwrap());
        assert!(Arc::ptr_eq(&first, &config.get_inner()));

        write_pair(&mount.join("..2"), "second.test");
        swap(mount, "..2");
        assert!(certificate.reload().await.unwrap());
        let second = config.get_inner();
        assert!(!Arc::ptr_eq(&first, &second));

        write_pair(&mount.join("..3"), "third.test");
        fs::copy(mount.join("..2/tls.key"), mount.join("..3/tls.key")).unwrap();
        swap(mount, "..3");
        assert!(matches!(
            certificate.reload().await,
            Err(TlsError::Unusable(_))
        ));
        assert!(Arc::ptr_eq(&second, &config.get_inner()));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(matches!(
            server_config(b"", b"nonsense"),
            Err(TlsError::Pem { what: "key", .. })
        ));
    }
}
