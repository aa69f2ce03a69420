//! `bundle delta`: deltas between images by themselves, without a bundle.

use std::path::{Path, PathBuf};

use bundle::delta;
use bundle::exit::ExitStatus;
use bundle::export::{
    Base, Shown, Source, apply_archive, base_layers, create_archive, layer_deltas, show,
    temporary_directory,
};
use bundle::platform::{Choice, Wanted};
use bundle::registry::ClientOptions;
use bundle_format::Digest;
use bundle_recipes::EncoderSet;
use serde::Serialize;

use super::Outcome;
use super::export::Making;
use super::output::{Output, bytes, table};

/// Files that are shown; --json has all.
const SHOWN: usize = 20;

/// Make, apply and look into deltas between images, outside of bundles
///
/// Such a delta is an OCI archive in the shape of containers/oci-delta. It is not signed: whoever uses it trusts where it came
/// from. `bundle export --from` puts the same deltas under the signature of a bundle.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    Apply(ApplyArgs),
    Show(ShowArgs),
}

/// Write the delta from one image to another
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Image that hosts have: docker://HOST/REPOSITORY:TAG, oci:DIRECTORY:TAG or oci-archive:FILE:TAG
    old: String,
    /// Image that they shall get
    new: String,
    /// Directory for the delta, or FILE.tar for one file; must not exist
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Platform, OS/ARCH[/VARIANT] (repeatable) [default: this machine's]
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<Wanted>,
    #[command(flatten)]
    making: Making,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Rebuild an image from a delta and the image that it was made against
///
/// Every layer has to come out as the image's configuration states. Rebuilt layers are stored without compression, for nobody
/// can compress them again as they were, so the manifest has another digest; the configuration stays what it was.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// The delta
    file: PathBuf,
    /// Image that the delta was made against
    #[arg(long, value_name = "OLD")]
    base: String,
    /// Directory for the image as an OCI layout, or FILE.tar for one file; must not exist
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Digest that the image has to have
    #[arg(long, value_name = "DIGEST")]
    digest: Option<Digest>,
    /// Directory with encoders of other releases [default: /usr/lib/bundle/encoders]
    #[arg(long, value_name = "DIR")]
    encoders: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Show where the bytes of a delta go, by operation and by file
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// A delta, a bundle with deltas, or the blob of one layer delta
    file: PathBuf,
    /// Image that the delta was made against; without it only heads can be shown
    #[arg(long, value_name = "OLD")]
    base: Option<String>,
    /// Directory with encoders of other releases [default: /usr/lib/bundle/encoders]
    #[arg(long, value_name = "DIR")]
    encoders: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// How registries are reached.
#[derive(Debug, clap::Args)]
struct RegistryArgs {
    /// File with registry credentials [default: where podman and skopeo look]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Verify the registry's certificate; false also allows plain HTTP
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    tls_verify: bool,
}

impl RegistryArgs {
    fn options(&self) -> ClientOptions {
        ClientOptions {
            authfile: self.authfile.clone(),
            tls_verify: self.tls_verify,
            ..ClientOptions::default()
        }
    }
}

#[derive(Serialize)]
struct CreateReport {
    path: PathBuf,
    artifacts: Vec<String>,
    size: u64,
}

#[derive(Serialize)]
struct ApplyReport {
    path: PathBuf,
    /// Digest of the image as it was published.
    image: String,
    /// Digest of the manifest that was written.
    written: String,
    layers_rebuilt: usize,
}

#[derive(Serialize)]
struct ShowReport {
    deltas: Vec<DeltaReport>,
}

#[derive(Serialize)]
struct DeltaReport {
    layer: Option<String>,
    format: &'static str,
    size: u64,
    target_size: Option<u64>,
    memory: Option<u64>,
    scratch: Option<u64>,
    encoders: Vec<String>,
    sources: usize,
    overhead: Option<u64>,
    operations: Vec<ShareReport>,
    files: Vec<ShareReport>,
}

/// Bytes of a delta for one kind of operation, or one file.
#[derive(Serialize)]
struct ShareReport {
    name: String,
    operations: u64,
    made: u64,
    size: u64,
}

impl Command {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        match self {
            Self::Create(args) => args.run(output),
            Self::Apply(args) => args.run(output),
            Self::Show(args) => args.run(output),
        }
    }
}

impl CreateArgs {
    fn run(&self, output: &Output) -> Outcome {
        let old = Base::image(&self.old, self.registry.options())?;
        let new = Source::open(&self.new, self.registry.options())?;
        let deltas = self.making.deltas(vec![old], true)?;
        let platforms = match self.platforms.as_slice() {
            [] => Choice::Host,
            wanted => Choice::These(wanted.to_vec()),
        };
        let done = create_archive(&new, &platforms, &deltas, &self.output, &output.progress()?)?;
        let artifacts = done.artifacts.iter();
        let report = CreateReport {
            path: self.output.clone(),
            artifacts: artifacts
                .map(|artifact| artifact.digest.to_string())
                .collect(),
            size: done.size,
        };
        let mut rows = vec![("Delta", report.path.display().to_string())];
        rows.extend(
            report
                .artifacts
                .iter()
                .map(|digest| ("Artifact", digest.clone())),
        );
        rows.push(("Size", bytes(report.size)));
        output.result("bundle.delta-create.v1", &report, &table(&rows));
        Ok(ExitStatus::Done)
    }
}

fn options(encoders: Option<&Path>) -> delta::Options {
    let mut options = delta::Options {
        directory: temporary_directory(),
        ..delta::Options::default()
    };
    let encoders = encoders.unwrap_or(Path::new(delta::ENCODERS));
    options.recipes.limits.encoders = EncoderSet::in_directory(encoders);
    options
}

impl ApplyArgs {
    fn run(&self, output: &Output) -> Outcome {
        let base = Base::image(&self.base, self.registry.options())?;
        let options = options(self.encoders.as_deref());
        let progress = output.progress()?;
        let done = apply_archive(
            &self.file,
            &base,
            self.digest,
            &options,
            &self.output,
            &progress,
        )?;
        let report = ApplyReport {
            path: self.output.clone(),
            image: done.image.to_string(),
            written: done.written.to_string(),
            layers_rebuilt: done.layers,
        };
        let rows = [
            ("Written", report.path.display().to_string()),
            ("Image", report.image.clone()),
            ("Manifest", report.written.clone()),
            ("Rebuilt", format!("{} layers", report.layers_rebuilt)),
        ];
        output.result("bundle.delta-apply.v1", &report, &table(&rows));
        Ok(ExitStatus::Done)
    }
}

impl ShowArgs {
    fn run(&self, output: &Output) -> Outcome {
        let options = options(self.encoders.as_deref());
        let progress = output.progress()?;
        let old = match &self.base {
            Some(base) => {
                let base = Base::image(base, self.registry.options())?;
                base_layers(&base, &options.directory, &progress)?
            }
            None => Vec::new(),
        };
        let mut rebuilt = Vec::new();
        let mut deltas = Vec::new();
        for (number, (layer, file)) in layer_deltas(&self.file, &options.directory)?
            .into_iter()
            .enumerate()
        {
            let mut layers: Vec<delta::Layer<'_>> = old
                .iter()
                .map(|spool| delta::Layer {
                    spool,
                    target: None,
                })
                .collect();
            // Those before it may hold what it takes; which layer of the image each one is does not matter here.
            layers.extend(rebuilt.iter().map(|spool| delta::Layer {
                spool,
                target: u32::try_from(number).ok(),
            }));
            let (shown, spool) = show(layer, file, &layers, &options)?;
            deltas.push(shown);
            rebuilt.extend(spool);
        }
        let text: Vec<String> = deltas.iter().map(text).collect();
        let report = ShowReport {
            deltas: deltas.iter().map(report).collect(),
        };
        output.result("bundle.delta-show.v1", &report, &text.join("\n"));
        Ok(ExitStatus::Done)
    }
}

fn report(shown: &Shown) -> DeltaReport {
    let share = |name: &str, share: &bundle::export::Share| ShareReport {
        name: name.into(),
        operations: share.count,
        made: share.made,
        size: share.cost.round() as u64,
    };
    let needs = shown.needs.as_ref();
    DeltaReport {
        layer: shown.layer.map(|layer| layer.to_string()),
        format: shown.format,
        size: shown.size,
        target_size: shown.target,
        memory: needs.map(|needs| needs.memory),
        scratch: needs.map(|needs| needs.scratch),
        encoders: needs
            .map(|needs| needs.encoders.clone())
            .unwrap_or_default(),
        sources: shown.sources,
        overhead: (!shown.operations.is_empty()).then(|| shown.overhead()),
        operations: shown
            .operations
            .iter()
            .map(|(name, s)| share(name, s))
            .collect(),
        files: shown.files.iter().map(|(name, s)| share(name, s)).collect(),
    }
}

fn text(shown: &Shown) -> String {
    let layer = shown
        .layer
        .map_or_else(|| "not told".into(), |layer| layer.to_string());
    let made = match shown.target {
        Some(target) => format!("{} for {} of tar", bytes(shown.size), bytes(target)),
        None => bytes(shown.size),
    };
    let mut rows = vec![
        ("Layer", layer),
        ("Delta", format!("{}, {made}", shown.format)),
        ("Old files", shown.sources.to_string()),
    ];
    if let Some(needs) = &shown.needs {
        let encoders = match needs.encoders.as_slice() {
            [] => String::new(),
            encoders => format!(", encoders {}", encoders.join(", ")),
        };
        let needs = format!(
            "{} of memory, {} of temporary files{encoders}",
            bytes(needs.memory),
            bytes(needs.scratch)
        );
        rows.push(("Needs", needs));
    }
    for (name, share) in &shown.operations {
        let share = format!(
            "{name}: {} in {} operations, {} of the delta",
            bytes(share.made),
            share.count,
            bytes(share.cost.round() as u64)
        );
        rows.push(("Operation", share));
    }
    if !shown.operations.is_empty() {
        rows.push((
            "Head",
            format!("{} of the delta, and frames", bytes(shown.overhead())),
        ));
    }
    for (name, share) in shown.files.iter().take(SHOWN) {
        let size = bytes(share.cost.round() as u64);
        rows.push((
            "File",
            format!("{size} for {} of {name}", bytes(share.made)),
        ));
    }
    table(&rows)
}
