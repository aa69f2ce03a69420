//! Finds credentials for a repository in the files that podman, skopeo and docker write.
//!
//! Order: the file the caller named, else `$REGISTRY_AUTH_FILE`, and then only that one; else
//! `$XDG_RUNTIME_DIR/containers/auth.json` (without it `/run/containers/UID/auth.json`),
//! `~/.config/containers/auth.json`, `~/.docker/config.json`. The first file that knows the
//! repository wins.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::authfile::{Authfile, Found};
use super::error::RegistryError;
use super::helper;

/// Most bytes of a file with credentials.
const MAX_AUTHFILE_BYTES: u64 = 1 << 20;

/// Who we say we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user.
    Password {
        /// Name of the user.
        username: String,
        /// Password or access token.
        password: String,
    },
    /// An OAuth 2 refresh token, to be traded for access tokens.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    /// Writes the kind only: secrets do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
        })
    }
}

/// Says where credentials were looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Files in the order they were tried.
    pub places: Vec<PathBuf>,
    /// The file that had some.
    pub found: Option<PathBuf>,
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.found {
            return write!(f, "tried the credentials in {}", path.display());
        }
        f.write_str("no credentials found in ")?;
        for (index, path) in self.places.iter().enumerate() {
            write!(f, "{}{}", if index > 0 { ", " } else { "" }, path.display())?;
        }
        Ok(())
    }
}

/// A file that may hold credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    /// Named by the user, so that its absence is an error.
    named: bool,
}

/// The files in which credentials are looked for.
#[derive(Clone, Debug)]
pub(super) struct Places(Vec<Place>);

impl Places {
    /// Takes the places from `authfile`, the environment and the user id.
    pub(super) fn from_environment(authfile: Option<&Path>) -> Self {
        let uid = rustix::process::getuid().as_raw();
        Self(places(
            authfile,
            |name| std::env::var_os(name),
            std::env::home_dir(),
            uid,
        ))
    }

    /// Finds credentials for `repository` of `host`.
    ///
    /// # Errors
    /// When a file cannot be read or is malformed, the file the user named is missing, or a
    /// credential helper fails. A helper that merely knows nothing is passed over.
    pub(super) fn find(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<(Credentials, Searched), RegistryError> {
        let mut searched = Searched::default();
        for place in &self.0 {
            searched.places.push(place.path.clone());
            let Some(file) = read_authfile(place)? else {
                continue;
            };
            let credentials = match file.find(host, repository) {
                Some(Found::Credentials(credentials)) => Some(credentials),
                Some(Found::Helper(name)) => match helper::get(&name, host)? {
                    // docker login stores the Hub's secret under the URL of its first interface.
                    None if host == "docker.io" => {
                        helper::get(&name, "https://index.docker.io/v1/")?
                    }
                    answer => answer,
                },
                None => None,
            };
            if let Some(credentials) = credentials {
                searched.found = Some(place.path.clone());
                return Ok((credentials, searched));
            }
        }
        Ok((Credentials::Anonymous, searched))
    }
}

fn places(
    authfile: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
    uid: u32,
) -> Vec<Place> {
    let set = |name| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(path) = authfile
        .map(Path::to_owned)
        .or_else(|| set("REGISTRY_AUTH_FILE"))
    {
        return vec![Place { path, named: true }];
    }
    // systemd services have no XDG_RUNTIME_DIR: containers-auth.json(5) falls back to /run.
    let runtime = set("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/run/containers/{uid}/auth.json")),
        |directory| directory.join("containers/auth.json"),
    );
    let config = set("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = set("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    [
        Some(runtime),
        config.map(|directory| directory.join("containers/auth.json")),
        docker.map(|directory| directory.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .map(|path| Place { path, named: false })
    .collect()
}

fn read_authfile(place: &Place) -> Result<Option<Authfile>, RegistryError> {
    let refuse = |reason: String| RegistryError::Authfile {
        path: place.path.clone(),
        reason,
    };
    let file = match File::open(&place.path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
                && !place.named =>
        {
            return Ok(None);
        }
        Err(error) => return Err(refuse(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_AUTHFILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > MAX_AUTHFILE_BYTES {
        return Err(refuse(format!("longer than {MAX_AUTHFILE_BYTES} bytes")));
    }
    Authfile::parse(&bytes).map(Some).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_environment() {
        type Environment<'a> = &'a [(&'a str, &'a str)];
        type Case<'a> = (
            Option<&'a str>,
            Environment<'a>,
            Option<&'a str>,
            &'a [&'a str],
        );
        let cases: &[Case<'_>] = &[
            (
                Some("/a.json"),
                &[("REGISTRY_AUTH_FILE", "/b.json")],
                Some("/home/u"),
                &["/a.json"],
            ),
            (
                None,
                &[("REGISTRY_AUTH_FILE", "/b.json")],
                Some("/home/u"),
                &["/b.json"],
            ),
            (
                None,
                &[
                    ("XDG_RUNTIME_DIR", "/run/user/7"),
                    ("REGISTRY_AUTH_FILE", ""),
                ],
                Some("/home/u"),
                &[
                    "/run/user/7/containers/auth.json",
                    "/home/u/.config/containers/auth.json",
                    "/home/u/.docker/config.json",
                ],
            ),
            (None, &[], None, &["/run/containers/7/auth.json"]),
            (
                None,
                &[("DOCKER_CONFIG", "/d"), ("XDG_CONFIG_HOME", "/c")],
                Some("/home/u"),
                &[
                    "/run/containers/7/auth.json",
                    "/c/containers/auth.json",
                    "/d/config.json",
                ],
            ),
        ];
        for (authfile, environment, home, expected) in cases {
            let variable = |name: &str| {
                environment
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, v)| OsString::from(v))
            };
            let found = places(
                authfile.map(Path::new),
                variable,
                home.map(PathBuf::from),
                7,
            );
            let found: Vec<_> = found
                .iter()
                .map(|place| place.path.to_str().unwrap())
                .collect();
            assert_eq!(&found, expected);
        }
    }

    #[test]
    fn the_first_file_that_knows_wins_and_bad_files_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(
            path("other"),
            r#"{"auths":{"other.example":{"auth":"YTpi"}}}"#,
        )
        .unwrap();
        std::fs::write(path("ours"), r#"{"auths":{"h.example":{"auth":"dTpw"}}}"#).unwrap();
        std::fs::write(path("bad"), "{").unwrap();
        std::fs::write(path("long"), vec![b' '; (1 << 20) + 1]).unwrap();
        let find = |names: &[(&str, bool)]| {
            let places = names.iter().map(|(name, named)| Place {
                path: path(name),
                named: *named,
            });
            Places(places.collect()).find("h.example", "x")
        };
        let (credentials, searched) =
            find(&[("absent", false), ("other", false), ("ours", false)]).unwrap();
        assert!(matches!(credentials, Credentials::Password { username, .. } if username == "u"));
        assert_eq!(searched.found, Some(path("ours")));
        assert!(matches!(
            find(&[("other", false)]),
            Ok((Credentials::Anonymous, _))
        ));
        for wrong in [[("absent", true)], [("bad", false)], [("long", false)]] {
            assert!(
                matches!(find(&wrong), Err(RegistryError::Authfile { .. })),
                "{wrong:?}"
            );
        }
    }
}
