//! The lab: a real Kubernetes cluster on one machine, and the scenarios that run on it.

mod agent;
mod bench;
mod cache;
mod check;
mod cli;
mod command;
mod control_plane;
mod demo;
mod down;
mod faults;
mod guest;
mod host;
mod image;
mod install;
mod kit;
mod kubernetes;
mod lab;
mod net;
mod node;
mod pki;
mod process;
mod progress;
mod ready;
mod root_fs;
mod scenario;
mod shelf;
mod sim;
mod state;
mod synth;
mod template;
mod up;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
