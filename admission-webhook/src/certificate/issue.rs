//! Making authorities and certificates. No I/O but for random numbers; the time comes in.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use thiserror::Error;

use crate::certificate::material::CLOCK_SKEW;

/// Long: its key signs only our own certificates, and every change has to reach the API server first.
pub(crate) const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Short: nothing but a restart or a renewal takes a lost key out of use.
pub(crate) const CERTIFICATE_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A certificate or key that could not be made or read back.
#[derive(Debug, Error)]
#[error("can't make the {what}")]
pub struct IssueError {
    what: &'static str,
    #[source]
    source: rcgen::Error,
}

fn failed(what: &'static str) -> impl FnOnce(rcgen::Error) -> IssueError {
    move |source| IssueError { what, source }
}

/// The names under which the API server and people reach the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    /// Of a Service in a namespace; the first one is what the API server asks for.
    #[must_use]
    pub fn of_service(service: &str, namespace: &str) -> Self {
        Self(vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            service.to_owned(),
        ])
    }

    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

/// A certificate and its key, PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A new authority, valid from now.
pub(crate) fn authority(now: Timestamp) -> Result<Pair, IssueError> {
    let key = KeyPair::generate().map_err(failed("authority's key"))?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    // Two authorities may be trusted at once and must not be taken for each other.
    params.distinguished_name.push(
        DnType::CommonName,
        format!("hawser admission authority {}", now.as_second()),
    );
    set_life(&mut params, now, AUTHORITY_LIFE);
    let certificate = params.self_signed(&key).map_err(failed("authority"))?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// A new certificate of the authority, valid from now.
pub(crate) fn certificate(
    authority: &Pair,
    names: &Names,
    now: Timestamp,
) -> Result<Pair, IssueError> {
    let authority_key =
        KeyPair::from_pem(&authority.key).map_err(failed("authority's key from the Secret"))?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, authority_key)
        .map_err(failed("authority from the Secret"))?;
    let key = KeyPair::generate().map_err(failed("certificate's key"))?;
    let mut params =
        CertificateParams::new(names.as_slice()).map_err(failed("certificate's names"))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params
        .distinguished_name
        .push(DnType::CommonName, "hawser admission webhook");
    set_life(&mut params, now, CERTIFICATE_LIFE);
    let certificate = params
        .signed_by(&key, &issuer)
        .map_err(failed("certificate"))?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn set_life(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds =
        |time: Timestamp| Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0));
    params.not_before = epoch + seconds(now - CLOCK_SKEW);
    params.not_after = epoch + seconds(now + life);
}
