//! The core of everything as a user without privileges: nothing needs the host's root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::harness::{Hull, alive, eventually, fetch};
use crate::leftovers;

/// The host's user that a process runs as.
fn user_of(pid: &str) -> u32 {
    std::fs::metadata(Path::new("/proc").join(pid))
        .unwrap()
        .uid()
}

#[test]
fn an_unprivileged_user_does_everything() {
    let hull = Hull::unprivileged();
    let owner = std::fs::metadata(hull.root()).unwrap().uid();
    assert_ne!(owner, 0);
    hull.ok(&["pull", "-q", "busybox"]);
    assert_eq!(hull.ok(&["run", "--rm", "busybox", "id", "-u"]), "0");
    let out = hull.run(&[
        "run",
        "--rm",
        "-u",
        "65534",
        "busybox",
        "sh",
        "-c",
        "id -u; exit 7",
    ]);
    assert_eq!((out.code, out.stdout.as_str()), (7, "65534\n"), "{out:?}");

    // Every process of it is the user's or of the machine's own user, none is root's.
    let share = hull.root().join("share");
    std::fs::create_dir(&share).unwrap();
    std::os::unix::fs::chown(&share, Some(owner), Some(owner)).unwrap();
    let volume = format!("{}:/share", share.display());
    let check = [
        "--health-cmd",
        "test -e /data/well",
        "--health-interval",
        "100ms",
    ];
    let rest = [
        "--restart",
        "always",
        "-v",
        &volume,
        "-v",
        "data:/data",
        "busybox",
        "sleep",
        "1000",
    ];
    let running = hull.background(&[&check[..], &rest].concat());
    let id = running.id.as_str();
    for field in ["{{.SupervisorPid}}", "{{.State.Pid}}"] {
        assert_ne!(user_of(&hull.field(id, field)), 0, "{field}");
    }
    hull.ok(&[
        "exec",
        id,
        "sh",
        "-c",
        "echo x > /share/f; touch /data/well",
    ]);
    assert_eq!(std::fs::metadata(share.join("f")).unwrap().uid(), owner);
    eventually("it is healthy", || {
        hull.field(id, "{{.State.Health.Status}}") == "healthy"
    });
    hull.ok(&["pause", id]);
    hull.ok(&["unpause", id]);
    assert!(hull.ok(&["top", id]).contains("sleep 1000"));
    let file = hull.root().join("copied");
    std::fs::write(&file, "from the host").unwrap();
    hull.ok(&["cp", file.to_str().unwrap(), &format!("{id}:/in")]);
    assert_eq!(hull.ok(&["exec", id, "cat", "/in"]), "from the host");
    hull.ok(&["commit", id, "mine"]);
    assert_eq!(
        hull.ok(&["run", "--rm", "mine", "cat", "/in"]),
        "from the host"
    );
    let machine: i32 = hull.field(id, "{{.State.Pid}}").parse().unwrap();
    hull.ok(&["restart", "-t", "0", id]);
    assert!(!alive(machine));
    assert!(hull.ok(&["diff", id]).contains("A /in"));
    hull.ok(&["stop", "-t", "0", id]);
    assert!(hull.ok(&["system", "unit"]).contains("default.target"));
    drop(running);
    hull.ok(&["volume", "rm", "data"]);
    leftovers::none(&hull);
}

/// Most systems let everybody make TAP devices. Where this one does not, it does for the time
/// of a test.
struct TunForAll(std::fs::Permissions);

impl TunForAll {
    const DEVICE: &str = "/dev/net/tun";

    fn new() -> Self {
        let before = std::fs::metadata(Self::DEVICE).unwrap().permissions();
        if before.mode() & 0o006 != 0o006 {
            let open = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(Self::DEVICE, open).unwrap();
        }
        Self(before)
    }
}

impl Drop for TunForAll {
    fn drop(&mut self) {
        let _ = std::fs::set_permissions(Self::DEVICE, self.0.clone());
    }
}

#[test]
fn an_unprivileged_user_has_networks_and_builds() {
    let hull = Hull::unprivileged();
    let _tun = TunForAll::new();
    hull.ok(&["pull", "-q", "busybox"]);
    hull.ok(&["network", "create", "net"]);
    let serve = ["busybox", "sh", "-c", "echo page > /p; exec httpd -f -h /"];
    let options = ["--network", "net", "--name", "site", "-p", "127.0.0.1::80"];
    let site = hull.background(&[&options[..], &serve].concat());
    let get = [
        "run",
        "--rm",
        "--network",
        "net",
        "busybox",
        "wget",
        "-qO-",
        "http://site/p",
    ];
    eventually("another container reaches it by name", || {
        hull.run(&get).stdout == "page\n"
    });
    let place = hull.ok(&["port", "site", "80"]);
    assert_eq!(fetch(&place, "/p"), "page\n");
    for holder in leftovers::holders(&hull) {
        assert_ne!(user_of(&holder.to_string()), 0, "{holder}");
    }
    drop(site);
    hull.ok(&["network", "rm", "net"]);

    let context = hull.root().join("context");
    std::fs::create_dir(&context).unwrap();
    let steps = "FROM busybox\nRUN id -u > /who\nCOPY Dockerfile /copied\nCMD cat /who\n";
    std::fs::write(context.join("Dockerfile"), steps).unwrap();
    hull.ok(&["build", "-q", "-t", "built", context.to_str().unwrap()]);
    assert_eq!(hull.ok(&["run", "--rm", "built"]), "0");
    leftovers::none(&hull);
}
