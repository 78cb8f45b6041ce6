//! Runs a program with a deadline, without a shell or standard input, and keeps argv and output.
