//! Bounds on what an image may make the host do; always on, and far above what an operating system needs.

/// Limits on one import; [`Limits::default`] is what every import uses unless a caller asks for less.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one layer's tar stream, and of the files it unpacks to (sparse files count in full).
    pub tar_bytes: u64,
    /// Tar bytes per stored byte. Deflate cannot exceed 1,032; zstd can, and only a bomb does.
    pub ratio: u64,
    /// Tar bytes below which [`Limits::ratio`] is not looked at, so that tiny layers of zeros pass.
    pub ratio_grace: u64,
    /// Entries of one image, all layers together. The largest distributions stay below 600,000.
    pub entries: u64,
    /// Bytes of a whole path, after placing.
    pub path: usize,
    /// Bytes of one name in a path.
    pub name: usize,
    /// Directories above an entry.
    pub depth: usize,
    /// Bytes of all names and values of one entry's extended attributes; ext4 stores no more.
    pub xattrs: usize,
    /// Bytes of one PAX header or GNU long name.
    pub extension: u64,
    /// Data segments of one sparse file.
    pub segments: usize,
    /// Bytes of one OSTree metadata object, as libostree bounds them.
    pub metadata: u64,
    /// Bytes of the manifest, and of the configuration; both become metadata of one commit.
    pub json: usize,
    /// Layers of one image.
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tar_bytes: 64 << 30,
            ratio: 1_100,
            ratio_grace: 64 << 20,
            entries: 999_999,
            path: 4_096,
            name: 255,
            depth: 256,
            xattrs: 64 << 10,
            extension: 1 << 20,
            segments: 65_536,
            metadata: 10 << 20,
            json: 4 << 20,
            layers: 500,
        }
    }
}
