//! The client of container registries: the only code of the project that opens a socket.
//!
//! It speaks the pull half of the OCI distribution specification over HTTP/1.1 and finds
//! credentials, certificates and proxies where skopeo and podman find them. It reads; pushing
//! belongs to `mirror`.
//!
//! Threats: a registry, a proxy or whoever sits between them may send wrong bytes, endless or cut
//! bodies, a media type at odds with the document, redirects that fish for credentials or fall
//! back to clear text, and challenges or lists made to exhaust memory. Defences: every document is
//! read under a cap and hashed against the digest asked for; blobs are held to the size of their
//! descriptor (their caller hashes them); silence is timed out; `Authorization` never follows a
//! redirect to another origin; clear text needs `tls_verify = false`. What a tag means is still
//! the registry's word: trust comes from signatures, which this module knows nothing of.
//!
//! | Module | Holds |
//! |---|---|
//! | `client` | the public calls, options |
//! | `reference` | `docker://` references |
//! | `endpoint` | where a reference is asked for (the door for mirrors) |
//! | `manifest`, `blob`, `referrers` | the three things that can be pulled |
//! | `session` | one registry: scheme, authorization, status to error |
//! | `transport`, `answer`, `proxy`, `certs`, `retry` | one HTTP exchange, its surroundings, its repetition |
//! | `error`, `hint`, `detail` | what went wrong, and what to do |
//! | `challenge`, `auth`, `credentials`, `authfile`, `helper` | who we say we are |

mod answer;
mod auth;
mod authfile;
mod blob;
mod certs;
mod challenge;
mod client;
mod credentials;
mod detail;
mod endpoint;
mod error;
mod helper;
mod hint;
mod manifest;
mod proxy;
mod reference;
mod referrers;
mod retry;
mod session;
mod transport;

pub use client::{Client, ClientOptions};
pub use credentials::Searched;
pub use detail::Detail;
pub use error::RegistryError;
pub use manifest::{MAX_MANIFEST_BYTES, Manifest};
pub use reference::{Reference, ReferenceError};
pub use referrers::{MAX_REFERRERS, MAX_REFERRERS_BYTES, Referrer};
