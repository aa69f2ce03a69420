//! Origins of deployments: which registry image the host follows.

use ::ostree::glib::{KeyFile, KeyFileFlags};

use super::error::OstreeError;

const GROUP: &str = "origin";
const CONTAINER: &str = "container-image-reference";
/// Keys of origins that follow an OSTree branch; beside a container image they contradict it.
const BRANCHES: [&str; 2] = ["refspec", "baserefspec"];

/// Returns the container image that an origin names, as it is written there.
pub(super) fn reference(origin: &KeyFile) -> Option<String> {
    origin.string(GROUP, CONTAINER).ok().map(String::from)
}

/// Returns the registry reference (`host/repo:tag`) in a container image reference, if it is one.
pub(super) fn registry_reference(reference: &str) -> Option<&str> {
    let image = match reference.split_once(':')? {
        ("ostree-unverified-registry", image) => return Some(image),
        ("ostree-unverified-image" | "ostree-image-signed", image) => image,
        ("ostree-remote-registry", image) => return image.split_once(':').map(|(_, image)| image),
        ("ostree-remote-image", image) => image.split_once(':')?.1,
        _ => return None,
    };
    image
        .strip_prefix("docker://")
        .or_else(|| image.strip_prefix("registry:"))
}

/// Makes the origin of a deployment of `imgref`.
///
/// The reference of the deployment it follows is kept, in whatever form the host's owner chose: an update never changes
/// the registry that the host follows. One that is no registry, such as a stick that some tool left there, is replaced.
pub(super) fn make(imgref: &str, previous: Option<&KeyFile>) -> Result<KeyFile, OstreeError> {
    let origin = KeyFile::new();
    if let Some(previous) = previous {
        origin
            .load_from_data(&previous.to_data(), KeyFileFlags::NONE)
            .map_err(|error| OstreeError::libostree("reading the present origin", error))?;
        ::ostree::Deployment::origin_remove_transient_state(&origin);
    }
    let registry = reference(&origin);
    if registry.as_deref().and_then(registry_reference).is_none() {
        for key in BRANCHES {
            // Absent in all but migrated hosts.
            let _ = origin.remove_key(GROUP, key);
        }
        origin.set_string(
            GROUP,
            CONTAINER,
            &format!("ostree-unverified-registry:{imgref}"),
        );
    }
    Ok(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (reference, expected) in [
            (
                "ostree-unverified-registry:registry.example/os:v1",
                Some("registry.example/os:v1"),
            ),
            (
                "ostree-unverified-image:docker://registry.example/os:v1",
                Some("registry.example/os:v1"),
            ),
            (
                "ostree-image-signed:docker://registry.example/os:v1",
                Some("registry.example/os:v1"),
            ),
            (
                "ostree-image-signed:registry:registry.example/os:v1",
                Some("registry.example/os:v1"),
            ),
            (
                "ostree-remote-registry:fedora:registry.example/os:v1",
                Some("registry.example/os:v1"),
            ),
            (
                "ostree-remote-image:fedora:docker://registry.example/os:v1",
                Some("registry.example/os:v1"),
            ),
            ("ostree-unverified-image:oci:/mnt/usb", None),
            ("x", None),
        ] {
            assert_eq!(registry_reference(reference), expected, "{reference}");
        }
    }

    #[test]
    fn the_host_keeps_what_it_follows() {
        let fresh = make("host/os:v1", None).unwrap();
        assert_eq!(
            reference(&fresh).unwrap(),
            "ostree-unverified-registry:host/os:v1"
        );

        let previous = KeyFile::new();
        previous.set_string(
            GROUP,
            CONTAINER,
            "ostree-image-signed:docker://mirror/os:stable",
        );
        previous.set_string("custom", "key", "kept");
        let kept = make("host/os:v2", Some(&previous)).unwrap();
        assert_eq!(
            reference(&kept).unwrap(),
            "ostree-image-signed:docker://mirror/os:stable"
        );
        assert_eq!(kept.string("custom", "key").unwrap(), "kept");

        let branch = KeyFile::new();
        branch.set_string(GROUP, "refspec", "remote:branch");
        let moved = make("host/os:v2", Some(&branch)).unwrap();
        assert_eq!(
            reference(&moved).unwrap(),
            "ostree-unverified-registry:host/os:v2"
        );
        assert!(moved.string(GROUP, "refspec").is_err());
    }
}
