//! Typed driver of lvm2 and dmsetup.
