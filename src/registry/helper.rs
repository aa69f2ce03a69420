//! Asks a credential helper, a program that keeps secrets for docker and podman.
//!
//! The protocol is `docker-credential-NAME get`: host on standard input, JSON on standard output.
//! The name comes from the user's own auth.json but never reaches a shell or leaves `$PATH`; the
//! helper has 30 s and 64 KiB, for an agent that waits for a PIN must not hang a build for ever.

use std::io::{Read, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::credentials::Credentials;
use super::detail::printable;
use super::error::RegistryError;

/// Time a helper has.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Most bytes read from a helper.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;
/// How often a running helper is looked after.
const POLL: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks `docker-credential-NAME` for the credentials of `host`; `None` when it has none.
///
/// # Errors
/// [`RegistryError::Helper`] when it cannot be started, fails, or takes longer than 30 s.
pub(super) fn get(name: &str, host: &str) -> Result<Option<Credentials>, RegistryError> {
    let program = format!("docker-credential-{name}");
    let refuse = |reason: String| RegistryError::Helper {
        helper: printable(&program),
        reason,
    };
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        return Err(refuse(
            "the name may only hold letters, digits, - _ and .".to_owned(),
        ));
    }
    let (success, output) =
        run(Command::new(&program).arg("get"), host, TIME_LIMIT).map_err(refuse)?;
    let text = String::from_utf8_lossy(&output);
    if !success {
        // The wording is part of the protocol: docker and podman compare it too.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(refuse(format!("failed: {}", printable(&text))));
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| refuse("answered no JSON".to_owned()))?;
    Ok(match (answer.username.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => None,
        ("<token>", secret) => Some(Credentials::IdentityToken(secret)),
        (username, password) => Some(Credentials::Password {
            username: username.to_owned(),
            password,
        }),
    })
}

/// Runs a command with `input` and returns whether it succeeded and what it wrote.
fn run(command: &mut Command, input: &str, limit: Duration) -> Result<(bool, Vec<u8>), String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let deadline = Instant::now() + limit;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading: its early end is no failure of ours.
        let _ = stdin.write_all(input.as_bytes());
    }
    // A thread reads, because a pipe has no time limit; it ends when the pipe does.
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut output = Vec::new();
            let result = stdout.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut output);
            let _ = sender.send(result.map(|_| output));
        });
    }
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            Ok(None) => break Err(format!("no answer within {} s", limit.as_secs())),
            Err(error) => break Err(error.to_string()),
        }
    };
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let status = status?;
    let left = deadline.saturating_duration_since(Instant::now()).max(POLL);
    let output = receiver
        .recv_timeout(left)
        .map_err(|_| format!("no answer within {} s", limit.as_secs()))?
        .map_err(|error| error.to_string())?;
    if output.len() as u64 > MAX_OUTPUT_BYTES {
        return Err(format!("answer longer than {MAX_OUTPUT_BYTES} bytes"));
    }
    Ok((status.success(), output))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<(bool, Vec<u8>), String> {
        run(Command::new("sh").args(["-c", script]), "h.example", limit)
    }

    #[test]
    fn helpers_are_held_to_time_and_size() {
        let minute = Duration::from_secs(60);
        assert_eq!(shell("cat", minute), Ok((true, b"h.example".to_vec())));
        assert_eq!(
            shell("exec <&-; echo x; exit 3", minute),
            Ok((false, b"x\n".to_vec()))
        );
        assert!(
            shell("head -c 100000 /dev/zero", minute)
                .unwrap_err()
                .contains("longer")
        );
        let started = Instant::now();
        assert!(
            shell("exec sleep 60", Duration::from_millis(50))
                .unwrap_err()
                .contains("within")
        );
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_name_cannot_leave_the_path() {
        for name in ["../x", "a/b", "a b", "a;b"] {
            assert!(
                matches!(get(name, "h"), Err(RegistryError::Helper { .. })),
                "{name}"
            );
        }
        let error = get("no-such-helper", "h").unwrap_err();
        assert!(error.to_string().contains("cannot be started"), "{error}");
    }
}
