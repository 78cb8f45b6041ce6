//! Gives pods the locality of their volumes at admission.

fn main() {}
