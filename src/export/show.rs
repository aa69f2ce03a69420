//! Where the bytes of a delta go: by operation, and by file of what it makes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use bundle_delta::header::{Effort, Header, MAGIC};
use bundle_delta::program::Op;
use bundle_delta::rebuild::rebuild_observed;
use bundle_delta::{DeltaError, tar_diff};
use bundle_format::Digest;

use crate::Error;
use crate::delta::{Layer, Options, Spool, SpoolStore};

/// What a delta consists of.
#[derive(Debug)]
pub struct Shown {
    /// The layer that it makes, where that is told.
    pub layer: Option<Digest>,
    /// Bytes of the delta.
    pub size: u64,
    /// `layer-delta` or `tar-diff`.
    pub format: &'static str,
    /// Bytes of the target; none for a tar-diff, which does not say.
    pub target: Option<u64>,
    /// What rebuilding takes; none for a tar-diff.
    pub needs: Option<Needs>,
    /// Old files that it takes.
    pub sources: usize,
    /// Bytes that the head takes in the delta.
    pub head: u64,
    /// By kind of operation: how many, bytes made, bytes of the delta. Only where the base is at hand.
    pub operations: BTreeMap<&'static str, Share>,
    /// By file of the target, the most expensive first. Only where the base is at hand.
    pub files: Vec<(String, Share)>,
}

/// What rebuilding takes.
#[derive(Debug)]
pub struct Needs {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of temporary files.
    pub scratch: u64,
    /// What it asks of the processor.
    pub effort: Effort,
    /// Encoders.
    pub encoders: Vec<String>,
}

/// A part of a delta.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Operations.
    pub count: u64,
    /// Bytes of the target.
    pub made: u64,
    /// Bytes of the delta, about.
    pub cost: f64,
}

impl Share {
    fn add(&mut self, made: u64, cost: f64) {
        self.count += 1;
        self.made += made;
        self.cost += cost;
    }
}

/// Looks into a layer delta; `sources` are the layers that it takes files from, if they are at hand.
///
/// # Errors
/// Fails where the delta is malformed, or is not for these layers.
pub fn show(
    layer: Option<Digest>,
    mut delta: File,
    sources: &[Layer<'_>],
    options: &Options,
) -> Result<(Shown, Option<Spool>), Error> {
    let refuse = |error: DeltaError| Error::Image {
        object: layer.map_or_else(
            || "delta".into(),
            |layer| format!("delta for layer {layer}"),
        ),
        problem: error.to_string(),
    };
    let size = delta.metadata().map_err(|e| refuse(e.into()))?.len();
    let mut magic = [0; 8];
    delta
        .read_exact(&mut magic)
        .and_then(|()| delta.seek(SeekFrom::Start(0)))
        .map_err(|e| refuse(e.into()))?;
    let mut shown = Shown {
        layer,
        size,
        format: "tar-diff",
        target: None,
        needs: None,
        sources: 0,
        head: 0,
        operations: BTreeMap::new(),
        files: Vec::new(),
    };
    if &magic != MAGIC {
        let paths = tar_diff::paths(delta, &Default::default()).map_err(refuse)?;
        shown.sources = paths.len();
        return Ok((shown, None));
    }
    let mut input = BufReader::new(delta);
    let header = Header::read(&mut input, &Default::default()).map_err(refuse)?;
    shown.head = input.stream_position().map_err(|e| refuse(e.into()))?;
    shown.format = "layer-delta";
    shown.target = Some(header.target_size);
    shown.sources = header.sources.len();
    shown.needs = Some(Needs {
        memory: header.memory,
        scratch: header.scratch,
        effort: header.effort,
        encoders: header.encoders.clone(),
    });
    if sources.is_empty() {
        return Ok((shown, None));
    }
    let spool = observe(&header, input, sources, options, &mut shown).map_err(refuse)?;
    Ok((shown, Some(spool)))
}

/// Rebuilds the target, and adds up what each of its bytes cost.
fn observe(
    header: &Header,
    input: impl Read,
    sources: &[Layer<'_>],
    options: &Options,
    shown: &mut Shown,
) -> Result<Spool, DeltaError> {
    let store = SpoolStore::new(header, sources, options);
    if let Some(source) = store.missing().next().and_then(|n| header.sources.get(n)) {
        let path = source.path.clone();
        return Err(DeltaError::WrongSource { path });
    }
    let mut out = tempfile::tempfile_in(&options.directory)?;
    let mut steps = Vec::new();
    rebuild_observed(
        header,
        input,
        &store,
        &mut out,
        &Default::default(),
        &mut |done| {
            steps.push(done);
        },
    )?;
    out.seek(SeekFrom::Start(0))?;
    let spool = Spool::read(BufReader::new(out), Path::new(&options.directory))?;
    if spool.digest().as_bytes() != &header.target_hash {
        return Err(DeltaError::WrongTarget);
    }
    let mut files: BTreeMap<usize, Share> = BTreeMap::new();
    let mut between = Share::default();
    let (mut at, mut number) = (0, 0);
    for done in steps {
        let made = done.target - at;
        let kind = shown.operations.entry(name(done.op)).or_default();
        kind.add(made, done.cost);
        // An operation never reaches from one file into the next, but those between files do.
        while spool
            .files()
            .get(number)
            .is_some_and(|file| file.offset + file.size <= at)
        {
            number += 1;
        }
        match spool.files().get(number) {
            Some(file) if at >= file.offset => {
                files.entry(number).or_default().add(made, done.cost)
            }
            _ => between.add(made, done.cost),
        }
        at = done.target;
    }
    let named = files.into_iter().filter_map(|(number, share)| {
        let file = spool.files().get(number)?;
        Some((file.name().to_string(), share))
    });
    shown.files = named.chain([("(tar headers)".into(), between)]).collect();
    shown
        .files
        .sort_by(|(a, left), (b, right)| right.cost.total_cmp(&left.cost).then_with(|| a.cmp(b)));
    Ok(spool)
}

fn name(op: Op) -> &'static str {
    match op {
        Op::Frame { .. } => "between files",
        Op::New { .. } => "new",
        Op::Whole { .. } => "unchanged",
        Op::Copy { .. } => "copied",
        Op::File {
            predicted: true, ..
        } => "changed, predicted",
        Op::File { .. } => "changed",
        Op::Encode { .. } => "encoded again",
        Op::Object { .. } | Op::Open { .. } | Op::End => "other",
    }
}

impl Shown {
    /// Returns the bytes of the delta that no operation accounts for: the head, and what frames take by themselves.
    pub fn overhead(&self) -> u64 {
        let cost: f64 = self.operations.values().map(|share| share.cost).sum();
        self.size.saturating_sub(cost as u64)
    }
}

/// Unpacks the layers of a base, for [`show`].
///
/// # Errors
/// Fails where the base cannot be read.
pub fn base_layers(
    base: &super::Base,
    directory: &Path,
    progress: &dyn crate::progress::Progress,
) -> Result<Vec<Spool>, Error> {
    let parts = base.parts(&crate::platform::Wanted::host(), Digest::of(b""))?;
    let total = parts.layers.iter().map(|(layer, _)| layer.size);
    progress.stage("reading base", total.fold(0, u64::saturating_add));
    let spool = |(layer, diff_id): &(_, Digest)| base.spool(layer, *diff_id, directory, progress);
    parts.layers.iter().map(spool).collect()
}
