//! What to do about an error.

use super::error::RegistryError;

impl RegistryError {
    /// Returns a remedy in one sentence, where there is one.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { .. } => "check the spelling; private images may also look absent \
                                      without credentials"
                .to_owned(),
            Self::Unauthorized { searched, .. } if searched.found.is_none() => {
                "log in with `skopeo login HOST`, or name the file with --authfile".to_owned()
            }
            Self::Unauthorized { .. } => {
                "the credentials found were not enough: log in again, or ask for pull rights"
                    .to_owned()
            }
            Self::TooManyRequests { .. } => {
                "wait and try again; logging in often raises the limit".to_owned()
            }
            Self::Server { .. } | Self::Broken { .. } | Self::Stalled { .. } | Self::Cut { .. } => {
                "try again; if it stays, look at the registry's log and at proxies in between"
                    .to_owned()
            }
            Self::Connect { .. } => "check host, port and network; proxies are taken from \
                                     http_proxy, https_proxy and no_proxy"
                .to_owned(),
            Self::Tls { host, source } => tls_hint(host, &source.to_string()),
            Self::ClearText { .. } => {
                "--tls-verify=false allows clear text; anyone on the way can then read along"
                    .to_owned()
            }
            Self::WrongSize { .. } | Self::WrongDigest { .. } | Self::TooLong { .. } => {
                "the registry or something in between alters content: do not use it; a tag that \
                 moved during the download is fetched right on the next try"
                    .to_owned()
            }
            Self::Malformed { .. } | Self::Redirects { .. } | Self::Status { .. } => {
                "check that the host is a registry and not, say, a login page of a proxy".to_owned()
            }
            Self::Authfile { .. } | Self::Helper { .. } => {
                "repair it, or name another file with --authfile".to_owned()
            }
            Self::Certificates { .. } => "certs.d/HOST:PORT holds PEM files: CA certificates as \
                                          *.crt, one client pair as NAME.cert and NAME.key"
                .to_owned(),
            Self::Proxy { .. } => "write it as http://HOST:PORT, or unset it".to_owned(),
            Self::Start { .. } | Self::Sink { .. } => return None,
        };
        Some(hint)
    }
}

fn tls_hint(host: &str, cause: &str) -> String {
    if cause.contains("UnknownIssuer") {
        format!("place the CA's certificate in /etc/containers/certs.d/{host}/ca.crt")
    } else if cause.contains("CaUsedAsEndEntity") {
        "the server shows a CA certificate as its own: issue it a server certificate and trust the \
         CA in certs.d"
            .to_owned()
    } else if cause.contains("Expired") || cause.contains("NotValidYet") {
        "check the clock of this machine and renew the server's certificate".to_owned()
    } else if cause.contains("InvalidContentType") || cause.contains("corrupt message") {
        "the server seems to speak clear-text http: --tls-verify=false allows that".to_owned()
    } else {
        "check the server's certificate, name and CA".to_owned()
    }
}
