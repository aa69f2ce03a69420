//! Platforms as users name them, `OS/ARCH[/VARIANT]`, and choosing among an index's manifests.

use std::fmt;
use std::str::FromStr;

use bundle_format::{Descriptor, Platform};
use oci_spec::image::ImageConfiguration;

/// Which images of a multi-platform index a bundle carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// The platform this program runs on.
    #[default]
    Host,
    /// The platforms named, each once.
    These(Vec<Wanted>),
    /// Every one.
    All,
}

/// A platform as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture, such as `amd64`.
    pub architecture: String,
    /// Variant; any when absent.
    pub variant: Option<String>,
}

impl Wanted {
    /// Returns the platform this program runs on.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: std::env::consts::OS.into(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// Returns the platform that an image's configuration names.
    pub fn of(config: &ImageConfiguration) -> Self {
        Self {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
        }
    }

    /// Returns true where `platform` is the one asked for.
    pub fn matches(&self, platform: &Platform) -> bool {
        self.os == platform.os
            && self.architecture == platform.architecture
            && (self.variant.is_none() || self.variant == platform.variant)
    }

    /// Returns the first of `manifests` for this platform.
    pub fn among<'a>(&self, manifests: &'a [Descriptor]) -> Option<&'a Descriptor> {
        manifests
            .iter()
            .find(|m| m.platform.as_ref().is_some_and(|p| self.matches(p)))
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/').map(str::to_string);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None)
                if !os.is_empty() && !architecture.is_empty() =>
            {
                Ok(Self {
                    os,
                    architecture,
                    variant,
                })
            }
            _ => Err(format!(
                "{text:?} is not OS/ARCH[/VARIANT], such as linux/arm64"
            )),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// Writes a platform of an index the way users name it.
pub fn describe(platform: &Platform) -> String {
    let wanted = Wanted {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
    };
    crate::text::printable(&wanted.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_narrows() {
        let platform = |variant: Option<&str>| Platform {
            os: "linux".into(),
            architecture: "arm".into(),
            variant: variant.map(Into::into),
            ..Platform::default()
        };
        let any: Wanted = "linux/arm".parse().unwrap();
        let v7: Wanted = "linux/arm/v7".parse().unwrap();
        assert!(any.matches(&platform(Some("v7"))) && any.matches(&platform(None)));
        assert!(v7.matches(&platform(Some("v7"))) && !v7.matches(&platform(Some("v6"))));
        for bad in ["", "linux", "linux/", "/arm", "a/b/c/d"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }
}
