//! A case of the table, and how it is run.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bundle::Error;
use bundle::progress::Silent;
use bundle::verify;
use bundle_format::Limits;
use bundle_keys::TrustRoot;

use crate::common::kit::{Image, Kit, write_image};
use crate::common::run::{PATIENCE, bundle, run, within};

/// One hostile input.
pub(crate) struct Case {
    /// Row of the attack matrix.
    pub(crate) row: u8,
    pub(crate) name: &'static str,
    /// Reason codes, no more and no fewer.
    pub(crate) codes: &'static [&'static str],
    /// Exit status of `bundle verify`.
    pub(crate) status: i32,
    pub(crate) damage: fn(&Site<'_>),
}

/// What a case damages: a copy of the good bundle and of its trust root.
pub(crate) struct Site<'a> {
    pub(crate) kit: &'a Kit,
    /// The bundle, a directory that a case may replace by a tar file.
    pub(crate) dir: PathBuf,
    /// Trust root that it is verified under.
    pub(crate) trust_root: PathBuf,
}

impl Site<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Exports another release of the same product, signed by the same key.
    pub(crate) fn other(&self) -> PathBuf {
        let image = self.dir.with_extension("other-image");
        let bundle = self.dir.with_extension("other");
        write_image(
            &image,
            Image {
                seed: 2,
                ..Image::USUAL
            },
        );
        self.kit.export(&image, &bundle, 8);
        bundle
    }
}

/// What a way to verify says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) codes: BTreeSet<String>,
    pub(crate) status: i32,
}

/// Runs every case of a table: the positive twin, the library, the command line.
pub(crate) fn run_all(cases: &[Case]) {
    let kit = Kit::new(Image::USUAL);
    accepts(&kit.bundle, &kit.trust_root);
    for (number, case) in cases.iter().enumerate() {
        run_one(&kit, case, number);
    }
}

fn run_one(kit: &Kit, case: &Case, number: usize) {
    let name = format!("row {}: {}", case.row, case.name);
    let site = Site {
        kit,
        dir: kit.copy(&format!("case-{number}")),
        trust_root: kit.path(&format!("root-{number}.json")),
    };
    fs::copy(&kit.trust_root, &site.trust_root).unwrap();
    assert_eq!(
        library(&name, &site.dir, &site.trust_root),
        Ok(()),
        "{name}: the twin"
    );
    (case.damage)(&site);
    let begin = Instant::now();
    let expected = Verdict {
        codes: case.codes.iter().map(ToString::to_string).collect(),
        status: case.status,
    };
    let found = library(&name, &site.dir, &site.trust_root);
    assert_eq!(found.as_ref(), Err(&expected), "{name}: library");
    let found = command_line(&name, &site.dir, &site.trust_root);
    assert_eq!(found, expected, "{name}: command line");
    assert!(
        begin.elapsed() < PATIENCE / 3,
        "{name}: took {:?}",
        begin.elapsed()
    );
}

/// Asserts that a bundle is accepted in every way.
pub(crate) fn accepts(path: &Path, trust_root: &Path) {
    assert_eq!(library("good", path, trust_root), Ok(()));
    let done = run(bundle(["verify", "--json"])
        .arg(path)
        .arg("--trust-root")
        .arg(trust_root));
    assert_eq!(done.status, Some(0), "{}{}", done.stdout, done.stderr);
    assert_eq!(done.json()["verified"], true);
    assert_eq!(done.stderr, "");
}

/// Asks `verify::check`, then `verify::open` and a reader of every blob, for their verdict.
pub(crate) fn library(name: &str, path: &Path, trust_root: &Path) -> Result<(), Verdict> {
    let (path, trust_root) = (path.to_path_buf(), trust_root.to_path_buf());
    within(name, move || {
        let root = TrustRoot::parse(&fs::read(trust_root).unwrap(), &Limits::DEFAULT).unwrap();
        let checked = check(&path, &root);
        let used = use_whole(&path, &root);
        // One reader stops at the first problem, the other lists all: they agree on whether.
        assert_eq!(checked.is_ok(), used.is_ok(), "{checked:?} but {used:?}");
        checked
    })
}

fn check(path: &Path, root: &TrustRoot) -> Result<(), Verdict> {
    let medium = verify::medium(path).map_err(verdict)?;
    let report = verify::check(medium, root, &Silent).map_err(verdict)?;
    match report.problems.as_slice() {
        [] => Ok(()),
        problems => Err(verdict(Error::Rejected {
            path: path.into(),
            problems: problems.to_vec(),
        })),
    }
}

fn use_whole(path: &Path, root: &TrustRoot) -> Result<(), Verdict> {
    let opened = verify::open(verify::medium(path).map_err(verdict)?, root).map_err(verdict)?;
    for blob in &opened.release().blobs {
        let content = |problem| {
            verdict(Error::Content {
                problem: Box::new(problem),
            })
        };
        let mut reader = opened.blob(&blob.digest).map_err(content)?;
        let path = blob.digest.blob_path();
        std::io::copy(&mut reader.by_ref(), &mut std::io::sink())
            .map_err(|error| content(verify::into_problem(error, &path)))?;
    }
    Ok(())
}

fn verdict(error: Error) -> Verdict {
    let status = error.status() as i32;
    let codes = match &error {
        Error::Rejected { problems, .. } => problems.iter().map(|p| p.code().into()).collect(),
        other => BTreeSet::from([other.code().into()]),
    };
    Verdict { codes, status }
}

/// Runs `bundle verify --json`, asserts the form of the refusal and returns its verdict.
pub(crate) fn command_line(name: &str, path: &Path, trust_root: &Path) -> Verdict {
    let done = run(bundle(["verify", "--json"])
        .arg(path)
        .arg("--trust-root")
        .arg(trust_root));
    let report = done.json();
    assert_eq!(report["verified"], false, "{name}");
    assert!(
        done.stderr.starts_with("error: "),
        "{name}: {}",
        done.stderr
    );
    assert!(done.stderr.contains("\nhint: "), "{name}: {}", done.stderr);
    assert!(
        done.stderr.contains(path.to_str().unwrap()),
        "{name}: {}",
        done.stderr
    );
    let problems = report["problems"].as_array().unwrap();
    for problem in problems {
        for member in ["file", "detail", "hint"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{name}"
            );
        }
    }
    let codes = problems
        .iter()
        .map(|p| p["code"].as_str().unwrap().to_string())
        .collect();
    Verdict {
        codes,
        status: done.status.unwrap_or(-1),
    }
}
