//! Media types and annotation keys that bundles use (SPEC 2.4).

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Empty OCI descriptor, the `config` of artifacts.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker schema 2 manifest, read and carried unchanged.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker schema 2 manifest list, read and carried unchanged.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// OCI layer, uncompressed.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const LAYER_TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Artifact type of the manifest that carries the release statement.
pub const RELEASE: &str = "application/vnd.bundle.release.v1";
/// DSSE envelope around the release statement.
pub const RELEASE_ENVELOPE: &str = "application/vnd.bundle.release.v1.dsse+json";
/// Chunk index blob.
pub const CHUNK_INDEX: &str = "application/vnd.bundle.chunks.v1";
/// DSSE payload type of trust roots.
pub const TRUST_ROOT: &str = "application/vnd.bundle.trust-root.v1+json";
/// DSSE payload type of revocation lists.
pub const REVOCATION_LIST: &str = "application/vnd.bundle.revocation-list.v1+json";
/// DSSE payload type of permits.
pub const PERMIT: &str = "application/vnd.bundle.permit.v1+json";
/// Artifact type of the manifest that lists the trust roots of a bundle.
pub const TRUST_CHAIN: &str = "application/vnd.bundle.trust-chain.v1";
/// DSSE payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Artifact type of deltas between images, as containers/oci-delta has it.
pub const OCI_DELTA: &str = "application/vnd.io.github.containers.oci-delta.v1";
/// Layer delta in this project's codec.
pub const LAYER_DELTA: &str = "application/vnd.bundle.layer-delta.v1";
/// Layer delta of containers/tar-diff, either version.
pub const TAR_DIFF: &str = "application/vnd.tar-diff";

/// Annotation of a descriptor in `index.json`: the tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
