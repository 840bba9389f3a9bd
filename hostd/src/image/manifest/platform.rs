//! Platforms (OCI image-spec 1.1, image-index.md): which image of an index a host takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::descriptor::null_as_default;

/// In ARM's order: what runs code for one runs code for all before it.
const ARM_VARIANTS: [&str; 4] = ["v5", "v6", "v7", "v8"];
const ARM_DEFAULT_VARIANT: &str = "v7";

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default, deserialize_with = "null_as_default")]
    pub os: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub architecture: String,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A platform that a client asks for and that nobody can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no platform of the form os[/architecture[/variant]]")]
pub struct InvalidPlatform {
    text: String,
}

impl Platform {
    /// What machines run.
    pub fn host() -> Self {
        Self { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: String::new() }
    }

    /// In the words that indexes use: `x86_64` is `amd64`, `arm` alone is `arm/v7`, and a variant that says nothing is
    /// left out.
    pub fn normalized(&self) -> Self {
        let (architecture, variant) =
            (self.architecture.to_ascii_lowercase(), self.variant.to_ascii_lowercase());
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", _) => ("amd64", variant.as_str()),
            ("i386", _) => ("386", ""),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64", _) => ("arm64", variant.as_str()),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", ARM_DEFAULT_VARIANT),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            _ => self.os.to_ascii_lowercase(),
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// How well an image for `offered` serves who wants this platform: 0 is exactly, more is a lesser variant, `None`
    /// not at all.
    pub fn distance_to(&self, offered: &Self) -> Option<usize> {
        let (wanted, offered) = (self.normalized(), offered.normalized());
        if wanted == offered {
            return Some(0);
        }
        if wanted.os != offered.os || wanted.architecture != offered.architecture {
            return None;
        }
        let rank = |variant: &str| ARM_VARIANTS.iter().position(|known| *known == variant);
        match wanted.architecture.as_str() {
            "arm" => rank(&wanted.variant)?.checked_sub(rank(&offered.variant)?),
            // amd64's variants are levels, and the plain one is the lowest.
            "amd64" => amd64_level(&wanted.variant)?.checked_sub(amd64_level(&offered.variant)?),
            _ => None,
        }
    }
}

fn amd64_level(variant: &str) -> Option<usize> {
    if variant.is_empty() { Some(1) } else { variant.strip_prefix('v')?.parse().ok() }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    /// `linux/arm/v7`, `linux/amd64`; an operating system alone means this host's architecture, and an architecture
    /// alone its operating system.
    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform { text: text.chars().take(128).collect() };
        let is_word = |word: &&str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            !word.is_empty() && word.bytes().all(plain)
        };
        let words: Vec<&str> = text.split('/').collect();
        if text.len() > 128 || !words.iter().all(is_word) {
            return Err(invalid());
        }
        let host = Self::host();
        let platform = |os: &str, architecture: &str, variant: &str| Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        };
        let platform = match words[..] {
            [os @ ("linux" | "windows" | "darwin" | "macos" | "freebsd")] => {
                platform(os, &host.architecture, "")
            }
            [architecture] => platform(&host.os, architecture, ""),
            [os, architecture] => platform(os, architecture, ""),
            [os, architecture, variant] => platform(os, architecture, variant),
            _ => return Err(invalid()),
        };
        Ok(platform.normalized())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_has_one_meaning() {
        for (text, expected) in [
            ("linux/x86_64", "linux/amd64"),
            ("amd64", "linux/amd64"),
            ("linux", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("armhf", "linux/arm/v7"),
            ("Linux/ARM/6", "linux/arm/v6"),
            ("linux/s390x", "linux/s390x"),
        ] {
            assert_eq!(platform(text).to_string(), expected, "{text}");
        }
        for text in ["", "/", "linux/", "linux/amd64/v1/x", "linux/a b", &"x".repeat(200)] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn lesser_variants_serve_and_greater_ones_do_not() {
        for (wanted, offered, expected) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64", "linux/386", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64", "linux/arm/v7", None),
        ] {
            assert_eq!(platform(wanted).distance_to(&platform(offered)), expected, "{wanted} {offered}");
        }
    }
}
