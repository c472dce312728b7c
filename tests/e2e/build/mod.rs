//! `hull build`.

mod copies;
mod hostile;
mod keeping;
mod kills;
mod mounts;
mod remote;
mod reproducible;
mod stack;
mod steps;
mod workshop;

use std::fs;
use std::path::Path;

use crate::harness::{Done, Hull};

/// A directory to build from.
pub struct Project(tempfile::TempDir);

impl Project {
    /// With this Dockerfile and these files.
    pub fn new(dockerfile: &str, files: &[(&str, &str)]) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        project.write("Dockerfile", dockerfile);
        for (path, content) in files {
            project.write(path, content);
        }
        project
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn run(&self, hull: &Hull, arguments: &[&str]) -> Done {
        let path = self.path().to_str().unwrap();
        hull.run(&[&["build"], arguments, &[path]].concat())
    }

    /// Builds and returns what was printed.
    #[track_caller]
    pub fn build(&self, hull: &Hull, arguments: &[&str]) -> String {
        let done = self.run(hull, arguments);
        assert_eq!(done.code, 0, "{done:#?}");
        done.stdout
    }

    /// Builds and returns the image's id.
    #[track_caller]
    pub fn id(&self, hull: &Hull, arguments: &[&str]) -> String {
        let arguments = [&["-q"], arguments].concat();
        self.build(hull, &arguments).trim().to_owned()
    }

    #[track_caller]
    pub fn fails(&self, hull: &Hull, arguments: &[&str], code: i32) -> String {
        let done = self.run(hull, arguments);
        assert_eq!(done.code, code, "{done:#?}");
        assert!(!done.stderr.contains("panicked"), "{done:#?}");
        done.stderr
    }
}
