//! A real provisioner, called over its socket, in a cluster in memory: each call first, repeated, conflicting, concurrent, and
//! killed between any two steps.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::too_many_lines,
    clippy::doc_markdown,
    clippy::semicolon_if_nothing_returned,
    clippy::redundant_closure,
    clippy::redundant_closure_for_method_calls,
    clippy::manual_assert,
    clippy::unnecessary_wraps,
    clippy::format_push_string,
    reason = "all of this crate is tests, its helpers too: a surprise ends the test where it is seen"
)]

mod capacity;
mod crash;
mod create;
mod delete;
mod expand;
mod joint;
mod leader;
mod logs;
mod objects;
mod publish;
mod read;
mod support;
mod wake;
mod wrong;
