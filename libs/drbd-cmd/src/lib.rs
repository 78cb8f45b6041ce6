//! Typed driver of drbdsetup and drbdmeta.
