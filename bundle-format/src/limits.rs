//! Caps on everything a hostile medium or registry can make large (SPEC 7).

/// Upper bounds a reader enforces before it allocates or loops.
///
/// The defaults hold for every command and are not switched off; a smaller set is for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// `index.json`, a manifest, an image index or an image configuration: 4 MiB, as registries do.
    pub manifest_bytes: u64,
    /// The DSSE envelope around a release statement: 32 MiB.
    pub envelope_bytes: u64,
    /// A trust root, revocation list or permit: 1 MiB.
    pub trust_root_bytes: u64,
    /// Trust roots in one chain: as many steps a host walks at once.
    pub trust_chain_roots: usize,
    /// All trust roots of one chain together: 16 MiB.
    pub trust_chain_bytes: u64,
    /// Key ids and digests in a revocation list, hosts in a permit.
    pub trust_entries: usize,
    /// Chunk index: 32 bytes a chunk, so 128 MiB cover 4 TiB of blobs.
    pub chunk_index_bytes: u64,
    /// Blobs in one bundle.
    pub blobs: usize,
    /// Descriptors in one index or manifest.
    pub descriptors: usize,
    /// Signatures on one envelope.
    pub signatures: usize,
    /// Nesting of arrays and objects in any JSON document.
    pub json_depth: usize,
    /// Entries of the medium's directories that are looked at before giving up.
    pub medium_entries: usize,
}

impl Limits {
    /// The limits every command runs under.
    pub const DEFAULT: Self = Self {
        manifest_bytes: 4 << 20,
        envelope_bytes: 32 << 20,
        trust_root_bytes: 1 << 20,
        trust_chain_roots: 256,
        trust_chain_bytes: 16 << 20,
        trust_entries: 10_000,
        chunk_index_bytes: 128 << 20,
        blobs: 100_000,
        descriptors: 10_000,
        signatures: 64,
        json_depth: 32,
        medium_entries: 110_000,
    };
}
