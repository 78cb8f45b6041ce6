//! `drbdsetup show`: which devices and addresses a resource of 8.4 was made of, as configuration text.

use std::collections::BTreeMap;

/// What a resource is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownResource {
    /// Its name.
    pub name: String,
    /// Our address, such as `ipv4 10.0.0.1:7700`, once connected or connecting.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// Options of the connection that are not default.
    pub net: BTreeMap<String, String>,
    /// Its volumes.
    pub volumes: Vec<ShownVolume>,
}

/// What a volume is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownVolume {
    /// Number within the resource.
    pub volume: u32,
    /// `/dev/drbd<minor>`
    pub minor: Option<u32>,
    /// The lower device, if attached.
    pub disk: Option<String>,
    /// Where its metadata is: a device, or `internal`.
    pub meta_disk: Option<String>,
    /// Options of the disk that are not default.
    pub options: BTreeMap<String, String>,
}

/// Parses the output of `show`. `None` if braces don't match: it was cut off.
#[must_use]
pub fn parse_show(text: &str) -> Option<Vec<ShownResource>> {
    let mut found: Vec<ShownResource> = Vec::new();
    let mut open: Vec<Vec<String>> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    for token in tokens(text) {
        match token {
            Token::Word(word) => words.push(word),
            Token::Open => {
                begin(&mut found, &open, &words);
                open.push(std::mem::take(&mut words));
            }
            Token::Close => {
                open.pop()?;
                words.clear();
            }
            Token::End => {
                if let Some(resource) = found.last_mut() {
                    statement(resource, &open, &words);
                }
                words.clear();
            }
        }
    }
    (open.is_empty() && words.is_empty()).then_some(found)
}

/// A section opens.
fn begin(found: &mut Vec<ShownResource>, open: &[Vec<String>], head: &[String]) {
    match (path(open).as_slice(), head) {
        ([], [kind, name]) if kind == "resource" => {
            found.push(ShownResource {
                name: name.clone(),
                ..ShownResource::default()
            });
        }
        (["resource", "_this_host"], [kind, number]) if kind == "volume" => {
            if let (Ok(volume), Some(resource)) = (number.parse(), found.last_mut()) {
                resource.volumes.push(ShownVolume {
                    volume,
                    ..ShownVolume::default()
                });
            }
        }
        _ => {}
    }
}

/// A statement ends.
fn statement(resource: &mut ShownResource, open: &[Vec<String>], words: &[String]) {
    let Some((key, values)) = words.split_first() else {
        return;
    };
    let value = values.join(" ");
    match (path(open).as_slice(), key.as_str()) {
        (["resource", "_this_host"], "address") => resource.local = Some(value),
        (["resource", "_remote_host"], "address") => resource.peer = Some(value),
        (["resource", "net"], _) => drop(resource.net.insert(key.clone(), value)),
        (["resource", "_this_host", "volume", rest @ ..], _) => {
            let Some(volume) = resource.volumes.last_mut() else {
                return;
            };
            match (rest, key.as_str()) {
                ([], "device") => volume.minor = values.last().and_then(|minor| minor.parse().ok()),
                ([], "disk") => volume.disk = Some(value),
                ([], "meta-disk") => volume.meta_disk = Some(value),
                (["disk"], _) => drop(volume.options.insert(key.clone(), value)),
                _ => {}
            }
        }
        _ => {}
    }
}

/// The first words of the open sections.
fn path(open: &[Vec<String>]) -> Vec<&str> {
    open.iter()
        .map(|head| head.first().map_or("", String::as_str))
        .collect()
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// Words, quoted or not; `#` begins a comment.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' => found.push(Token::Open),
            '}' => found.push(Token::Close),
            ';' => found.push(Token::End),
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                let mut word = String::new();
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    // A backslash keeps the next character as it is.
                    word.extend(if c == '\\' { chars.next() } else { Some(c) });
                }
                found.push(Token::Word(word));
            }
            c if c.is_whitespace() => {}
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !"{};#\"".contains(*c))
                {
                    word.push(c);
                }
                found.push(Token::Word(word));
            }
        }
    }
    found
}
