//! `ADD` of an address: one file over HTTP, or a git repository's files.

use std::sync::Arc;

use super::super::copy::Source;
use super::super::layer::Content;
use crate::build::Builder;
use crate::build::dockerfile::Copy;
use crate::build::files::{EntriesTree, Ignore};
use crate::build::remote::git::{self, Address};
use crate::build::remote::{self, Login, Wanted};
use crate::image::digest::Digest;

/// Fetches what a source names, if it is an address.
pub(super) fn fetch(
    builder: &Builder<'_>,
    source: &str,
    copy: &Copy,
) -> Result<Option<Source>, String> {
    if remote::is_git(source) {
        return repository(builder, source, copy).map(Some);
    }
    if !remote::is_url(source) {
        return Ok(None);
    }
    if copy.keep_git_dir {
        return Err(format!("--keep-git-dir: {source} is no git repository"));
    }
    file(builder, source, copy).map(Some)
}

fn file(builder: &Builder<'_>, address: &str, copy: &Copy) -> Result<Source, String> {
    let path = address.split(['#', '?']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path
        .split_once('/')
        .and_then(|(_, path)| path.rsplit('/').next());
    let name = name.unwrap_or_default();
    if name.is_empty() && copy.destination.ends_with('/') {
        return Err(format!(
            "cannot determine a file's name from {address}, name it in the destination"
        ));
    }
    let expected = copy
        .checksum
        .as_deref()
        .map(str::parse::<Digest>)
        .transpose()
        .map_err(|error| format!("--checksum: {error}"))?;
    let fetched = remote::fetch(builder.store, address, builder.settings.limits.layer_bytes)?;
    let digest = fetched.digest;
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(format!(
            "cannot fetch {address}: its digest is {digest}, not {expected} as --checksum has it"
        ));
    }
    let file = fetched.file.file().try_clone();
    let file = file.map_err(|error| format!("cannot fetch {address}: {error}"))?;
    let content = Content::Slice(Arc::new(file), 0);
    Ok(Source::Fetched(name.to_owned(), content, fetched.size))
}

fn repository(builder: &Builder<'_>, source: &str, copy: &Copy) -> Result<Source, String> {
    let address = Address::parse(source)?;
    let sources = &builder.options.sources;
    let wanted = Wanted {
        login: match sources.ssh.get("default") {
            Some(agent) => Login::Agent(agent.clone()),
            None => Login::Nobody,
        },
        header: header(builder, &address.url)?,
        keep_git_dir: copy.keep_git_dir,
        commit: copy.checksum.clone(),
        depth: 0,
    };
    let files = git::fetch(builder.store, &address, &wanted)?;
    let tree = EntriesTree::new(files, Ignore::default());
    Ok(Source::Path(Arc::new(tree), "/".to_owned()))
}

/// What logs in over HTTP: docker's secrets for that, those for one host first.
fn header(builder: &Builder<'_>, url: &str) -> Result<Option<String>, String> {
    let Some(rest) = ["https://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
    else {
        return Ok(None);
    };
    let host = rest.split('/').next().unwrap_or_default();
    let secret = |name: &str| {
        let secrets = &builder.options.sources.secrets;
        let found = secrets.get(&format!("{name}.{host}"));
        let Some(bytes) = found.or_else(|| secrets.get(name)) else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes.clone()).ok();
        let text = text.map(|text| text.trim().to_owned());
        text.filter(|text| !text.contains(char::is_control))
            .map(Some)
            .ok_or_else(|| format!("the secret {name} is not one line of text"))
    };
    if let Some(header) = secret("GIT_AUTH_HEADER")? {
        return Ok(Some(format!("Authorization: {header}")));
    }
    Ok(secret("GIT_AUTH_TOKEN")?.map(|token| git::token_header(&token)))
}
