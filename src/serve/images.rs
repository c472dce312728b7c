//! Images: everything under `/images`, and `commit`.

use std::fs::File;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::filters;
use super::lines::{Lines, answer_with};
use super::reply::{Reply, json, json_as, with_status, written};
use super::request::Call;
use super::router;
use super::state::{Context, Shared};
use crate::arch::Platform;
use crate::container::{self, commit as commits, lifecycle};
use crate::events::Note;
use crate::image::archive::{self, Import};
use crate::image::registry::Credentials;
use crate::image::{self, Filter, Image, Reference, Removed, Silent};

/// Answers for `/images/…`.
pub async fn route(state: Shared, call: Call, rest: &[&str]) -> Reply {
    let method = call.method.clone();
    match (&method, rest) {
        (&Method::GET, ["json"]) => list(state, call).await,
        (&Method::POST, ["create"]) => create(state, call).await,
        (&Method::POST, ["load"]) => load(state, call).await,
        (&Method::POST, ["prune"]) => prune(state, call).await,
        (&Method::GET, ["get"]) => {
            let names = call.query.all("names").map(str::to_owned).collect();
            save(state, &call, names).await
        }
        (&Method::GET, ["search"]) => Err(ApiError::not_there("searching for images")),
        (&Method::DELETE, name) if !name.is_empty() => remove(state, call, name.join("/")).await,
        (_, [name @ .., verb]) if !name.is_empty() => {
            let name = name.join("/");
            match (&method, *verb) {
                (&Method::GET, "json") => inspect(state, call, name).await,
                (&Method::GET, "history") => history(state, call, name).await,
                (&Method::GET, "get") => save(state, &call, vec![name]).await,
                (&Method::POST, "tag") => tag(state, call, name).await,
                (&Method::POST, "push") => push(state, call, name).await,
                _ => Err(router::no_such_page()),
            }
        }
        _ => Err(router::no_such_page()),
    }
}

fn platform(call: &Call) -> Result<Option<Platform>, ApiError> {
    let text = call.query.get("platform");
    // Newer clients send JSON.
    let parsed = text.map(|text| match serde_json::from_str::<PlatformJson>(text) {
        Ok(json) => json.text().parse(),
        Err(_) => text.parse(),
    });
    parsed
        .transpose()
        .map_err(|error: crate::arch::platform::PlatformError| ApiError::bad(error.to_string()))
}

#[derive(Debug, Deserialize)]
struct PlatformJson {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl PlatformJson {
    fn text(&self) -> String {
        let Self {
            os,
            architecture,
            variant,
        } = self;
        match variant.as_deref().filter(|variant| !variant.is_empty()) {
            Some(variant) => format!("{os}/{architecture}/{variant}"),
            None => format!("{os}/{architecture}"),
        }
    }
}

async fn list(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    let all = call.query.flag("all");
    let name = call.query.get("filter").map(str::to_owned);
    let rows = state
        .work(move |context| {
            let known = ["dangling", "label", "before", "since", "until", "reference"];
            let mut filter = Filter::parse(context, &filters, &known)?;
            if let Some(name) = &name {
                filter.add_reference(name);
            }
            let mut rows = Vec::new();
            for image in image::shown(context, &filter, all)? {
                rows.extend(row(context, &image, &filter)?);
            }
            Ok(rows)
        })
        .await?;
    Ok(json(&Value::Array(rows)))
}

/// An image as lists show it.
pub fn row(context: &Context, image: &Image, filter: &Filter) -> Result<Option<Value>, ApiError> {
    let matching = |names: &[String]| -> Vec<String> {
        let names = names.iter().filter(|name| filter.matches_name(name));
        names.cloned().collect()
    };
    let (tags, digests) = (matching(&image.names), matching(&image.digests));
    if filter.has_references() && tags.is_empty() && digests.is_empty() {
        return Ok(None);
    }
    let created = image::created(image).map_or(0, jiff::Timestamp::as_second);
    let parent = context.parent(&image.id)?;
    let labels = image.config.config().as_ref();
    let labels = labels.and_then(|config| config.labels().clone());
    Ok(Some(json!({
        "Id": image.id,
        "ParentId": parent.map(|parent| parent.to_string()).unwrap_or_default(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": created,
        "Size": image.size,
        "SharedSize": -1,
        "VirtualSize": image.size,
        "Labels": labels,
        "Containers": -1,
    })))
}

async fn inspect(state: Shared, call: Call, name: String) -> Reply {
    let platform = platform(&call)?;
    let value = state
        .work(move |context| {
            let image = image::get(context, &name, platform.as_ref())?;
            Ok(image::inspect_value(context, &image))
        })
        .await?;
    Ok(json(&value))
}

async fn history(state: Shared, call: Call, name: String) -> Reply {
    let platform = platform(&call)?;
    let rows = state
        .work(move |context| {
            let image = image::get(context, &name, platform.as_ref())?;
            let steps = image::history(context, &image)?;
            let rows = steps.iter().enumerate().map(|(number, step)| {
                let id = step.image.map(|id| id.to_string());
                json!({
                    "Id": id.unwrap_or_else(|| "<missing>".to_owned()),
                    "Created": step.created.map_or(0, jiff::Timestamp::as_second),
                    "CreatedBy": step.created_by,
                    "Tags": if number == 0 { json!(image.names) } else { Value::Null },
                    "Size": step.size,
                    "Comment": step.comment,
                })
            });
            Ok(rows.collect::<Vec<_>>())
        })
        .await?;
    Ok(json(&Value::Array(rows)))
}

/// The name that `repo` and `tag`, or their like, make; none without a name.
fn named(name: Option<&str>, tag: Option<&str>) -> Result<Option<Reference>, ApiError> {
    let Some(name) = name.map(|name| name.trim_end_matches(':')) else {
        return Ok(None);
    };
    let whole = match tag {
        None => name.to_owned(),
        Some(digest) if digest.contains(':') => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
    };
    let parsed = whole.parse();
    parsed
        .map(Some)
        .map_err(|error: image::reference::ReferenceError| {
            ApiError::bad(format!("invalid reference format: {error}"))
        })
}

async fn tag(state: Shared, call: Call, name: String) -> Reply {
    let target = named(call.query.get("repo"), call.query.get("tag"))?;
    let target = target.ok_or_else(|| ApiError::bad("no repository given"))?;
    let platform = platform(&call)?;
    state
        .work(move |context| Ok(image::tag(context, &name, &target, platform.as_ref())?))
        .await?;
    Ok(with_status(StatusCode::CREATED))
}

fn removed_rows(removed: &[Removed]) -> Vec<Value> {
    let row = |removed: &Removed| match removed {
        Removed::Untagged(name) => json!({"Untagged": name}),
        Removed::Deleted(id) => json!({"Deleted": id}),
    };
    removed.iter().map(row).collect()
}

async fn remove(state: Shared, call: Call, name: String) -> Reply {
    let force = call.query.flag("force");
    let removed = state
        .slow_work(move |context| {
            let users = |id: &_| container::users_of_image(context, id);
            Ok(image::remove(context, &name, None, force, &users)?)
        })
        .await?;
    Ok(json(&Value::Array(removed_rows(&removed))))
}

async fn prune(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    let pruned = state
        .slow_work(move |context| {
            let known = ["dangling", "label", "label!", "until"];
            let filter = Filter::parse(context, &filters, &known)?;
            let all = filter.dangling() == Some(false);
            let users = |id: &_| container::users_of_image(context, id);
            // With `dangling=false` images with names are meant too, not only those.
            let others: Vec<String> = filters
                .iter()
                .filter(|filter| !filter.starts_with("dangling="))
                .cloned()
                .collect();
            let filter = Filter::parse(context, &others, &known)?;
            Ok(image::prune(context, &filter, all, &users)?)
        })
        .await?;
    Ok(json(&json!({
        "ImagesDeleted": removed_rows(&pruned.removed),
        "SpaceReclaimed": pruned.freed,
    })))
}

/// `X-Registry-Auth`: who the client is at the registry of this image.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

fn credentials(call: &Call) -> Result<Option<Credentials>, ApiError> {
    let Some(header) = call.headers.get("x-registry-auth") else {
        return Ok(None);
    };
    let bad = || ApiError::bad("X-Registry-Auth is not JSON in base64");
    let bytes = header.as_bytes();
    let decoded = URL_SAFE
        .decode(bytes)
        .or_else(|_| URL_SAFE_NO_PAD.decode(bytes));
    let text = decoded.map_err(|_| bad())?;
    let auth: Option<Auth> = match text.iter().all(u8::is_ascii_whitespace) {
        true => None,
        false => serde_json::from_slice(&text).map_err(|_| bad())?,
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let auth = auth.unwrap_or_default();
    Ok(match (filled(auth.identitytoken), filled(auth.username)) {
        (Some(token), _) => Some(Credentials::Identity(token)),
        (None, Some(user)) => {
            let password = auth.password.unwrap_or_default();
            Some(Credentials::Password(user, password))
        }
        (None, None) => None,
    })
}

async fn create(state: Shared, call: Call) -> Reply {
    if call.query.get("fromSrc").is_some() {
        return import(state, call).await;
    }
    let query = &call.query;
    let reference = named(query.get("fromImage"), query.get("tag"))?;
    let reference = reference.ok_or_else(|| ApiError::bad("no image given"))?;
    let (platform, credentials) = (platform(&call)?, credentials(&call)?);
    answer_with(&state, move |context, lines: &Arc<Lines>| {
        let (settings, credentials) = (context.settings(), credentials.as_ref());
        let all = reference.tag().is_none() && reference.digest().is_none();
        let wanted = match all {
            true => image::tags_as(credentials, settings, &reference)?,
            false => vec![reference],
        };
        for one in wanted {
            image::pull_as(
                credentials,
                context,
                settings,
                &one,
                platform.as_ref(),
                &**lines,
            )?;
        }
        Ok(())
    })
    .await
}

async fn push(state: Shared, call: Call, name: String) -> Reply {
    let reference = named(Some(&name), call.query.get("tag"))?;
    let reference = reference.ok_or_else(|| ApiError::bad("no image given"))?;
    let (platform, credentials) = (platform(&call)?, credentials(&call)?);
    answer_with(&state, move |context, lines: &Arc<Lines>| {
        let (settings, credentials) = (context.settings(), credentials.as_ref());
        let wanted = match reference.tag() {
            Some(_) => vec![reference],
            None => image::local_tags(context, &reference)?,
        };
        if wanted.is_empty() {
            return Err(image::ImageError::NoTag(name).into());
        }
        for one in wanted {
            let digest = image::push_as(
                credentials,
                context,
                settings,
                &one,
                platform.as_ref(),
                &**lines,
            )?;
            let tag = one.tag().unwrap_or_default();
            // A client that left is noticed by the next line.
            let _ = lines.tell(&json!({
                "progressDetail": {},
                "aux": {"Tag": tag, "Digest": digest, "Size": 0},
            }));
        }
        Ok(())
    })
    .await
}

/// A request's body as a pipe, for code that wants a file.
fn piped(call: Call) -> io::Result<File> {
    let (reader, mut writer) = io::pipe()?;
    let mut body = call.reader();
    tokio::task::spawn_blocking(move || {
        // A reader that has had enough breaks the pipe.
        let _ = io::copy(&mut body, &mut writer);
    });
    Ok(File::from(std::os::fd::OwnedFd::from(reader)))
}

async fn load(state: Shared, call: Call) -> Reply {
    let platform = platform(&call)?;
    let input = piped(call)?;
    answer_with(&state, move |context, lines: &Arc<Lines>| {
        let settings = context.settings();
        let loaded = archive::load(context, settings, input, platform.as_ref(), &Silent)?;
        for one in loaded {
            let names = one
                .names
                .iter()
                .map(|name| format!("Loaded image: {name}\n"));
            let mut told: Vec<String> = names.collect();
            if told.is_empty() {
                told.push(format!("Loaded image ID: {}\n", one.image.id));
            }
            for text in told {
                // What was loaded stays loaded.
                let _ = lines.tell(&json!({"stream": text}));
            }
        }
        Ok(())
    })
    .await
}

async fn import(state: Shared, call: Call) -> Reply {
    let query = &call.query;
    if query.get("fromSrc") != Some("-") {
        return Err(ApiError::not_there("importing from an address"));
    }
    let import = Import {
        reference: named(query.get("repo"), query.get("tag"))?,
        platform: platform(&call)?,
        changes: query.all("changes").map(str::to_owned).collect(),
        message: query.get("message").map(str::to_owned),
        source: "-".to_owned(),
    };
    let input = piped(call)?;
    answer_with(&state, move |context, lines: &Arc<Lines>| {
        let made = archive::import(context, context.settings(), input, &import)?;
        let _ = lines.tell(&json!({"status": made.id.to_string()}));
        Ok(())
    })
    .await
}

async fn save(state: Shared, call: &Call, names: Vec<String>) -> Reply {
    let platform = platform(call)?;
    let context = state.for_slow_work().await?;
    let select = move || {
        let selected = archive::select(&context, &names, platform.as_ref())?;
        Ok::<_, ApiError>((context, selected))
    };
    let selected = tokio::task::spawn_blocking(select).await;
    let (context, images) = selected.map_err(ApiError::broken)??;
    Ok(written("application/x-tar", move |out| {
        Ok(archive::save(&context, &images, out)?)
    }))
}

/// `POST /commit`.
pub async fn commit(state: Shared, call: Call) -> Reply {
    let query = &call.query;
    let name = query.get("container").map(str::to_owned);
    let name = name.ok_or_else(|| ApiError::bad("no container given"))?;
    let asked = image::Commit {
        reference: named(query.get("repo"), query.get("tag"))?,
        changes: query
            .all("changes")
            .flat_map(|changes| changes.split('\n'))
            .map(str::to_owned)
            .collect(),
        author: query.get("author").map(str::to_owned),
        message: query.get("comment").map(str::to_owned),
        config: Map::new(),
        created_by: String::new(),
    };
    let pause = query.flag_or("pause", true);
    let id = state
        .slow_work(move |context| {
            let container = lifecycle::find(context, &name)?;
            let made = commits::commit(context, context.settings(), &container, asked, pause)?;
            let note = Note::new("commit").with("imageID", made.id);
            context.note_container(&container.id, &[note])?;
            Ok(made.id)
        })
        .await?;
    Ok(json_as(StatusCode::CREATED, &json!({"Id": id})))
}
