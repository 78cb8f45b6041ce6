//! `StoragePolicy`: read once when it changes, then asked for each request. Pure but for `keep`, which writes the status.

mod book;
mod compile;
mod judge;
mod keep;
mod sum;

pub(crate) use book::{Book, Occasion};
pub(crate) use compile::{
    Asker, Policies, Policy, default_class, default_size, requiring_locality,
};
pub(crate) use judge::{Judgement, Nature, Violation, Wish, judge, limit};
pub(crate) use keep::{Keeper, keep};

#[cfg(test)]
pub(crate) use compile::tests;
