//! What the Secret holds, and what can be read off it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Keys of the Secret.
const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const BUNDLE: &str = "ca-bundle.crt";
const CERTIFICATE: &str = "tls.crt";
const CERTIFICATE_KEY: &str = "tls.key";

/// All that is kept, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The authority that signs now.
    pub authority: String,
    /// Its key.
    pub authority_key: String,
    /// What the API server trusts: the authority that signs now and those before it that have not expired.
    pub bundle: String,
    /// What is served.
    pub certificate: String,
    /// Its key.
    pub certificate_key: String,
}

impl std::fmt::Debug for Material {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("bundle", &self.bundle)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// Reads a Secret; `None` if a part is missing or no text. What another program left there counts as nothing.
    pub(crate) fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let part = |key: &str| {
            String::from_utf8(data.get(key)?.0.clone())
                .ok()
                .filter(|text| !text.is_empty())
        };
        Some(Self {
            authority: part(AUTHORITY)?,
            authority_key: part(AUTHORITY_KEY)?,
            bundle: part(BUNDLE)?,
            certificate: part(CERTIFICATE)?,
            certificate_key: part(CERTIFICATE_KEY)?,
        })
    }

    /// The content of the Secret.
    pub(crate) fn write(&self) -> BTreeMap<String, ByteString> {
        [
            (AUTHORITY, &self.authority),
            (AUTHORITY_KEY, &self.authority_key),
            (BUNDLE, &self.bundle),
            (CERTIFICATE, &self.certificate),
            (CERTIFICATE_KEY, &self.certificate_key),
        ]
        .into_iter()
        .map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())))
        .collect()
    }

    /// Whether an API server that trusts the bundle accepts the certificate at this time under each of the names.
    pub(crate) fn is_trusted(&self, names: &[String], now: Timestamp) -> bool {
        verify(&self.bundle, &self.certificate, names, now).is_some()
    }
}

/// The check that a client makes: chain, validity, name.
fn verify(bundle: &str, certificate: &str, names: &[String], now: Timestamp) -> Option<()> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(bundle) {
        roots.add(authority).ok()?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()?;
    let chain = certificates(certificate);
    let (leaf, between) = chain.split_first()?;
    let seconds = u64::try_from(now.as_second()).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    for name in names {
        let name = ServerName::try_from(name.clone()).ok()?;
        verifier
            .verify_server_cert(leaf, between, &name, &[], now)
            .ok()?;
    }
    Some(())
}

/// All readable certificates of a PEM text.
pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .collect()
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Validity {
    /// Of the first certificate of a PEM text; `None` if there is none.
    pub(crate) fn of(pem: &str) -> Option<Self> {
        Self::of_der(certificates(pem).first()?)
    }

    pub(crate) fn of_der(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self {
            from: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            to: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    /// Whether it is used at this time and not due yet: two thirds of its life have not passed.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        let life = self.to.duration_since(self.from);
        self.from <= now && now.duration_since(self.from) < life * 2 / 3
    }

    /// Whether it has not expired.
    pub(crate) fn lasts(&self, now: Timestamp) -> bool {
        now < self.to
    }
}

/// Allowed difference between our clock and the API server's.
pub(crate) const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);
