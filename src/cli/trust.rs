//! `bundle trust`: the trust root that says whose releases a host accepts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bundle::Error;
use bundle::exit::ExitStatus;
use bundle_format::check_product;
use bundle_keys::{KeyError, Role, TrustRoot};
use serde::Serialize;

use super::output::{Output, table};
use super::{Outcome, files};

/// Make and look at trust roots
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make version 1 of a product's trust root
    ///
    /// A trust root names a product, the keys that may sign its releases and how many of them have
    /// to agree. It is signed by its own root keys. Bring it to hosts by a way you trust, such as
    /// inside the image: a trust root on an update medium is never believed.
    Init(InitArgs),
    /// Print what a trust root says, after checking it
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Name of the product: a-z 0-9 . _ -
    #[arg(long)]
    product: String,
    /// Private key of the role `root`; signs the trust root (repeatable)
    #[arg(long = "key", required = true, value_name = "KEY.pem")]
    keys: Vec<PathBuf>,
    /// Root keys that have to agree to a new trust root
    #[arg(long, default_value_t = 1, value_name = "N")]
    threshold: usize,
    /// Public key of the role `release` (repeatable) [default: the --key ones]
    #[arg(long = "release-key", value_name = "KEY.pub.pem")]
    release_keys: Vec<PathBuf>,
    /// Release keys that have to agree to a release
    #[arg(long, default_value_t = 1, value_name = "N")]
    release_threshold: usize,
    /// File for the trust root
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Trust root file
    trust_root: PathBuf,
}

#[derive(Serialize)]
struct RootReport {
    product: String,
    version: u64,
    digest: String,
    roles: BTreeMap<Role, RoleReport>,
    keys: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct RoleReport {
    threshold: usize,
    keyids: Vec<String>,
}

impl Command {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        match self {
            Self::Init(args) => init(args, output),
            Self::Show(args) => {
                show(&files::trust_root(&args.trust_root)?, output);
                Ok(ExitStatus::Done)
            }
        }
    }
}

fn init(args: &InitArgs, output: &Output) -> Outcome {
    let usage = |option: &str, problem: String, hint: &str| Error::Usage {
        option: option.into(),
        problem,
        hint: hint.into(),
    };
    check_product(&args.product).map_err(|problem| {
        usage(
            "--product",
            problem,
            "use lower-case letters, digits, dots, dashes and underscores",
        )
    })?;
    let signers = args
        .keys
        .iter()
        .map(|path| files::private_key(path, output))
        .collect::<Result<Vec<_>, _>>()?;
    let root_keys = args
        .keys
        .iter()
        .map(|path| files::public_key(path))
        .collect::<Result<Vec<_>, _>>()?;
    let release_keys = match args.release_keys.as_slice() {
        [] => root_keys.clone(),
        paths => paths
            .iter()
            .map(|path| files::public_key(path))
            .collect::<Result<_, _>>()?,
    };
    let roles = BTreeMap::from([
        (Role::Root, (root_keys, args.threshold)),
        (Role::Release, (release_keys, args.release_threshold)),
    ]);
    let bytes = TrustRoot::create(&args.product, &roles, &signers).map_err(|e| match e {
        KeyError::Root { problem } => {
            let hint = "a threshold is at least 1 and at most the number of different keys";
            usage("--threshold or --release-threshold", problem, hint)
        }
        source => Error::Key {
            path: args.out.clone(),
            source,
        },
    })?;
    files::create(&args.out, &bytes, 0o644)?;
    show(&files::trust_root(&args.out)?, output);
    Ok(ExitStatus::Done)
}

fn show(root: &TrustRoot, output: &Output) {
    let mut rows = vec![
        ("Product", root.product().to_string()),
        ("Version", root.version().to_string()),
        ("Fingerprint", root.digest().to_string()),
    ];
    let names: Vec<_> = root
        .roles()
        .keys()
        .map(|role| format!("Role {role}"))
        .collect();
    for (name, role) in names.iter().zip(root.roles().values()) {
        let of = format!("{} of {} keys", role.threshold, role.keyids.len());
        let ids = role
            .keyids
            .iter()
            .map(|id| id.to_hex())
            .collect::<Vec<_>>()
            .join(", ");
        rows.push((name.as_str(), format!("{of}: {ids}")));
    }
    let report = RootReport {
        product: root.product().into(),
        version: root.version(),
        digest: root.digest().to_string(),
        roles: root
            .roles()
            .iter()
            .map(|(role, keys)| {
                let keyids = keys.keyids.iter().map(|id| id.to_hex()).collect();
                (
                    *role,
                    RoleReport {
                        threshold: keys.threshold,
                        keyids,
                    },
                )
            })
            .collect(),
        keys: root
            .keys()
            .iter()
            .map(|(id, key)| (id.to_hex(), key.to_base64()))
            .collect(),
    };
    output.result("bundle.trust-root.v1", &report, &table(&rows));
}
