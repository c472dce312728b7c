//! Attempts to reach the host's files through a shared directory, by a container that owns
//! its guest: it is privileged, so that nothing but the machine's own walls is left.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

use crate::harness::{Hull, Running};

/// A directory to share, beside a file that nobody may see.
struct Place {
    outer: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("shared")).unwrap();
        fs::write(outer.path().join("secret"), "host secret").unwrap();
        Self { outer }
    }

    fn shared(&self) -> std::path::PathBuf {
        self.outer.path().join("shared")
    }

    fn volume(&self) -> String {
        format!("{}:/mnt", self.shared().display())
    }

    /// What stands beside the shared directory is as it was.
    fn check(&self) {
        let secret = fs::read_to_string(self.outer.path().join("secret")).unwrap();
        assert_eq!(secret, "host secret");
        let beside: Vec<_> = fs::read_dir(self.outer.path()).unwrap().collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
    }
}

fn privileged<'a>(hull: &'a Hull, place: &Place) -> Running<'a> {
    hull.background(&[
        "--privileged",
        "-v",
        &place.volume(),
        "busybox",
        "sleep",
        "1000",
    ])
}

fn sh(hull: &Hull, container: &Running<'_>, script: &str) -> String {
    hull.run(&["exec", &container.id, "sh", "-c", script])
        .stdout
}

/// Reads what a name in the share means, again and again; every line that was ever read.
const READS: &str = "i=0; while [ $i -lt 2000 ]; do read -r line < /mnt/d/secret && echo \"$line\"; \
                     i=$((i+1)); done 2>/dev/null | sort -u";

/// A place with `d/secret` in the shared directory.
fn with_own_secret() -> Place {
    let place = Place::new();
    fs::create_dir(place.shared().join("d")).unwrap();
    fs::write(place.shared().join("d/secret"), "own\n").unwrap();
    place
}

#[test]
fn a_directory_that_a_guest_swaps_for_a_link_leads_nowhere() {
    let hull = Hull::shared();
    let place = with_own_secret();
    let swapping = privileged(&hull, &place);
    let reading = privileged(&hull, &place);
    // The host's path and the way up.
    let targets = [
        place.outer.path().display().to_string(),
        "../..".to_owned(),
        "..".to_owned(),
    ];
    let swaps: String = targets
        .iter()
        .map(|to| format!("mv d e; ln -s {to} d; rm d; mv e d; "))
        .collect();
    let script = format!("(cd /mnt; while :; do {swaps} done) >/dev/null 2>&1 </dev/null &");
    sh(&hull, &swapping, &script);
    assert_eq!(sh(&hull, &reading, READS).trim(), "own");
    place.check();
}

#[test]
fn a_directory_that_the_host_swaps_for_a_link_leads_nowhere() {
    let hull = Hull::shared();
    let place = with_own_secret();
    let reading = privileged(&hull, &place);
    let (real, aside) = (place.shared().join("d"), place.shared().join("e"));
    let read = std::thread::scope(|scope| {
        let guest = scope.spawn(|| sh(&hull, &reading, READS));
        while !guest.is_finished() {
            fs::rename(&real, &aside).unwrap();
            symlink(place.outer.path(), &real).unwrap();
            fs::remove_file(&real).unwrap();
            fs::rename(&aside, &real).unwrap();
        }
        guest.join().unwrap()
    });
    assert_eq!(read.trim(), "own");
    place.check();
}

#[test]
fn a_directory_that_the_host_moves_away_leads_nowhere() {
    let hull = Hull::shared();
    let place = Place::new();
    fs::create_dir_all(place.shared().join("deep/er")).unwrap();
    let container = privileged(&hull, &place);
    let script = "cd /mnt/deep/er && echo standing > /mnt/ready && \
                  while [ ! -e /mnt/moved ]; do :; done; \
                  cat ../secret ../../secret ../../../secret; echo x > ../../made; ls ../..";
    let out = std::thread::scope(|scope| {
        let guest = scope.spawn(|| sh(&hull, &container, script));
        let ready = place.shared().join("ready");
        while !ready.exists() && !guest.is_finished() {
            std::thread::yield_now();
        }
        // Out of the share, to where its parent is a directory that nobody shares.
        let away = place.outer.path().join("away");
        fs::rename(place.shared().join("deep"), &away).unwrap();
        fs::write(place.shared().join("moved"), "").unwrap();
        let out = guest.join().unwrap();
        fs::remove_dir_all(away).unwrap();
        out
    });
    assert!(!out.contains("host secret"), "{out}");
    place.check();
}

#[test]
fn links_through_proc_are_the_guests() {
    let hull = Hull::shared();
    let place = Place::new();
    for (name, target) in [
        ("root", "/proc/1/root"),
        ("self", "/proc/self/root"),
        ("fd", "/proc/self/fd"),
        ("cwd", "/proc/self/cwd/../secret"),
    ] {
        symlink(target, place.shared().join(name)).unwrap();
    }
    let container = privileged(&hull, &place);
    let secret = place.outer.path().join("secret");
    let (secret, marker) = (secret.display(), "/only-in-the-guest");
    let out = sh(
        &hull,
        &container,
        &format!(
            "touch {marker}; for link in root self fd/0/..; do cat /mnt/$link{secret}; \
             ls -d /mnt/$link{marker}; done; cat /mnt/cwd; find /mnt/fd/ -maxdepth 1 | wc -l"
        ),
    );
    assert!(!out.contains("host secret"), "{out}");
    assert!(out.contains(&format!("/mnt/root{marker}")), "{out}");
    assert!(!Path::new(marker).exists());
    place.check();
}

#[test]
fn no_device_reaches_the_host() {
    let hull = Hull::shared();
    let place = Place::new();
    let container = privileged(&hull, &place);
    sh(
        &hull,
        &container,
        "mknod /mnt/disk b 254 0; mknod /mnt/memory c 1 1; mknod /mnt/pipe p; \
         ln /mnt/pipe /mnt/other; mkdir /mnt/d; mount --bind /dev /mnt/d; touch /mnt/d/made",
    );
    for entry in fs::read_dir(place.shared()).unwrap() {
        let kind = entry.unwrap().file_type().unwrap();
        assert!(!kind.is_block_device() && !kind.is_char_device());
    }
    // A mount of the guest's is the guest's alone.
    assert_eq!(fs::read_dir(place.shared().join("d")).unwrap().count(), 0);
    place.check();
}

#[test]
fn a_read_only_share_cannot_be_changed_by_any_way() {
    let hull = Hull::shared();
    let place = Place::new();
    let file = place.shared().join("file");
    fs::write(&file, "as it was").unwrap();
    let volume = format!("{}:ro", place.volume());
    let script = "cd /mnt; echo x > file; true > file; rm -f file; mv file other; ln file other; \
                  ln -s file link; mkdir d; mknod p p; chmod 777 file; chown 1 file; \
                  touch -d @1 file; truncate -s 0 file; dd if=/dev/zero of=file bs=1 count=1; \
                  mount -o remount,rw /mnt; echo x > file; \
                  mkdir /again; mount -t virtiofs share0 /again; echo x > /again/file; \
                  rm -f /again/file; cat file";
    let out = hull.run(&[
        "run",
        "--rm",
        "--privileged",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out.stdout, "as it was", "{out:#?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "as it was");
    assert_eq!(fs::read_dir(place.shared()).unwrap().count(), 1);
    place.check();
}
