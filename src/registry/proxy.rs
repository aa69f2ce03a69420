//! Chooses the proxy for a URL by `http_proxy`, `https_proxy` and `no_proxy`.
//!
//! The rules are Go's, for skopeo and podman obey them: upper-case names first, loopback never
//! goes through a proxy, a name in `no_proxy` covers its subdomains, addresses may be ranges.

use std::net::IpAddr;

use url::{Host, Url};

use super::error::RegistryError;

/// The proxies of the environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    http: Option<ureq::Proxy>,
    https: Option<ureq::Proxy>,
    exempt: Vec<Exempt>,
}

/// One item of `no_proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exempt {
    All,
    Range {
        network: IpAddr,
        bits: u8,
    },
    Name {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`RegistryError::Proxy`] when a variable is set and no proxy URL.
    pub(super) fn from_environment() -> Result<Self, RegistryError> {
        Self::new(|name| std::env::var(name).ok())
    }

    fn new(variable: impl Fn(&str) -> Option<String>) -> Result<Self, RegistryError> {
        let set = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| {
                variable(name)
                    .filter(|value| !value.is_empty())
                    .map(|value| (name, value))
            })
        };
        let proxy = |names| match set(names) {
            None => Ok(None),
            Some((name, value)) => {
                ureq::Proxy::new(&value)
                    .map(Some)
                    .map_err(|_| RegistryError::Proxy {
                        variable: name.to_owned(),
                    })
            }
        };
        let exempt = set(["NO_PROXY", "no_proxy"]).map(|(_, list)| parse_exempt(&list));
        Ok(Self {
            http: proxy(["HTTP_PROXY", "http_proxy"])?,
            https: proxy(["HTTPS_PROXY", "https_proxy"])?,
            exempt: exempt.unwrap_or_default(),
        })
    }

    /// Returns the proxy of clear-text URLs.
    pub(super) fn http(&self) -> Option<&ureq::Proxy> {
        self.http.as_ref()
    }

    /// Returns the proxy of https URLs.
    pub(super) fn https(&self) -> Option<&ureq::Proxy> {
        self.https.as_ref()
    }

    /// Returns the proxy for `url`, or `None` for a direct connection.
    pub(super) fn for_url(&self, url: &Url) -> Option<&ureq::Proxy> {
        let proxy = if url.scheme() == "https" {
            &self.https
        } else {
            &self.http
        };
        proxy.as_ref().filter(|_| !self.is_exempt(url))
    }

    fn is_exempt(&self, url: &Url) -> bool {
        let (address, name) = match url.host() {
            None => return true,
            Some(Host::Ipv4(address)) => (Some(IpAddr::V4(address)), address.to_string()),
            Some(Host::Ipv6(address)) => (Some(IpAddr::V6(address)), address.to_string()),
            Some(Host::Domain(name)) => (None, name.trim_end_matches('.').to_ascii_lowercase()),
        };
        if name == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let port = url.port_or_known_default();
        self.exempt.iter().any(|exempt| match exempt {
            Exempt::All => true,
            Exempt::Range { network, bits } => {
                address.is_some_and(|address| in_range(address, *network, *bits))
            }
            Exempt::Name {
                suffix,
                itself,
                port: wanted,
            } => {
                let covered = name.strip_suffix(suffix.as_str()).is_some_and(|front| {
                    if front.is_empty() {
                        *itself
                    } else {
                        front.ends_with('.')
                    }
                });
                covered && wanted.is_none_or(|wanted| Some(wanted) == port)
            }
        })
    }
}

fn parse_exempt(list: &str) -> Vec<Exempt> {
    list.split(',')
        .map(|item| item.trim().to_ascii_lowercase())
        .filter(|item| !item.is_empty())
        .map(|item| {
            if item == "*" {
                return Exempt::All;
            }
            let (address, bits) = match item.split_once('/') {
                Some((address, bits)) => (address, bits.parse().ok()),
                None => (item.as_str(), Some(128)),
            };
            if let (Ok(network), Some(bits)) = (address.parse(), bits) {
                return Exempt::Range { network, bits };
            }
            let (name, port) = match item.rsplit_once(':') {
                Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
                _ => (item.as_str(), None),
            };
            let bare = name.strip_prefix('*').unwrap_or(name);
            let suffix = bare.strip_prefix('.').unwrap_or(bare);
            Exempt::Name {
                suffix: suffix.to_owned(),
                itself: bare == suffix,
                port,
            }
        })
        .collect()
}

/// Tells whether `address` starts with the first `bits` of `network`.
fn in_range(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let free = width - u32::from(bits).min(width);
    (address ^ network).checked_shr(free).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides() {
        let environment = [
            ("http_proxy", "http://plain.example:3128"),
            ("HTTPS_PROXY", "user:pass@secure.example:3129"),
            ("https_proxy", "http://ignored.example"),
            (
                "NO_PROXY",
                " .sub.example,name.example, 10.0.0.0/8,192.0.2.7,p.example:5000,fd00::/8,",
            ),
        ];
        let proxies = Proxies::new(|name| {
            environment
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, v)| (*v).to_owned())
        })
        .unwrap();
        for (url, expected) in [
            ("http://h.example/", Some("plain.example")),
            ("https://h.example/", Some("secure.example")),
            ("https://127.0.0.1:5000/", None),
            ("https://[::1]/", None),
            ("https://localhost/", None),
            ("https://sub.example/", Some("secure.example")),
            ("https://a.sub.example/", None),
            ("https://name.example/", None),
            ("https://a.NAME.example/", None),
            ("https://othername.example/", Some("secure.example")),
            ("https://10.1.2.3/", None),
            ("https://11.1.2.3/", Some("secure.example")),
            ("https://192.0.2.7/", None),
            ("https://192.0.2.8/", Some("secure.example")),
            ("https://p.example:5000/", None),
            ("https://p.example/", Some("secure.example")),
            ("https://[fd00::1]/", None),
            ("https://[fe00::1]/", Some("secure.example")),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(
                proxies.for_url(&url).map(ureq::Proxy::host),
                expected,
                "{url}"
            );
        }
    }

    #[test]
    fn malformed_proxies_are_errors_and_a_star_exempts_all() {
        let wrong = Proxies::new(|name| (name == "http_proxy").then(|| "r3/?:**".to_owned()));
        assert!(matches!(wrong, Err(RegistryError::Proxy { .. })));
        let all =
            Proxies::new(|name| Some(if name == "NO_PROXY" { "*" } else { "h:1" }.to_owned()));
        assert!(
            all.unwrap()
                .for_url(&Url::parse("http://x.example").unwrap())
                .is_none()
        );
        assert!(in_range([1, 2, 3, 4].into(), [9, 9, 9, 9].into(), 0));
    }
}
