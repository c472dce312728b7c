//! From an image and what a user asks for to a container's configuration.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;

use super::record::{Config, now_ns};
use super::spec::{SpecError, merge_env, parse_capability, rlimit_type};
use super::state::State;
use super::{Container, health, id, name, restart, volume, volume_options};
use crate::network::ports::{PortError, Publish, parse_exposed};
use crate::network::record::ConnectError;
use crate::store::{Inserted, Store, StoreError};

/// Why a container cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Neither image nor user say what to run.
    #[error(
        "no command specified: image {0} has neither an entrypoint nor a command, add one after the image"
    )]
    NoCommand(String),
    /// A host name that is none.
    #[error("invalid host name {0:?}, use up to 63 letters, digits, dots and dashes")]
    Hostname(String),
    /// Too little memory.
    #[error("{0} bytes of memory are too little for a guest, give at least 64m")]
    Memory(u64),
    /// No processors, or too many.
    #[error("{0} CPUs are not possible, give between 1 and 64")]
    Cpus(u32),
    /// An absolute path is needed.
    #[error("the working directory {0:?} is invalid, it needs to be an absolute path")]
    WorkingDir(String),
    /// A variable without a name.
    #[error("invalid environment variable {0:?}, use NAME=value")]
    Env(String),
    /// A tmpfs in a strange place.
    #[error("invalid tmpfs path {0:?}, use an absolute path other than /")]
    Tmpfs(String),
    /// A capability or limit that there is not.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A volume in a strange place.
    #[error(transparent)]
    Volume(#[from] volume::VolumeError),
    /// What a volume was told cannot be read.
    #[error(transparent)]
    VolumeOptions(#[from] volume_options::OptionsError),
    /// A volume's directory is gone.
    #[error("the device {path} of volume {volume} is no directory of this host, make it first", path = path.display())]
    Device {
        /// The volume.
        volume: String,
        /// What it was told.
        path: std::path::PathBuf,
    },
    /// A bad name.
    #[error(transparent)]
    Name(#[from] name::InvalidName),
    /// The name is taken.
    #[error(
        "the container name {name:?} is already in use by container {owner}, remove or rename that container to use the name again"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        owner: String,
    },
    /// A network that it cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A port that cannot be exposed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A health check that cannot be.
    #[error(transparent)]
    Health(#[from] health::InvalidCheck),
    /// Removed at its end, yet started again after it.
    #[error("conflicting options: cannot specify both --restart and --rm")]
    RestartAndRemove,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error("making an id: {0}")]
    Random(#[from] std::io::Error),
}

/// What the image says, in the form that [`configure`] needs.
#[derive(Debug, Clone)]
pub struct FromImage<'a> {
    /// The image as the user wrote it.
    pub reference: &'a str,
    /// The image's id.
    pub id: &'a str,
    /// `linux/arm64`.
    pub platform: String,
    /// Its configuration.
    pub config: &'a ImageConfiguration,
    /// Its configuration to the byte, for what the standard does not know.
    pub raw: &'a [u8],
}

/// Completes `asked`, which holds what the user said (empty or default: nothing), with what
/// the image says, and checks it. `entrypoint` is `Some` when the user gave `--entrypoint`.
pub fn configure(
    asked: Config,
    entrypoint: Option<Vec<String>>,
    image: &FromImage<'_>,
) -> Result<Config, CreateError> {
    let mut config = asked;
    image.reference.clone_into(&mut config.image);
    image.id.clone_into(&mut config.image_id);
    config.platform.clone_from(&image.platform);
    let empty = oci_spec::image::Config::default();
    let from = image.config.config().as_ref().unwrap_or(&empty);
    let list = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();

    match entrypoint {
        // As docker: a new entrypoint also drops the image's command.
        Some(entrypoint) => config.entrypoint = entrypoint,
        None => {
            config.entrypoint = list(from.entrypoint());
            if config.cmd.is_empty() {
                config.cmd = list(from.cmd());
            }
        }
    }
    config
        .entrypoint
        .retain(|part| !part.is_empty() || config.cmd.is_empty());
    if config.argv().iter().all(String::is_empty) {
        return Err(CreateError::NoCommand(config.image));
    }
    for variable in &config.env {
        if !variable.contains('=') || variable.starts_with('=') || variable.contains('\0') {
            return Err(CreateError::Env(variable.clone()));
        }
    }
    config.env = merge_env(list(from.env()), &config.env);
    if config.working_dir.is_empty() {
        config.working_dir = from.working_dir().clone().unwrap_or_default();
    }
    if config.working_dir.is_empty() {
        "/".clone_into(&mut config.working_dir);
    }
    if !config.working_dir.starts_with('/') {
        return Err(CreateError::WorkingDir(config.working_dir));
    }
    if config.user.is_empty() {
        config.user = from.user().clone().unwrap_or_default();
    }
    let mut labels: BTreeMap<String, String> = from
        .labels()
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    labels.append(&mut config.labels);
    config.labels = labels;
    if config.stop_signal.is_none() {
        config.stop_signal.clone_from(from.stop_signal());
    }
    config.exposed_ports.extend(list(from.exposed_ports()));
    expose(&mut config)?;
    for target in list(from.volumes()) {
        let bind = volume::anonymous(&target, &target)?;
        let taken = config.binds.iter().any(|other| other.target == bind.target)
            || config.tmpfs.contains_key(&bind.target);
        if !taken {
            config.binds.push(bind);
        }
    }
    config.health = match (config.health, health::Check::of_image(image.raw)) {
        (Some(asked), from_image) => Some(asked.merge(from_image)),
        (None, from_image) => from_image,
    };
    config.shell = health::shell_of_image(image.raw);
    check(&mut config)?;
    Ok(config)
}

/// Every exposed port for itself; those that `-P` publishes and no `-p` has.
fn expose(config: &mut Config) -> Result<(), PortError> {
    let exposed = config.exposed_ports.iter().map(|spec| parse_exposed(spec));
    let mut ports = exposed.collect::<Result<Vec<_>, _>>()?.concat();
    let publish = &mut config.network.publish;
    if config.network.publish_all {
        ports.sort_unstable();
        ports.dedup();
        for &(port, protocol) in &ports {
            if !publish
                .iter()
                .any(|p| (p.port, p.protocol) == (port, protocol))
            {
                publish.push(Publish {
                    host_ip: None,
                    host_ports: None,
                    port,
                    protocol,
                });
            }
        }
    }
    // As docker: what is published is exposed.
    ports.extend(publish.iter().map(|p| (p.port, p.protocol)));
    ports.sort_unstable();
    ports.dedup();
    config.exposed_ports = ports
        .iter()
        .map(|(p, protocol)| format!("{p}/{protocol}"))
        .collect();
    Ok(())
}

fn check(config: &mut Config) -> Result<(), CreateError> {
    let host = &config.hostname;
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    if host.len() > 63 || !host.bytes().all(host_byte) {
        return Err(CreateError::Hostname(host.clone()));
    }
    check_size(config)?;
    for path in config.tmpfs.keys() {
        if !path.starts_with('/') || path.trim_matches('/').is_empty() {
            return Err(CreateError::Tmpfs(path.clone()));
        }
    }
    for (name, _, _) in &config.ulimits {
        rlimit_type(name)?;
    }
    if let Some(health) = &config.health {
        health.validate()?;
    }
    for list in [&mut config.cap_add, &mut config.cap_drop] {
        for capability in list {
            *capability = parse_capability(capability)?;
        }
    }
    Ok(())
}

/// Whether a guest can be of that size and be restarted like that.
pub(super) fn check_size(config: &Config) -> Result<(), CreateError> {
    if config.memory < 64 << 20 {
        return Err(CreateError::Memory(config.memory));
    }
    if !(1..=64).contains(&config.cpus) {
        return Err(CreateError::Cpus(config.cpus));
    }
    if config.auto_remove && config.restart != restart::Policy::No {
        return Err(CreateError::RestartAndRemove);
    }
    Ok(())
}

/// Makes the record of a container; `name` is made up when there is none.
pub fn create(
    store: &Store,
    mut config: Config,
    name: Option<&str>,
) -> Result<Container, CreateError> {
    let id = id::generate()?;
    if config.hostname.is_empty() {
        id::short(&id).clone_into(&mut config.hostname);
    }
    for bind in &mut config.binds {
        if bind.anonymous && bind.volume.is_none() {
            bind.volume = Some(id::generate()?);
        }
        if let Some(name) = &bind.volume {
            bind.source = store.paths().volume_data(name);
            let Some(volume) = store.volume(name)? else {
                continue;
            };
            if let Some(device) = volume_options::read(&volume.options)? {
                if !device.path.is_dir() {
                    return Err(CreateError::Device {
                        volume: name.clone(),
                        path: device.path,
                    });
                }
                bind.source = device.path;
                bind.read_only |= device.read_only;
            }
        }
    }
    let wanted = name.map(name::validate).transpose()?;
    let mut container = Container {
        id,
        name: String::new(),
        created_at: now_ns(),
        config,
        state: State::default(),
    };
    loop {
        container.name = match &wanted {
            Some(name) => name.clone(),
            None => name::generate()?,
        };
        match store.insert_container(&container)? {
            Inserted::Done => return Ok(container),
            Inserted::Unconnected(error) => return Err(error.into()),
            Inserted::NameTaken(owner) if wanted.is_some() => {
                return Err(CreateError::NameTaken {
                    name: container.name,
                    owner,
                });
            }
            // A made-up name that exists: make up another.
            Inserted::NameTaken(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(json: &str) -> ImageConfiguration {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{json}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn configured(
        json: &str,
        asked: Config,
        entrypoint: Option<Vec<String>>,
    ) -> Result<Config, CreateError> {
        let config = image(json);
        let from = FromImage {
            reference: "debian",
            id: "sha256:0",
            platform: "linux/amd64".into(),
            config: &config,
            raw: br#"{"config":{"Healthcheck":{"Test":["CMD","x"]}}}"#,
        };
        let asked = Config {
            memory: 128 << 20,
            cpus: 1,
            ..asked
        };
        configure(asked, entrypoint, &from)
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        let image = r#"{"Entrypoint":["ls"],"Cmd":["--help"]}"#;
        let asked = |cmd: &[&str]| Config {
            cmd: words(cmd),
            ..Config::default()
        };
        let argv = |cmd, entrypoint| configured(image, asked(cmd), entrypoint).unwrap().argv();
        assert_eq!(argv(&[], None), ["ls", "--help"]);
        assert_eq!(argv(&["-la"], None), ["ls", "-la"]);
        assert_eq!(
            argv(&["-c", "x"], Some(words(&["/bin/sh"]))),
            ["/bin/sh", "-c", "x"]
        );
        assert_eq!(argv(&[], Some(words(&["/bin/sh"]))), ["/bin/sh"]);
        assert_eq!(argv(&["env"], Some(words(&[""]))), ["env"]);
        assert!(matches!(
            configured(image, asked(&[]), Some(words(&[""]))),
            Err(CreateError::NoCommand(_))
        ));
    }

    #[test]
    fn the_image_fills_what_the_user_left_open() {
        let image = r#"{"Cmd":["sh"],"Env":["A=1","B=2"],"WorkingDir":"/w","User":"app",
            "Labels":{"x":"1","y":"2"},"StopSignal":"SIGINT","ExposedPorts":{"80/tcp":{}}}"#;
        let asked = Config {
            env: words(&["B=3"]),
            labels: BTreeMap::from([("y".into(), "9".into())]),
            ..Config::default()
        };
        let config = configured(image, asked, None).unwrap();
        assert_eq!(config.env, ["A=1", "B=3"]);
        assert_eq!(
            (config.working_dir.as_str(), config.user.as_str()),
            ("/w", "app")
        );
        assert_eq!(config.labels["y"], "9");
        assert_eq!(config.labels["x"], "1");
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(config.exposed_ports, ["80/tcp"]);
        assert_eq!(config.health.unwrap().test, ["CMD", "x"]);
    }

    #[test]
    fn restarting_and_removing_exclude_each_other() {
        let asked = Config {
            auto_remove: true,
            restart: restart::Policy::Always,
            ..Config::default()
        };
        let refused = configured(r#"{"Cmd":["sh"]}"#, asked, None);
        assert!(matches!(refused, Err(CreateError::RestartAndRemove)));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |asked| configured(r#"{"Cmd":["sh"]}"#, asked, None).is_err();
        assert!(refused(Config {
            env: words(&["=x"]),
            ..Config::default()
        }));
        assert!(refused(Config {
            working_dir: "here".into(),
            ..Config::default()
        }));
        assert!(refused(Config {
            hostname: "a b".into(),
            ..Config::default()
        }));
        assert!(refused(Config {
            cap_add: words(&["FLY"]),
            ..Config::default()
        }));
        let tmpfs = BTreeMap::from([("/".to_owned(), String::new())]);
        assert!(refused(Config {
            tmpfs,
            ..Config::default()
        }));
    }
}
