//! A product with its key and trust root, which signs exports.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::program::{bundle, finish, scratch};

/// Reference that exports of layouts record.
pub const REFERENCE: &str = "registry.example/os/appliance:stable";

/// A key pair and a trust root in a directory of their own.
pub struct Signer {
    directory: TempDir,
}

impl Signer {
    /// Makes the key and the trust root of a product, as a vendor does.
    pub fn new(product: &str) -> Self {
        let signer = Self {
            directory: scratch(),
        };
        let (key, root) = (signer.key(), signer.root());
        finish(bundle(["key", "generate", "--out"]).arg(&key)).ok();
        finish(
            bundle(["trust", "init", "--product", product, "--key"])
                .arg(&key)
                .arg("-o")
                .arg(root),
        )
        .ok();
        signer
    }

    /// Returns the file of the private key.
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Returns the file of the public key.
    pub fn public(&self) -> PathBuf {
        self.directory.path().join("key.pub.pem")
    }

    /// Returns the file of the trust root.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root.json")
    }

    /// Prepares an export of any source.
    pub fn export(&self, source: &str, output: &Path, sequence: u64) -> Command {
        let mut command = bundle(["--json", "export", source, "--tls-verify=false"]);
        command
            .arg("--sequence")
            .arg(sequence.to_string())
            .arg("-o")
            .arg(output);
        command
            .arg("--sign-key")
            .arg(self.key())
            .arg("--trust-root")
            .arg(self.root());
        command
    }

    /// Exports a tag of a layout.
    #[track_caller]
    pub fn export_layout(&self, layout: &Path, tag: &str, output: &Path, sequence: u64) {
        let source = format!("oci:{}:{tag}", layout.display());
        finish(self.export(&source, output, sequence).args([
            "--version",
            tag,
            "--reference",
            REFERENCE,
        ]))
        .ok();
    }

    /// Prepares a verification.
    pub fn verify(&self, path: &Path) -> Command {
        let mut command = bundle(["--json", "verify"]);
        command.arg(path).arg("--trust-root").arg(self.root());
        command
    }
}
