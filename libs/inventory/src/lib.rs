//! Folds watched cluster objects into the snapshot that placement decides on.
