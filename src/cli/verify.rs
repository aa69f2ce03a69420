//! `bundle verify`: is this what its signers made, byte for byte.

use std::path::PathBuf;

use bundle::exit::ExitStatus;
use bundle::verify::Problem;
use bundle::{Error, verify, worst};
use serde::Serialize;

use super::output::{Output, bytes, table};
use super::{Outcome, files};

/// Check a bundle: who signed it, and every byte of it
///
/// The signature is checked first, then the list of files, then every chunk of every file, reading
/// the medium once. All problems are listed, with file and byte range. Needs no network.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory or tar file of the bundle
    path: PathBuf,
    /// Trust root that says whose releases are accepted
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Also say how the release would come to this host, and whether it can
    #[cfg(feature = "ostree")]
    #[arg(long)]
    against_host: bool,
    /// Sysroot for --against-host [default: the running system]
    #[cfg(feature = "ostree")]
    #[arg(long, value_name = "DIR", requires = "against_host")]
    sysroot: Option<PathBuf>,
    #[cfg(feature = "ostree")]
    #[command(flatten)]
    host: super::roads::HostArgs,
}

#[derive(Serialize)]
struct VerifyReport {
    verified: bool,
    product: Option<String>,
    version: Option<String>,
    sequence: Option<u64>,
    source: Option<String>,
    image: Option<String>,
    signers: Vec<String>,
    size: Option<u64>,
    trust_root: String,
    trust_root_version: u64,
    /// Newer trust roots that the bundle brought; the last one judged the release.
    trust_chain: Vec<ChainReport>,
    problems: Vec<ProblemReport>,
    /// How layers come to the host; null unless that was asked for.
    #[cfg(feature = "ostree")]
    layers: Option<Vec<super::roads::LayerReport>>,
}

#[derive(Serialize)]
struct ChainReport {
    version: u64,
    digest: String,
}

#[derive(Serialize)]
struct ProblemReport {
    code: &'static str,
    file: String,
    /// First byte, and the one behind the last.
    range: Option<[u64; 2]>,
    detail: String,
    hint: String,
}

impl Args {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let root = files::trust_root(&self.trust_root)?;
        let found = match verify::medium(&self.path) {
            Ok(medium) => verify::check(medium, &root, &output.progress()?)?,
            Err(Error::Rejected { problems, .. }) => verify::Report {
                release: None,
                signers: Default::default(),
                roots: Vec::new(),
                problems,
            },
            Err(error) => return Err(error),
        };
        let release = found.release.as_ref();
        let report = VerifyReport {
            verified: found.problems.is_empty(),
            product: release.map(|r| r.product.clone()),
            version: release.map(|r| r.version.clone()),
            sequence: release.map(|r| r.sequence),
            source: release.map(|r| r.source.clone()),
            image: release.and_then(|r| Some(r.image()?.digest.to_string())),
            signers: found.signers.iter().map(|id| id.to_hex()).collect(),
            size: release.map(|r| r.total_size()),
            trust_root: root.digest().to_string(),
            trust_root_version: root.version(),
            trust_chain: found.roots.iter().map(step).collect(),
            problems: found.problems.iter().map(problem).collect(),
            #[cfg(feature = "ostree")]
            layers: None,
        };
        let text = text(&report, &found.problems);
        #[cfg(feature = "ostree")]
        if self.against_host && found.problems.is_empty() {
            return self.against_host(&root, report, text, output);
        }
        output.result("bundle.verify.v1", &report, &text);
        if found.problems.is_empty() {
            return Ok(ExitStatus::Done);
        }
        let path = &self.path;
        let count = found.problems.len();
        let hint = found.problems.first().map(Problem::hint);
        output.complain(
            &format!("{}: {count} problem(s), see above", path.display()),
            hint,
        );
        Ok(worst(&found.problems))
    }

    /// Goes on with the host, for a bundle without problems.
    #[cfg(feature = "ostree")]
    fn against_host(
        &self,
        root: &bundle_keys::TrustRoot,
        mut report: VerifyReport,
        mut text: String,
        output: &Output,
    ) -> Outcome {
        use super::roads;
        let bundle = verify::open(verify::medium(&self.path)?, root)?;
        let options = self.host.options(Default::default());
        let plan = bundle::apply::plan(&bundle, self.sysroot.as_deref(), &options)?;
        report.layers = Some(roads::report(&plan));
        text.push_str(&table(&roads::rows(&plan)));
        output.result("bundle.verify.v1", &report, &text);
        match plan.check() {
            Ok(()) => Ok(ExitStatus::Done),
            Err(error) => {
                output.complain(&error.to_string(), error.hint());
                Ok(error.status())
            }
        }
    }
}

fn text(report: &VerifyReport, problems: &[Problem]) -> String {
    let mut rows = Vec::new();
    if let (Some(product), Some(version), Some(sequence)) =
        (&report.product, &report.version, report.sequence)
    {
        rows.push((
            "Release",
            format!("{product} {version} (sequence {sequence})"),
        ));
        rows.push(("Source", report.source.clone().unwrap_or_default()));
        rows.push(("Image", report.image.clone().unwrap_or_default()));
        rows.extend(report.signers.iter().map(|id| ("Signed by", id.clone())));
        if let Some(newest) = report.trust_chain.last() {
            let held = report.trust_root_version;
            let text = format!(
                "version {held}, then {} by the bundle's chain",
                newest.version
            );
            rows.push(("Trust root", text));
        }
        rows.push(("Size", bytes(report.size.unwrap_or_default())));
    }
    let verdict = if report.verified {
        "yes: every byte is what was signed"
    } else {
        "NO"
    };
    rows.extend(
        problems
            .iter()
            .map(|problem| ("Problem", problem.to_string())),
    );
    rows.push(("Verified", verdict.into()));
    table(&rows)
}

fn step(step: &bundle_keys::chain::Step) -> ChainReport {
    ChainReport {
        version: step.root.version(),
        digest: step.root.digest().to_string(),
    }
}

fn problem(problem: &Problem) -> ProblemReport {
    ProblemReport {
        code: problem.code(),
        file: problem.file.clone(),
        range: problem.range.as_ref().map(|range| [range.start, range.end]),
        detail: problem.detail.clone(),
        hint: problem.hint(),
    }
}
