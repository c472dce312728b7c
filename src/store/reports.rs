//! Reports of comparisons, kept for `hull ui`: the last few.

use std::fs;
use std::io::{self, Write};

use serde_json::Value;

use super::{Store, StoreError};

/// Reports that are kept.
const KEPT: usize = 20;

impl Store {
    /// Keeps a report under the time of its beginning; the oldest beyond a few go.
    pub fn add_report(&self, begun: &str, report: &[u8]) -> Result<(), StoreError> {
        let directory = self.paths().root.join("reports");
        fs::create_dir_all(&directory)
            .map_err(|cause| StoreError::io("create the directory", &directory, cause))?;
        let name: String = begun.chars().filter(char::is_ascii_alphanumeric).collect();
        let target = directory.join(format!("{name}.json"));
        let temp = self.temp_file("report")?;
        let written = temp.file().write_all(report);
        let placed = written.and_then(|()| temp.persist(&target));
        placed.map_err(|cause| StoreError::io("write", &target, cause))?;
        let mut names = self.report_files()?;
        names.reverse();
        for old in names.iter().skip(KEPT) {
            // Somebody else may have removed it.
            let _ = fs::remove_file(directory.join(old));
        }
        Ok(())
    }

    /// The reports, the oldest first; what is no report is left out.
    pub fn reports(&self) -> Result<Vec<Value>, StoreError> {
        let directory = self.paths().root.join("reports");
        let read = |name: &String| {
            let text = fs::read(directory.join(name)).ok()?;
            serde_json::from_slice(&text).ok()
        };
        Ok(self.report_files()?.iter().filter_map(read).collect())
    }

    fn report_files(&self) -> Result<Vec<String>, StoreError> {
        let directory = self.paths().root.join("reports");
        let entries = match fs::read_dir(&directory) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|cause| StoreError::io("read", &directory, cause))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
        names.sort();
        Ok(names)
    }
}
