//! How names become JSON. (`Arc<str>` is serialisable only with a feature of serde that every other crate would have to be
//! built with, too.)

use serde::Serializer;

use crate::cluster::Name;

pub(crate) fn name<S: Serializer>(name: &Name, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(name)
}

pub(crate) fn names<S: Serializer>(names: &[Name], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(names.iter().map(|name| &**name))
}
