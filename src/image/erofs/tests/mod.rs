//! Images are written, then looked at by our reader and by erofs-utils.

mod fuzz;
mod model;
mod shapes;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::{Reader, Writer};

/// Writes an image with `fill` and opens it.
fn image(fill: impl FnOnce(&mut Writer<'_>)) -> (tempfile::NamedTempFile, Reader) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = Writer::new(file.as_file()).unwrap();
    fill(&mut writer);
    let size = writer.finish([7; 16]).unwrap();
    assert_eq!(file.as_file().metadata().unwrap().len(), size);
    let reader = Reader::open(File::open(file.path()).unwrap()).unwrap();
    (file, reader)
}

/// Lets `fsck.erofs` judge an image, and read all data in it.
pub fn fsck(image: &Path) {
    run_fsck(image, &["--extract"]);
}

/// Lets `fsck.erofs` unpack an image into `target`.
pub fn extract(image: &Path, target: &Path) {
    run_fsck(
        image,
        &[&format!("--extract={}", target.display()), "--overwrite"],
    );
}

fn run_fsck(image: &Path, arguments: &[&str]) {
    let output = Command::new("fsck.erofs")
        .args(arguments)
        .arg(image)
        .output()
        .expect("this test needs fsck.erofs: install the package erofs-utils");
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "fsck.erofs refuses {}: {text}",
        image.display()
    );
    assert!(
        !text.contains("<E>"),
        "fsck.erofs complains about {}: {text}",
        image.display()
    );
}
