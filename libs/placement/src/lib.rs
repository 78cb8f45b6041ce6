//! Which node and pool can hold which volumes, how good each is, and why not: pure, no I/O, no clock.
