//! Stock tools read a bundle and check its signature without this program.

use std::fs;

use bundle_format::media_type;

use crate::common::kit::{Image, Kit, PRODUCT, TAG};
use crate::common::reseal::parts;
use crate::common::run::{run, tool};

#[test]
fn openssl_checks_the_signature() {
    let kit = Kit::new(Image::MINIMAL);
    let signed = parts(&kit.bundle).signed;
    // The encoding of the DSSE specification, written out here and not taken from the program.
    let mut message = format!(
        "DSSEv1 {} {} {} ",
        media_type::IN_TOTO.len(),
        media_type::IN_TOTO,
        signed.payload.len()
    )
    .into_bytes();
    message.extend(&signed.payload);
    fs::write(kit.path("message"), &message).unwrap();
    fs::write(kit.path("sig"), &signed.signatures[0].sig).unwrap();
    let public = kit.path("pub.pem");
    run(tool("openssl", ["pkey", "-pubout", "-in"])
        .arg(&kit.key_file)
        .arg("-out")
        .arg(&public))
    .good();
    let verify = || {
        let mut command = tool(
            "openssl",
            ["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"],
        );
        command.arg(&public).arg("-in").arg(kit.path("message"));
        run(command.arg("-sigfile").arg(kit.path("sig")))
    };
    verify().good();
    message[40] ^= 1;
    fs::write(kit.path("message"), &message).unwrap();
    assert_ne!(verify().status, Some(0));
    let statement: serde_json::Value = serde_json::from_slice(&signed.payload).unwrap();
    assert_eq!(statement["predicate"]["product"], PRODUCT);
}

#[test]
fn skopeo_reads_the_image_by_its_tag() {
    let kit = Kit::new(Image::USUAL);
    let image = format!("oci:{}:{TAG}", kit.bundle.display());
    let shown = run(tool("skopeo", ["inspect"]).arg(&image)).good();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let release = parts(&kit.bundle).release;
    assert_eq!(shown["Digest"], release.image().unwrap().digest.to_string());
    assert_eq!(shown["Layers"].as_array().unwrap().len(), 3);
    let target = format!("dir:{}", kit.path("copied").display());
    run(tool("skopeo", ["--insecure-policy", "copy", "--quiet"]).args([&image, &target])).good();
    // Every layer arrived under its digest, unchanged.
    for digest in shown["Layers"].as_array().unwrap() {
        let name = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let copied = fs::read(kit.path("copied").join(name)).unwrap();
        assert_eq!(
            copied,
            fs::read(kit.bundle.join("blobs/sha256").join(name)).unwrap()
        );
    }
    let raw = fs::read(kit.path("copied").join("manifest.json")).unwrap();
    assert_eq!(
        bundle_format::Digest::of(&raw),
        release.image().unwrap().digest
    );
}

#[test]
fn ocidir_finds_nothing_wrong() {
    use ocidir::OciRead as _;

    let kit = Kit::new(Image::USUAL);
    let authority = cap_std_ext::cap_std::ambient_authority();
    let dir = cap_std_ext::cap_std::fs::Dir::open_ambient_dir(&kit.bundle, authority).unwrap();
    let layout = ocidir::OciDir::open(dir).unwrap();
    let release = parts(&kit.bundle).release;
    // The image, what refers to it, and the release statement itself.
    assert_eq!(
        layout.read_index().unwrap().manifests().len(),
        release.index.len() + 1
    );
    let found = layout
        .find_manifest_descriptor_with_tag(TAG)
        .unwrap()
        .unwrap();
    assert_eq!(
        found.digest().to_string(),
        release.image().unwrap().digest.to_string()
    );
    assert!(layout.fsck().unwrap() > 0);
}
