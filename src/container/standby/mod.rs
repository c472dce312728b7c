//! A guest that waits, booted, for the next container: most of a start is done before it is
//! asked for.
//!
//! A supervisor makes one when its container has started, if one like it could begin in it
//! ([`renew`]). It is a process of its own, with a machine of the usual size whose disks have nothing
//! on them yet, and waits for a while. Whoever starts a container then finds it by its socket
//! ([`take`]), and it becomes that container's supervisor: the disks get the container's files,
//! and the guest, in which nothing has run, gets its name. What does not suit starts as ever.

mod guest;
mod process;
mod surroundings;
mod waiting;

pub use guest::{Adopted, Standby};
pub use process::main;
pub use waiting::{is_there, renew, take};

use super::limits;
use super::options;
use super::record::{Config, Emulation};

/// The hidden subcommand that makes the binary a guest's keeper.
pub const SUBCOMMAND: &str = "__standby";

/// Whether a container like this usually starts in a guest that waits; what it is asked to be
/// says so, but not everything.
pub fn may_suit(config: &Config) -> bool {
    let usual_machine = matches!(config.engine.as_deref(), None | Some("uml"))
        && config.emulation != Some(Emulation::System)
        && config.memory == options::DEFAULT_MEMORY
        && config.cpus == 1
        && !config.no_jail
        && !limits::of_host(config).wanted;
    let usual_devices = config.binds.is_empty()
        && config.disk_size.is_none()
        && config.disk_limits == vmm::IoLimits::default()
        && config.network_limits == vmm::RateLimits::default()
        && !config.network.is_none()
        && config.network.attachments.len() <= 1;
    usual_machine && usual_devices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::record::Asked;

    fn usual() -> Config {
        Config {
            memory: options::DEFAULT_MEMORY,
            cpus: 1,
            network: Asked {
                mode: "bridge".to_owned(),
                ..Asked::default()
            },
            ..Config::default()
        }
    }

    #[test]
    fn what_needs_another_machine_starts_as_ever() {
        assert!(may_suit(&usual()));
        let unusual: [fn(&mut Config); 9] = [
            |config| config.engine = Some("tcg".to_owned()),
            |config| config.emulation = Some(Emulation::System),
            |config| config.memory *= 2,
            |config| config.cpus = 2,
            |config| config.no_jail = true,
            |config| config.binds.push(super::super::record::Bind::default()),
            |config| config.disk_size = Some(1 << 30),
            |config| config.network.mode = "none".to_owned(),
            |config| config.cpuset = Some("0".to_owned()),
        ];
        for change in unusual {
            let mut config = usual();
            change(&mut config);
            assert!(!may_suit(&config), "{config:?}");
        }
    }
}
