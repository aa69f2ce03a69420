//! Decides where an archive's entry goes in an OSTree tree, after ostree-ext's rules.
//!
//! Threats: names that leave the tree (`/etc/passwd`, `../x`), that OSTree or the kernel cannot hold, or that reach into
//! the repository of the host. Defences: a path is taken apart once, here; what comes out is a list of plain names, and no
//! path of an archive is ever given to a system call: content only enters content-addressed objects.

use super::error::RejectReason;
use super::limits::Limits;
use crate::layer::{EXCLUDED, OBJECTS};

/// Start of a name that deletes what is below it in earlier layers.
pub(super) const WHITEOUT: &str = ".wh.";
/// Name that deletes everything that earlier layers put into its directory.
pub(super) const OPAQUE: &str = ".wh..wh..opq";

/// Where an entry goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The root directory itself.
    Root,
    /// A path of plain names, without leading or trailing slash.
    At(String),
    /// Nowhere: it lies in an excluded directory.
    Excluded,
    /// An object of an OSTree repository shipped in the layer; the part below `objects/`.
    Object(String),
}

/// How content is laid out for the libostree of this host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Whether `/var` keeps its content. libostree fills `/var` from it since 2024.3; before, the content goes to
    /// `/usr/share/factory/var`, for systemd-tmpfiles to copy.
    pub(super) keep_var: bool,
}

impl Layout {
    pub(super) fn of_host() -> Self {
        Self {
            keep_var: ::ostree::check_version(2024, 3),
        }
    }

    /// Takes a path of an archive apart and decides where it goes.
    pub(super) fn place(self, path: &[u8], limits: &Limits) -> Result<Place, RejectReason> {
        let names = names(path, limits)?;
        let Some((&top, below)) = names.split_first() else {
            return Ok(Place::Root);
        };
        let mut placed: Vec<&str> = Vec::with_capacity(names.len() + 3);
        match top {
            "etc" | ".wh.etc" => placed.extend(["usr", top]),
            "var" if !below.is_empty() && !self.keep_var => {
                placed.extend(["usr", "share", "factory", "var"]);
            }
            ".wh.var" if !self.keep_var => placed.extend(["usr", "share", "factory", ".wh.var"]),
            top if EXCLUDED.contains(&top) && !below.is_empty() => {
                let joined = names.join("/");
                return Ok(match joined.strip_prefix(OBJECTS) {
                    Some(object) if !object.is_empty() => Place::Object(object.to_owned()),
                    _ => Place::Excluded,
                });
            }
            top => placed.push(top),
        }
        placed.extend(below);
        let placed = placed.join("/");
        if placed.len() > limits.path {
            return Err(RejectReason::TooLong {
                what: "path",
                limit: limits.path as u64,
            });
        }
        Ok(Place::At(placed))
    }
}

/// Splits a path into plain names; `.` and doubled slashes vanish, as they do for the kernel.
fn names<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a str>, RejectReason> {
    if path.is_empty() {
        return Err(RejectReason::EmptyName);
    }
    if path.len() > limits.path {
        return Err(RejectReason::TooLong {
            what: "path",
            limit: limits.path as u64,
        });
    }
    let path = std::str::from_utf8(path).map_err(|_| RejectReason::NotText)?;
    if path.contains('\0') {
        return Err(RejectReason::NotText);
    }
    if path.starts_with('/') {
        return Err(RejectReason::Absolute);
    }
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    for name in &names {
        if *name == ".." {
            return Err(RejectReason::ParentDirectory);
        }
        if name.len() > limits.name {
            return Err(RejectReason::TooLong {
                what: "name",
                limit: limits.name as u64,
            });
        }
    }
    if names.len() > limits.depth {
        return Err(RejectReason::TooLong {
            what: "depth",
            limit: limits.depth as u64,
        });
    }
    Ok(names)
}

/// What a name says about earlier layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker<'a> {
    /// It is an ordinary name.
    None,
    /// It deletes the entry of this name.
    Whiteout(&'a str),
    /// It deletes all earlier content of its directory.
    Opaque,
    /// It is AUFS's own business.
    Meta,
    /// It starts like a whiteout and names nothing.
    Malformed,
}

/// Reads what `name` says about earlier layers.
pub(super) fn marker(name: &str) -> Marker<'_> {
    match name.strip_prefix(WHITEOUT) {
        None => Marker::None,
        Some(_) if name == OPAQUE => Marker::Opaque,
        Some("" | "." | "..") => Marker::Malformed,
        Some(rest) if rest.starts_with(WHITEOUT) => Marker::Meta,
        Some(rest) => Marker::Whiteout(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let at = |path: &str| Ok(Place::At(path.to_owned()));
        let too_long = |what, limit| Err(RejectReason::TooLong { what, limit });
        let deep = ["d"; 257].join("/");
        let cases: Vec<(Vec<u8>, Result<Place, RejectReason>)> = vec![
            (b"usr/bin/sh".into(), at("usr/bin/sh")),
            (b"./usr///share/.//x/".into(), at("usr/share/x")),
            (b"./".into(), Ok(Place::Root)),
            (b"etc".into(), at("usr/etc")),
            (b"etc/fstab".into(), at("usr/etc/fstab")),
            (b"etcc/x".into(), at("etcc/x")),
            (b".wh.etc".into(), at("usr/.wh.etc")),
            (b"var".into(), at("var")),
            (b"var/lib/x".into(), at("usr/share/factory/var/lib/x")),
            (b"boot/x".into(), at("boot/x")),
            (b"opt/x/y".into(), at("opt/x/y")),
            (b"run".into(), at("run")),
            (b"./dev/".into(), at("dev")),
            (b"dev/null".into(), Ok(Place::Excluded)),
            (b"run/../etc/x".into(), Err(RejectReason::ParentDirectory)),
            (b"sysroot/ostree/deploy".into(), Ok(Place::Excluded)),
            (
                b"sysroot/ostree/repo/objects/aa/b.file".into(),
                Ok(Place::Object("aa/b.file".into())),
            ),
            (b"".into(), Err(RejectReason::EmptyName)),
            (b"/usr/x".into(), Err(RejectReason::Absolute)),
            (b"..".into(), Err(RejectReason::ParentDirectory)),
            (b"usr/../../x".into(), Err(RejectReason::ParentDirectory)),
            (b"usr/x\0y".into(), Err(RejectReason::NotText)),
            (b"usr/\xff".into(), Err(RejectReason::NotText)),
            (
                ["usr/", &"n".repeat(256)].concat().into(),
                too_long("name", 255),
            ),
            ("p/".repeat(2049).into(), too_long("path", 4096)),
            (deep.into(), too_long("depth", 256)),
        ];
        let layout = Layout { keep_var: false };
        for (path, expected) in cases {
            let shown = String::from_utf8_lossy(&path).into_owned();
            assert_eq!(layout.place(&path, &Limits::default()), expected, "{shown}");
        }
        let layout = Layout { keep_var: true };
        assert_eq!(
            layout.place(b"var/lib/x", &Limits::default()),
            at("var/lib/x")
        );
    }

    #[test]
    fn markers() {
        for (name, expected) in [
            ("x", Marker::None),
            (".wh", Marker::None),
            (".wh.x", Marker::Whiteout("x")),
            (".wh..x", Marker::Whiteout(".x")),
            (".wh..wh..opq", Marker::Opaque),
            (".wh..wh.plnk", Marker::Meta),
            (".wh.", Marker::Malformed),
            (".wh..", Marker::Malformed),
            (".wh...", Marker::Malformed),
        ] {
            assert_eq!(marker(name), expected, "{name}");
        }
    }
}
