//! Compiles the vendored `.proto` files with protox, so that no `protoc` is needed to build Hawser.
//!
//! Messages with fields that may carry secrets or users' parameters get a `Debug` that hides these fields:
//! what can't be printed can't be logged by mistake.
//!
//! CSI 1.13 removed the alpha `VolumeCondition` for the new volume health calls. Kubernetes up to 1.36 knows only the
//! former, so it is put back under its old numbers (which 1.13 keeps reserved): both generations are served.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, error, fs};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto,
};

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
    let mut descriptors = protox::compile(["csi.proto", "pluginregistration.proto"], ["proto"])?;

    for file in descriptors
        .file
        .iter_mut()
        .filter(|file| file.package() == "csi.v1")
    {
        restore_volume_condition(file)?;
    }

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

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("redacted.rs"), redacted)?;
    Ok(())
}

/// Adds `message VolumeCondition { bool abnormal = 1; string message = 2; }`, the fields of that type, and the
/// capabilities `VOLUME_CONDITION`, as CSI 1.12 had them.
fn restore_volume_condition(file: &mut FileDescriptorProto) -> Result<(), String> {
    const STATUS_MESSAGES: &[&[&str]] = &[
        &["NodeGetVolumeStatsResponse"],
        &["ListVolumesResponse", "VolumeStatus"],
        &["ControllerGetVolumeResponse", "VolumeStatus"],
    ];
    for path in STATUS_MESSAGES {
        let message = message_at(&mut file.message_type, path)?;
        message.reserved_range.clear();
        message.field.push(field(
            "volume_condition",
            2,
            Type::Message,
            Some(".csi.v1.VolumeCondition"),
        ));
    }
    for (message, number) in [
        ("NodeServiceCapability", 4),
        ("ControllerServiceCapability", 11),
    ] {
        let kinds = &mut enum_at(&mut file.message_type, &[message, "RPC"], "Type")?.value;
        kinds.push(EnumValueDescriptorProto {
            name: Some("VOLUME_CONDITION".to_owned()),
            number: Some(number),
            options: None,
        });
    }
    file.message_type.push(DescriptorProto {
        name: Some("VolumeCondition".to_owned()),
        field: vec![
            field("abnormal", 1, Type::Bool, None),
            field("message", 2, Type::String, None),
        ],
        ..Default::default()
    });
    Ok(())
}

fn field(name: &str, number: i32, kind: Type, type_name: Option<&str>) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        json_name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: type_name.map(str::to_owned),
        ..Default::default()
    }
}

fn message_at<'a>(
    messages: &'a mut [DescriptorProto],
    path: &[&str],
) -> Result<&'a mut DescriptorProto, String> {
    let (name, rest) = path.split_first().ok_or("empty path")?;
    let message = messages
        .iter_mut()
        .find(|m| m.name() == *name)
        .ok_or_else(|| format!("csi.proto has no message {name}"))?;
    if rest.is_empty() {
        Ok(message)
    } else {
        message_at(&mut message.nested_type, rest)
    }
}

fn enum_at<'a>(
    messages: &'a mut [DescriptorProto],
    path: &[&str],
    name: &str,
) -> Result<&'a mut EnumDescriptorProto, String> {
    message_at(messages, path)?
        .enum_type
        .iter_mut()
        .find(|e| e.name() == name)
        .ok_or_else(|| format!("csi.proto has no enum {name} in {path:?}"))
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
