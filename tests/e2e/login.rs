//! `login` and `logout`, at a registry that wants passwords.

use std::ffi::OsString;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{Hull, eventually};

/// A registry of the test's own, whose only user is `me` with `word`.
pub struct Registry {
    child: Child,
    pub address: String,
    _directory: TempDir,
}

impl Registry {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let hash = "import crypt; print('me:' + crypt.crypt('word', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))";
        let users = Command::new("/usr/bin/python3")
            .args(["-W", "ignore", "-c", hash])
            .output()
            .unwrap();
        assert!(users.status.success(), "{users:?}");
        fs::write(place.join("users"), users.stdout).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let settings = format!(
            "version: 0.1\n\
             log: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {0}}}}}\n\
             auth: {{htpasswd: {{realm: tests, path: {0}/users}}}}\n\
             http: {{addr: \"{address}\"}}\n",
            place.display()
        );
        fs::write(place.join("config.yml"), settings).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(place.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the registry listens", || {
            TcpStream::connect(&address).is_ok()
        });
        Self {
            child,
            address,
            _directory: directory,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exit code and all output of hull with docker's configuration in `config`.
fn hull_with(hull: &Hull, config: &Path, arguments: &[&str]) -> (i32, String) {
    let mut path = OsString::from(config);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut command = hull.command(arguments);
    command.env("DOCKER_CONFIG", config).env("PATH", path);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code().unwrap(), text)
}

#[test]
fn a_password_is_checked_kept_used_and_forgotten() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let registry = Registry::start();
    let server = registry.address.as_str();
    let config = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| hull_with(&hull, config.path(), arguments);
    let name = format!("{server}/private/box");
    hull.ok(&["tag", "busybox", &name]);

    let (code, said) = run(&["push", &name]);
    assert!(code == 1 && said.contains("denied"), "{said}");
    let (code, said) = run(&["login", server]);
    assert!(code == 1 && said.contains("--password-stdin"), "{said}");
    let (code, said) = run(&["login", "-u", "me", "-p", "wrong", server]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains(&format!("login to {server} failed")),
        "{said}"
    );
    assert!(!config.path().join("config.json").exists());

    let (code, said) = run(&["login", "-u", "me", "-p", "word", server]);
    assert!(code == 0 && said.contains("Login Succeeded"), "{said}");
    assert!(said.contains("stored unencrypted"), "{said}");
    let (code, said) = run(&["login", server]);
    assert!(code == 0 && said.contains("existing credentials"), "{said}");
    let (code, said) = run(&["push", "-q", &name]);
    assert_eq!(code, 0, "{said}");

    let (code, said) = run(&["logout", server]);
    assert_eq!(
        (code, said.as_str()),
        (
            0,
            format!("Removing login credentials for {server}\n").as_str()
        )
    );
    let (_, said) = run(&["logout", server]);
    assert_eq!(said, format!("Not logged in to {server}\n"));
    let (code, said) = run(&["pull", &name]);
    assert!(code == 1 && said.contains("denied"), "{said}");
}

#[test]
fn a_helper_keeps_the_password_where_one_is_set() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let registry = Registry::start();
    let server = registry.address.as_str();
    let config = tempfile::tempdir().unwrap();
    let kept = config.path().join("kept");
    let helper = format!(
        "#!/bin/sh\n\
         case $1 in\n\
         store) cat > {0} ;;\n\
         get) cat >/dev/null; cat {0} 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }} ;;\n\
         erase) cat >/dev/null; rm {0} ;;\n\
         esac\n",
        kept.display()
    );
    let program = config.path().join("docker-credential-tests");
    fs::write(&program, helper).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = config.path().join("config.json");
    fs::write(&file, r#"{"credsStore":"tests"}"#).unwrap();

    let mut command = hull.command(&["login", "-u", "me", "--password-stdin", server]);
    let word = config.path().join("word");
    fs::write(&word, "word\n").unwrap();
    command.stdin(fs::File::open(&word).unwrap());
    let mut path = OsString::from(config.path());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    command
        .env("DOCKER_CONFIG", config.path())
        .env("PATH", path);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"Login Succeeded\n", "{output:?}");
    assert_eq!(output.stderr, b"", "{output:?}");
    assert!(fs::read_to_string(&kept).unwrap().contains("word"));
    assert!(!fs::read_to_string(&file).unwrap().contains("auth\""));

    let name = format!("{server}/private/box");
    hull.ok(&["tag", "busybox", &name]);
    let (code, said) = hull_with(&hull, config.path(), &["push", "-q", &name]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = hull_with(&hull, config.path(), &["logout", server]);
    assert!(code == 0 && !kept.exists(), "{said}");

    // One that does not listen is an error like others.
    fs::write(&program, "#!/bin/sh\nexec <&-\necho deaf\nexit 1\n").unwrap();
    let login = ["login", "-u", "me", "-p", "word", server];
    let (code, said) = hull_with(&hull, config.path(), &login);
    assert!(code == 1 && said.contains("deaf"), "{code}: {said}");
}
