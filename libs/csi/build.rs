//! Compiles the vendored `.proto` files with protox, so that no `protoc` is needed to build Hawser.
//!
//! Messages with fields that may carry secrets or users' parameters get a `Debug` that hides these fields:
//! what can't be printed can't be logged by mistake.
//!
//! CSI 1.13 removed the alpha `VolumeCondition` for the new volume health calls. Kubernetes up to 1.36 knows only the
//! former, so it is put back under its old numbers (which 1.13 keeps reserved): both generations are served.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error, fs};

/// Fields hidden in `Debug`, wherever they occur.
///
/// CSI marks `secrets` itself (`csi_secret`); parameters and contexts are added because they are copied from
/// what users wrote, and drivers of others have put credentials there.
const HIDDEN: &[&str] = &[
    "secrets",
    "parameters",
    "mutable_parameters",
    "volume_context",
    "publish_context",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let csi = with_volume_condition(&fs::read_to_string("proto/csi.proto")?)?;
    fs::write(out.join("csi.proto"), csi)?;
    let descriptors = protox::compile(
        ["csi.proto", "pluginregistration.proto"],
        [out.as_path(), Path::new("proto")],
    )?;

    let mut builder = tonic_prost_build::configure();
    let mut redacted = String::new();
    for file in descriptors
        .file
        .iter()
        .filter(|file| file.package() == "csi.v1")
    {
        for message in &file.message_type {
            if message
                .field
                .iter()
                .any(|field| HIDDEN.contains(&field.name()))
            {
                builder = builder.skip_debug([format!(".csi.v1.{}", message.name())]);
                write_debug(&mut redacted, message)?;
            }
        }
    }
    builder.compile_fds(descriptors)?;
    fs::write(out.join("redacted.rs"), redacted)?;
    Ok(())
}

/// The text of csi.proto with `VolumeCondition`, the fields of that type, and the capabilities `VOLUME_CONDITION`,
/// as CSI 1.12 had them.
fn with_volume_condition(text: &str) -> Result<String, String> {
    const CHANGES: &[(&str, usize, &str)] = &[
        ("reserved 2;", 3, "VolumeCondition volume_condition = 2;"),
        ("reserved 4;", 1, "VOLUME_CONDITION = 4;"),
        ("reserved 11;", 1, "VOLUME_CONDITION = 11;"),
    ];
    let mut text = text.to_owned();
    for (from, times, to) in CHANGES {
        if text.matches(from).count() != *times {
            return Err(format!(
                "csi.proto does not have {times} times `{from}`: adapt build.rs to this version"
            ));
        }
        text = text.replace(from, to);
    }
    text.push_str("\nmessage VolumeCondition {\n  bool abnormal = 1;\n  string message = 2;\n}\n");
    Ok(text)
}

/// Writes an `impl Debug` that shows every plain field but the hidden ones (members of a oneof are left out).
fn write_debug(out: &mut String, message: &prost_types::DescriptorProto) -> std::fmt::Result {
    writeln!(out, "impl ::core::fmt::Debug for {} {{", message.name())?;
    writeln!(
        out,
        "fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{"
    )?;
    writeln!(out, "f.debug_struct({:?})", message.name())?;
    for field in message
        .field
        .iter()
        .filter(|field| field.oneof_index.is_none())
    {
        let name = field.name();
        if HIDDEN.contains(&name) {
            writeln!(out, ".field({name:?}, &Hidden(self.{name}.len()))")?;
        } else {
            writeln!(out, ".field({name:?}, &self.{name})")?;
        }
    }
    writeln!(out, ".finish_non_exhaustive()\n}}\n}}")
}
