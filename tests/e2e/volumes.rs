//! Host directories and files in a container.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use crate::harness::{Hull, eventually};

fn bind(path: &std::path::Path, rest: &str) -> String {
    format!("{}:{rest}", path.display())
}

#[test]
fn a_host_directory_is_read_and_written() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in"), "from the host").unwrap();
    let out = hull.ok(&[
        "run",
        "--rm",
        "-v",
        &bind(dir.path(), "/deep/er/mnt"),
        "busybox",
        "sh",
        "-c",
        "cat /deep/er/mnt/in; echo from the guest > /deep/er/mnt/out; mkdir /deep/er/mnt/d; \
         mv /deep/er/mnt/in /deep/er/mnt/d/moved",
    ]);
    assert_eq!(out, "from the host");
    assert_eq!(
        fs::read_to_string(dir.path().join("out")).unwrap(),
        "from the guest\n"
    );
    assert!(dir.path().join("d/moved").exists());
}

#[test]
fn a_single_file_is_shared_without_its_siblings() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one"), "1").unwrap();
    fs::write(dir.path().join("secret"), "2").unwrap();
    let volume = bind(&dir.path().join("one"), "/etc/one");
    let out = hull.ok(&[
        "run",
        "--rm",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        "cat /etc/one; echo 3 > /etc/one",
    ]);
    assert_eq!(out, "1");
    assert_eq!(fs::read_to_string(dir.path().join("one")).unwrap(), "3\n");
}

#[test]
fn links_in_a_share_do_not_lead_out_of_it() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "host secret").unwrap();
    symlink(secret.path(), dir.path().join("link")).unwrap();
    let up = format!("../../../../../..{}", secret.path().display());
    symlink(up, dir.path().join("up")).unwrap();
    let out = hull.run(&[
        "run",
        "--rm",
        "-v",
        &bind(dir.path(), "/mnt"),
        "busybox",
        "sh",
        "-c",
        "cat /mnt/link /mnt/up; cat /mnt/../../../../etc/passwd",
    ]);
    assert!(!out.stdout.contains("host secret"), "{out:#?}");
}

#[test]
fn a_missing_host_directory_is_made_as_docker_does() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("a/b");
    hull.ok(&[
        "run",
        "--rm",
        "-v",
        &bind(&missing, "/mnt"),
        "busybox",
        "touch",
        "/mnt/x",
    ]);
    assert!(missing.join("x").exists());
    assert_eq!(
        fs::metadata(&missing).unwrap().uid(),
        nix::unistd::geteuid().as_raw()
    );
}

#[test]
fn an_images_links_cannot_move_a_mount_outside_its_root() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), "seen").unwrap();
    // /var/run is often a link to /run; here a link leads far above the root.
    let id = hull.ok(&[
        "create",
        "-v",
        &bind(dir.path(), "/trap/mnt"),
        "busybox",
        "cat",
        "/tmp/mnt/x",
    ]);
    hull.ok(&["rm", &id]);
    let maker = hull.ok(&[
        "create",
        "busybox",
        "sh",
        "-c",
        "ln -s ../../../../../../tmp /trap; sync",
    ]);
    hull.ok(&["start", "-a", &maker]);
    let tar = dir.path().join("fs.tar");
    hull.ok(&["export", "-o", tar.to_str().unwrap(), &maker]);
    hull.ok(&["import", tar.to_str().unwrap(), "trap:1"]);
    let out = hull.ok(&[
        "run",
        "--rm",
        "-v",
        &bind(dir.path(), "/trap/mnt"),
        "trap:1",
        "cat",
        "/tmp/mnt/x",
    ]);
    assert_eq!(out, "seen");
    hull.ok(&["rm", &maker]);
    hull.ok(&["rmi", "trap:1"]);
}

#[test]
fn named_volumes_keep_their_files_and_are_removed_when_nobody_has_them() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    hull.ok(&[
        "run",
        "--rm",
        "-v",
        "data:/d",
        "busybox",
        "sh",
        "-c",
        "echo kept > /d/f",
    ]);
    let read = ["run", "--rm", "-v", "data:/d:ro", "busybox", "cat", "/d/f"];
    assert_eq!(hull.ok(&read), "kept");
    hull.ok(&["create", "--name", "user", "-v", "data:/d", "busybox"]);
    let error = hull.fails(&["volume", "rm", "data"], 1);
    assert!(error.contains("volume is in use"), "{error}");
    assert_eq!(hull.ok(&["volume", "ls", "-qf", "dangling=true"]), "");
    assert_eq!(hull.field("user", "{{(index .Mounts 0).Name}}"), "data");
    hull.ok(&["rm", "-v", "user"]);
    assert_eq!(hull.ok(&["volume", "ls", "-q"]), "data");
    // The workshop's alias: hull volume rm $(hull volume ls -qf dangling=true)
    let dangling = hull.ok(&["volume", "ls", "-qf", "dangling=true"]);
    assert_eq!(hull.ok(&["volume", "rm", &dangling]), "data");
    hull.fails(&["volume", "inspect", "data"], 1);
}

#[test]
fn anonymous_volumes_go_with_their_container() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let volumes = || hull.ok(&["volume", "ls", "-q"]);
    hull.ok(&["run", "--rm", "-v", "/anon", "busybox", "touch", "/anon/x"]);
    assert_eq!(volumes(), "");
    let id = hull.ok(&["create", "-v", "/anon", "busybox", "touch", "/anon/x"]);
    hull.ok(&["start", "-a", &id]);
    assert_eq!(volumes().lines().count(), 1);
    hull.ok(&["rm", "-v", &id]);
    assert_eq!(volumes(), "");
    let id = hull.ok(&["create", "-v", "/anon", "busybox"]);
    hull.ok(&["rm", &id]);
    let pruned = hull.ok(&["volume", "prune", "-f"]);
    assert!(pruned.starts_with("Deleted Volumes:"), "{pruned}");
    assert_eq!(volumes(), "");
}

#[test]
fn an_empty_volume_begins_with_the_images_files() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let list = |volume: &str| {
        hull.ok(&[
            "run",
            "--rm",
            "-v",
            volume,
            "busybox",
            "sh",
            "-c",
            "ls /etc; rm -f /etc/group",
        ])
    };
    assert!(list("etc:/etc").contains("passwd"));
    let again = list("etc:/etc");
    assert!(
        again.contains("passwd") && !again.contains("group"),
        "{again}"
    );
    assert!(!list("none:/etc:nocopy").contains("passwd"));
}

#[test]
fn running_containers_share_a_volume() {
    let hull = Hull::shared();
    let volume = "volumes-shared:/d";
    let writer = hull.background(&["-v", volume, "busybox", "sleep", "1000"]);
    let reader = hull.background(&["-v", volume, "busybox", "sleep", "1000"]);
    for text in ["one", "two"] {
        hull.ok(&[
            "exec",
            &writer.id,
            "sh",
            "-c",
            &format!("echo {text} > /d/f"),
        ]);
        assert_eq!(hull.ok(&["exec", &reader.id, "cat", "/d/f"]), text);
    }
    drop((writer, reader));
    hull.ok(&["volume", "rm", "volumes-shared"]);
}

/// The process that serves a share holds a descriptor for each file that the guest knows.
#[test]
fn a_guest_may_see_more_files_than_a_process_may_have_open() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    for number in 0..1500 {
        fs::create_dir(dir.path().join(number.to_string())).unwrap();
    }
    let volume = bind(dir.path(), "/d");
    let command = hull.command(&[
        "run",
        "--rm",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        "for round in 1 2 3; do find /d | wc -l; done",
    ]);
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=1024").arg(command.get_program());
    limited.args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    let output = limited.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "1501\n1501\n1501\n", "{output:?}");
}

#[test]
fn writing_takes_set_user_id_away() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("program");
    fs::write(&file, "program").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6777)).unwrap();
    let volume = bind(dir.path(), "/d");
    let script = "echo more >> /d/program; stat -c %a /d/program";
    let run = ["run", "--rm", "-u", "1000", "-v", &volume, "busybox"];
    let seen = hull.ok(&[&run[..], &["sh", "-c", script]].concat());
    assert_eq!(seen, "777");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o777);
}

/// What docker and BuildKit in a container do with theirs.
#[test]
fn a_volume_holds_the_writable_layer_of_an_overlay() {
    let hull = Hull::shared();
    let run = |script: &str| {
        let mount = "mkdir /m; mount -t overlay -o lowerdir=/d/low,upperdir=/d/up,workdir=/d/work overlay /m";
        let script =
            format!("set -e; mkdir -p /d/low /d/up /d/work; {script}").replace("MOUNT", mount);
        let volume = [
            "--privileged",
            "-v",
            "volumes-overlay:/d",
            "busybox",
            "sh",
            "-c",
            &script,
        ];
        hull.ok(&[&["run", "--rm"][..], &volume].concat())
    };
    run(
        "mkdir /d/low/dir; touch /d/low/dir/below /d/low/file; ln -s file /d/low/link; MOUNT; \
         rm -r /m/dir; mkdir /m/dir; rm /m/file; mv /m/link /m/moved; echo new > /m/dir/new",
    );
    let seen = run("MOUNT; ls -A /m /m/dir; readlink /m/moved; cat /m/dir/new");
    assert_eq!(seen, "/m:\ndir\nmoved\n\n/m/dir:\nnew\nfile\nnew");
    hull.ok(&["volume", "rm", "volumes-overlay"]);
}

#[test]
fn a_volume_may_be_a_directory_of_the_host() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let dir = tempfile::tempdir().unwrap();
    let device = format!("device={}", dir.path().join("d").display());
    let create = ["volume", "create", "-o", "type=none", "-o", "o=bind"];
    hull.ok(&[&create[..], &["-o", &device, "mine"]].concat());
    let options = hull.ok(&["volume", "inspect", "-f", "{{json .Options}}", "mine"]);
    assert_eq!(
        options,
        format!(
            r#"{{"device":"{}","o":"bind","type":"none"}}"#,
            &device[7..]
        )
    );
    let run = |script: &str| {
        hull.run(&[
            "run", "--rm", "-v", "mine:/v", "busybox", "sh", "-c", script,
        ])
    };
    let early = run("true");
    assert_eq!(early.code, 125, "{early:?}");
    assert!(early.stderr.contains("is no directory"), "{early:?}");
    fs::create_dir(dir.path().join("d")).unwrap();
    assert_eq!(run("echo here > /v/f").code, 0);
    let file = dir.path().join("d/f");
    assert_eq!(fs::read_to_string(&file).unwrap(), "here\n");
    let kept = ["run", "--name", "kept", "-v", "mine:/v", "busybox", "true"];
    hull.ok(&kept);
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(dir.path().join("d"), &elsewhere).unwrap();
    let late = hull.run(&["start", "-a", "kept"]);
    assert!(late.code != 0 && !file.exists(), "{late:?}");
    fs::rename(&elsewhere, dir.path().join("d")).unwrap();
    hull.ok(&["rm", "kept"]);
    hull.ok(&["volume", "rm", "mine"]);
    assert!(file.exists(), "what is the user's stays");
    let error = hull.fails(
        &["volume", "create", "-o", "type=nfs", "-o", "device=:/x"],
        1,
    );
    assert!(error.contains("mount it on the host"), "{error}");
}

#[test]
fn a_guest_is_told_of_changes_that_it_makes_itself() {
    let hull = Hull::shared();
    hull.ok(&["pull", "-q", "python"]);
    let share = tempfile::tempdir().unwrap();
    let volume = format!("{}:/d", share.path().display());
    // IN_CREATE.
    let script = "\
import ctypes, os, select
libc = ctypes.CDLL(None)
watch = libc.inotify_init1(os.O_NONBLOCK)
libc.inotify_add_watch(watch, b'/d', 0x100)
print('ready', flush=True)
while True:
    select.select([watch], [], [])
    print(os.read(watch, 4096)[16:].rstrip(b'\\0').decode(), flush=True)
";
    let watching = hull.background(&["-v", &volume, "python", "python3", "-c", script]);
    let id = watching.id.as_str();
    let said = || hull.ok(&["logs", id]);
    eventually("it watches", || said() == "ready");
    std::fs::write(share.path().join("by-host"), "").unwrap();
    assert_eq!(hull.ok(&["exec", id, "ls", "/d"]), "by-host");
    hull.ok(&["exec", id, "touch", "/d/by-guest"]);
    // Docs tell that the host's changes are not among what it hears of.
    eventually("it hears", || said() == "ready\nby-guest");
}
