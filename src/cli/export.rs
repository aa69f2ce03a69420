//! `bundle export`: from an image in a registry to a signed bundle.

use std::path::{Path, PathBuf};

use bundle::exit::ExitStatus;
use bundle::export::{Base, DeltaFormat, Deltas, Order, Source, export, temporary_directory};
use bundle::platform::{Choice, Wanted};
use bundle::registry::ClientOptions;
use bundle::{Error, delta};
use bundle_format::{check_version, media_type};
use bundle_keys::TrustRoot;
use bundle_recipes::EncoderSet;
use serde::Serialize;

use super::output::{Output, bytes, table};
use super::{Outcome, files, size};

/// Write an image from a registry as a signed bundle
///
/// The tag is resolved to a digest once. Image, configuration, layers and everything that refers to
/// the image (signatures, attestations, SBOMs) are copied unchanged. PATH is whole or absent; an
/// interrupted export leaves PATH.partial, from which the next run goes on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  bundle export docker://registry.example/os/appliance:1.2.3 -o \
    /media/stick/appliance-1.2.3 \\\n    --sign-key release.pem --trust-root trust-root.json \
    --product appliance --sequence 12"
)]
pub(crate) struct Args {
    /// docker://HOST/REPOSITORY:TAG, oci:DIRECTORY:TAG or oci-archive:FILE:TAG
    source: String,
    /// Directory for the bundle, or FILE.tar for one file; must not exist
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Private key to sign with (repeatable)
    #[arg(long = "sign-key", required = true, value_name = "KEY.pem")]
    sign_keys: Vec<PathBuf>,
    /// Trust root of the hosts; the keys have to satisfy it
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Product; has to be the one of the trust root [default: that one]
    #[arg(long)]
    product: Option<String>,
    /// Version for people [default: the image's label org.opencontainers.image.version]
    #[arg(long = "version", value_name = "VERSION")]
    release_version: Option<String>,
    /// Position in the product's order of releases, from 1; higher is newer
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    sequence: u64,
    /// Registry reference that hosts go on following [default: the source]
    #[arg(long, value_name = "HOST/REPOSITORY:TAG")]
    reference: Option<String>,
    /// Platform to carry, OS/ARCH[/VARIANT] (repeatable) [default: this machine's]
    #[arg(
        long = "platform",
        value_name = "PLATFORM",
        conflicts_with = "all_platforms"
    )]
    platforms: Vec<Wanted>,
    /// Carry every platform of a multi-platform image
    #[arg(long)]
    all_platforms: bool,
    /// File with registry credentials [default: where podman and skopeo look]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Directory with the registry's CA and client certificates [default: certs.d(5)]
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Verify the registry's certificate; false also allows plain HTTP
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    tls_verify: bool,
    #[command(flatten)]
    deltas: DeltaArgs,
}

/// Deltas from earlier releases.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Deltas")]
struct DeltaArgs {
    /// Carry a delta for hosts that have this image: an image as SOURCE, an earlier bundle, or a receipt, which is what
    /// `bundle status --json` writes on a host (repeatable)
    #[arg(long = "from", value_name = "BASE")]
    bases: Vec<String>,
    /// Leave out the layers that deltas make; hosts without one of the bases cannot use the bundle
    #[arg(long, requires = "bases")]
    delta_only: bool,
    #[command(flatten)]
    making: Making,
}

/// How deltas are made.
#[derive(Debug, clap::Args)]
pub(crate) struct Making {
    /// How deltas are coded; tar-diff is for hosts with other tools, and several times larger
    #[arg(long, value_enum, default_value = "bundle", value_name = "FORMAT")]
    delta_format: Format,
    /// Memory that hosts have for rebuilding layers, such as 256MiB; less makes larger deltas
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "400MiB")]
    target_ram: u64,
    /// Memory for making deltas
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "2GiB")]
    memory: u64,
    /// Directory with encoders of other releases; hosts need the same [default: /usr/lib/bundle/encoders]
    #[arg(long, value_name = "DIR")]
    encoders: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Bundle,
    TarDiff,
}

/// Least memory that a host has for rebuilding layers.
const LEAST: u64 = 64 << 20;

impl DeltaArgs {
    fn deltas(&self, options: &ClientOptions, root: &TrustRoot) -> Result<Option<Deltas>, Error> {
        if self.bases.is_empty() {
            return Ok(None);
        }
        let bases = self.bases.iter();
        let bases = bases.map(|base| Base::open(base, options.clone(), root));
        let bases = bases.collect::<Result<_, _>>()?;
        self.making.deltas(bases, self.delta_only).map(Some)
    }
}

impl Making {
    pub(crate) fn deltas(&self, bases: Vec<Base>, only: bool) -> Result<Deltas, Error> {
        for (option, size) in [("--target-ram", self.target_ram), ("--memory", self.memory)] {
            if size < LEAST {
                return Err(Error::Usage {
                    option: option.into(),
                    problem: format!("{} is too little", bytes(size)),
                    hint: format!("give at least {}", bytes(LEAST)),
                });
            }
        }
        let mut options = delta::Options {
            memory: self.memory,
            directory: temporary_directory(),
            ..delta::Options::default()
        };
        let encoders = self
            .encoders
            .as_deref()
            .unwrap_or(Path::new(delta::ENCODERS));
        options.recipes.limits.encoders = EncoderSet::in_directory(encoders);
        Ok(Deltas {
            bases,
            only,
            format: match self.delta_format {
                Format::Bundle => DeltaFormat::Bundle,
                Format::TarDiff => DeltaFormat::TarDiff,
            },
            options: options.with_target_memory(self.target_ram),
        })
    }
}

#[derive(Serialize)]
struct ExportReport {
    path: PathBuf,
    product: String,
    version: String,
    sequence: u64,
    source: String,
    image: Option<String>,
    signers: Vec<String>,
    blobs: usize,
    size: u64,
    copied: u64,
    reused: u64,
    referrers: usize,
    deltas: usize,
    /// Layers that are left out, since deltas make them.
    omitted: Vec<String>,
}

impl Args {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let root = files::trust_root(&self.trust_root)?;
        self.check(root.product())?;
        let keys = self
            .sign_keys
            .iter()
            .map(|path| files::private_key(path, output))
            .collect::<Result<Vec<_>, _>>()?;
        let options = ClientOptions {
            authfile: self.authfile.clone(),
            cert_dir: self.cert_dir.clone(),
            tls_verify: self.tls_verify,
            ..ClientOptions::default()
        };
        let deltas = self.deltas.deltas(&options, &root)?;
        let source = Source::open(&self.source, options)?;
        let order = Order {
            platforms: match (self.all_platforms, self.platforms.as_slice()) {
                (true, _) => Choice::All,
                (false, []) => Choice::Host,
                (false, wanted) => Choice::These(wanted.to_vec()),
            },
            output: self.output.clone(),
            sequence: self.sequence,
            version: self.release_version.clone(),
            reference: self.reference.clone(),
            deltas,
        };
        let done = export(&source, &order, &root, &keys, &output.progress()?)?;
        let release = &done.release;
        let report = ExportReport {
            path: self.output.clone(),
            product: release.product.clone(),
            version: release.version.clone(),
            sequence: release.sequence,
            source: release.source.clone(),
            image: release.image().map(|image| image.digest.to_string()),
            signers: done.signers.iter().map(|id| id.to_hex()).collect(),
            blobs: release.blobs.len(),
            size: release.total_size(),
            copied: done.copied,
            reused: done.reused,
            referrers: release.index.len().saturating_sub(1 + done.deltas),
            deltas: done.deltas,
            omitted: release.omitted.iter().map(ToString::to_string).collect(),
        };
        let tag = release
            .image()
            .and_then(|i| i.annotations.get(media_type::REF_NAME))
            .cloned();
        let mut rows = vec![
            ("Bundle", report.path.display().to_string()),
            (
                "Release",
                format!(
                    "{} {} ({})",
                    report.product, report.version, report.sequence
                ),
            ),
            ("Image", report.image.clone().unwrap_or_default()),
            ("Tag", tag.unwrap_or_default()),
            ("Referrers", report.referrers.to_string()),
            (
                "Size",
                format!("{} in {} blobs", bytes(report.size), report.blobs),
            ),
        ];
        if report.deltas > 0 {
            let omitted = match report.omitted.len() {
                0 => String::new(),
                count => format!("; {count} layers left out"),
            };
            rows.push(("Deltas", format!("{}{omitted}", report.deltas)));
        }
        if report.reused > 0 {
            rows.push((
                "Resumed",
                format!("{} were there already", bytes(report.reused)),
            ));
        }
        rows.extend(report.signers.iter().map(|id| ("Signed by", id.clone())));
        output.result("bundle.export.v1", &report, &table(&rows));
        Ok(ExitStatus::Done)
    }

    /// Refuses what would only fail after the download.
    fn check(&self, product: &str) -> Result<(), Error> {
        let usage = |option: &str, problem: String, hint: String| Error::Usage {
            option: option.into(),
            problem,
            hint,
        };
        if let Some(named) = self.product.as_ref().filter(|named| *named != product) {
            let hint = "use the trust root of this product, or leave --product out".into();
            let problem = format!("{named:?} is not {product:?}, the product of the trust root");
            return Err(usage("--product", problem, hint));
        }
        if let Some(Err(problem)) = self.release_version.as_ref().map(|v| check_version(v)) {
            let hint = "use letters, digits and . _ - + ~ :".into();
            return Err(usage("--version", problem, hint));
        }
        Ok(())
    }
}
