//! Roads of layers to a host: the options that decide, and how they are told.

use std::path::PathBuf;

use bundle::apply::Options;
use bundle::delta::{LayerPlan, Plan, Road};
use bundle::ostree::DeployOptions;
use serde::Serialize;

use super::output::bytes;
use super::size;

/// What rebuilding layers from deltas may use.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HostArgs {
    /// Memory that rebuilding layers may take, such as 256MiB [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// Directory with encoders that deltas may need [default: /usr/lib/bundle/encoders]
    #[arg(long, value_name = "DIR")]
    encoders: Option<PathBuf>,
}

impl HostArgs {
    pub(crate) fn options(&self, deploy: DeployOptions) -> Options {
        Options {
            deploy,
            memory: self.memory,
            encoders: self.encoders.clone(),
        }
    }
}

/// How one layer comes to the host.
#[derive(Debug, Serialize)]
pub(crate) struct LayerReport {
    digest: String,
    /// `present`, `delta` or `full`; null where there is no way.
    road: Option<&'static str>,
    /// Bytes read from the medium.
    read: Option<u64>,
    /// Manifest of the image that the delta was made against.
    base: Option<String>,
    memory: Option<u64>,
    scratch: Option<u64>,
    refused: Vec<RefusalReport>,
}

/// Why a delta is of no use on the host.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalReport {
    delta: String,
    base: Option<String>,
    reason: String,
}

/// Describes a plan for `--json`.
pub(crate) fn report(plan: &Plan) -> Vec<LayerReport> {
    plan.layers.iter().map(layer).collect()
}

fn layer(plan: &LayerPlan) -> LayerReport {
    let road = plan.road();
    let delta = match road {
        Some(Road::Delta(delta)) => Some(delta),
        _ => None,
    };
    let refused = plan.refused.iter().map(|refusal| RefusalReport {
        delta: refusal.blob.to_string(),
        base: refusal.base.map(|base| base.to_string()),
        reason: refusal.reason.clone(),
    });
    LayerReport {
        digest: plan.layer.digest.to_string(),
        road: road.map(Road::name),
        read: road.map(|road| road.bytes(&plan.layer)),
        base: delta.and_then(|delta| Some(delta.base?.to_string())),
        memory: delta.map(|delta| delta.memory),
        scratch: delta.map(|delta| delta.scratch),
        refused: refused.collect(),
    }
}

/// Describes a plan for people, a row a layer.
pub(crate) fn rows(plan: &Plan) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    for plan in &plan.layers {
        let what = match plan.road() {
            None => "no way to it".into(),
            Some(Road::Present) => "is here".into(),
            Some(Road::Full) => format!("in full, {}", bytes(plan.layer.size)),
            Some(Road::Delta(delta)) => format!(
                "from a delta, {} instead of {}; rebuilding takes {} of memory, {} of temporary files",
                bytes(delta.blob.size),
                bytes(plan.layer.size),
                bytes(delta.memory),
                bytes(delta.scratch)
            ),
        };
        rows.push(("Layer", format!("{} {what}", plan.layer.digest)));
        let refused = plan.refused.iter();
        rows.extend(refused.map(|refusal| ("Not used", format!("a delta: {}", refusal.reason))));
    }
    let damaged = plan.damaged.iter();
    rows.extend(damaged.map(|name| ("Damaged", format!("object {name} of this host"))));
    rows
}
