//! `bundle inspect`: what a bundle says about itself.

use std::path::PathBuf;

use bundle::exit::ExitStatus;
use bundle::verify;
use bundle_format::{Descriptor, media_type};
use serde::Serialize;

use super::Outcome;
use super::output::{Output, bytes, table};

/// Show what a bundle says about itself, without claiming that it is valid
///
/// Nothing is checked: the signature may be forged and the content damaged. `bundle verify` checks.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory or tar file of the bundle
    path: PathBuf,
}

#[derive(Serialize)]
struct InspectReport {
    verified: bool,
    product: String,
    version: String,
    sequence: u64,
    created: Option<String>,
    source: String,
    image: Option<String>,
    signers: Vec<String>,
    blobs: usize,
    size: u64,
    contents: Vec<Item>,
    /// Layers that are not in the bundle, since deltas make them.
    omitted: Vec<String>,
    #[cfg(feature = "delta")]
    deltas: Vec<DeltaReport>,
}

/// What a host that has one base would read and need.
#[cfg(feature = "delta")]
#[derive(Serialize)]
struct DeltaReport {
    target: String,
    base: Option<String>,
    read: u64,
    full: u64,
    layers_rebuilt: usize,
    layers_reused: usize,
    layers_in_full: usize,
    memory: u64,
    scratch: u64,
    encoders: Vec<String>,
}

#[derive(Serialize)]
struct Item {
    digest: String,
    size: u64,
    media_type: String,
    artifact_type: Option<String>,
    tag: Option<String>,
}

impl Args {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let medium = verify::medium(&self.path)?;
        let claim = verify::claim(&medium)?;
        let release = &claim.release;
        let report = InspectReport {
            verified: false,
            product: release.product.clone(),
            version: release.version.clone(),
            sequence: release.sequence,
            created: release.created.clone(),
            source: release.source.clone(),
            image: release.image().map(|image| image.digest.to_string()),
            signers: claim.signers.iter().map(|id| id.to_hex()).collect(),
            blobs: release.blobs.len(),
            size: release.total_size(),
            contents: release.index.iter().map(item).collect(),
            omitted: release.omitted.iter().map(ToString::to_string).collect(),
            #[cfg(feature = "delta")]
            deltas: bundle::delta::offers(&medium, release)
                .into_iter()
                .map(delta)
                .collect(),
        };
        let mut rows = vec![
            ("Product", report.product.clone()),
            (
                "Version",
                format!("{} (sequence {})", report.version, report.sequence),
            ),
            (
                "Created",
                report
                    .created
                    .clone()
                    .unwrap_or_else(|| "not stated".into()),
            ),
            ("Source", report.source.clone()),
            ("Image", report.image.clone().unwrap_or_default()),
            (
                "Size",
                format!("{} in {} blobs", bytes(report.size), report.blobs),
            ),
        ];
        rows.extend(report.signers.iter().map(|id| ("Names signer", id.clone())));
        for item in &report.contents {
            let what = item.artifact_type.as_ref().unwrap_or(&item.media_type);
            let tag = item
                .tag
                .as_ref()
                .map_or_else(String::new, |tag| format!(" tagged {tag}"));
            rows.push(("Contains", format!("{what} {}{tag}", item.digest)));
        }
        #[cfg(feature = "delta")]
        rows.extend(report.deltas.iter().map(|delta| ("Delta", describe(delta))));
        if !report.omitted.is_empty() {
            let count = report.omitted.len();
            let text = format!("{count} layers: only hosts that have a base can use this");
            rows.push(("Left out", text));
        }
        rows.push((
            "Verified",
            "no; run `bundle verify` to check signature and content".into(),
        ));
        output.result("bundle.inspect.v1", &report, &table(&rows));
        Ok(ExitStatus::Done)
    }
}

#[cfg(feature = "delta")]
fn delta(offer: bundle::delta::Offer) -> DeltaReport {
    let [layers_rebuilt, layers_reused, layers_in_full] = offer.layers;
    DeltaReport {
        target: offer.target.to_string(),
        base: offer.base.map(|base| base.to_string()),
        read: offer.read,
        full: offer.full,
        layers_rebuilt,
        layers_reused,
        layers_in_full,
        memory: offer.memory,
        scratch: offer.scratch,
        encoders: offer.encoders,
    }
}

#[cfg(feature = "delta")]
fn describe(delta: &DeltaReport) -> String {
    let needs = match (delta.layers_rebuilt, delta.encoders.as_slice()) {
        (0, _) | (_, []) => String::new(),
        (_, encoders) => format!(", encoders {}", encoders.join(", ")),
    };
    format!(
        "a host that has {} reads {} instead of {}, and needs {} of memory, {} of temporary files{needs}",
        delta.base.as_deref().unwrap_or("its base"),
        bytes(delta.read),
        bytes(delta.full),
        bytes(delta.memory),
        bytes(delta.scratch),
    )
}

fn item(descriptor: &Descriptor) -> Item {
    Item {
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
        artifact_type: descriptor.artifact_type.clone(),
        tag: descriptor.annotations.get(media_type::REF_NAME).cloned(),
    }
}
