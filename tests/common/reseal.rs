//! Changes a bundle and makes everything around the change agree again.
//!
//! A hostile bundle is only worth testing when the first check does not catch it by accident: after
//! an edit the envelope, the release manifest and `index.json` are derived anew, signed with the
//! right key where the attack assumes that.

use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::dsse::Envelope;
use bundle_format::layout::{self, INDEX_PATH};
use bundle_format::{BlobEntry, Digest, Limits, Release, chunk, media_type};
use bundle_keys::PrivateKey;
use serde_json::{Value, json};

/// Where the signed parts of a bundle lie.
pub(crate) struct Parts {
    pub(crate) manifest: PathBuf,
    pub(crate) envelope: PathBuf,
    pub(crate) chunks: PathBuf,
    pub(crate) release: Release,
    pub(crate) signed: Envelope,
}

/// Finds the signed parts of a good bundle.
pub(crate) fn parts(bundle: &Path) -> Parts {
    let limits = &Limits::DEFAULT;
    let index = fs::read(bundle.join(INDEX_PATH)).unwrap();
    let manifest = bundle.join(
        layout::find_release(&index, limits)
            .unwrap()
            .digest
            .blob_path(),
    );
    let envelope = layout::find_envelope(&fs::read(&manifest).unwrap(), limits).unwrap();
    let envelope = bundle.join(envelope.digest.blob_path());
    let signed = Envelope::parse(&fs::read(&envelope).unwrap(), limits).unwrap();
    let release = Release::parse(&signed.payload, limits).unwrap();
    let chunks = bundle.join(release.chunks.index.digest.blob_path());
    Parts {
        manifest,
        envelope,
        chunks,
        release,
        signed,
    }
}

/// Stores a blob under its digest.
pub(crate) fn put(bundle: &Path, bytes: &[u8]) -> BlobEntry {
    let entry = BlobEntry {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    fs::write(bundle.join(entry.digest.blob_path()), bytes).unwrap();
    entry
}

/// Edits a JSON file in place.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Edits the unsigned release manifest and points `index.json` at the result.
pub(crate) fn edit_manifest(bundle: &Path, edit: impl FnOnce(&mut Value)) {
    let old = parts(bundle);
    let mut value = serde_json::from_slice(&fs::read(&old.manifest).unwrap()).unwrap();
    edit(&mut value);
    fs::remove_file(&old.manifest).unwrap();
    let entry = put(bundle, &serde_json::to_vec(&value).unwrap());
    point_index_at(bundle, entry);
}

/// Puts other bytes in the envelope's place and derives what follows, as far as it can be parsed.
pub(crate) fn place_envelope(bundle: &Path, bytes: &[u8]) {
    let old = parts(bundle);
    let old_manifest = fs::read(&old.manifest).unwrap();
    fs::remove_file(&old.envelope).unwrap();
    fs::remove_file(&old.manifest).unwrap();
    let entry = put(bundle, bytes);
    let limits = &Limits::DEFAULT;
    let release = Envelope::parse(bytes, limits)
        .ok()
        .and_then(|envelope| Release::parse(&envelope.payload, limits).ok());
    let Some(release) = release else {
        let mut manifest: Value = serde_json::from_slice(&old_manifest).unwrap();
        manifest["layers"][0]["digest"] = json!(entry.digest.to_string());
        manifest["layers"][0]["size"] = json!(entry.size);
        let entry = put(bundle, &serde_json::to_vec(&manifest).unwrap());
        point_index_at(bundle, entry);
        return;
    };
    let manifest = layout::release_manifest(&release, entry);
    put(bundle, &manifest);
    fs::write(
        bundle.join(INDEX_PATH),
        layout::index_json(&release, &manifest),
    )
    .unwrap();
}

fn point_index_at(bundle: &Path, manifest: BlobEntry) {
    edit_json(&bundle.join(INDEX_PATH), |index| {
        let own = index["manifests"]
            .as_array_mut()
            .unwrap()
            .last_mut()
            .unwrap();
        own["digest"] = json!(manifest.digest.to_string());
        own["size"] = json!(manifest.size);
    });
}

/// Signs any payload and puts it in the statement's place.
pub(crate) fn sign_payload(bundle: &Path, payload: Vec<u8>, keys: &[PrivateKey]) {
    let envelope = bundle_keys::sign(media_type::IN_TOTO, payload, keys).unwrap();
    place_envelope(bundle, &envelope.to_json());
}

/// Edits the statement as JSON and signs it again.
pub(crate) fn edit_statement(bundle: &Path, key: PrivateKey, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&parts(bundle).signed.payload).unwrap();
    edit(&mut value);
    sign_payload(bundle, serde_json::to_vec(&value).unwrap(), &[key]);
}

/// Edits the statement as text, for what no JSON writer would write, and signs it again.
pub(crate) fn edit_statement_text(bundle: &Path, key: PrivateKey, from: &str, to: &str) {
    let text = String::from_utf8(parts(bundle).signed.payload).unwrap();
    assert!(text.contains(from), "the statement has no {from}");
    sign_payload(bundle, text.replacen(from, to, 1).into_bytes(), &[key]);
}

/// Edits the envelope as JSON, without signing it again.
///
/// Where the result is an envelope it is written in its one spelling, so that the spelling is not
/// what it is refused for.
pub(crate) fn edit_envelope(bundle: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(parts(bundle).envelope).unwrap()).unwrap();
    edit(&mut value);
    let bytes = serde_json::to_vec(&value).unwrap();
    match Envelope::parse(&bytes, &Limits::DEFAULT) {
        Ok(envelope) if value.is_object() => place_envelope(bundle, &envelope.to_json()),
        _ => place_envelope(bundle, &bytes),
    }
}

/// Edits the envelope as text, without signing it again.
pub(crate) fn edit_envelope_text(bundle: &Path, edit: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(parts(bundle).envelope).unwrap();
    let edited = edit(text.clone());
    assert_ne!(text, edited, "the edit changes nothing");
    place_envelope(bundle, edited.as_bytes());
}

/// Edits the release, indexes the blobs as they lie on the medium, and signs it again.
pub(crate) fn edit_release(bundle: &Path, key: PrivateKey, edit: impl FnOnce(&mut Release)) {
    let old = parts(bundle);
    let mut release = old.release;
    edit(&mut release);
    fs::remove_file(&old.chunks).unwrap();
    let hashes: Vec<u8> = release
        .blobs
        .iter()
        .map(|blob| fs::read(bundle.join(blob.digest.blob_path())).unwrap())
        .flat_map(|bytes| {
            let chunks = bytes.chunks(chunk::CHUNK_BYTES as usize);
            chunks
                .flat_map(|part| *Digest::of(part).as_bytes())
                .collect::<Vec<_>>()
        })
        .collect();
    // parts() is asked again while the envelope is replaced; it does not read the chunk index.
    release.chunks.index = put(bundle, &hashes);
    let payload = release.to_json(&Limits::DEFAULT).unwrap();
    sign_payload(bundle, payload, &[key]);
}

/// Puts trust roots into a bundle as its chain, and signs the release again.
pub(crate) fn add_chain(bundle: &Path, key: PrivateKey, roots: &[Vec<u8>]) {
    let blobs: Vec<_> = roots.iter().map(|root| put(bundle, root)).collect();
    let image = parts(bundle).release.image().unwrap().clone();
    let (descriptor, manifest) = bundle_format::trust_chain::manifest(&image, &blobs);
    let manifest = put(bundle, &manifest);
    edit_release(bundle, key, |release| {
        release.index.push(descriptor);
        for blob in blobs.into_iter().chain([manifest]) {
            if !release.blobs.contains(&blob) {
                release.blobs.push(blob);
            }
        }
    });
}

/// Edits the image's manifest and signs a release that has the result for its image.
pub(crate) fn edit_image(bundle: &Path, key: PrivateKey, edit: impl FnOnce(&mut Value)) {
    let old = parts(bundle).release.image().unwrap().digest;
    let path = bundle.join(old.blob_path());
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    fs::remove_file(&path).unwrap();
    let entry = put(bundle, &serde_json::to_vec(&value).unwrap());
    edit_release(bundle, key, |release| {
        release.index[0].digest = entry.digest;
        release.index[0].size = entry.size;
        let blob = release
            .blobs
            .iter_mut()
            .find(|blob| blob.digest == old)
            .unwrap();
        *blob = entry;
    });
}
