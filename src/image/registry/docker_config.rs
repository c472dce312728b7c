//! Docker's `config.json`: where it is, and keeping and forgetting credentials in it or in the
//! helper that it names. Everything else in it stays as it is.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Map, Value, json};

use super::{RegistryError, credentials};

/// Where credentials were put.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the helper that the configuration names.
    Helper,
    /// In the configuration, for everybody who can read it.
    Plain(PathBuf),
}

/// The file of the user, if there is a user.
pub fn path() -> Option<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let directory = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|it| it.join(".docker")));
    directory.map(|directory| directory.join("config.json"))
}

/// Keeps a user's password for a registry.
pub fn keep(registry: &str, user: &str, password: &str) -> Result<Kept, RegistryError> {
    let path = path().ok_or_else(|| no_home(registry))?;
    keep_at(&path, credentials::key(registry), user, password).map_err(fail(registry, &path))
}

/// Forgets what is kept for a registry; whether there was anything.
pub fn forget(registry: &str) -> Result<bool, RegistryError> {
    let path = path().ok_or_else(|| no_home(registry))?;
    forget_at(&path, credentials::key(registry)).map_err(fail(registry, &path))
}

fn no_home(registry: &str) -> RegistryError {
    RegistryError::Keeping {
        registry: registry.to_owned(),
        reason: "neither DOCKER_CONFIG nor HOME is set".to_owned(),
    }
}

fn fail(registry: &str, path: &Path) -> impl Fn(String) -> RegistryError {
    move |reason| RegistryError::Keeping {
        registry: registry.to_owned(),
        reason: format!("{}: {reason}", path.display()),
    }
}

fn keep_at(path: &Path, key: &str, user: &str, password: &str) -> Result<Kept, String> {
    let mut config = read(path)?;
    if let Some(helper) = helper(&config, key) {
        let secret = json!({"ServerURL": key, "Username": user, "Secret": password});
        call(&helper, "store", &secret.to_string())?;
        // As docker does: that there is something, and where, is seen in the file.
        section(&mut config)?.insert(key.to_owned(), json!({}));
        write(path, &config)?;
        return Ok(Kept::Helper);
    }
    let secret = BASE64_STANDARD.encode(format!("{user}:{password}"));
    section(&mut config)?.insert(key.to_owned(), json!({"auth": secret}));
    write(path, &config)?;
    Ok(Kept::Plain(path.to_owned()))
}

fn forget_at(path: &Path, key: &str) -> Result<bool, String> {
    let mut config = read(path)?;
    let helper = helper(&config, key);
    if section(&mut config)?.remove(key).is_some() {
        write(path, &config)?;
    } else if helper.is_none() {
        return Ok(false);
    }
    match helper.map(|helper| call(&helper, "erase", key)) {
        Some(Err(reason)) if reason.contains("credentials not found") => Ok(false),
        Some(Err(reason)) => Err(reason),
        _ => Ok(true),
    }
}

/// The program that keeps credentials for this key.
fn helper(config: &Map<String, Value>, key: &str) -> Option<String> {
    let own = config.get("credHelpers").and_then(|all| all.get(key));
    let name = own.or_else(|| config.get("credsStore"))?.as_str()?;
    (!name.is_empty()).then(|| format!("docker-credential-{name}"))
}

/// Does something that writes to a helper, on a thread of its own that a helper which ends without
/// reading cannot end with a signal.
pub(super) fn unharmed<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let masked = || {
        // The signal is the writing thread's, and goes with it. Children begin without the mask.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGPIPE);
        let _ = signals.thread_block();
        work()
    };
    let done = thread::scope(|scope| scope.spawn(masked).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn call(helper: &str, verb: &str, input: &str) -> Result<(), String> {
    unharmed(|| run(helper, verb, input))
}

fn run(helper: &str, verb: &str, input: &str) -> Result<(), String> {
    let told = |error: io::Error| format!("running {helper}: {error}");
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read says why below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(told)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().replace('\n', " ");
    Err(format!("{helper} {verb}: {said}"))
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(error.to_string()),
    };
    serde_json::from_slice(&text).map_err(|error| format!("no docker configuration: {error}"))
}

fn section(config: &mut Map<String, Value>) -> Result<&mut Map<String, Value>, String> {
    let section = config.entry("auths").or_insert_with(|| json!({}));
    let section = section.as_object_mut();
    section.ok_or_else(|| "no docker configuration: auths is no object".to_owned())
}

/// Replaces the file in one step; only its owner can read it.
fn write(path: &Path, config: &Map<String, Value>) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    // A link to a file elsewhere stays one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory).map_err(told)?;
    let mut text = serde_json::to_vec_pretty(config).map_err(|error| error.to_string())?;
    text.push(b'\n');
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(told)?;
    file.write_all(&text).map_err(told)?;
    file.as_file().sync_all().map_err(told)?;
    file.persist(&target).map_err(|error| told(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_and_go_and_the_rest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.json");
        assert_eq!(forget_at(&path, "r.example"), Ok(false));
        fs::create_dir(directory.path().join("new")).unwrap();
        fs::write(
            &path,
            r#"{"proxies":{"default":{}},"auths":{"a":{"auth":"x"}}}"#,
        )
        .unwrap();
        let kept = keep_at(&path, "r.example", "me", "pass:word").unwrap();
        assert_eq!(kept, Kept::Plain(path.clone()));
        let now = read(&path).unwrap();
        assert_eq!(now["auths"]["r.example"]["auth"], "bWU6cGFzczp3b3Jk");
        assert_eq!(now["auths"]["a"]["auth"], "x");
        assert!(now.contains_key("proxies"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(forget_at(&path, "r.example"), Ok(true));
        assert_eq!(forget_at(&path, "r.example"), Ok(false));
        fs::write(&path, "[]").unwrap();
        assert!(keep_at(&path, "r.example", "me", "x").is_err());
        fs::write(&path, r#"{"auths":[]}"#).unwrap();
        assert!(keep_at(&path, "r.example", "me", "x").is_err());
    }
}
