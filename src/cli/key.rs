//! `bundle key`: signing keys.

use std::path::{Path, PathBuf};

use bundle::Error;
use bundle::exit::ExitStatus;
use bundle_keys::{KeyError, PrivateKey};
use serde::Serialize;

use super::output::{Output, table};
use super::{Outcome, files};

/// Make and look at signing keys
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make an Ed25519 key pair
    ///
    /// The private half is written as PKCS#8 PEM with mode 0600, the public half beside it:
    /// KEY.pem gets KEY.pub.pem. Existing files are never overwritten. Keep the private half where
    /// releases are signed and nowhere else; only the public half belongs into trust roots.
    Generate(GenerateArgs),
    /// Print the key id of a public or private key
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// File for the private key, such as release.pem
    #[arg(long, value_name = "KEY.pem")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// PEM file with a public or private key
    key: PathBuf,
}

#[derive(Serialize)]
struct KeyReport {
    keyid: String,
    private: Option<PathBuf>,
    public: Option<PathBuf>,
    spki: String,
}

impl Command {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        match self {
            Self::Generate(args) => generate(&args.out, output),
            Self::Show(args) => {
                let key = files::public_key(&args.key)?;
                let report = KeyReport {
                    keyid: key.keyid().to_hex(),
                    private: None,
                    public: None,
                    spki: key.to_base64(),
                };
                output.result("bundle.key.v1", &report, &format!("{}\n", report.keyid));
                Ok(ExitStatus::Done)
            }
        }
    }
}

fn generate(out: &Path, output: &Output) -> Outcome {
    let fail = |source: KeyError| Error::Key {
        path: out.into(),
        source,
    };
    let private = PrivateKey::generate().map_err(fail)?;
    let public = private.public().map_err(fail)?;
    let public_path = public_path(out);
    if public_path.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: public_path });
    }
    files::create(out, private.to_pem().map_err(fail)?.as_bytes(), 0o600)?;
    files::create(&public_path, public.to_pem().as_bytes(), 0o644)?;
    let report = KeyReport {
        keyid: public.keyid().to_hex(),
        private: Some(out.into()),
        public: Some(public_path.clone()),
        spki: public.to_base64(),
    };
    let text = table(&[
        ("Key id", report.keyid.clone()),
        ("Private", out.display().to_string()),
        ("Public", public_path.display().to_string()),
    ]);
    output.result("bundle.key.v1", &report, &text);
    Ok(ExitStatus::Done)
}

/// Names the public half: `KEY.pem` gets `KEY.pub.pem`, `KEY` gets `KEY.pub.pem` too.
fn public_path(private: &Path) -> PathBuf {
    match private.extension() {
        Some(extension) if extension == "pem" => private.with_extension("pub.pem"),
        _ => {
            let mut name = private.as_os_str().to_os_string();
            name.push(".pub.pem");
            name.into()
        }
    }
}
